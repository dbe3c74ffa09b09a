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
//!
//! # Threads
//! The main thread reads the conf file, opens the store, starts the others and then waits for
//! signals and for commands on the control socket. The listener accepts connections and deals them
//! to the shards in turn. A **shard** is one mio reactor a core: it owns connections, sessions,
//! accounts and streams with other servers, and never blocks. So whatever waits for something has a
//! thread elsewhere: one writes the database, a few read it, one moves its log into it, one asks
//! DNS, the workers hash passwords, one writes the log.
//!
//! They talk by **posts**: values sent over channels ([`post`]). A turn sends each destination one
//! batch and wakes it once. No mutable state is shared, but for counters and the table of limits by
//! address (`net::throttle`), which no stanza touches. There is no `async` but the DNS library's
//! own.
//!
//! # Who owns what
//! `router::placement` names the shard of each thing by a keyed hash, the same on all shards: no
//! registry, no lock, no lookup. An account (its roster, sessions, queues) lives on the shard of
//! its bare JID; another server (links, incoming streams, dialback, history) on that of its domain;
//! a component on that of its own.
//!
//! A connection starts on any shard and **moves once**: a client's when its identity is proven,
//! another server's with the first domain that it proves. TLS, parser, timers and budgets move
//! along, and no answer of a helper is outstanding while it is on its way. The account's shard then
//! has the last word: it looks again whether the account exists, is enabled and still has the
//! credentials that were proven, and only then comes `<success/>`.
//!
//! A handler touches what its own account has. What concerns another is a stanza or a post to it;
//! no handler asks another shard and waits. So a message between two accounts changes shards once
//! at most.
//!
//! # Order of a turn
//! Always the same, in `shard::turn`: (1) poll, without sleeping while there is work; (2) the
//! mailbox; (3) sockets: read, decrypt, parse, handle; (4) timers that are due; (5) local work,
//! above all stanzas to accounts of this shard, which are queued and not handled by recursion; (6)
//! all that the turn wants written goes to the store as one batch; (7) each socket is written once;
//! (8) posts are sent. Each step has a bound ([`limits`], `TURN_...`), and what is left goes on in
//! the next turn.
//!
//! # Backpressure
//! Channels have no bound, since threads that wait for each other's channels could stop for ever.
//! Instead each receiver (a shard, the store's writer, its readers, the workers) counts the bytes
//! and posts that wait for it. Above a mark its **gate** shuts, and no shard reads a socket until
//! it is below half of that. Mailboxes, timers, commits and the writing of sockets always go on.
//!
//! Nor is a connection read while too many of its own stanzas are not settled, or while it does not
//! take its own output. What *others* send to a client that does not read has a bound too, above
//! which its stream is closed (RFC 6120 §4.9.3.17).
//!
//! # Commit first
//! Nothing that was acknowledged is lost: what a client or a command is told comes after the commit
//! and survives `kill -9`, and a power cut too by default (`store.durability`).
//!
//! What changes stored state computes the change from memory, asks for the write and marks the
//! account as *changing*. Memory, pushes, the reply and stanzas to others follow in the
//! continuation, after the commit; a failed write has changed nothing and is an error reply.
//! Meanwhile stanzas for the account wait in its inbox, in order, and the stream that has asked is
//! suspended, since its next stanza may depend on this one (RFC 6120 §10.1). It takes a millisecond
//! or two, where people change things.
//!
//! A stop keeps to this: nothing more is read, what is under way is settled and written. It takes
//! ten seconds at most.
//!
//! # Settlement
//! "Handled", in the `<a/>` of XEP-0198, needs a meaning across shards. Each stanza that comes in
//! has a **ticket** (`router::settlement`), and whoever ends its way hands it back: it was refused,
//! answered or dropped by a rule; or its row is committed; or, where nothing is stored, it is in
//! the output of its recipient; or the other server has received it, or the row is committed in
//! which it waits for that. `h` is the length of the settled prefix.
//!
//! # Stored before shown
//! A message that gets a row goes to sockets after that row's commit; what has none, at once. So
//! after a crash nobody has seen what the store does not know. The row goes when its recipient has
//! proven that the message came, since what only a socket has taken may be lost.
//!
//! # Two commits
//! Two accounts do not change in one step. A subscription stanza between them is written to the
//! table `handoff` in the transaction that changes the sender's roster, and deleted in the one that
//! changes the recipient's. What is left at a start is delivered again; the rules of RFC 6121
//! Appendix A make a second time harmless. So no crash leaves two rosters that disagree.
//!
//! # The store
//! One SQLite file with a write-ahead log, one thread that writes and a few that read; no shard
//! ever waits for a disk. The writer takes all that has come since its last commit as one
//! transaction (group commit) and answers after the commit. A change runs in a savepoint, so that
//! its failure harms no other. A read that a shard asks for has a bound of steps. The body of a
//! message is stored once, however many rows own it, and goes with the last of them.
//!
//! A full disk fails a transaction, and serving goes on. A failed sync or a damaged file ends the
//! process with words, since memory and disk are no longer known to agree. Data, keys and a conf
//! file with secrets are refused if others can read them.
//!
//! Accounts are loaded when they are first needed, in two tiers: what a message needs (there is
//! such an account, it is enabled), and the rest. Names without an account are loaded and kept
//! alike, so that nobody tells them apart by time. What comes for an account that is loading waits
//! in its inbox.
//!
//! # Features
//! An extension is one file, or one folder, with one `static FEATURE` (`router::feature`) that
//! lists all that it touches, and one entry in `features::FEATURES`, whose order is the order
//! within a stage. There are no priorities and no registration at run time: `stanzad check config
//! -v` prints the pipeline. A hook does no I/O. An IQ handler returns a reply, a read or a change
//! and writes nothing itself; the router sends the reply. Features act on others by functions of
//! the router only.
//!
//! What several of them read is a typed field of the account or session. In memory a roster is
//! packed: JIDs and states; names and groups are read for who asks for them. And none overtakes
//! another: live messages wait behind stored ones that are being delivered.
//!
//! # Canonical stanzas
//! No byte of a peer is forwarded. XML libraries differ in what they take, so that a stanza passed
//! on as it came could end the streams of its recipients, at each login if it is stored. The parser
//! writes the children of each stanza anew, from what it understood ([`xml`]), with an index of
//! them; whoever passes it on shares these bytes, and only who handles it builds a tree.
//!
//! # Reloads
//! A configuration is an immutable value, a generation. A reload reads and checks all of the next
//! one, certificates too, before anything changes; then each shard takes it between two turns. The
//! TLS contexts of a generation are one set.
//!
//! # Verdicts
//! Each security decision (may this client log in, is this server who it claims to be, is
//! encryption needed) is a pure function in `stream::policy`, from settings and facts to a verdict
//! with its reason. Stream, log line and `stanzad explain` come from the same verdict, and the
//! reason names the option that decides, so that every refusal can be explained.
//!
//! The defaults are the safe ones. No password is stored, but SCRAM verifiers, with which a client
//! proves that it has the password without sending it, or bcrypt hashes, which are the costliest to
//! guess and take the password itself at each login. Hashes from elsewhere are verified as they
//! are, and replaced at the next PLAIN login.
//!
//! # Bounds
//! All that a peer can make grow has a bound, in [`limits`] or in the conf file, with its unit and
//! reason; it is checked before the memory is spent, and breaking it gets the error that RFC 6120
//! names (§4.9.3, §8.3.3) and harms nobody else. Before it has proven anything a connection may
//! cost 64 KiB with TLS, 10 KiB of XML for an element, and no account. Who fails or comes too often
//! is slowed down, by address and by account.
//!
//! # After a panic
//! A panic ends the process (`panic = "abort"`), with the stream in the log: state that a bug has
//! left half changed must not be stored. What crashed it was not settled, so its sender sends it
//! again. After the second crash within ten minutes the account behind it is disabled, loudly.
//!
//! # Measured
//! Some constants follow from measurements of the libraries: on two cores of a virtual machine,
//! with OpenSSL 3.0 and SQLite 3.54, before the server was written. CPU times are good to 15 %.
//!
//! | what | CPU |
//! |---|---|
//! | TLS 1.3 handshake, ECDSA and X25519: full, resumed | 145 µs, 166 µs |
//! | the same, group ffdhe2048 | 1,940 µs |
//! | PBKDF2, 10,000 rounds: SHA-1, SHA-256, SHA-512 | 2.0, 2.1, 4.1 ms |
//! | bcrypt verification: cost 10, 12 | 48, 190 ms |
//! | commit of one row: `normal`, `full` | 26, 138 µs |
//! | row of a group of 50 | 5 µs |
//! | savepoint | 1.2 to 1.6 µs |
//!
//! `benches` has what is measured of the server itself.

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
