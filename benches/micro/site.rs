//! Shards' routers with the server's own features, accounts in a store in memory, and sessions
//! whose connections take all that is written to them.

use std::net::SocketAddr;
use std::sync::Arc;

use stanzad::clock::Wall;
use stanzad::config::{DomainSettings, Settings};
use stanzad::features::FEATURES;
use stanzad::jid::{BareJid, Domain};
use stanzad::router::Router;
use stanzad::router::account::Proof;
use stanzad::router::pipeline::Pipeline;
use stanzad::router::placement::Placement;
use stanzad::router::session::SessionOrigin;
use stanzad::sasl::{Credentials, Mechanism};
use stanzad::slots::{Key, Slots};
use stanzad::stanza::{Kind, Stanza, Type};
use stanzad::storage::{Answer, WriterCore, accounts};
use stanzad::xml::Payload;

/// The shards of one server, driven by one thread.
pub struct Site {
    /// The routers, by shard.
    pub routers: Vec<Router>,
    store: WriterCore,
    conns: Slots<()>,
}

/// A session and its connection.
#[derive(Clone, Copy)]
pub struct Seat {
    /// The shard of both.
    pub shard: usize,
    /// The session.
    pub session: Key,
    /// The connection.
    pub conn: Key,
}

impl Site {
    /// `example.org` on that many shards, always placed alike.
    pub fn new(shards: u32) -> Site {
        let name = Domain::parse("example.org").expect("a domain");
        let mut settings = Settings::default();
        let domain = Arc::new(DomainSettings::new(name.clone()));
        settings.domains.insert(name, domain);
        let settings = Arc::new(settings);
        let pipeline = Arc::new(Pipeline::new(FEATURES));
        let placement = Placement::with_key(shards, 1);
        let router = |shard| {
            let (settings, pipeline) = (Arc::clone(&settings), Arc::clone(&pipeline));
            Router::new(shard, placement.clone(), settings, pipeline)
        };
        Site {
            routers: (0..shards).map(router).collect(),
            store: WriterCore::memory(&[7; 32]).expect("a database in memory"),
            conns: Slots::default(),
        }
    }

    /// The first account `{name}{number}@example.org` that lives on that shard.
    pub fn name_on(&self, shard: u32, name: &str) -> String {
        let placement = &self.routers[0].placement;
        let mut names = (0..).map(|number| format!("{name}{number}@example.org"));
        let found = names.find(|jid| placement.shard_of(jid) == shard);
        found.expect("names do not end")
    }

    /// Creates an account, lets a client of it in, binds a resource and becomes available.
    pub fn arrive(&mut self, jid: &str) -> Seat {
        let jid = BareJid::parse(jid).expect("an address");
        let shard = self.routers[0].placement.shard_of(jid.as_str()) as usize;
        let name = jid.clone();
        let create =
            move |db: &_| accounts::create(db, &name, &Credentials::default(), Wall::default());
        self.store.change(create).expect("a new account");
        let conn = self.conns.insert(());
        let router = &mut self.routers[shard];
        router.out.outputs.open(conn, Vec::new());
        router.admit(conn, &jid, Proof::Certificate);
        self.run_store(shard);
        let router = &mut self.routers[shard];
        let admitted = std::mem::take(&mut router.out.admitted);
        assert_eq!(admitted, [(conn, Ok(()))]);
        let origin = SessionOrigin {
            address: SocketAddr::from(([127, 0, 0, 1], 5222)),
            since: Wall::default(),
            tls: None,
            mechanism: Mechanism::Plain,
            stream: 1,
        };
        let bound = router.bind(conn, &jid, "balcony", Proof::Certificate, origin);
        let (session, _) = bound.expect("a free resource");
        let seat = Seat {
            shard,
            session,
            conn,
        };
        let available = Stanza::new(Kind::Presence, Type::Available, Payload::empty());
        self.send(seat, available);
        self.run_store(shard);
        self.drain(shard, |_| ());
        seat
    }

    /// Hands a stanza to the router as the session's stream does, and does the shard's local work.
    pub fn send(&mut self, from: Seat, stanza: Stanza) {
        let router = &mut self.routers[from.shard];
        let size = stanza.size();
        if let Err(error) = router.outbound(from.session, stanza, size) {
            panic!("the stanza ends its stream: {error:?}");
        }
        router.work();
    }

    /// Takes what one turn has written to connections; `see` is given the bytes of each.
    pub fn drain(&mut self, shard: usize, mut see: impl FnMut(&[u8])) {
        let outputs = &mut self.routers[shard].out.outputs;
        let dirty = outputs.take_dirty();
        for conn in &dirty {
            see(outputs.bytes(*conn));
            outputs.consume(*conn, outputs.len(*conn));
        }
        outputs.reuse(dirty);
    }

    /// What waits to be written to a session's connection.
    pub fn unsent(&self, seat: Seat) -> String {
        let bytes = self.routers[seat.shard].out.outputs.bytes(seat.conn);
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// Lets the store answer all that a shard asks, and what follows from that.
    pub fn run_store(&mut self, shard: usize) {
        let router = &mut self.routers[shard];
        loop {
            router.work();
            let reads = std::mem::take(&mut router.out.reads);
            let last_row = router.out.batch.last_row;
            let batch = std::mem::take(&mut router.out.batch);
            router.out.batch.last_row = last_row;
            if reads.is_empty() && batch.rows.is_empty() && batch.changes.is_empty() {
                return;
            }
            for (id, _, read) in reads {
                let result = self.store.read(read);
                router.answered(id, result);
            }
            answer(router, self.store.commit(vec![(shard, batch)]));
        }
    }
}

fn answer(router: &mut Router, answers: Vec<(usize, Answer)>) {
    for (_, answer) in answers {
        let Answer::Committed {
            last_row,
            rows,
            changes,
        } = answer
        else {
            unreachable!("a batch is answered by its commit");
        };
        router.rows_answered(last_row, &rows);
        for (id, result) in changes {
            router.answered(id, result);
        }
    }
}
