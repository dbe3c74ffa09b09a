//! Faults that are planted in the world around the server, to see that the checks find them: what a
//! store, a mailbox or a socket must not do is, to those who look on, what a server must not do.

use std::mem;
use std::sync::{Arc, Mutex};

use stanzad::ns;
use stanzad::router::account::Proof;
use stanzad::router::effects::RouterPost;
use stanzad::router::peers::LinkNews;
use stanzad::router::settlement::Source;
use stanzad::shard::Post;
use stanzad::shard::connection::Proven;
use stanzad::shard::turn::Shard;
use stanzad::stanza::{Stanza, Type};
use stanzad::storage::peer_queue::PeerMessage;
use stanzad::storage::{Answer, Batch, ChangeFn, Row, StoreError, Value, accounts, handoff};
use stanzad::stream::dialback::{Answer as Answered, Checked};
use stanzad::xml::Element;

use crate::running::abandon;
use crate::world::{Event, Phase, World};

/// One in so many occasions is used.
const OCCASIONS: u64 = 5;

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A start does not complete what a crash has left behind.
    CrashLosesHandoff,
    /// A subscription stanza gets lost between two shards.
    MailLosesHandoff,
    /// A change is acknowledged that is not stored.
    ChangeNotStored,
    /// A message is acknowledged that is not stored.
    MessageNotStored,
    /// Offline messages are not deleted when they are delivered.
    DeliveredNotDeleted,
    /// A client gets two roster pushes in the other order.
    PushesSwapped,
    PushLost,
    AvailableLost,
    UnavailableLost,
    /// A client gets what another one is told.
    PresenceShown,
    /// A client gets two messages from the store in the other order.
    LateMessagesSwapped,
    /// Writes are acknowledged, and the server is killed before it commits them.
    ReplyBeforeCommit,
    /// A batch of posts from a shard to another one gets lost.
    PostLost,
    /// The end of a stanza's way is told twice.
    SettledTwice,
    /// What a login has proven is not compared with what is stored when it arrives at the account.
    CredentialNotChecked,
    /// A gate that was shut stays shut.
    GateStaysShut,
    /// The row that stands for a subscription stanza outlives its way.
    HandoffNotDeleted,
    /// A start forgets the messages that wait for another server.
    CrashLosesPeerQueue,
    /// A message for another server is acknowledged that is not stored.
    PeerMessageNotStored,
    /// The row of a message for another server outlives its way.
    PeerRowNotDeleted,
    /// What two shards send to another server leaves in another order than it came.
    PeerPostsSwapped,
    /// Another server is not told that a session has ended.
    UnavailableNotSent,
    /// Who claims to be another server is believed.
    UnprovenAccepted,
    /// A probe is not answered by `unsubscribed`.
    ProbeNotAnswered,
    /// What a broken stream leaves unacknowledged is forgotten.
    UnacknowledgedForgotten,
    /// A server says that it has handled one stanza more than it has.
    HandledOneTooMany,
    /// The stream of another server is not told that a stanza is settled.
    PeerSettlementLost,
    /// The bytes of what has left a link are not given back.
    BytesNotGivenBack,
}

/// What a run must have for a fault to have its occasions.
#[derive(Clone, Copy, Default)]
pub struct Needs {
    pub crash: bool,
    pub two_servers: bool,
    pub breaks: bool,
    pub no_breaks: bool,
}

impl Fault {
    pub fn needs(self) -> Needs {
        let federated = Needs {
            two_servers: true,
            ..Needs::default()
        };
        match self {
            Fault::CrashLosesHandoff => Needs {
                crash: true,
                ..Needs::default()
            },
            Fault::CrashLosesPeerQueue | Fault::PeerMessageNotStored => Needs {
                crash: true,
                breaks: true,
                ..federated
            },
            Fault::PeerRowNotDeleted
            | Fault::UnprovenAccepted
            | Fault::PeerSettlementLost
            | Fault::BytesNotGivenBack => federated,
            Fault::PeerPostsSwapped | Fault::UnavailableNotSent => Needs {
                no_breaks: true,
                ..federated
            },
            Fault::ProbeNotAnswered | Fault::UnacknowledgedForgotten | Fault::HandledOneTooMany => {
                Needs {
                    breaks: true,
                    ..federated
                }
            }
            _ => Needs::default(),
        }
    }
}

/// Whether certificates that prove nothing are believed.
#[derive(Clone, Copy)]
pub struct Lenience(bool);

impl Lenience {
    pub fn is_lenient(self) -> bool {
        self.0
    }
}

/// Each of them, and words of what is found: any of them will do, since a fault may show in more ways
/// than one, and which is seen first depends on the seed.
pub const FAULTS: &[(Fault, &[&str])] = &[
    (Fault::CrashLosesHandoff, &["do not agree"]),
    (Fault::MailLosesHandoff, &["do not agree"]),
    (
        Fault::ChangeNotStored,
        &[
            "another roster in memory",
            "do not agree",
            "got push",
            "got the roster",
            "is none of",
            "knows the roster",
            "lost",
            "was let in",
            "was refused as",
            "wished were",
        ],
    ),
    (
        Fault::MessageNotStored,
        &["was neither delivered nor returned"],
    ),
    (
        Fault::DeliveredNotDeleted,
        &[
            "from the store, which",
            "is stored, though it was delivered",
            "twice",
        ],
    ),
    (Fault::PushesSwapped, &["got push", "knows the roster"]),
    (Fault::PushLost, &["got push", "knows the roster"]),
    (Fault::AvailableLost, &["whose last presence is"]),
    (Fault::UnavailableLost, &["who is not there"]),
    (
        Fault::PresenceShown,
        &["which it may not see", "who has not said it"],
    ),
    (Fault::LateMessagesSwapped, &["too late, Late", "after m"]),
    (
        Fault::ReplyBeforeCommit,
        &[
            "is none of",
            "was told of",
            "was told, ",
            "though it was delivered",
            "wished were",
            "was neither delivered nor returned",
            "from the store, which",
            "is of version",
            "got push",
            "twice",
        ],
    ),
    (
        Fault::PostLost,
        &[
            "are never settled",
            "was neither delivered nor returned",
            "was not answered",
            "wait for ever",
            "is busy for ever",
            "do not agree",
            "is stuck while",
            "whose last presence is",
            "who is not there",
            "says nothing until",
        ],
    ),
    (Fault::SettledTwice, &["settled twice"]),
    (Fault::CredentialNotChecked, &["was let in as"]),
    (
        Fault::GateStaysShut,
        &["is stuck while", "says nothing until", "was not answered"],
    ),
    (Fault::HandoffNotDeleted, &["hand-offs are never completed"]),
    (
        Fault::CrashLosesPeerQueue,
        &["was neither delivered nor returned", "waits for ever"],
    ),
    (
        Fault::PeerMessageNotStored,
        &["was neither delivered nor returned"],
    ),
    (Fault::PeerRowNotDeleted, &["waits for ever"]),
    (
        Fault::PeerPostsSwapped,
        &[
            "too late, ",
            "after m",
            "after p",
            "last presence is",
            "who is not there",
        ],
    ),
    (Fault::UnavailableNotSent, &["who is not there"]),
    (Fault::UnprovenAccepted, &["of an impostor"]),
    (Fault::ProbeNotAnswered, &["do not agree"]),
    (
        Fault::UnacknowledgedForgotten,
        &["was lost, and not sent again", "was not answered"],
    ),
    (
        Fault::HandledOneTooMany,
        // A subscription stanza that got lost in that way is missed by one of two accounts.
        &[
            "was lost, and not sent again",
            "was not answered",
            "do not agree",
        ],
    ),
    (
        Fault::PeerSettlementLost,
        &["are never acknowledged", "are never settled"],
    ),
    (Fault::BytesNotGivenBack, &["though they hold"]),
];

/// The fault of a run.
#[derive(Default)]
pub struct Planted {
    fault: Option<Fault>,
    occasions: u64,
    /// A stanza that comes behind the next one of its kind to a client.
    held: Option<(usize, Element)>,
    /// Nothing is committed any more, but acknowledged, until the server is killed.
    is_ahead: bool,
    /// Bytes that links hold no more, and bytes that they held last.
    leaked: usize,
    held_before: usize,
}

impl Planted {
    pub fn new(fault: Option<Fault>) -> Planted {
        Planted {
            fault,
            ..Planted::default()
        }
    }

    pub fn lenience(&self) -> Lenience {
        Lenience(self.is(Fault::UnprovenAccepted))
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Whether the fault is to be made now.
    fn strikes(&mut self, fault: Fault) -> bool {
        if !self.is(fault) {
            return false;
        }
        self.occasions += 1;
        self.occasions.is_multiple_of(OCCASIONS)
    }
}

impl Planted {
    /// Of what the server makes itself; that has no ticket which would be missed.
    fn loses_on_its_way_to_a_peer(&self, stanza: &Stanza) -> bool {
        let is_made = stanza.id.is_none();
        match stanza.type_ {
            Type::Unavailable => self.is(Fault::UnavailableNotSent) && is_made,
            Type::Unsubscribed => self.is(Fault::ProbeNotAnswered) && is_made,
            _ => false,
        }
    }
}

impl World {
    /// The post by which a start has messages wait again.
    pub fn restored(&mut self, messages: Vec<PeerMessage>) -> Option<Post> {
        let is_forgotten = self.planted.is(Fault::CrashLosesPeerQueue);
        (!is_forgotten && !messages.is_empty()).then_some(Post::PeerMessages(messages))
    }

    /// Whether a start forgets its duty.
    pub fn forgets_handoffs(&mut self, server: usize) -> bool {
        if !self.planted.is(Fault::CrashLosesHandoff) {
            return false;
        }
        let (rows, _) = handoff::all(self.servers[server].store.db(), 0, usize::MAX).unwrap();
        for row in rows {
            self.forget_handoff(server, row.id);
        }
        true
    }

    fn forget_handoff(&mut self, server: usize, id: i64) {
        let store = &mut self.servers[server].store;
        store.change(move |db| handoff::delete(db, id)).unwrap();
    }

    /// Whether a gate opens.
    pub fn reopens_gate(&self) -> bool {
        !self.planted.is(Fault::GateStaysShut)
    }

    /// The server is killed.
    pub fn stops_pretending(&mut self) {
        self.planted.is_ahead = false;
    }

    /// What arrives at a shard.
    pub fn arrives(&self, posts: &mut [Post]) {
        if self.planted.is(Fault::UnprovenAccepted) {
            for post in posts.iter_mut() {
                if let Post::Verified(_, checked) = post {
                    *checked = Checked::Answered(Answered::Valid);
                }
            }
        }
        if !self.planted.is(Fault::CredentialNotChecked) {
            return;
        }
        for post in posts {
            if let Post::Moved(moving) = post
                && let Proven::Account(jid, proof) = &mut moving.proven
                && let Some(record) = accounts::find(self.store(jid).db(), jid).unwrap()
            {
                *proof = Proof::Credentials(record.generation);
            }
        }
    }

    /// What is left of posts between shards of a server.
    pub fn carried(&mut self, server: usize, mut posts: Vec<Post>) -> Vec<Post> {
        if self.planted.strikes(Fault::PostLost) {
            abandon(posts);
            return Vec::new();
        }
        for post in &mut posts {
            if let Post::Router(RouterPost::Settled(settled)) = post {
                if self.planted.strikes(Fault::SettledTwice) {
                    settled.extend_from_within(..);
                }
                settled.retain(|(source, _)| {
                    let is_peer = matches!(source, Source::Peer(_));
                    !(is_peer && self.planted.strikes(Fault::PeerSettlementLost))
                });
            }
        }
        if self.planted.is(Fault::PeerPostsSwapped) {
            posts.reverse();
        }
        let mut carried = Vec::new();
        for post in posts {
            let handoff = match &post {
                Post::Router(RouterPost::ToPeer(routed))
                    if self.planted.loses_on_its_way_to_a_peer(&routed.stanza) =>
                {
                    abandon(post);
                    continue;
                }
                Post::Router(RouterPost::Route(routed)) => routed.handoff,
                _ => None,
            };
            match handoff {
                Some(id) if self.planted.strikes(Fault::MailLosesHandoff) => {
                    self.forget_handoff(server, id);
                }
                _ => carried.push(post),
            }
        }
        carried
    }

    /// What is written of a batch. Whoever asked is told that all of it is.
    pub fn written(&mut self, server: usize, mut batch: Batch) -> Batch {
        self.note_asked(server, &batch);
        let is_early = self.phase == Phase::Busy && self.planted.strikes(Fault::ReplyBeforeCommit);
        if is_early && !self.planted.is_ahead {
            self.planted.is_ahead = true;
            let pause = self.chance.within(20..=400);
            self.after(pause, Event::Crash(server));
        }
        let planted = &mut self.planted;
        let is_ahead = planted.is_ahead;
        batch.rows.retain(|row| match row {
            _ if is_ahead => false,
            Row::Offline(_) => !planted.strikes(Fault::MessageNotStored),
            Row::OfflineDelivered { .. } => !planted.strikes(Fault::DeliveredNotDeleted),
            Row::HandedOff { .. } => !planted.strikes(Fault::HandoffNotDeleted),
            Row::PeerQueued(_) => !planted.is(Fault::PeerMessageNotStored),
            Row::PeerDone(_) => !planted.strikes(Fault::PeerRowNotDeleted),
            Row::LastSeen { .. } => true,
        });
        for (_, change) in &mut batch.changes {
            if is_ahead || self.planted.strikes(Fault::ChangeNotStored) {
                let real = mem::replace(change, Box::new(|_| Err(StoreError::NotFound)));
                *change = undone(real, Arc::clone(&self.undone));
            }
        }
        batch
    }

    /// What the answers to changes would be if all were stored.
    pub fn pretended(&mut self, answers: &mut [(usize, Answer)]) {
        for (_, answer) in answers {
            let Answer::Committed { changes, .. } = answer else {
                continue;
            };
            for (_, result) in changes {
                if matches!(result, Err(StoreError::Refused(UNDONE)))
                    && let Some(value) = self.undone.lock().unwrap().pop()
                {
                    *result = Ok(value);
                }
            }
        }
    }

    /// How many bytes links say that they hold.
    pub fn held(&mut self, bytes: usize) -> usize {
        let planted = &mut self.planted;
        let given_back = planted.held_before.saturating_sub(bytes);
        planted.held_before = bytes;
        if given_back > 0 && planted.strikes(Fault::BytesNotGivenBack) {
            planted.leaked += given_back;
        }
        bytes + planted.leaked
    }

    /// A connection breaks: its server takes all that it has sent for acknowledged.
    pub fn acknowledges_all(&self, end: usize, shards: &mut [Shard]) {
        let Some((shard, index)) = self.ends[end].registered else {
            return;
        };
        if self.planted.is(Fault::UnacknowledgedForgotten) && self.ends[end].is_dialled {
            let router = &mut shards[shard as usize].router;
            let links = router.peers.links();
            let links = links.filter_map(|(key, link)| {
                let conn = link.streams().find(|conn| conn.index() == index)?;
                Some((key, conn))
            });
            let count = self.count_written(end) as u32;
            for (link, conn) in links.collect::<Vec<_>>() {
                router.link_news(link, conn, LinkNews::Acknowledged(count));
            }
        }
    }

    /// What an end sends, which has counted one stanza too many if there is one. The connection breaks soon,
    /// while that stanza may be on its way.
    pub fn counted_wrongly(&mut self, end: usize, bytes: Vec<u8>) -> Vec<u8> {
        const ACK: &str = "<a xmlns='urn:xmpp:sm:3' h='";
        if !self.planted.is(Fault::HandledOneTooMany) {
            return bytes;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((before, (h, after))) = text
            .split_once(ACK)
            .and_then(|(before, rest)| Some((before, rest.split_once('\'')?)))
        else {
            return bytes;
        };
        let more = h.parse::<usize>().unwrap_or_default() + 1;
        if more > self.count_written(self.ends[end].other) {
            return bytes;
        }
        if self.planted.strikes(Fault::HandledOneTooMany) {
            self.after(20, Event::Part(300));
        }
        format!("{before}{ACK}{more}'{after}").into_bytes()
    }

    /// What a client gets in place of a stanza.
    pub fn tampered(&mut self, index: usize, element: &Element) -> Vec<Element> {
        let type_ = element.attribute("type").unwrap_or_default();
        let from = element.attribute("from").unwrap_or_default();
        let is_other = !from.starts_with(&self.own_jid(index));
        let is_presence = element.name == "presence" && is_other;
        let is_push = type_ == "set" && element.find(ns::ROSTER, "query").is_some();
        let is_late = element.name == "message" && self.is_late(index, element);
        let planted = &mut self.planted;
        let is_lost = (is_push && planted.strikes(Fault::PushLost))
            || (is_presence && type_.is_empty() && planted.strikes(Fault::AvailableLost))
            || (is_presence && type_ == "unavailable" && planted.strikes(Fault::UnavailableLost));
        if is_lost {
            return Vec::new();
        }
        let is_swapped = (is_push && planted.is(Fault::PushesSwapped))
            || (is_late && planted.is(Fault::LateMessagesSwapped));
        if is_swapped {
            return self.swapped(index, element);
        }
        if is_presence && type_.is_empty() && planted.strikes(Fault::PresenceShown) {
            self.show_to_all(index, element);
        }
        vec![element.clone()]
    }

    /// Holds a stanza back until the next one to the same client.
    fn swapped(&mut self, index: usize, element: &Element) -> Vec<Element> {
        match self.planted.held.take() {
            Some((other, held)) if other == index => vec![element.clone(), held],
            Some((other, held)) if self.clients[other].is_online() => {
                self.planted.held = Some((other, held));
                vec![element.clone()]
            }
            _ => {
                self.planted.held = Some((index, element.clone()));
                Vec::new()
            }
        }
    }

    fn show_to_all(&mut self, index: usize, element: &Element) {
        let mut shown = element.clone();
        shown.attributes.retain(|attribute| attribute.name != "to");
        for other in self.live.clone() {
            if other != index && self.clients[other].is_online() && self.violations.is_empty() {
                self.stanza(other, &shown);
            }
        }
    }
}

const UNDONE: &str = "a planted fault";

/// A change whose savepoint is undone, while what it yields is kept.
fn undone(real: ChangeFn, values: Arc<Mutex<Vec<Value>>>) -> ChangeFn {
    Box::new(move |db| {
        let value = real(db)?;
        values.lock().unwrap().insert(0, value);
        Err(StoreError::Refused(UNDONE))
    })
}
