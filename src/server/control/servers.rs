//! What the server tells of other servers.

/// One entry of `stanzad s2s list`: a stream with another server, or a link that has none.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ServerStreamInfo {
    /// `accepted` or `dialled`; none for a link without a stream.
    pub direction: Option<String>,
    /// Whether both sides send stanzas on it (XEP-0288).
    pub both_ways: bool,
    pub shard: usize,
    /// Our domain, as the stream's headers tell it; none before they came.
    pub local: Option<String>,
    /// The domain that the peer claims, or that we dialled for.
    pub remote: Option<String>,
    /// The pairs of domains that are proven; stanzas of others do not flow.
    pub proven: Vec<PairInfo>,
    /// Address and port of the other server.
    pub address: Option<String>,
    /// Whether the connection began with TLS, and not with STARTTLS.
    pub direct_tls: bool,
    /// `TLSv1.3`; none on an unencrypted stream, as for `cipher` and `group`.
    pub tls_version: Option<String>,
    pub cipher: Option<String>,
    /// The key exchange group.
    pub group: Option<String>,
    /// How the other server says what it has received: `acknowledges` (XEP-0198), `answers pings`,
    /// `neither`, or `not known` yet; none if it is sent nothing on the stream.
    pub receipts: Option<String>,
    /// `ready`, or what the stream is busy with; `waiting` for a link without a stream.
    pub state: String,
    /// Seconds since the connection was accepted or dialled.
    pub age_seconds: Option<u64>,
    /// Seconds since anything came from the other server.
    pub idle_seconds: Option<u64>,
    /// Stanzas of the link that wait for a stream.
    pub waiting: u64,
    /// Why there is no stream.
    pub reason: Option<String>,
    /// Seconds until a stream is tried again, if anything waits for it then.
    pub next_try_seconds: Option<u64>,
}

/// A pair of domains that is proven on a stream.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PairInfo {
    /// Ours.
    pub local: String,
    /// Theirs.
    pub remote: String,
    /// What has proven theirs: `EXTERNAL`, `dialback`, `certificate for dialback`; on a dialled stream
    /// `certificate`, `DANE`, `pin` or `DNS alone`.
    pub peer_proven_by: String,
    /// When the key of its certificate was first seen, if there was another one before it, in RFC 3339,
    /// UTC.
    pub key_changed: Option<String>,
    /// On a dialled stream, how we have proven ours: `EXTERNAL` or `dialback`.
    pub proven_by_us: Option<String>,
}
