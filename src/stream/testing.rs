//! A client's stream without a shard: events in, bytes and actions out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Mono, Now, Wall};
use crate::config::{Auth, C2s, DomainSettings, Settings};
use crate::features::FEATURES;
use crate::jid::{Domain, FullJid};
use crate::net::throttle::{Throttle, ThrottleLimits};
use crate::net::transport::TlsFacts;
use crate::router::pipeline::Pipeline;
use crate::router::placement::Placement;
use crate::sasl::credentials::{Credentials, HashPolicy};
use crate::sasl::simple;
use crate::slots::{Key, Slots};
use crate::storage::accounts::AccountRecord;
use crate::storage::logins::Login;
use crate::stream::c2s::ClientStream;
use crate::stream::{Action, Certificates, Context, Event, Origin};
use crate::xml::{Bounds, Header, Item, Parser, Top};

/// A client's stream header.
pub const HEADER: &str = "<?xml version='1.0'?><stream:stream to='example.org' version='1.0' \
     xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/// The certificates of a server whose domains have one each, and what a client's proves.
pub struct Proves(pub &'static [&'static str]);

impl Certificates for Proves {
    fn has_certificate(&self, _: &str) -> bool {
        true
    }
    fn client_identities(&self, _: &str, _: &[Vec<u8>]) -> Vec<String> {
        self.0.iter().map(|jid| (*jid).to_owned()).collect()
    }
}

/// A stream and what it is lent.
pub struct Bench {
    /// The machine.
    pub stream: ClientStream,
    /// The configuration.
    pub settings: Arc<Settings>,
    /// The JIDs that a client certificate proves.
    pub proves: Proves,
    /// The limits.
    pub throttle: Throttle,
    /// The time.
    pub now: Mono,
    /// Which shard owns what.
    pub placement: Placement,
    /// What the last event asked for.
    pub actions: Vec<Action>,
    pipeline: Pipeline,
    drawn: u8,
}

/// `example.org` with these options.
pub fn settings(c2s: C2s, auth: Auth) -> Settings {
    let name = Domain::parse("example.org").unwrap();
    let domain = DomainSettings {
        c2s,
        auth,
        ..DomainSettings::new(name.clone())
    };
    Settings {
        domains: BTreeMap::from([(name, Arc::new(domain))]),
        ..Settings::default()
    }
}

/// Options under which everything may be tried without TLS.
pub fn open() -> Settings {
    let c2s = C2s {
        require_encryption: false,
        allow_unencrypted_plain: true,
        ..C2s::default()
    };
    let auth = Auth {
        anonymous: true,
        ..Auth::default()
    };
    settings(c2s, auth)
}

/// A parsed header.
pub fn header(text: &str) -> Box<Header> {
    let mut parser = Parser::new(Bounds::UNAUTHENTICATED);
    parser.feed(text.as_bytes());
    match parser.next() {
        Ok(Some(Item::Open(header))) => header,
        other => panic!("{other:?}"),
    }
}

/// A parsed child of a stream.
pub fn top(text: &str) -> Box<Top> {
    let mut parser = Parser::new(Bounds::of(1 << 20));
    parser.feed(HEADER.as_bytes());
    parser.feed(text.as_bytes());
    parser.next().unwrap();
    match parser.next() {
        Ok(Some(Item::Top(top))) => top,
        other => panic!("{other:?}"),
    }
}

/// An `<auth/>` with this initial response; none leaves it out.
pub fn auth(mechanism: &str, data: Option<&[u8]>) -> String {
    let data = data.map(simple::encode).unwrap_or_default();
    format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{data}</auth>")
}

/// A `<response/>`.
pub fn response(data: &[u8]) -> String {
    let data = simple::encode(data);
    format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{data}</response>")
}

/// A key of nothing in particular.
pub fn some_key() -> Key {
    Slots::default().insert(())
}

/// The record of juliet, with the credential generation 3.
pub fn record() -> AccountRecord {
    AccountRecord {
        id: 1,
        enabled: true,
        generation: 3,
        created: Wall::default(),
        last_seen: None,
    }
}

/// Verifiers of the password `secret`.
pub fn credentials() -> Credentials {
    let auth = Auth::default();
    let policy = HashPolicy {
        storage: auth.storage,
        hashes: auth.hashes,
        iterations: 4096,
        bcrypt_cost: auth.bcrypt_cost,
    };
    Credentials::derive("secret", &policy, &|_| [7; 16]).unwrap()
}

/// The store's answer for juliet.
pub fn found() -> Event {
    Event::Credentials(Ok(Login {
        account: Some((record(), credentials())),
        resembles: None,
    }))
}

/// The store's answer for somebody in a domain without accounts.
pub fn unknown() -> Event {
    Event::Credentials(Ok(Login::default()))
}

impl Bench {
    /// A connection that was just accepted.
    pub fn new(settings: Settings) -> Bench {
        let now = Mono::from_millis(1_000);
        let origin = Origin {
            stream: 1,
            address: "192.0.2.1:5000".parse().unwrap(),
            accepted: now,
        };
        Bench {
            stream: ClientStream::new(origin),
            settings: Arc::new(settings),
            proves: Proves(&[]),
            throttle: Throttle::new(ThrottleLimits {
                connections_per_address_max: 10,
                login_failures_per_address_max: 1000,
                login_failures_per_account_max: 1000,
                ..Default::default()
            }),
            now,
            placement: Placement::with_key(4, 1),
            actions: Vec::new(),
            pipeline: Pipeline::new(FEATURES),
            drawn: 0,
        }
    }

    /// Gives the machine an event and yields what it writes.
    pub fn on(&mut self, event: Event) -> String {
        let (mut out, mut actions) = (Vec::new(), Vec::new());
        let drawn = &mut self.drawn;
        let mut random = |buffer: &mut [u8]| {
            for byte in buffer {
                *drawn = drawn.wrapping_add(1);
                *byte = *drawn;
            }
        };
        let mut context = Context {
            now: Now {
                mono: self.now,
                wall: Wall::default(),
            },
            settings: &self.settings,
            pipeline: &self.pipeline,
            certificates: &self.proves,
            throttle: &self.throttle,
            secret: &[1; 32],
            random: &mut random,
            placement: &self.placement,
            shard: 2,
            unread: 0,
            out: &mut out,
            actions: &mut actions,
        };
        self.stream.on(event, &mut context);
        self.actions = actions;
        String::from_utf8(out).unwrap()
    }

    /// Opens a stream.
    pub fn open(&mut self) -> String {
        self.on(Event::Open(header(HEADER)))
    }

    /// Sends an element.
    pub fn top(&mut self, text: &str) -> String {
        self.on(Event::Top(top(text)))
    }

    /// Lets time pass up to the machine's deadline and tells it.
    pub fn deadline(&mut self) -> String {
        self.now = self
            .stream
            .deadline(&self.settings)
            .expect("a deadline is due");
        self.on(Event::Deadline)
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// The state's name.
    pub fn state(&self) -> &'static str {
        self.stream.state_name()
    }

    /// Begins with TLS, as on a port for direct TLS.
    pub fn secure(&mut self, chain: Vec<Vec<u8>>) {
        self.on(Event::Established(Box::new(TlsFacts {
            version: "TLSv1.3",
            peer_chain: chain,
            ..TlsFacts::default()
        })));
    }

    /// Goes on to the stream after a login of juliet.
    pub fn log_in(&mut self) {
        self.open();
        self.top(&auth("PLAIN", Some(b"\0juliet\0secret")));
        self.on(found());
        self.work();
        self.on(Event::Admitted(Ok(())));
        assert_eq!(self.state(), "authenticated");
    }

    /// Does the worker's job that the last event asked for.
    pub fn work(&mut self) -> String {
        let job = self.actions.drain(..).find_map(|action| match action {
            Action::Work(job) => Some(job),
            _ => None,
        });
        let value = job.expect("a job was asked for")();
        self.on(Event::Worked(Some(value)))
    }

    /// Goes on to a bound session.
    pub fn bind(&mut self) -> Key {
        self.log_in();
        self.open();
        self.top("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
        let session = some_key();
        let jid = FullJid::parse("juliet@example.org/balcony").unwrap();
        self.on(Event::Bound(Ok((session, jid))));
        assert_eq!(self.state(), "bound");
        session
    }
}
