//! stanzad, an XMPP server: one mio reactor a core, no shared mutable state, nothing acknowledged lost.
//!
//! # Where things are
//! Imports go down these layers only, and each larger outside crate has one importer; `tests/tidy.rs`
//! checks both.
//!
//! | layer | modules | what they do |
//! |---|---|---|
//! | 7 | [`cli`] | subcommands, the demo, exit codes |
//! | 6 | [`server`] | start, reload, stop; the control socket; what a reload replaces |
//! | 5 | [`shard`] | listener, reactors (mio), the turn, connections, timers |
//! | 4 | [`stream`], [`features`] | streams from header to end; XEPs, one file each |
//! | 3 | [`router`] | accounts, sessions, peers, components, the way of a stanza, what a feature is |
//! | 2 | [`net`], [`storage`], [`config`] | TLS (openssl); SQLite; the conf file |
//! | 2 | [`dns`], [`workers`] | how a remote domain is reached; hashing |
//! | 1 | [`xml`], [`jid`], [`stanza`], [`sasl`] | formats and mechanisms: values in, values out |
//! | 0 | [`ns`], [`limits`], [`clock`], [`post`], [`slots`], [`turns`], [`log`] | names, bounds, time, mailboxes, keys |
//!
//! # A message from juliet to romeo
//! 1. `shard::reactor` polls; `shard::turn` reads her connection: `net::tls_stream` decrypts,
//!    `xml::parser` makes one canonical element, `stream::c2s` asks for it to be routed.
//! 2. `router::delivery` stamps `from`, gives it a ticket (`router::settlement`), runs the outbound
//!    stages and hands it to the shard that owns romeo's account (`router::placement`): the turn's
//!    own queue, or a post (`post`) to another shard.
//! 3. There it waits while the account is loading or changing (`router::account`), passes the inbound
//!    stages, and is appended to the output of his sessions (RFC 6121 §8.5). The ticket goes back.
//! 4. `shard::turn::writing` writes each connection once, at the end of the turn.
//!
//! # And to romeo at another server
//! `router::delivery` hands the message to the shard of his domain, where `router::peers` has a link
//! for the pair of domains: an ordered queue, and a row in the store for what waits in it. The link's
//! stream is made by `shard::turn::dialling`, which asks `dns`, and negotiated by `stream::s2s`;
//! whether the other server is who it claims to be, `stream::policy` decides for both directions.
//! What was written is kept until that server has received it (`router::peers::acknowledging`).
//! What came of it is kept in `router::peers::history`: `stanzad explain s2s` shows that, and what a try
//! comes to (`server::dry_run`, `net::probe`).
//!
//! A login moves its connection once, to the shard of its account: `stream::authenticate` proves the
//! identity, `router::admission` lets it in. What is stored is a change, `router::iq` and
//! `router::commands`: reply and effects follow its commit (`storage::writer`).

pub mod cli;
pub mod clock;
pub mod config;
pub mod dns;
pub mod features;
pub mod jid;
pub mod limits;
pub mod log;
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
pub mod turns;
pub mod workers;
pub mod xml;
