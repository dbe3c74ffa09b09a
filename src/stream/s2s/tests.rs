//! Two servers, each with one stream machine, and the wire between them; TLS is only told of.

mod bidirectional;
mod dialback;
mod ending;
mod managed;
mod negotiation;
mod proof;
mod reloaded;
mod report;
mod stanzas;
mod starttls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::{Now, Wall};
use crate::config::{DomainSettings, S2s, Settings};
use crate::features::FEATURES;
use crate::net::certificate::Pin;
use crate::net::throttle::{Throttle, ThrottleLimits};
use crate::router::peers::Failure;
use crate::router::peers::history::Attempt;
use crate::router::pipeline::Pipeline;
use crate::router::placement::Placement;
use crate::slots::Slots;
use crate::stanza::Condition;
use crate::stream::dialback::{Answer, Checked, Secret, Unreached};
use crate::stream::peer_facts::{Ends, PeerFacts, PeerQuestion};
use crate::stream::policy::s2s::{Direction, Fault, Shown};
use crate::stream::{Certificates, Context};
use crate::xml::{Bounds, Item, Parser};

const A: &str = "a.example";
const B: &str = "b.example";

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn pair(local: &str, remote: &str) -> Pair {
    Pair {
        local: domain(local),
        remote: domain(remote),
    }
}

/// What the peer's certificate is worth; the chain's only certificate is the name of who shows it.
struct Judge {
    trusts: bool,
    /// A role in which no certificate is trusted.
    mistrusts: Option<Direction>,
    /// Whether it is that of the TLSA records, where there are some.
    tlsa: bool,
    /// When it ends, in seconds of the Unix epoch.
    ends: Option<i64>,
    key: Option<Pin>,
}

impl Certificates for Judge {
    fn has_certificate(&self, _: &str) -> bool {
        true
    }
    fn client_identities(&self, _: &str, _: &[Vec<u8>]) -> Vec<String> {
        Vec::new()
    }
    fn peer(&self, question: &PeerQuestion<'_>) -> PeerFacts {
        let leaf = question.chain.der().first().map(Vec::as_slice);
        let worthless = PeerFacts::worthless(question.dns);
        PeerFacts {
            shown: Shown {
                chain: match self.trusts && self.mistrusts != Some(question.direction) {
                    true => Ok(()),
                    false => Err(Fault::SelfSigned),
                },
                names_peer: leaf == Some(question.remote.as_str().as_bytes()),
                matches_tlsa: self.tlsa,
                ..worthless.shown
            },
            key: self.key,
            ends: Ends {
                chain: self.ends,
                ..Ends::default()
            },
            ..worthless
        }
    }
}

/// One server's end of a stream.
struct End {
    stream: ServerStream,
    settings: Arc<Settings>,
    judge: Judge,
    parser: Parser,
    secret: [u8; 32],
    now: Mono,
    wall: Wall,
    /// What it has asked its shard for, but for what the wire does.
    asked: Vec<Action>,
    /// All that it has said.
    said: String,
    is_starting_tls: bool,
    is_over: bool,
}

impl End {
    fn new(name: &'static str, stream: ServerStream, s2s: S2s) -> End {
        let own = domain(name);
        let domain = DomainSettings {
            s2s: s2s.clone(),
            ..DomainSettings::new(own.clone())
        };
        End {
            stream,
            settings: Arc::new(Settings {
                domains: BTreeMap::from([(own, Arc::new(domain))]),
                s2s,
                ..Settings::default()
            }),
            judge: Judge {
                trusts: true,
                mistrusts: None,
                tlsa: false,
                ends: None,
                key: None,
            },
            parser: Parser::new(Bounds::of(10_000)),
            secret: [name.as_bytes()[0]; 32],
            now: Mono::from_millis(1_000),
            wall: Wall::default(),
            asked: Vec::new(),
            said: String::new(),
            is_starting_tls: false,
            is_over: false,
        }
    }

    /// b.example's, which a.example has dialled.
    fn accepting(s2s: S2s) -> End {
        End::new(B, ServerStream::accepted(origin()), s2s)
    }

    /// a.example's, which has dialled b.example.
    fn dialling(s2s: S2s) -> End {
        End::dialling_by(s2s, false, PeerDns::Nothing)
    }

    /// The same, with direct TLS or not, and with what the DNS vouches for.
    fn dialling_by(s2s: S2s, is_direct: bool, dns: PeerDns) -> End {
        let link = Slots::default().insert(());
        let dialled = Dialled::new(link, domain(A), domain(B), is_direct, dns);
        End::new(A, ServerStream::dialled(origin(), dialled), s2s)
    }

    /// Gives it an event, and yields what it says.
    fn on(&mut self, event: Event) -> String {
        let (mut out, mut actions) = (Vec::new(), Vec::new());
        let mut random = |buffer: &mut [u8]| buffer.fill(7);
        let throttle = Throttle::new(ThrottleLimits::default());
        let mut context = Context {
            now: Now {
                mono: self.now,
                wall: self.wall,
            },
            settings: &self.settings,
            pipeline: &Pipeline::new(FEATURES),
            certificates: &self.judge,
            throttle: &throttle,
            secret: &self.secret,
            random: &mut random,
            placement: &Placement::new(1),
            shard: 0,
            unread: self.parser.unread(),
            out: &mut out,
            actions: &mut actions,
        };
        self.stream.on(event, &mut context);
        let mut placed = None;
        for action in actions {
            match action {
                Action::Restart => self.parser.restart(),
                Action::StartTls(_) => self.is_starting_tls = true,
                Action::Shutdown | Action::Drop => self.is_over = true,
                Action::PeerProven(remote) => {
                    let mut slots = Slots::default();
                    placed = Some(Event::Placed(slots.insert(())));
                    self.asked.push(Action::PeerProven(remote));
                }
                other => self.asked.push(other),
            }
        }
        let mut said = String::from_utf8(out).unwrap();
        self.said.push_str(&said);
        if let Some(placed) = placed {
            said.push_str(&self.on(placed));
        }
        said
    }

    /// Has it read what the peer says, and yields what it answers.
    fn hear(&mut self, text: &str) -> String {
        self.parser.feed(text.as_bytes());
        let mut answer = String::new();
        while !self.is_over && self.stream.takes_input() {
            let event = match self.parser.next() {
                Ok(Some(Item::Open(header))) => Event::Open(header),
                Ok(Some(Item::Top(top))) => Event::Top(top),
                Ok(Some(Item::Close)) => Event::Close,
                Ok(None) => break,
                Err(error) => Event::BadXml(error),
            };
            answer.push_str(&self.on(event));
        }
        answer
    }

    fn is_ready(&self) -> bool {
        self.stream.ready_link().is_some()
    }

    fn failure(&self) -> Option<&Failure> {
        self.asked.iter().find_map(|action| match action {
            Action::LinkFailed(_, failure) => Some(failure),
            _ => None,
        })
    }

    /// What came of its attempts, for `stanzad explain`.
    fn attempts(&self) -> Vec<&Attempt> {
        let attempts = self.asked.iter().filter_map(|action| match action {
            Action::Attempted(attempted) => Some(&attempted.attempt),
            _ => None,
        });
        attempts.collect()
    }

    /// The dialback key that it wants to have verified.
    fn to_verify(&self) -> Option<(Pair, String, String)> {
        self.asked.iter().find_map(|action| match action {
            Action::Verify(verify) => Some((**verify).clone()),
            _ => None,
        })
    }
}

fn origin() -> Origin {
    Origin {
        stream: 1,
        address: "192.0.2.1:5269".parse().unwrap(),
        accepted: Mono::from_millis(1_000),
    }
}

/// a.example dials b.example.
struct Wire {
    a: End,
    b: End,
}

impl Wire {
    fn new(a: S2s, b: S2s) -> Wire {
        Wire {
            a: End::dialling(a),
            b: End::accepting(b),
        }
    }

    /// The two have talked, trust no certificate, and would do without.
    fn untrusting() -> Wire {
        let mut wire = Wire::new(lenient(), lenient());
        wire.a.judge.trusts = false;
        wire.b.judge.trusts = false;
        wire.run();
        wire
    }

    /// Lets them talk until neither has anything to say.
    fn run(&mut self) {
        let mut to_b = self.a.on(Event::Begin);
        for _ in 0..100 {
            let to_a = self.b.hear(&to_b);
            to_b = self.a.hear(&to_a);
            if self.a.is_starting_tls && self.b.is_starting_tls {
                for end in [&mut self.a, &mut self.b] {
                    end.is_starting_tls = false;
                }
                assert_eq!(self.b.on(established(A)), "");
                to_b.push_str(&self.a.on(established(B)));
            }
            if to_b.is_empty() && to_a.is_empty() {
                return;
            }
        }
        panic!("they talk for ever");
    }

    /// Has the key verified that the accepted side asks about, as the dialling side's server would.
    fn verify(&mut self) {
        let (pair, id, key) = self.b.to_verify().expect("there is something to verify");
        let secret = Secret::new(&self.a.secret);
        let answer = match secret.made(&key, &pair.local, &pair.remote, &id) {
            true => Answer::Valid,
            false => Answer::Invalid,
        };
        let to_a = self.b.on(Event::Verified(pair, Checked::Answered(answer)));
        let to_b = self.a.hear(&to_a);
        self.b.hear(&to_b);
    }
}

fn established(name: &str) -> Event {
    Event::Established(Box::new(TlsFacts {
        version: "TLSv1.3",
        peer_chain: vec![name.as_bytes().to_vec()],
        ..TlsFacts::default()
    }))
}

fn lenient() -> S2s {
    S2s {
        secure_auth: false,
        ..S2s::default()
    }
}

/// Of a.example's stream.
const HEADER: &str = "<stream:stream from='a.example' to='b.example' version='1.0' \
                      xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
                      xmlns:stream='http://etherx.jabber.org/streams'>";
/// What b.example answers to it.
const ANSWER: &str = "<stream:stream from='b.example' id='1' version='1.0' xmlns='jabber:server' \
                      xmlns:stream='http://etherx.jabber.org/streams'>";
const MESSAGE: &str =
    "<message from='juliet@a.example/x' to='romeo@b.example'><body>a</body></message>";
