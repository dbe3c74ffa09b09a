//! Stream Limits Advertisement (XEP-0478 0.2.0): the largest element that is accepted, and how long a
//! client may be silent before it is pinged.

use std::io::Write;

use crate::ns;
use crate::router::feature::{Feature, Spec, StreamFeature, StreamFeatureContext};

/// XEP-0478.
pub static FEATURE: Feature = Feature {
    specs: &[Spec {
        id: "XEP-0478",
        version: "0.2.0",
    }],
    stream_features: &[StreamFeature { write }],
    ..Feature::named("stream_limits")
};

fn write(context: &StreamFeatureContext<'_>, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(
        out,
        "<limits xmlns='{}'><max-bytes>{}</max-bytes>",
        ns::STREAM_LIMITS,
        context.stanza_bytes_max
    );
    // §3.1: after how much silence it is looked whether the client is there. So who speaks before is
    // not pinged; what follows the ping is its own matter. Before authentication the stream ends by
    // time, however busy it is.
    let idle = context.domain.c2s.idle_seconds;
    if context.authenticated && idle > 0 {
        let _ = write!(out, "<idle-seconds>{idle}</idle-seconds>");
    }
    out.extend_from_slice(b"</limits>");
}
