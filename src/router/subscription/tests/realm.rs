//! Several shards over one store in memory, without threads: what each asks for is carried out one piece
//! at a time, in whatever order a test chooses, and the whole can crash.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Mono, Now, Wall};
use crate::config::{DomainSettings, Settings};
use crate::jid::{BareJid, Domain, Jid};
use crate::router::Router;
use crate::router::account::Proof;
use crate::router::commands::AccountCommand;
use crate::router::effects::RouterPost;
use crate::router::feature::value;
use crate::router::pipeline::Pipeline;
use crate::router::placement::Placement;
use crate::router::session::{Availability, SessionOrigin};
use crate::router::storage_value;
use crate::router::subscription::{delete_account, redeliver, removal_handoffs};
use crate::router::testing::no_such_server;
use crate::sasl::{Credentials, Mechanism};
use crate::slots::{Key, Slots};
use crate::stanza::{Kind, Stanza, StreamCondition, StreamError, Type};
use crate::storage::handoff::{self, Handoff};
use crate::storage::roster::{self, Item, State};
use crate::storage::{Answer, Batch, Lane, ReadFn, StoreError, WriterCore, accounts};
use crate::xml::Payload;

/// Shards of a realm: neighbors in a test are on different ones.
pub const SHARDS: u32 = 2;

/// What can be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A shard handles its own work.
    Work(usize),
    /// A post goes from one shard to another.
    Post(usize, usize),
    /// The oldest batch of a shard is committed.
    Commit(usize),
    /// A shard takes the answer of a commit.
    Answer(usize),
    /// A shard's oldest read is answered.
    Read(usize),
    /// A shard hears that there is no such server as a link of it leads to.
    Unreached(usize),
}

/// Shards and a store.
pub struct Realm {
    pub routers: Vec<Router>,
    pub store: WriterCore,
    settings: Arc<Settings>,
    pipeline: Arc<Pipeline>,
    placement: Placement,
    posts: BTreeMap<(usize, usize), VecDeque<RouterPost>>,
    batches: Vec<VecDeque<Batch>>,
    answers: Vec<VecDeque<Answer>>,
    reads: Vec<VecDeque<(u64, Lane, ReadFn)>>,
    conns: Slots<()>,
}

/// A session.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    pub shard: usize,
    pub session: Key,
    pub conn: Key,
}

pub fn jid(text: &str) -> BareJid {
    BareJid::parse(text).unwrap()
}

/// A subscription stanza as a client sends it.
pub fn signal(type_: Type, to: &str) -> Stanza {
    let mut stanza = Stanza::new(Kind::Presence, type_, Payload::empty());
    stanza.to = Some(Jid::parse(to).unwrap());
    stanza
}

impl Realm {
    /// `example.org` with these accounts.
    pub fn new(names: &[&str], change: impl FnOnce(&mut Settings)) -> Realm {
        let mut settings = Settings::default();
        let name = Domain::parse("example.org").unwrap();
        let domain = DomainSettings::new(name.clone());
        settings.domains.insert(name, Arc::new(domain));
        change(&mut settings);
        // A key under which juliet, romeo and nurse live on shards 0, 1 and 0.
        let placement = (0..)
            .map(|key| Placement::with_key(SHARDS, key))
            .find(|placement| {
                ["juliet", "romeo", "nurse"]
                    .map(|name| placement.shard_of(&format!("{name}@example.org")))
                    == [0, 1, 0]
            })
            .unwrap();
        let shards = SHARDS as usize;
        let mut realm = Realm {
            routers: Vec::new(),
            store: WriterCore::memory(&[7; 32]).unwrap(),
            settings: Arc::new(settings),
            pipeline: Arc::new(Pipeline::new(&[])),
            placement,
            posts: BTreeMap::new(),
            batches: (0..shards).map(|_| VecDeque::new()).collect(),
            answers: (0..shards).map(|_| VecDeque::new()).collect(),
            reads: (0..shards).map(|_| VecDeque::new()).collect(),
            conns: Slots::default(),
        };
        realm.start();
        for name in names {
            realm.create(name);
        }
        realm
    }

    fn start(&mut self) {
        self.routers = (0..SHARDS)
            .map(|shard| {
                let (placement, settings) = (self.placement.clone(), Arc::clone(&self.settings));
                Router::new(shard, placement, settings, Arc::clone(&self.pipeline))
            })
            .collect();
    }

    /// Creates an account behind the server's back.
    pub fn create(&mut self, name: &str) {
        let jid = jid(name);
        self.store
            .change(move |db| {
                accounts::create(db, &jid, &Credentials::default(), Wall::default()).map(drop)
            })
            .unwrap();
    }

    /// All but what is committed is gone; then the server starts again.
    pub fn crash(&mut self) {
        // Tickets are settled or live as long as their process, which has ended here.
        std::mem::forget(std::mem::take(&mut self.routers));
        std::mem::forget(std::mem::take(&mut self.posts));
        for shard in 0..SHARDS as usize {
            std::mem::forget(std::mem::take(&mut self.batches[shard]));
            std::mem::forget(std::mem::take(&mut self.answers[shard]));
            std::mem::forget(std::mem::take(&mut self.reads[shard]));
        }
        self.store.crash().unwrap();
        let requests_max = self.settings.limits.pending_requests_max as usize;
        redeliver(&mut self.store, requests_max).unwrap();
        self.start();
    }

    pub fn shard_of(&self, name: &str) -> usize {
        self.placement.shard_of(name) as usize
    }

    /// Asks to let a session in; [`Realm::bind`] has it bound once that is answered.
    pub fn admit(&mut self, name: &str) -> Key {
        let conn = self.conns.insert(());
        let shard = self.shard_of(name);
        self.routers[shard].admit(conn, &jid(name), Proof::Certificate);
        conn
    }

    /// What became of [`Realm::admit`], if it is known: a session that is available and has asked for
    /// the roster, or none.
    pub fn bind(&mut self, name: &str, resource: &str, conn: Key) -> Option<Option<Seat>> {
        let shard = self.shard_of(name);
        let router = &mut self.routers[shard];
        let at = router
            .out
            .admitted
            .iter()
            .position(|(key, _)| *key == conn)?;
        if router.out.admitted.remove(at).1.is_err() {
            return Some(None);
        }
        router.out.outputs.open(conn, Vec::new());
        let origin = SessionOrigin {
            address: SocketAddr::from(([127, 0, 0, 1], 5222)),
            since: Wall::default(),
            tls: None,
            mechanism: Mechanism::Plain,
            stream: 1,
        };
        let bound = router.bind(conn, &jid(name), resource, Proof::Certificate, origin);
        let Ok((session, full)) = bound else {
            return Some(None);
        };
        let state = router.sessions.get_mut(session).unwrap();
        state.is_interested = true;
        let mut presence = Stanza::new(Kind::Presence, Type::Available, Payload::empty());
        presence.from = Some(full.to_jid());
        state.presence = Some(Availability {
            priority: 0,
            since: Wall::default(),
            stanza: presence,
        });
        Some(Some(Seat {
            shard,
            session,
            conn,
        }))
    }

    /// Logs in.
    pub fn login(&mut self, full: &str) -> Seat {
        let (name, resource) = full.split_once('/').unwrap();
        let conn = self.admit(name);
        self.run();
        self.bind(name, resource, conn).flatten().unwrap()
    }

    /// Whether a session is there and its stream is read.
    pub fn is_heard(&self, seat: Seat) -> bool {
        let router = &self.routers[seat.shard];
        router.sessions.get(seat.session).is_some() && !router.holds_reading(seat.session)
    }

    /// A session sends a stanza.
    pub fn send(&mut self, from: Seat, stanza: Stanza) {
        let size = stanza.size();
        self.routers[from.shard]
            .outbound(from.session, stanza, size)
            .unwrap();
    }

    /// An account removes a contact from its roster, as the feature does it. False if it is busy.
    pub fn remove(&mut self, name: &str, contact: &str) -> bool {
        let shard = self.shard_of(name);
        let router = &mut self.routers[shard];
        let Some(key) = router.accounts.find(name) else {
            return false;
        };
        let account = router.accounts.get(key).unwrap();
        let Some(roster) = account.roster.as_ref().filter(|_| !account.is_busy()) else {
            return false;
        };
        let (own, contact) = (account.jid.clone(), jid(contact));
        let old = roster.state(contact.as_str());
        if !account.is_served() || !old.is_listed() {
            return false;
        }
        let of = contact.clone();
        let change = Box::new(move |db: &_| {
            let item = roster::set_state(db, &own, &of, State::NONE, None)?;
            Ok(value((item, removal_handoffs(db, &own, &of, old)?)))
        });
        let then = Box::new(
            move |router: &mut Router, key, result: Result<_, StoreError>| {
                let Ok((item, handoffs)) =
                    result.and_then(storage_value::<(Option<Item>, Vec<Handoff>)>)
                else {
                    return;
                };
                let account = router.accounts.get_mut(key).unwrap();
                account.roster.as_mut().unwrap().set(&contact, State::NONE);
                router.push_roster(key, &item.unwrap());
                router.removed_from_roster(key, &contact, old, handoffs);
            },
        );
        router.change_account(key, change, then);
        true
    }

    /// An operator deletes an account.
    pub fn delete(&mut self, name: &str) {
        let account = jid(name);
        let of = account.clone();
        let command = AccountCommand {
            apply: Box::new(move |db| delete_account(db, &of)),
            ends_sessions: Some(StreamError::new(StreamCondition::NotAuthorized, "deleted")),
        };
        self.command(&account, command);
    }

    /// An operator creates an account while the server runs.
    pub fn create_live(&mut self, name: &str) {
        let account = jid(name);
        let of = account.clone();
        let command = AccountCommand {
            apply: Box::new(move |db| {
                accounts::create(db, &of, &Credentials::default(), Wall::default()).map(drop)
            }),
            ends_sessions: None,
        };
        self.command(&account, command);
    }

    /// An operator disables or enables an account.
    pub fn set_enabled(&mut self, name: &str, enabled: bool) {
        let account = jid(name);
        let of = account.clone();
        let command = AccountCommand {
            apply: Box::new(move |db| accounts::set_enabled(db, &of, enabled).map(drop)),
            ends_sessions: Some(StreamError::new(StreamCondition::NotAuthorized, "disabled")),
        };
        self.command(&account, command);
    }

    fn command(&mut self, account: &BareJid, command: AccountCommand) {
        let shard = self.shard_of(account.as_str());
        self.routers[shard].command(account, command, Box::new(|_| ()));
    }

    /// What can be done now.
    pub fn steps(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for shard in 0..SHARDS as usize {
            self.gather(shard);
            let router = &mut self.routers[shard];
            let settled = router.out.take_own_settled();
            for (session, seq) in settled {
                router.post(RouterPost::Settled(vec![(session, seq)]));
            }
            if !router.out.work.is_empty() || !router.out.peer_work.is_empty() {
                steps.push(Step::Work(shard));
            }
            if !self.batches[shard].is_empty() {
                steps.push(Step::Commit(shard));
            }
            if !self.answers[shard].is_empty() {
                steps.push(Step::Answer(shard));
            }
            if !self.reads[shard].is_empty() {
                steps.push(Step::Read(shard));
            }
            if !self.routers[shard].out.dials.is_empty() {
                steps.push(Step::Unreached(shard));
            }
        }
        let posts = self.posts.iter().filter(|(_, posts)| !posts.is_empty());
        steps.extend(posts.map(|((from, to), _)| Step::Post(*from, *to)));
        steps
    }

    /// Takes what a router has asked for.
    fn gather(&mut self, shard: usize) {
        let router = &mut self.routers[shard];
        self.reads[shard].extend(router.out.reads.drain(..));
        let batch = &mut router.out.batch;
        if !batch.rows.is_empty() || !batch.changes.is_empty() {
            let next = Batch {
                last_row: batch.last_row,
                ..Batch::default()
            };
            self.batches[shard].push_back(std::mem::replace(batch, next));
        }
        for to in 0..SHARDS as usize {
            let posts = router.out.take_posts(to);
            self.posts.entry((shard, to)).or_default().extend(posts);
        }
    }

    pub fn take(&mut self, step: Step) {
        match step {
            Step::Work(shard) => self.routers[shard].work(),
            Step::Post(from, to) => {
                let post = self.posts.get_mut(&(from, to)).unwrap().pop_front();
                self.routers[to].post(post.unwrap());
            }
            Step::Commit(shard) => {
                let batch = self.batches[shard].pop_front().unwrap();
                let answers = self.store.commit(vec![(shard, batch)]);
                let answers = answers.into_iter().map(|(_, answer)| answer);
                self.answers[shard].extend(answers);
            }
            Step::Answer(shard) => {
                let Some(Answer::Committed {
                    last_row,
                    rows,
                    changes,
                }) = self.answers[shard].pop_front()
                else {
                    unreachable!("batches are answered by their commit");
                };
                self.routers[shard].rows_answered(last_row, &rows);
                for (id, result) in changes {
                    self.routers[shard].answered(id, result);
                }
            }
            Step::Read(shard) => {
                let (id, _, read) = self.reads[shard].pop_front().unwrap();
                let result = self.store.read(read);
                self.routers[shard].answered(id, result);
            }
            Step::Unreached(shard) => {
                let router = &mut self.routers[shard];
                let link = router.out.dials.remove(0);
                router.link_failed(link, no_such_server());
            }
        }
    }

    /// The oldest batch of a shard fails: its disk is full.
    pub fn fail(&mut self, shard: usize) {
        let Some(batch) = self.batches[shard].pop_front() else {
            return;
        };
        let full = StoreError::Refused("the disk is full");
        self.answers[shard].push_back(Answer::Committed {
            last_row: batch.last_row,
            rows: Err(full.clone()),
            changes: batch
                .changes
                .into_iter()
                .map(|(id, _)| (id, Err(full.clone())))
                .collect(),
        });
    }

    /// The oldest read of a shard fails.
    pub fn fail_read(&mut self, shard: usize) {
        if let Some((id, _, _)) = self.reads[shard].pop_front() {
            let error = StoreError::Refused("the disk does not answer");
            self.routers[shard].answered(id, Err(error));
        }
    }

    /// Does all that there is to do, in order.
    pub fn run(&mut self) {
        while let Some(step) = self.steps().first() {
            self.take(*step);
        }
    }

    /// Time passes.
    pub fn pass(&mut self, time: Duration) {
        for router in &mut self.routers {
            let now = Mono::from_millis(router.now.mono.millis()) + time;
            router.now = Now {
                mono: now,
                ..router.now
            };
            router.work();
        }
    }

    /// Everything is done, and all that was postponed too.
    pub fn settle(&mut self) {
        for _ in 0..1_000 {
            self.run();
            if self
                .routers
                .iter()
                .all(|router| router.postponed.next().is_none())
            {
                return;
            }
            self.pass(crate::limits::HANDOFF_RETRY);
        }
        panic!(
            "something is postponed for ever; {} hand-offs",
            self.handoffs()
        );
    }

    /// What a session got since the last call, a stanza a line, each as `kind type from` or, for a
    /// roster push, `push jid subscription flags`.
    pub fn heard(&mut self, seat: Seat) -> Vec<String> {
        let outputs = &mut self.routers[seat.shard].out.outputs;
        let bytes = outputs.bytes(seat.conn).to_vec();
        outputs.consume(seat.conn, bytes.len());
        let heard = Payload::from_canonical(bytes).unwrap();
        let stanzas = heard.children().iter().map(|child| heard.element(child));
        stanzas.map(|stanza| told(&stanza)).collect()
    }

    /// What the store has of an account about a contact.
    pub fn stored(&self, name: &str, contact: &str) -> State {
        let states = roster::states(self.store.db(), &jid(name)).unwrap();
        let found = states.iter().find(|(jid, _)| jid.as_str() == contact);
        found.map_or(State::NONE, |(_, state)| *state)
    }

    /// What memory has of it, if the account is in memory with its roster.
    pub fn remembered(&self, name: &str, contact: &str) -> Option<State> {
        let router = &self.routers[self.shard_of(name)];
        let account = router.accounts.get(router.accounts.find(name)?)?;
        Some(account.roster.as_ref()?.state(contact))
    }

    pub fn handoffs(&self) -> u64 {
        handoff::count(self.store.db()).unwrap()
    }

    /// Stanzas of a session whose way has not ended.
    pub fn open(&self, seat: Seat) -> usize {
        let session = self.routers[seat.shard].sessions.get(seat.session);
        session.map_or(0, |session| session.unsettled.open())
    }
}

fn told(stanza: &crate::xml::Element) -> String {
    let attribute = |name| stanza.attribute(name).unwrap_or("-").to_owned();
    if stanza.name != "iq" {
        return match attribute("type").as_str() {
            "error" => {
                let error = stanza.find(crate::ns::CLIENT, "error").unwrap();
                format!("error {}", error.elements().next().unwrap().name)
            }
            "-" => format!("available {}", attribute("from")),
            type_ => format!("{type_} {}", attribute("from")),
        };
    }
    let query = stanza.elements().next().unwrap();
    let item = query.elements().next().unwrap();
    let mut told = format!(
        "push {} {}",
        item.attribute("jid").unwrap(),
        item.attribute("subscription").unwrap()
    );
    for flag in ["ask", "approved"] {
        if item.attribute(flag).is_some() {
            told = format!("{told} {flag}");
        }
    }
    told
}
