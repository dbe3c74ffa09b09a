//! A client's bytes through the server's own turn, router, streams and SQL, without sockets:
//! what is written is well-formed, ends with the end of the stream, and lets nobody in.
//!
//! The first line of an input tells how the rest is cut; if it begins with `J`, juliet has logged
//! in and bound a resource before. No input knows her password.

use std::sync::Arc;

use stanzad::net::transport::TlsFacts;
use stanzad::router::placement::Placement;
use stanzad::shard::testing::{HEADER, NoNetwork, Server, open_settings};
use stanzad_fuzz::{pieces, read_documents, run};

const PASSWORD: &str = "c93f0f9b1d5a4e7fa7e8d2b06c41";

fn main() {
    let placement = Placement::with_key(1, 1);
    let mut settings = open_settings();
    for domain in settings.domains.values_mut() {
        Arc::make_mut(domain).auth.anonymous = false;
    }
    let mut server = Server::of(placement, settings, Arc::new(NoNetwork), PASSWORD);
    run(|input| {
        let (pieces, _) = pieces(input);
        // Of a login the words of its last stream are left out, but for the header.
        let (client, mut seen) = match input.first() {
            Some(b'J') => (server.log_in(0, "juliet", "balcony"), HEADER.to_owned()),
            _ => (server.connect(0), String::new()),
        };
        client.wire.lock().expect("one thread").facts = Some(TlsFacts {
            version: "TLSv1.3",
            ..TlsFacts::default()
        });
        for piece in pieces {
            seen.push_str(&server.say_bytes(&client, piece));
        }
        client.wire.lock().expect("one thread").is_ended = true;
        server.wait_for_ends();
        assert!(client.is_dropped(), "the connection outlives its end");
        seen.push_str(&client.take());
        assert!(!seen.contains("<success"), "somebody is let in");
        read_documents(&seen);
        let is_overrun = client.wire.lock().expect("one thread").is_overrun;
        assert!(!is_overrun, "something is written after the end");
        // Not when the next execution begins: it would take ways that are not its own input's doing,
        // and afl++ could not tell what that does.
        server.renew();
    });
}
