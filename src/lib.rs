//! stanzad, an XMPP server: one mio reactor a core, no shared mutable state, nothing acknowledged lost.

pub mod cli;
pub mod clock;
pub mod config;
pub mod features;
pub mod jid;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod net;
pub mod ns;
pub mod post;
pub mod router;
pub mod sasl;
pub mod server;
pub mod shard;
pub mod slots;
pub mod stanza;
pub mod storage;
pub mod stream;
pub mod workers;
pub mod xml;
