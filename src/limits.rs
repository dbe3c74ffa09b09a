//! Bounds on everything that a peer can make grow, each with its unit and reason.
//! What an operator may need to move stands in the conf file instead (`config::Limits`).

use std::time::Duration;

/// Bytes of one element before authentication: enough for any header, `<starttls/>` or SASL
/// exchange (`Bounds` in lib.rs).
pub const UNAUTHENTICATED_ELEMENT_BYTES_MAX: usize = 10 * 1024;
/// Open XML elements. Real stanzas nest about ten; parsers of clients may recurse.
pub const XML_DEPTH_MAX: usize = 128;
/// Attributes of one XML element. Real elements have about ten.
pub const XML_ATTRIBUTES_MAX: usize = 64;
/// Namespace declarations in scope. The XML library copies all of them for each element.
pub const XML_BINDINGS_MAX: usize = 32;
/// Bytes of the namespaces and prefixes in scope, for the same reason.
pub const XML_BINDING_BYTES_MAX: usize = 4096;
/// Namespace declarations in scope, summed over all elements of one stanza: what the XML library
/// copies for it. A roster of 256 KiB has about 30,000.
pub const XML_BINDING_COPIES_MAX: usize = 65_536;
/// Bytes of an XML name or namespace. The longest registered namespace has about 70.
pub const XML_NAME_BYTES_MAX: usize = 1024;
/// Bytes of the value of an XML attribute; the longest seen carry certificates or data: URIs.
pub const XML_ATTRIBUTE_BYTES_MAX: usize = 64 * 1024;

/// Bytes that may wait for one receiver (shard, store writer, store readers, workers) before its
/// gate shuts: 16 MiB, a fraction of a second of work (`Backpressure` in lib.rs).
pub const WAITING_BYTES_MAX: usize = 16 << 20;
/// Posts that may wait for one receiver before its gate shuts (`Backpressure` in lib.rs).
pub const WAITING_POSTS_MAX: usize = 50_000;
/// Steps of SQLite's virtual machine in a quick read (a load, credentials). A step takes 20 to
/// 60 ns (measured), so no query can hold a reader for a second.
pub const QUICK_READ_STEPS_MAX: u32 = 10_000_000;
/// Steps of SQLite's virtual machine in a bulk read (archive, search, export): 0.1 to 0.3 s of CPU,
/// in which a search looks at a million rows.
pub const BULK_READ_STEPS_MAX: u32 = 5_000_000;
/// Jobs that may wait for the workers, for each of their threads. At some 5 ms a job (PBKDF2 with
/// 10,000 rounds) the last one waits a second, at 50 ms (bcrypt of cost 10) 13 seconds: still within
/// the time that a login is given. More are refused, which holds up those that log in by password
/// alone; the gate would hold up everybody.
pub const WORKER_JOBS_MAX: usize = 256;

/// Descriptors kept for what the process opens while clients have taken all that they may: 8 commands at
/// work and one more that is refused, one connection that is refused, the conf file or a certificate of
/// a reload, the log opened anew, a copy that the log's or the store's library makes. That is half of
/// them; a low limit on open files leaves the other half to no use, a high one does not feel it.
pub const OPEN_FILES_KEPT: u64 = 32;
/// Of the places for connections that are free, one address may fill one in so many with connections that
/// have proven nothing yet, as much again as it leaves: an eighth of all if nobody else is there. A login
/// takes such a place for a second at most, so thousands behind one address do not feel it; and fifteen
/// addresses together, full of silence, leave an eighth.
pub const NEWCOMERS_SHARE: u64 = 7;
/// Descriptors of a server without connections, where they cannot be counted: of store, log, signals
/// and sockets it has about thirty.
pub const OPEN_FILES_OWN: u64 = 64;
/// Descriptors of a shard that has no connections: its poll twice, and what wakes it.
pub const OPEN_FILES_PER_SHARD: u64 = 3;
/// Connections below which an operator is warned that the limit on open files is low: one address may
/// take as many by default.
pub const CONNECTIONS_FEW: u64 = 1000;

/// How long it may take until it is stored that a session has ended. A crash forgets it.
pub const LAST_SEEN_DELAY: Duration = Duration::from_secs(1);
/// Accounts of a shard for which that waits, from which on it does not: some 100 KiB.
pub const LAST_SEEN_WAITING_MAX: usize = 1_024;

/// Questions to DNS that are open: a domain each. A server that starts with mail for thousands of
/// domains asks for them in some seconds.
pub const DNS_QUESTIONS_MAX: usize = 4_096;
/// Lookups in DNS that are under way: each has a socket open, up to three for each name server if
/// that does not answer.
pub const DNS_LOOKUPS_MAX: usize = 128;
/// How long one try of a query in DNS waits for all name servers together.
pub const DNS_TRY_WAIT: Duration = Duration::from_secs(3);
/// Tries of a query in DNS.
pub const DNS_TRIES: usize = 2;
/// How long all lookups for one domain may take: stanzas wait for them.
pub const DNS_WAIT: Duration = Duration::from_secs(10);
/// Records used of an answer of DNS. Domains have one to four servers, and hosts as many addresses.
pub const DNS_RECORDS_MAX: usize = 16;
/// Targets of a domain whose addresses are looked up. Each costs up to three lookups, and the
/// time-out of a connection if it is dead.
pub const DNS_TARGETS_MAX: usize = 16;
/// Aliases (CNAME) followed from one name. Name servers follow as many.
pub const DNS_ALIASES_MAX: usize = 8;
/// Bytes of the data of a TLSA record: a digest in most, a whole certificate in some (RFC 6698
/// §2.1.3).
pub const DNS_TLSA_BYTES_MAX: usize = 4 * 1024;
/// How deep the queries of DNSSEC validation nest: two for each zone from the root down, so that six
/// zones fit. A zone whose proofs lead in a circle takes twice as many queries for every two more.
pub const DNS_VALIDATION_DEPTH_MAX: usize = 14;
/// Lookups whose results are kept: some six for each domain.
pub const DNS_CACHE_ENTRIES_MAX: usize = 8_192;
/// Bytes of them. A usual one has 300.
pub const DNS_CACHE_BYTES_MAX: usize = 4 << 20;
/// How long a record is kept at most, so that a server that has moved is found within the hour.
pub const DNS_RECORDS_AGE_MAX: Duration = Duration::from_secs(3_600);
/// How long it is kept at most that there are no records: an operator who adds them tries at once.
pub const DNS_ABSENCE_AGE_MAX: Duration = Duration::from_secs(60);

/// Log lines that wait for the writer of the log. A burst of a login storm fits; what comes on top
/// is dropped and counted, since a reactor thread must not wait for a disk.
pub const LOG_LINES_MAX: usize = 4096;

/// Bytes of an event's text, and of the value of one field, in a log line. Peers choose some of them.
pub const LOG_TEXT_BYTES_MAX: usize = 1024;

/// Posts that a shard takes from its mailbox in one turn, so that sockets get theirs.
pub const TURN_POSTS_MAX: usize = 4_096;
/// Stanzas that one connection may have handled in one turn, so that others get theirs.
pub const TURN_STANZAS_MAX: usize = 16;
/// Stanzas that floods may have handled in one turn, all together, before other connections get theirs:
/// with them a turn lasts for a millisecond or two. A flood is who has more to read than its share of a
/// turn, or sent a large part of it when it was last read ([`FLOOD_STANZAS`], [`FLOOD_BYTES`]).
pub const TURN_FLOOD_STANZAS: u64 = 64;
/// Bytes that floods may have read in one turn, all together, for the same reason.
pub const TURN_FLOOD_BYTES: u64 = 64 * 1024;
/// Who has had so many stanzas handled in its last turn waits among floods next time. No person, and no
/// client after its login, says as much within a millisecond.
pub const FLOOD_STANZAS: u64 = 8;
/// The same for bytes. Below the largest TLS record, so that it counts who sends full ones.
pub const FLOOD_BYTES: u64 = 16 * 1024;
/// Bytes that one connection may have read in one turn.
pub const TURN_BYTES_MAX: usize = 64 * 1024;
/// Connections without a session that a shard reads in a short turn.
pub const TURN_NEWCOMERS_MAX: usize = 4;
/// Those of them whose bytes belong to a TLS handshake, which takes some 0.3 ms, as long as thirty
/// messages: sessions wait for no more than one.
pub const TURN_HANDSHAKES_MAX: usize = 1;
/// In a long turn one connection without a session is read for so many that have one, so that all
/// newcomers together cost at most about as much as the sessions.
pub const TURN_SESSIONS_PER_NEWCOMER: usize = 16;
/// Streams with other servers that a shard judges anew in one turn after a reload: each has its
/// certificates verified, which takes some 0.1 ms.
pub const TURN_REJUDGED_MAX: usize = 64;
/// Pause between looks at shut gates while reads are held.
pub const GATE_PAUSE: Duration = Duration::from_millis(2);

/// In which time of rest a stream gathers what it may send at once: at 200 stanzas a second all that a
/// client asks for at its login, of 2,000 contacts and some hundred rooms, and at 256 KiB ten stanzas of
/// the largest size.
pub const STREAM_BURST: Duration = Duration::from_secs(10);
/// Bytes that a client may send in a second before it has bound a resource.
pub const UNAUTHENTICATED_BYTES_PER_SECOND: u64 = 4 * 1024;
/// The same of such a client: 64 KiB, which is room for six logins with the largest elements.
pub const UNAUTHENTICATED_BURST: Duration = Duration::from_secs(16);

/// Stanzas of one session whose way has not ended; above it its socket is not read.
pub const UNSETTLED_STANZAS_MAX: usize = 256;
/// Bytes of such stanzas.
pub const UNSETTLED_BYTES_MAX: usize = 1024 * 1024;
/// IQ requests among them: what the answers to so many add to the output of a client that asks for the
/// vCards of all its contacts at once stays well below [`OUTPUT_BYTES_MAX`], however slowly it reads.
pub const UNSETTLED_REQUESTS_MAX: usize = 16;
/// Stanzas of one session from its oldest open one on, settled or not: 8 bytes are kept for each, so
/// that one that waits for long does not make its sender's later ones pile up.
pub const UNSETTLED_SPAN_MAX: usize = 16 * 1024;
/// IQ requests of an account to itself that wait for a read of the store.
pub const LATER_MAX: usize = 16;
/// The same of others to one account, each one of its sender's unsettled stanzas: hundreds of contacts,
/// or of occupants of a room, ask for a picture that has changed at once.
pub const LATER_FOR_OTHERS_MAX: usize = 1_024;

/// Questions of the server that a client may leave unanswered; it is asked no more then.
pub const ASKED_MAX: usize = 8;
/// Kinds of clients whose capabilities a shard remembers (XEP-0115 §8.2): the public knows some
/// hundreds, and anybody can make up more.
pub const CAPABILITIES_MAX: usize = 1_000;
/// Bytes of them.
pub const CAPABILITIES_BYTES_MAX: usize = 4 << 20;

/// Bytes of a connection's own unsent output above which it is not read.
pub const OUTPUT_HOLD_BYTES: usize = 256 * 1024;
/// The same for a connection with another server. Links write up to [`OUTPUT_HOLD_BYTES`] and a stanza
/// beyond, which is no reason to read nothing: on a stream that goes both ways two servers would wait
/// for each other. Above this it is answers to dialback that the peer does not read.
pub const PEER_OUTPUT_HOLD_BYTES: usize = 1024 * 1024;
/// Bytes of unsent output above which a connection is closed with `resource-constraint`
/// (RFC 6120 §4.9.3.17): its peer does not read.
pub const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of a subscription stanza. A request is stored whole, with what it says (RFC 6121 §3.1.3): a
/// nickname, some words and a token need a tenth of it. As many requests as the conf file lets wait are
/// shown at a login, which half of [`OUTPUT_BYTES_MAX`] has room for.
pub const SUBSCRIPTION_BYTES_MAX: usize = 4 * 1024;
/// When a hand-off that the store could not complete is tried again.
pub const HANDOFF_RETRY: Duration = Duration::from_secs(1);
/// Pause between looks whether the contacts of an account that was deleted know it: their changes take
/// one or two commits.
pub const PARTING_PAUSE: Duration = Duration::from_millis(10);
/// Hand-offs that one turn sends for an account that was deleted: each may make an account load.
pub const PARTINGS_PER_STEP_MAX: usize = 64;
/// Stanzas that a shard sends to contacts in one turn (contacts that get none count as one), so that
/// a broadcast to a large roster delays others by a millisecond or two, not by its whole length.
pub const FANOUT_TURN: usize = 512;
/// The same for one account, before the next account's broadcast goes on.
pub const FANOUT_SLICE: usize = 64;
/// Bytes of presence that a shard sends to contacts in one turn, for the same reason: each copy is
/// written out and encrypted, which takes about as long for 8 KiB as all else.
pub const FANOUT_BYTES_TURN: usize = 4 * 1024 * 1024;
/// Broadcasts of one account that are not done, above which it can bind no more resources. Each
/// session that is there has one at most; the others are of sessions that have ended.
pub const BROADCASTS_MAX: usize = 64;
/// Entities to which one session has sent presence directly (RFC 6121 §4.6): rooms, mostly. Gateways
/// to IRC bring some people into a hundred or two.
pub const DIRECTED_MAX: usize = 512;

/// Stanzas that wait for one account while it is loading or changing; presence and what the server
/// says itself are bounded by their bytes.
pub const INBOX_STANZAS_MAX: usize = 256;
/// Bytes of such stanzas. One of each of its own sessions and what is handed off may come on top.
pub const INBOX_BYTES_MAX: usize = 1024 * 1024;
/// Bytes up to which answers to what the account has asked may wait there, too, however many stanzas do:
/// each request has one, and nobody would send it again (RFC 6120 §8.2.3). Behind those of messages, and
/// before those of the server, since nobody knows which of them were asked for.
pub const INBOX_ANSWER_BYTES_MAX: usize = INBOX_BYTES_MAX + INBOX_BYTES_MAX / 2;
/// Bytes up to which what the server says itself may wait there, too: presence, answers, what comes
/// back. So nobody crowds it out by what they send.
pub const INBOX_SERVER_BYTES_MAX: usize = 2 * INBOX_BYTES_MAX;
/// Accounts without a session that one shard keeps in memory, known or unknown.
pub const IDLE_ACCOUNTS_MAX: usize = 50_000;
/// How long the shard remembers that a name has no account, or an account without a session.
pub const IDLE_ACCOUNT_AGE: Duration = Duration::from_secs(300);

/// Notes of roster items that were removed, for clients that come back with an older version
/// (RFC 6121 §2.6). Whoever has missed more gets the whole roster, which is then the shorter answer
/// for most.
pub const ROSTER_REMOVALS_MAX: u32 = 100;
/// Bytes of the name of a roster item (RFC 6121 §2.3.3), as of a resourcepart (RFC 7622 §3.4).
pub const ROSTER_NAME_BYTES_MAX: usize = 1023;
/// Bytes of the name of a group of roster items, for the same reason.
pub const ROSTER_GROUP_BYTES_MAX: usize = 1023;
/// Groups of one roster item. People use a few.
pub const ROSTER_GROUPS_MAX: usize = 32;
/// The highest `limits.roster_items_max`: what a contact costs beside its JID, name and groups is at
/// most [`ROSTER_MARKUP_BYTES`].
pub const ROSTER_ITEMS_BOUND: u64 = 5_000;
/// Bytes of `<item/>` with all its attributes, but for the values of `jid` and `name`.
pub const ROSTER_MARKUP_BYTES: u64 = 100;
/// Bytes of all names and groups of a roster as they are stored: some 75 for each of 5,000 contacts.
/// Escaped they are at most six times as long, so that a whole roster, which goes out in one stanza,
/// stays below [`OUTPUT_BYTES_MAX`].
pub const ROSTER_TEXT_BYTES_MAX: u64 = 384 * 1024;
/// Bytes of the JIDs of all contacts of a roster, at which it is full, for the same reason.
pub const ROSTER_JID_BYTES_MAX: usize = 512 * 1024;
const _: () = assert!(
    ROSTER_ITEMS_BOUND * ROSTER_MARKUP_BYTES
        + 6 * ROSTER_TEXT_BYTES_MAX
        + ROSTER_JID_BYTES_MAX as u64
        + 2_048
        < OUTPUT_BYTES_MAX as u64
);
/// Elements of one set of private XML (XEP-0049): clients store one or two at a time, and each takes the
/// store's writer some 20 µs.
pub const PRIVATE_SET_ELEMENTS_MAX: usize = 64;
/// Runs of messages that a session was shown while another one was given the offline messages before
/// them: one that comes and goes more often gets the oldest of them twice if it takes over.
pub const OFFLINE_RUNS_MAX: usize = 16;
/// Offline messages that are read and written to a session at a time: few enough that a turn is short,
/// enough that a backlog of thousands takes well under a second.
pub const OFFLINE_PAGE_MESSAGES_MAX: usize = 50;
/// Bytes of such a page, but for one message that is larger: what a session that does not read costs.
pub const OFFLINE_PAGE_BYTES_MAX: u64 = 64 * 1024;
/// Senders of stored messages that are told apart for each account: with more, whoever sends what is not
/// stored waits until those of the oldest of them are delivered.
pub const OFFLINE_SENDERS_MAX: usize = 64;
/// Stanzas that wait in memory, for all sessions of one account, behind stored ones of their senders.
pub const OFFLINE_HELD_STANZAS_MAX: usize = 256;
/// Bytes of such stanzas, as many as of what waits for an account that is busy.
pub const OFFLINE_HELD_BYTES_MAX: usize = INBOX_BYTES_MAX;
/// How long a session is let wait for offline messages that could not be read, before each further try.
/// Together as long as somebody waits who sees that nothing comes; meanwhile all that is sent to the
/// account is stored.
pub const OFFLINE_READ_PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// How long a stream to another server may take from the dial until stanzas flow, before the next address
/// is tried.
pub const DIAL_WAIT: Duration = Duration::from_secs(20);
/// Tries at another server that one `stanzad explain s2s` makes, side by side: a peer counts what connects
/// from an address.
pub const DRY_RUNS_MAX: usize = 8;
/// Addresses that are tried for one stream to another server.
pub const DIAL_ATTEMPTS_MAX: usize = 8;
/// Pairs of a local and a remote domain that one shard keeps a link for. Those without a stream and
/// without stanzas make room for others, the oldest first.
pub const PEER_LINKS_MAX: usize = 20_000;
/// Stanzas that wait for one link's stream.
pub const PEER_QUEUE_STANZAS_MAX: usize = 1_000;
/// Bytes of them: two of the largest that a client may send, and a chat of a thousand lines.
pub const PEER_QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// Stanzas that wait for all links of one shard, those included that were sent and are not acknowledged:
/// some 32 MiB beside their bytes.
pub const PEER_HELD_STANZAS_MAX: usize = 65_536;
/// Bytes of them.
pub const PEER_HELD_BYTES_MAX: usize = 32 << 20;
/// What part of what is still free of that one sender may have for stanzas that wait, and what part of
/// the links that are still to be had: a seventh. That makes an eighth of the whole for who is alone, 4 MiB
/// or 2,500 links, and a hundred who all want more than they get leave 2 MiB or 1,300 links to the next.
pub const PEER_SHARE_WAITING: usize = 7;
/// The same for a stanza that can be sent at once and will be acknowledged: a third, so that who has much
/// waiting for dead servers can still talk with the others.
pub const PEER_SHARE_SENT: usize = 3;
/// How long a stream to another server is ready at least, if the next one is to be made at once: a peer
/// that ends each as soon as it has it is dialled ever more seldom.
pub const PEER_STREAM_STEADY: Duration = Duration::from_secs(60);
/// How long a link that has no stream and nothing to send is kept: as long as a stream may be on the way
/// that was begun for it.
pub const PEER_LINK_IDLE: Duration = Duration::from_secs(300);
/// Streams to other servers that one shard makes at a time; more links wait for their turn. Each has a
/// socket open, and a server that is not there holds it for some minutes.
pub const DIALS_MAX: usize = 256;
/// Dialback keys that wait until the server of one link can be asked, of all that offer them.
pub const LINK_ASKS_MAX: usize = 256;
/// The same for all links of one shard: a key and an id of the largest size each take 8 MiB.
pub const ASKS_MAX: usize = 8_192;
/// Messages for other servers that are read from the store at a time when the server starts.
pub const PEER_PAGE_MESSAGES_MAX: usize = 256;
/// Bytes of such a page, but for one message that is larger.
pub const PEER_PAGE_BYTES_MAX: usize = 1024 * 1024;
/// How long presence and requests wait for a stream: people give up at about that time, and a few
/// addresses can be tried meanwhile.
pub const PEER_REQUEST_WAIT: Duration = Duration::from_secs(60);
/// The first pause before a server that was not reached is tried again; it doubles each time.
pub const PEER_RETRY_FIRST: Duration = Duration::from_secs(5);
/// The longest of these pauses.
pub const PEER_RETRY_MAX: Duration = Duration::from_secs(300);
/// How long a server is taken for refused that does not exist, or that policy keeps us from.
pub const PEER_REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// Attempts at streams that are kept of one other server for `stanzad explain s2s`, in each direction.
pub const PEER_ATTEMPTS_MAX: usize = 8;
/// Servers of which one shard keeps attempts, in each direction. Full of the longest attempts they take
/// 10 MiB, as they are some 500 KiB.
pub const PEER_HISTORIES_MAX: usize = 512;
/// Characters that are kept of a text that another server may have chosen, for people.
pub const PEER_TEXT_CHARS_MAX: usize = 256;
/// Names and faults that are kept of the certificate of an attempt.
pub const PEER_ATTEMPT_FAULTS_MAX: usize = 4;

/// Bytes of a dialback key. Those of XEP-0185 have 64; each that is offered is kept until it is verified.
pub const DIALBACK_KEY_BYTES_MAX: usize = 512;
/// Bytes of the stream id in a request to verify a dialback key. Ids of servers in use have up to 64.
pub const DIALBACK_ID_BYTES_MAX: usize = 512;
/// Bytes that are kept of the text of a dialback error, for the log.
pub const DIALBACK_TEXT_BYTES_MAX: usize = 256;
/// Domain pairs that a peer has proven or tries to prove on one stream: a provider of some hundred
/// domains fits, at some 100 bytes each.
pub const DIALBACK_PAIRS_MAX: usize = 512;
/// Those of them that wait for a decision or for the authoritative server: each may cost a look into the
/// DNS and a connection to wherever that leads.
pub const DIALBACK_PENDING_MAX: usize = 16;
/// Refused dialback requests in a row that end a stream: who guesses domains makes us dial for each.
pub const DIALBACK_REFUSALS_MAX: usize = 16;
/// How long the authoritative server may take to answer whether a key is its own. Who has offered the key
/// waits for that, and takes one of `DIALBACK_PENDING_MAX` places.
pub const DIALBACK_ANSWER_WAIT: Duration = Duration::from_secs(20);
/// Keys that wait for verification on one stream: others claim the domain of a popular server at most
/// that often at a time.
pub const DIALBACK_QUESTIONS_MAX: usize = 256;

/// Bytes of the id of a resumable stream; XEP-0198 §5 has no use for longer ones.
pub const MANAGEMENT_ID_BYTES_MAX: usize = 4_000;
/// How long the answer to `<r/>` waits for what is about to be settled: a commit takes 1 to 2 ms.
pub const ACK_HOLD: Duration = Duration::from_millis(5);
/// Stanzas sent to a peer server that it has not acknowledged: 4,000 a second on a round trip of half a
/// second. More are not sent, and wait as those for a link that is not there.
pub const PEER_UNACKNOWLEDGED_STANZAS_MAX: usize = 2_048;
/// Bytes of them: eight of the largest stanzas that servers take.
pub const PEER_UNACKNOWLEDGED_BYTES_MAX: usize = 4 << 20;
/// Stanzas after which a peer server is asked what it has handled: the sockets of their senders are held
/// at 256 that are not ([`UNSETTLED_STANZAS_MAX`]).
pub const PEER_REQUEST_STANZAS: usize = 16;
/// Bytes after which it is asked, for the same reason ([`UNSETTLED_BYTES_MAX`]).
pub const PEER_REQUEST_BYTES: usize = 64 * 1024;
/// How long the first of fewer waits until it is asked: their senders wait for our own `<a/>` as long.
pub const PEER_REQUEST_DELAY: Duration = Duration::from_millis(100);
/// Pings that a server may let go by before it is taken for one that answers none. What it was sent is
/// kept for that long: 90 seconds, as `s2s.ack_timeout_seconds` has it.
pub const PEER_PINGS_UNANSWERED_MAX: u32 = 3;
/// Pings of one stream whose answers are still known: those, and one more.
pub const PEER_PINGS_MAX: usize = 4;
/// How long an answer takes at most that is not held up: a server may have to dial us first. Who lets a
/// stream end without one has let the ping go by.
pub const PEER_PING_FAIR: Duration = Duration::from_secs(10);
/// Streams that a peer server may end with an error over one stanza before that goes back to its sender:
/// one error may come of something else, such as a reload there.
pub const PEER_STANZA_STREAMS_MAX: u32 = 3;
/// How often a server that answers no pings is tried again on one stream.
pub const PEER_PING_PROBE_EVERY: Duration = Duration::from_secs(3600);

/// Silence after which a stream gives its parser back: long for a burst of stanzas, short for a person.
pub const PARSER_REST_AFTER: Duration = Duration::from_secs(2);

/// Characters of a component's secret below which an operator is warned: 16 hexadecimal digits are 64
/// bits, which nobody guesses at the rate that failed handshakes are let through.
pub const COMPONENT_SECRET_SHORT: usize = 16;
/// Stanzas that wait for a component that does not read: forty times what one client's stream may have
/// on the way ([`UNSETTLED_STANZAS_MAX`]) before it is not read itself.
pub const COMPONENT_QUEUE_STANZAS_MAX: usize = 10_000;
/// Bytes of them: eight such streams' worth.
pub const COMPONENT_QUEUE_BYTES_MAX: usize = 8 << 20;
/// How long they wait at most for a component to read some: clients that wrote to it wait as long.
pub const COMPONENT_STALL_WAIT: Duration = Duration::from_secs(30);
/// Silence of a component after which a space is sent to it (RFC 6120 §4.6.1), so that TCP finds out if
/// it is gone.
pub const COMPONENT_PROBE_EVERY: Duration = Duration::from_secs(60);

/// How long the peer's `</stream:stream>` is waited for after ours (RFC 6120 §4.4).
pub const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// How long an orderly stop may take.
pub const STOP_WAIT: Duration = Duration::from_secs(10);
/// TCP user time-out of accepted and dialled sockets: unacknowledged data for so long ends the connection
/// (RFC 6120 §4.6.4; RFC 5482).
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(90);
/// Certificates that another server may show. Public chains have two to four.
pub const PEER_CERTIFICATES_MAX: usize = 10;
/// Bytes of all certificates that another server may show. Classical ones have 1 to 2 KiB, those
/// with post-quantum signatures (ML-DSA-87) 8 KiB.
pub const PEER_CERTIFICATES_BYTES_MAX: usize = 100 * 1024;
/// Faults that are told of a chain of certificates: some for each of them.
pub const PEER_FAULTS_MAX: usize = 40;
/// Names of a certificate that are looked at. Public authorities end at 100 to 250.
pub const CERTIFICATE_NAMES_MAX: usize = 1000;
/// Bits of an RSA key that another server may show, and of its exponent. To verify takes 0.3 ms of
/// CPU with 8192 bits and the usual exponent (65537, 17 bits), some times that with 64 bits, and
/// 10 ms and more, for each certificate of a chain, beyond.
pub const PEER_KEY_BITS_MAX: u32 = 8192;
/// See there.
pub const PEER_KEY_EXPONENT_BITS_MAX: i32 = 64;
/// Outcomes of verifying the chain that a peer has presented: by our authorities and by some that are
/// pinned, for servers and for clients.
pub const CHAIN_OUTCOMES_MAX: usize = 4;
/// Seconds for which they hold. What is accepted meanwhile ends with the certificate all the same.
pub const CHAIN_OUTCOME_SECONDS_MAX: i64 = 60;
/// Domains of one stream for which is kept what the DNS vouches for: up to 256 KiB each.
pub const LOOKED_UP_MAX: usize = 5;
/// Servers whose keys are remembered in the store: some 200 bytes each.
pub const PEER_KEYS_MAX: usize = 50_000;
/// Places of one peer whose TLSA records are held against its certificate: each takes two verifications
/// of a chain, so that a domain with many targets costs some milliseconds at most.
pub const TLSA_ENDPOINTS_MAX: usize = 4;
/// TLSA records of a name that are looked at. A key that is being replaced has four.
pub const TLSA_RECORDS_MAX: usize = 32;
