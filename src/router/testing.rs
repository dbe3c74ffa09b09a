//! A router of one shard with accounts in memory, and what its sessions get.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::clock::Wall;
use crate::config::{Auth, C2s, DomainSettings, Settings};
use crate::jid::{BareJid, Domain, Jid};
use crate::router::Router;
use crate::router::account::{Proof, Standing};
use crate::router::feature::Feature;
use crate::router::peers::Failure;
use crate::router::pipeline::Pipeline;
use crate::router::placement::Placement;
use crate::router::roster::Roster;
use crate::router::session::{Availability, SessionOrigin};
use crate::sasl::{Credentials, Mechanism};
use crate::slots::{Key, Slots};
use crate::stanza::{Condition, Kind, Stanza, StanzaError, Type};
use crate::storage::accounts::{self, AccountRecord};
use crate::storage::roster::State;
use crate::storage::{Answer, Batch, Db, StoreError, Value, WriterCore};
use crate::xml::{Element, Payload};

/// A router, the connections of its sessions, and a store in memory.
pub struct Site {
    /// The router.
    pub router: Router,
    /// The store, which is asked by [`Site::run_store`] only.
    pub store: WriterCore,
    conns: Slots<()>,
}

/// A session and its connection.
#[derive(Clone, Copy)]
pub struct Seat {
    /// The session.
    pub session: Key,
    /// The connection.
    pub conn: Key,
}

/// Another server, as this one sees it: the stream by which it sends, and the one by which it is sent to.
pub struct Remote {
    source: Key,
    conn: Option<Key>,
}

/// The record of an account.
pub fn record(enabled: bool) -> AccountRecord {
    AccountRecord {
        id: 1,
        enabled,
        generation: 1,
        created: Wall::default(),
        last_seen: None,
    }
}

/// What a link comes to whose remote domain is not in the DNS.
pub fn no_such_server() -> Failure {
    Failure {
        condition: Condition::RemoteServerNotFound,
        text: "There is no such server".to_owned(),
        is_final: true,
    }
}

/// A stanza with one child, as a session sends it.
pub fn stanza(kind: Kind, type_: Type, to: Option<&str>) -> Stanza {
    let child = Element::new("urn:example:test", "test");
    let mut stanza = Stanza::new(kind, type_, Payload::from_elements(&[child]));
    stanza.to = to.map(|to| Jid::parse(to).unwrap());
    stanza.id = Some("7".into());
    stanza
}

impl Site {
    /// `example.org` on one shard with these features.
    pub fn new(features: &'static [&'static Feature]) -> Site {
        let name = Domain::parse("example.org").unwrap();
        let domain = DomainSettings {
            c2s: C2s::default(),
            auth: Auth::default(),
            ..DomainSettings::new(name.clone())
        };
        let settings = Settings {
            domains: BTreeMap::from([(name, Arc::new(domain))]),
            ..Settings::default()
        };
        let pipeline = Arc::new(Pipeline::new(features));
        Site {
            router: Router::new(0, Placement::new(1), Arc::new(settings), pipeline),
            store: WriterCore::memory(&[7; 32]).unwrap(),
            conns: Slots::default(),
        }
    }

    /// Creates an account in the store, as an operator does; its credentials are none.
    pub fn create(&mut self, jid: &str) {
        let jid = BareJid::parse(jid).unwrap();
        let create =
            move |db: &Db| accounts::create(db, &jid, &Credentials::default(), Wall::default());
        self.store.change(create).unwrap();
    }

    /// Lets the store answer all that was asked of it, and what follows from that.
    pub fn run_store(&mut self) {
        loop {
            self.router.work();
            let reads = std::mem::take(&mut self.router.out.reads);
            let batch = &mut self.router.out.batch;
            if reads.is_empty() && batch.rows.is_empty() && batch.changes.is_empty() {
                return;
            }
            let next = Batch {
                last_row: batch.last_row,
                ..Batch::default()
            };
            let batch = std::mem::replace(batch, next);
            for (id, _, read) in reads {
                let result = self.store.read(read);
                self.router.answered(id, result);
            }
            for (_, answer) in self.store.commit(vec![(0, batch)]) {
                let Answer::Committed {
                    last_row,
                    rows,
                    changes,
                } = answer
                else {
                    unreachable!("a batch is answered by its commit");
                };
                self.router.rows_answered(last_row, &rows);
                for (id, result) in changes {
                    self.router.answered(id, result);
                }
            }
        }
    }

    /// Puts an account into memory.
    pub fn account(&mut self, jid: &str, standing: Standing) -> Key {
        let now = self.router.now.mono;
        let jid = BareJid::parse(jid).unwrap();
        let key = self.router.accounts.insert(jid, standing, now);
        self.router.accounts.get_mut(key).unwrap().roster = Some(Roster::default());
        key
    }

    /// Binds a resource; `priority` makes it available.
    pub fn bind(&mut self, jid: &str, resource: &str, priority: Option<i8>) -> Seat {
        self.try_bind(jid, resource, priority).unwrap()
    }

    /// The same, which may be refused.
    pub fn try_bind(
        &mut self,
        jid: &str,
        resource: &str,
        priority: Option<i8>,
    ) -> Result<Seat, StanzaError> {
        let jid = BareJid::parse(jid).unwrap();
        let account = match self.router.accounts.find(jid.as_str()) {
            Some(key) => key,
            None => self.account(jid.as_str(), Standing::Known(record(true))),
        };
        let conn = self.conns.insert(());
        self.router.out.outputs.open(conn, Vec::new());
        let origin = SessionOrigin {
            address: SocketAddr::from(([127, 0, 0, 1], 5222)),
            since: Wall::default(),
            tls: None,
            mechanism: Mechanism::Plain,
            stream: 1,
        };
        let standing = &self.router.accounts.get(account).unwrap().standing;
        let proof = match standing {
            Standing::Anonymous => Proof::Anonymous,
            _ => Proof::Certificate,
        };
        let (session, full) = self.router.bind(conn, &jid, resource, proof, origin)?;
        let mut presence = Stanza::new(Kind::Presence, Type::Available, Payload::empty());
        presence.from = Some(full.to_jid());
        self.router.sessions.get_mut(session).unwrap().presence =
            priority.map(|priority| Availability {
                priority,
                since: Wall::default(),
                stanza: presence,
            });
        Ok(Seat { session, conn })
    }

    /// Sends a stanza from a session and does all local work.
    pub fn send(&mut self, from: Seat, stanza: Stanza) {
        self.router.outbound(from.session, stanza, 100).unwrap();
        self.router.work();
    }

    /// Every link for which a stream is to be made comes to this.
    pub fn fail_links(&mut self) {
        for link in std::mem::take(&mut self.router.out.dials) {
            self.router.link_failed(link, no_such_server());
        }
        self.router.work();
    }

    /// Ends a session, as its stream does, and does all local work.
    pub fn end(&mut self, seat: Seat) {
        self.router.session_closed(seat.session);
        self.router.work();
    }

    /// One more turn, in which broadcasts go on.
    pub fn turn(&mut self) {
        self.router.begin_turn(self.router.now);
        self.router.fan_out();
        self.router.work();
    }

    /// Sets the state of a contact in the roster that is in memory of an account.
    pub fn contact(&mut self, account: &str, contact: &str, state: State) {
        let key = match self.router.accounts.find(account) {
            Some(key) => key,
            None => self.account(account, Standing::Known(record(true))),
        };
        let roster = self.router.accounts.get_mut(key).unwrap().roster.as_mut();
        roster
            .unwrap()
            .set(&BareJid::parse(contact).unwrap(), state);
    }

    /// Another server opens a stream and proves its domain.
    pub fn remote(&mut self) -> Remote {
        let conn = self.conns.insert(());
        self.router.out.outputs.open(conn, Vec::new());
        Remote {
            source: self.router.peer_opened(conn),
            conn: None,
        }
    }

    /// Another server sends a stanza; the store has not answered yet.
    pub fn send_from_remote(&mut self, remote: &Remote, from: &str, mut stanza: Stanza) {
        stanza.from = Some(Jid::parse(from).unwrap());
        self.router.from_peer(remote.source, stanza, 100);
        self.router.work();
    }

    /// What another server was sent since the last call, each as `type from to`.
    pub fn told_remote(&mut self, remote: &mut Remote) -> Vec<String> {
        self.run_store();
        for link in std::mem::take(&mut self.router.out.dials) {
            let conn = self.conns.insert(());
            self.router.out.outputs.open(conn, Vec::new());
            remote.conn = Some(conn);
            self.router.link_ready(link, conn);
        }
        self.run_store();
        let Some(conn) = remote.conn else {
            return Vec::new();
        };
        let bytes = self.router.out.outputs.bytes(conn).to_vec();
        self.router.out.outputs.consume(conn, bytes.len());
        let told = Payload::from_canonical(bytes).unwrap();
        let stanzas = told.children().iter().map(|child| told.element(child));
        let attribute = |stanza: &Element, name| stanza.attribute(name).unwrap_or("-").to_owned();
        // It is pinged about what it is told, and answers nothing.
        let is_told = |stanza: &Element| !attribute(stanza, "id").starts_with("receipt-");
        stanzas
            .filter(is_told)
            .map(|stanza| {
                let [type_, from, to] = ["type", "from", "to"].map(|name| attribute(&stanza, name));
                format!("{type_} {from} {to}")
            })
            .collect()
    }

    /// What was written to a connection since the last call.
    pub fn take(&mut self, seat: Seat) -> String {
        let bytes = self.router.out.outputs.bytes(seat.conn).to_vec();
        self.router.out.outputs.consume(seat.conn, bytes.len());
        String::from_utf8(bytes).unwrap()
    }

    /// Stanzas of a session whose way has not ended.
    pub fn open(&self, seat: Seat) -> usize {
        self.router
            .sessions
            .get(seat.session)
            .unwrap()
            .unsettled
            .open()
    }

    /// Answers the oldest read that was asked for.
    pub fn answer_read(&mut self, result: Result<Value, StoreError>) {
        let (id, _, _) = self.router.out.reads.remove(0);
        self.router.answered(id, result);
        self.router.work();
    }

    /// Answers the oldest change that was asked for.
    pub fn answer_change(&mut self, result: Result<Value, StoreError>) {
        let (id, _) = self.router.out.batch.changes.remove(0);
        self.router.answered(id, result);
        self.router.work();
    }
}
