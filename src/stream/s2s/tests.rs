//! Two servers, each with one stream machine, and the wire between them; TLS is only told of.

mod bidirectional;
mod managed;
mod proof;

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
use crate::stream::dialback::{Answer, Secret, Unreached};
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
        let leaf = question.chain.first().map(Vec::as_slice);
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
            parser: Parser::new(Bounds::client(10_000)),
            secret: [name.as_bytes()[0]; 32],
            now: Mono::from_millis(1_000),
            wall: Wall::default(),
            asked: Vec::new(),
            said: String::new(),
            is_starting_tls: false,
            is_over: false,
        }
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
        let mut slots = Slots::default();
        let dialled = Dialled::new(
            slots.insert(()),
            domain(A),
            domain(B),
            false,
            PeerDns::Nothing,
        );
        Wire {
            a: End::new(A, ServerStream::dialled(origin(), dialled), a),
            b: End::new(B, ServerStream::accepted(origin()), b),
        }
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

const MESSAGE: &str =
    "<message from='juliet@a.example/x' to='romeo@b.example'><body>a</body></message>";

/// RFC 6120 §13.7, XEP-0178 §3.
#[test]
fn two_servers_with_certificates_need_nothing_else() {
    let mut wire = Wire::new(S2s::default(), S2s::default());
    wire.run();
    assert!(wire.a.is_ready(), "{}", wire.b.said);
    assert!(wire.b.said.contains("<mechanism>EXTERNAL</mechanism>"));
    assert!(wire.b.stream.source().is_some());
    assert!(wire.b.to_verify().is_none());
    assert_eq!(wire.b.hear(MESSAGE), "");
    assert!(matches!(wire.b.asked.last(), Some(Action::FromPeer(..))));
    // RFC 6120 §5.3.1: before TLS nothing else is offered.
    let first = wire.b.said.split("</stream:features>").next().unwrap();
    assert!(
        first.contains("<required/>") && !first.contains("dialback'>"),
        "{first}"
    );
}

/// XEP-0220 §2.1.
#[test]
fn without_trust_dialback_decides_where_it_may() {
    let mut wire = Wire::new(lenient(), lenient());
    for end in [&mut wire.a, &mut wire.b] {
        end.judge.trusts = false;
    }
    wire.run();
    assert!(!wire.a.is_ready());
    assert_eq!(wire.b.to_verify().unwrap().0, pair(B, A));
    wire.verify();
    assert!(wire.a.is_ready());
    assert_eq!(wire.b.hear(MESSAGE), "");
    assert!(matches!(wire.b.asked.last(), Some(Action::FromPeer(..))));
}

#[test]
fn a_key_that_is_not_the_domains_ends_the_stream() {
    let mut wire = Wire::new(lenient(), lenient());
    for end in [&mut wire.a, &mut wire.b] {
        end.judge.trusts = false;
    }
    wire.run();
    // Somebody else has dialled in the domain's name.
    let (asked, ..) = wire.b.to_verify().unwrap();
    let to_a = wire
        .b
        .on(Event::Verified(asked, Checked::Answered(Answer::Invalid)));
    assert!(to_a.contains("type='invalid'"), "{to_a}");
    assert!(wire.b.is_over);
    wire.a.hear(&to_a);
    assert!(!wire.a.is_ready());
    assert!(wire.a.failure().unwrap().is_final);
}

/// XEP-0220 §2.5: a peer that cannot ask our server now may be able to later.
#[test]
fn a_key_that_cannot_be_verified_now_does_not_end_what_waits() {
    for (unreached, is_final) in [(Unreached::Timeout, false), (Unreached::NotFound, true)] {
        let mut wire = Wire::new(lenient(), lenient());
        for end in [&mut wire.a, &mut wire.b] {
            end.judge.trusts = false;
        }
        wire.run();
        let (asked, ..) = wire.b.to_verify().unwrap();
        let checked = Checked::Unreached(unreached);
        let to_a = wire.b.on(Event::Verified(asked, checked));
        assert!(to_a.contains("type='error'"), "{to_a}");
        wire.a.hear(&to_a);
        assert!(!wire.a.is_ready());
        assert_eq!(wire.a.failure().unwrap().is_final, is_final);
    }
}

/// The default: `s2s.secure_auth = true`.
#[test]
fn who_dials_refuses_a_server_without_a_valid_certificate() {
    let mut wire = Wire::new(S2s::default(), lenient());
    wire.a.judge.trusts = false;
    wire.run();
    let failure = wire.a.failure().unwrap();
    assert!(failure.is_final);
    assert!(
        failure.text.contains("s2s.secure_auth = true"),
        "{failure:?}"
    );
    assert!(wire.a.is_over);
}

#[test]
fn who_accepts_refuses_a_server_without_a_valid_certificate() {
    let mut wire = Wire::new(lenient(), S2s::default());
    wire.b.judge.trusts = false;
    wire.run();
    assert!(!wire.b.said.contains("EXTERNAL"));
    assert!(wire.b.said.contains("<policy-violation"), "{}", wire.b.said);
    assert!(wire.b.to_verify().is_none());
    assert!(!wire.a.is_ready());
    assert!(wire.a.failure().is_some());
}

/// RFC 6120 §4.9.3.9, §8.1.1.2.
#[test]
fn nobody_sends_for_a_domain_that_is_not_proven() {
    for (from, to, condition) in [
        ("juliet@c.example", "romeo@b.example", "<invalid-from "),
        ("juliet@a.example", "romeo@c.example", "<invalid-from "),
        ("juliet@a.example", "", "<improper-addressing "),
        ("", "romeo@b.example", "<improper-addressing "),
    ] {
        let mut wire = Wire::new(S2s::default(), S2s::default());
        wire.run();
        let attribute = |name: &str, value: &str| match value {
            "" => String::new(),
            value => format!(" {name}='{value}'"),
        };
        let (from, to) = (attribute("from", from), attribute("to", to));
        let answer = wire
            .b
            .hear(&format!("<message{from}{to}><body>a</body></message>"));
        assert!(answer.contains(condition), "{answer}");
        assert!(wire.b.is_over);
        assert!(
            !wire
                .b
                .asked
                .iter()
                .any(|asked| matches!(asked, Action::FromPeer(..)))
        );
    }
}

#[test]
fn nothing_is_taken_before_a_domain_is_proven() {
    let mut wire = Wire::new(lenient(), lenient());
    for end in [&mut wire.a, &mut wire.b] {
        end.judge.trusts = false;
    }
    wire.run();
    let answer = wire.b.hear(MESSAGE);
    assert!(answer.contains("<not-authorized "), "{answer}");
}

/// RFC 6120 §6.4.5.
#[test]
fn who_tries_external_in_vain_over_and_over_is_sent_away() {
    const EXTERNAL: &str =
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>";
    let mut wire = Wire::new(lenient(), lenient());
    for end in [&mut wire.a, &mut wire.b] {
        end.judge.trusts = false;
    }
    wire.run();
    for _ in 1..Settings::default().limits.login_failures_per_stream_max {
        let answer = wire.b.hear(EXTERNAL);
        assert!(answer.contains("<not-authorized/>"), "{answer}");
        assert!(!wire.b.is_over);
    }
    let answer = wire.b.hear(EXTERNAL);
    assert!(answer.contains("<policy-violation "), "{answer}");
    assert!(wire.b.is_over);
}

/// RFC 6120 §4.9.3.6.
#[test]
fn a_domain_that_is_not_served_is_unknown_and_the_dialler_is_told() {
    let mut wire = Wire::new(S2s::default(), S2s::default());
    wire.b.settings = Arc::new(Settings::default());
    wire.run();
    assert!(wire.b.said.contains("<host-unknown "), "{}", wire.b.said);
    let failure = wire.a.failure().unwrap();
    assert!(failure.is_final);
    assert_eq!(failure.condition, Condition::RemoteServerNotFound);
}

/// RFC 7590 §3.1: TLS is tried also where it is not offered.
#[test]
fn a_server_that_does_not_offer_tls_is_asked_for_it() {
    let mut slots = Slots::default();
    let dialled = Dialled::new(
        slots.insert(()),
        domain(A),
        domain(B),
        false,
        PeerDns::Nothing,
    );
    let mut a = End::new(A, ServerStream::dialled(origin(), dialled), S2s::default());
    a.on(Event::Begin);
    let bare = "<stream:stream from='b.example' id='1' version='1.0' xmlns='jabber:server' \
                xmlns:stream='http://etherx.jabber.org/streams'><stream:features/>";
    assert!(a.hear(bare).contains("<starttls "));
    a.hear("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    let failure = a.failure().unwrap();
    assert!(
        failure.is_final && failure.text.contains("s2s.require_encryption"),
        "{failure:?}"
    );
}

/// Encryption that is offered is not done without, and who could do without is not told of an option
/// that asks for it.
#[test]
fn a_server_that_offers_tls_and_refuses_it_is_tried_again() {
    let mut slots = Slots::default();
    let dialled = Dialled::new(
        slots.insert(()),
        domain(A),
        domain(B),
        false,
        PeerDns::Nothing,
    );
    let s2s = S2s {
        require_encryption: false,
        ..lenient()
    };
    let mut a = End::new(A, ServerStream::dialled(origin(), dialled), s2s);
    a.on(Event::Begin);
    let offer = "<stream:stream from='b.example' id='1' version='1.0' xmlns='jabber:server' \
                 xmlns:stream='http://etherx.jabber.org/streams'><stream:features>\
                 <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>";
    assert!(a.hear(offer).contains("<starttls "));
    a.hear("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    let failure = a.failure().unwrap();
    assert!(
        !failure.is_final && !failure.text.contains("s2s."),
        "{failure:?}"
    );
}

#[test]
fn who_does_not_get_on_is_given_up() {
    let mut wire = Wire::new(S2s::default(), S2s::default());
    wire.a.on(Event::Begin);
    let deadline = wire.a.stream.deadline(&wire.a.settings).unwrap();
    wire.a.now = deadline;
    let said = wire.a.on(Event::Deadline);
    assert!(said.contains("<connection-timeout "), "{said}");
    assert!(!wire.a.failure().unwrap().is_final);
    let deadline = wire.b.stream.deadline(&wire.b.settings).unwrap();
    wire.b.now = deadline;
    assert!(wire.b.on(Event::Deadline).contains("<connection-timeout "));
}

/// RFC 6120 §4.6.3.
#[test]
fn a_stream_that_nobody_needs_is_closed_without_an_error() {
    let mut wire = Wire::new(S2s::default(), S2s::default());
    wire.run();
    let due = wire.a.stream.deadline(&wire.a.settings).unwrap();
    assert_eq!(
        due,
        wire.a.now + Duration::from_secs(S2s::default().idle_seconds)
    );
    // Who has opened it closes it first: it knows whether anything is on its way.
    let other = wire.b.stream.deadline(&wire.b.settings).unwrap();
    assert!(other >= due + Duration::from_secs(S2s::default().idle_seconds));
    wire.a.now = due;
    assert_eq!(wire.a.on(Event::Deadline), "</stream:stream>");
    let ended = |action: &Action| matches!(action, Action::LinkEnded(_));
    assert!(wire.a.asked.iter().any(ended));
    wire.b.hear("</stream:stream>");
    let closed = |action: &Action| matches!(action, Action::PeerClosed(_));
    assert!(wire.b.asked.iter().any(closed));
}

/// XEP-0220 §2.1.2: what others wait for is answered when the stream ends.
#[test]
fn keys_that_nobody_can_be_asked_about_any_more_are_told_to_who_waits() {
    let mut wire = Wire::new(S2s::default(), S2s::default());
    wire.run();
    let mut slots = Slots::default();
    let asker = Asker {
        shard: 3,
        conn: slots.insert(()),
        pair: pair(A, B),
    };
    let ask = Ask {
        asker: asker.clone(),
        id: "x".to_owned(),
        key: "k".to_owned(),
    };
    let to_b = wire.a.on(Event::Ask(Box::new(ask)));
    assert!(
        to_b.contains("<db:verify from='a.example' to='b.example' id='x'>k<"),
        "{to_b}"
    );
    let mut actions = Vec::new();
    wire.a.stream.hung_up(None, &mut actions);
    let told = actions.into_iter().find_map(|action| match action {
        Action::Tell(told) => Some(*told),
        _ => None,
    });
    let (told, checked) = told.unwrap();
    assert_eq!(told, asker);
    assert!(matches!(checked, Checked::Unreached(_)));
}

/// A link whose stream was closed by its peer must not wait for it for ever.
#[test]
fn a_peer_that_closes_before_the_stream_is_ready_is_a_failure_once() {
    let mut slots = Slots::default();
    let dialled = Dialled::new(
        slots.insert(()),
        domain(A),
        domain(B),
        false,
        PeerDns::Nothing,
    );
    let mut a = End::new(A, ServerStream::dialled(origin(), dialled), S2s::default());
    a.on(Event::Begin);
    a.hear(
        "<stream:stream from='b.example' id='1' version='1.0' xmlns='jabber:server' \
         xmlns:stream='http://etherx.jabber.org/streams'></stream:stream>",
    );
    let mut later = Vec::new();
    a.stream.hung_up(None, &mut later);
    let failed = |action: &&Action| matches!(action, Action::LinkFailed(..));
    assert_eq!(a.asked.iter().chain(&later).filter(failed).count(), 1);
    assert!(!a.failure().unwrap().is_final);
}

#[test]
fn both_sides_note_what_came_of_a_stream() {
    let mut wire = Wire::new(S2s::default(), S2s::default());
    wire.run();
    for (end, is_dialled, remote) in [(&wire.a, true, B), (&wire.b, false, A)] {
        let [attempt] = end.attempts()[..] else {
            panic!("{:?}", end.attempts())
        };
        assert!(attempt.is_success && attempt.is_dialled == is_dialled);
        assert_eq!(attempt.remote.as_str(), remote);
        assert!(attempt.tls.is_some());
        let verdict = attempt.verdict.as_deref().unwrap();
        assert!(verdict.contains("its certificate is valid"), "{verdict}");
    }
}

#[test]
fn a_refusal_is_noted_on_both_sides_with_its_reason() {
    let mut wire = Wire::new(lenient(), S2s::default());
    wire.b.judge.trusts = false;
    wire.run();
    let [attempt] = wire.b.attempts()[..] else {
        panic!("{:?}", wire.b.attempts())
    };
    assert!(!attempt.is_success && !attempt.is_dialled);
    let verdict = attempt.verdict.as_deref().unwrap();
    assert!(verdict.contains("s2s.secure_auth = true"), "{verdict}");
    let [attempt] = wire.a.attempts()[..] else {
        panic!("{:?}", wire.a.attempts())
    };
    // In the peer's words.
    let outcome = &attempt.outcome;
    assert!(outcome.contains("policy-violation"), "{outcome}");
}

#[test]
fn who_wants_a_domain_that_is_not_served_is_noted_under_its_name() {
    for (wanted, enabled) in [("c.example", true), (B, false)] {
        let s2s = S2s {
            enabled,
            ..S2s::default()
        };
        let mut b = End::new(B, ServerStream::accepted(origin()), s2s);
        b.hear(&format!(
            "<stream:stream from='a.example' to='{wanted}' version='1.0' xmlns='jabber:server' \
             xmlns:stream='http://etherx.jabber.org/streams'>"
        ));
        let [attempt] = b.attempts()[..] else {
            panic!("{:?}", b.attempts())
        };
        assert_eq!(
            (attempt.remote.as_str(), attempt.local.as_str()),
            (A, wanted)
        );
        let names_option = attempt.outcome.contains("s2s.enabled = false");
        assert_eq!(names_option, !enabled, "{}", attempt.outcome);
    }
}

/// A domain is claimed by whoever wants to: what comes of it is noted under that name.
#[test]
fn who_claims_a_domain_and_leaves_is_noted_under_its_name() {
    let mut b = End::new(B, ServerStream::accepted(origin()), S2s::default());
    b.hear(
        "<stream:stream from='a.example' to='b.example' version='1.0' xmlns='jabber:server' \
         xmlns:stream='http://etherx.jabber.org/streams'></stream:stream>",
    );
    let mut later = Vec::new();
    b.stream.hung_up(None, &mut later);
    let [attempt] = b.attempts()[..] else {
        panic!("{:?}", b.attempts())
    };
    assert_eq!(attempt.remote.as_str(), A);
    assert!(!attempt.is_success && !attempt.is_dialled);
    assert!(
        !later
            .iter()
            .any(|action| matches!(action, Action::Attempted(_)))
    );
}
