//! A component's stream without a shard: bytes in, bytes and actions out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::clock::{Now, Wall};
use crate::config::DomainSettings;
use crate::features::FEATURES;
use crate::net::throttle::{Throttle, ThrottleLimits};
use crate::router::pipeline::Pipeline;
use crate::router::placement::Placement;
use crate::stream::testing::{Proves, some_key};
use crate::xml::{Bounds, Item, Parser};

const HEADER: &str = "<stream:stream xmlns='jabber:component:accept' \
     xmlns:stream='http://etherx.jabber.org/streams' to='plays.shakespeare.lit'>";

/// SHA-1 of the stream id, sixteen times "07", and the secret: reckoned by another program.
const HANDSHAKE: &str = "<handshake>a6faffdc1918f1ccb69cc2ef754ef6cab5c1e6d9</handshake>";

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn settings() -> Settings {
    let local = domain("shakespeare.lit");
    let name = domain("plays.shakespeare.lit");
    let component = ComponentSettings {
        domain: Arc::new(DomainSettings::new(name.clone())),
        secret: Secret::new("s3cr3t-of-plays"),
        stanza_bytes_max: 20_000,
    };
    Settings {
        domains: BTreeMap::from([(local.clone(), Arc::new(DomainSettings::new(local)))]),
        components: BTreeMap::from([(name, Arc::new(component))]),
        ..Settings::default()
    }
}

struct Bench {
    stream: ComponentStream,
    settings: Arc<Settings>,
    throttle: Throttle,
    parser: Parser,
    now: Mono,
    actions: Vec<Action>,
    component: Key,
}

impl Bench {
    fn new() -> Bench {
        let now = Mono::from_millis(1_000);
        let origin = Origin {
            stream: 1,
            address: "127.0.0.1:5000".parse().unwrap(),
            accepted: now,
        };
        Bench {
            stream: ComponentStream::new(origin),
            settings: Arc::new(settings()),
            throttle: Throttle::new(ThrottleLimits {
                login_failures_per_account_max: 4,
                ..ThrottleLimits::default()
            }),
            parser: Parser::new(Bounds::of(10_000)),
            now,
            actions: Vec::new(),
            component: some_key(),
        }
    }

    /// The next connection of somebody at the same address.
    fn again(&mut self) {
        self.stream = ComponentStream::new(self.stream.origin);
        self.stream.origin.accepted = self.now;
        self.parser = Parser::new(Bounds::of(10_000));
    }

    fn on(&mut self, event: Event) -> String {
        let (mut out, mut actions) = (Vec::new(), Vec::new());
        let mut random = |buffer: &mut [u8]| buffer.fill(7);
        let mut context = Context {
            now: Now {
                mono: self.now,
                wall: Wall::default(),
            },
            settings: &self.settings,
            pipeline: &Pipeline::new(FEATURES),
            certificates: &Proves(&[]),
            throttle: &self.throttle,
            secret: &[1; 32],
            random: &mut random,
            placement: &Placement::new(1),
            shard: 0,
            unread: 0,
            out: &mut out,
            actions: &mut actions,
        };
        self.stream.on(event, &mut context);
        self.actions = actions;
        String::from_utf8(out).unwrap()
    }

    /// Says something, and yields all of the answer.
    fn say(&mut self, text: &str) -> String {
        self.parser.feed(text.as_bytes());
        let mut said = String::new();
        loop {
            let event = match self.parser.next() {
                Ok(Some(Item::Open(header))) => Event::Open(header),
                Ok(Some(Item::Top(top))) => Event::Top(top),
                Ok(Some(Item::Close)) => Event::Close,
                Ok(None) => return said,
                Err(error) => return said + &self.on(Event::BadXml(error)),
            };
            said += &self.on(event);
        }
    }

    /// A stream on which stanzas flow.
    fn open() -> Bench {
        let mut bench = Bench::new();
        bench.say(HEADER);
        assert_eq!(bench.say(HANDSHAKE), "", "it has to be let in first");
        let admitted = bench.component;
        let answer = bench.on(Event::ComponentAdmitted(Ok(admitted)));
        assert_eq!(answer, "<handshake/>");
        bench
    }

    fn deadline(&mut self) -> String {
        self.now = self.stream.deadline(&self.settings).unwrap();
        self.on(Event::Deadline)
    }

    fn asks_for_admission(&self) -> bool {
        let asked = |action: &Action| matches!(action, Action::AdmitComponent(_));
        self.actions.iter().any(asked)
    }

    fn routed(&self) -> Vec<&Stanza> {
        fn stanza(action: &Action) -> Option<&Stanza> {
            match action {
                Action::FromComponent(stanza, _) => Some(stanza),
                _ => None,
            }
        }
        self.actions.iter().filter_map(stanza).collect()
    }

    fn is_closed_for_component(&self) -> bool {
        let closed = |action: &Action| matches!(action, Action::ComponentClosed(_));
        self.actions.iter().any(closed)
    }
}

/// §3, examples 1 to 4.
#[test]
fn the_right_handshake_lets_it_in() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.say(HEADER),
        "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
         xmlns:stream='http://etherx.jabber.org/streams' from='plays.shakespeare.lit' \
         id='07070707070707070707070707070707'>"
    );
    assert_eq!(bench.say(HANDSHAKE), "");
    assert!(bench.asks_for_admission());
    assert!(!bench.stream.takes_input());
    let admitted = bench.component;
    bench.on(Event::ComponentAdmitted(Ok(admitted)));
    assert_eq!(bench.stream.component(), Some(admitted));
    let is_limit = |action: &Action| matches!(action, Action::AcceptStanzas(20_000));
    assert!(bench.actions.iter().any(is_limit));
}

/// §3: "the receiver MUST close the stream ... and SHOULD return a <not-authorized/>".
#[test]
fn another_handshake_is_refused() {
    let upper = HANDSHAKE.to_uppercase().replace("HANDSHAKE", "handshake");
    for wrong in [
        "<handshake/>",
        "<handshake>7c</handshake>",
        &HANDSHAKE.replace("a6f", "zzz"),
        &upper,
        "<handshake>s3cr3t-of-plays</handshake>",
    ] {
        let mut bench = Bench::new();
        bench.say(HEADER);
        let answer = bench.say(wrong);
        assert!(answer.contains("<not-authorized"), "{wrong}: {answer}");
        assert!(answer.ends_with("</stream:stream>"));
        assert!(!bench.asks_for_admission());
    }
}

#[test]
fn nothing_is_taken_before_the_handshake() {
    for early in [
        "<message from='a@plays.shakespeare.lit' to='b@shakespeare.lit'/>",
        "<handshake xmlns='jabber:client'/>",
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    ] {
        let mut bench = Bench::new();
        bench.say(HEADER);
        let answer = bench.say(early);
        assert!(answer.contains("<not-authorized"), "{early}: {answer}");
        assert!(bench.routed().is_empty());
    }
}

/// §3: errors of the header come behind a header.
#[test]
fn each_mistake_in_a_header_has_its_error() {
    let to = |name: &str| HEADER.replace("plays.shakespeare.lit", name);
    for (header, condition) in [
        (to("shakespeare.lit"), "host-unknown"),
        (to("a.plays.shakespeare.lit"), "host-unknown"),
        (to("a@plays.shakespeare.lit"), "improper-addressing"),
        (
            HEADER.replace(" to='plays.shakespeare.lit'", ""),
            "host-unknown",
        ),
        (
            HEADER.replace("component:accept", "client"),
            "invalid-namespace",
        ),
        (
            HEADER.replace("component:accept", "component:connect"),
            "invalid-namespace",
        ),
    ] {
        let mut bench = Bench::new();
        let answer = bench.say(&header);
        assert!(answer.starts_with("<?xml"), "{answer}");
        assert!(answer.contains("<stream:stream"), "{answer}");
        assert!(
            answer.contains(&format!("<{condition} ")),
            "{header}: {answer}"
        );
        assert!(answer.ends_with("</stream:stream>"), "{answer}");
    }
}

/// RFC 6120 §13.12, item 5: guesses get ever slower, then none is looked at, the right one neither.
#[test]
fn guesses_are_slowed_and_then_refused_until_they_fade() {
    let mut bench = Bench::new();
    let mut delays = Vec::new();
    for _ in 0..4 {
        bench.say(HEADER);
        let mut answer = bench.say("<handshake>00</handshake>");
        let before = bench.now;
        if answer.is_empty() {
            answer = bench.deadline();
        }
        delays.push(bench.now.since(before).as_millis());
        bench.now = before;
        assert!(answer.contains("<not-authorized"), "{answer}");
        bench.again();
    }
    assert_eq!(delays, [0, 500, 1000, 0]);
    bench.say(HEADER);
    let answer = bench.say(HANDSHAKE);
    assert!(answer.contains("<policy-violation"), "{answer}");
    assert!(!bench.asks_for_admission());
    // Another component of the same machine is not kept out.
    let other = bench.stream.origin.ip();
    let verdict = bench
        .throttle
        .may_shake_hands(other, "irc.shakespeare.lit", bench.now);
    assert_eq!(verdict, Verdict::Allowed);
    bench.now = bench.now + Duration::from_secs(60);
    bench.again();
    bench.say(HEADER);
    bench.say(HANDSHAKE);
    assert!(bench.asks_for_admission());
}

/// §3: any user at its hostname, and nobody else.
#[test]
fn it_speaks_for_its_own_domain_only() {
    let message = |from: &str| format!("<message from='{from}' to='b@shakespeare.lit'/>");
    for own in [
        "plays.shakespeare.lit",
        "a@plays.shakespeare.lit",
        "A@PLAYS.shakespeare.lit/r",
    ] {
        let mut bench = Bench::open();
        assert_eq!(bench.say(&message(own)), "");
        assert_eq!(bench.routed().len(), 1, "{own}");
    }
    for foreign in [
        "shakespeare.lit",
        "b@shakespeare.lit",
        "a@b.plays.shakespeare.lit",
        "a@xplays.shakespeare.lit",
        "a@example.net/plays.shakespeare.lit",
    ] {
        let mut bench = Bench::open();
        let answer = bench.say(&message(foreign));
        assert!(answer.contains("<invalid-from"), "{foreign}: {answer}");
        assert!(bench.routed().is_empty());
        assert!(bench.is_closed_for_component());
    }
    let mut bench = Bench::open();
    assert_eq!(bench.say("<message to='b@shakespeare.lit'/>"), "");
    let from = bench.routed()[0].from.clone().unwrap();
    assert_eq!(from.as_str(), "plays.shakespeare.lit");
}

#[test]
fn what_is_no_stanza_ends_the_stream_and_a_bad_stanza_is_answered() {
    for other in [
        "<handshake/>",
        "<a/>",
        "<message xmlns='jabber:client' from='plays.shakespeare.lit' to='b@shakespeare.lit'/>",
    ] {
        let mut bench = Bench::open();
        let answer = bench.say(other);
        assert!(
            answer.contains("<unsupported-stanza-type"),
            "{other}: {answer}"
        );
    }
    for (bad, condition) in [
        (
            "<message from='a@plays.shakespeare.lit' id='1'/>",
            "bad-request",
        ),
        (
            "<message from='a@plays.shakespeare.lit' id='1' to='@'/>",
            "jid-malformed",
        ),
        (
            "<iq from='a@plays.shakespeare.lit' to='b@shakespeare.lit' type='get'/>",
            "bad-request",
        ),
    ] {
        let mut bench = Bench::open();
        let answer = bench.say(bad);
        assert!(answer.contains(condition), "{bad}: {answer}");
        assert!(answer.contains("to='a@plays.shakespeare.lit'"), "{answer}");
        assert!(bench.routed().is_empty());
        assert!(bench.stream.component().is_some(), "the stream goes on");
    }
    let mut bench = Bench::open();
    let answer = bench.say("<message from='a@shakespeare.lit' id='1' to='@'/>");
    assert!(answer.contains("<invalid-from"), "{answer}");
}

#[test]
fn children_in_its_namespace_are_those_of_a_stanza() {
    let mut bench = Bench::open();
    bench.say(
        "<message from='plays.shakespeare.lit' to='b@shakespeare.lit'><body>hark</body></message>",
    );
    let mut written = Vec::new();
    bench.routed()[0].write(&mut written);
    let written = String::from_utf8(written).unwrap();
    assert!(written.contains("<body>hark</body>"), "{written}");
}

#[test]
fn every_end_gives_its_place_back_once() {
    type End = fn(&mut Bench) -> String;
    let ends: [(End, &str); 4] = [
        (|bench| bench.say("</stream:stream>"), "</stream:stream>"),
        (|bench| bench.say("<message></iq>"), "<not-well-formed"),
        (
            |bench| {
                let error = StreamError::new(StreamCondition::HostGone, "");
                bench.on(Event::End(error))
            },
            "<host-gone",
        ),
        (
            |bench| {
                bench.stream.hung_up(None, &mut bench.actions);
                String::new()
            },
            "",
        ),
    ];
    for (end, answer) in ends {
        let mut bench = Bench::open();
        let said = end(&mut bench);
        assert!(said.contains(answer), "{said}");
        assert!(bench.is_closed_for_component(), "{answer}");
        assert_eq!(bench.stream.component(), None);
        bench.actions.clear();
        bench.stream.hung_up(None, &mut bench.actions);
        assert!(!bench.is_closed_for_component(), "only once");
    }
}

#[test]
fn one_that_is_refused_a_place_hears_why() {
    let mut bench = Bench::new();
    bench.say(HEADER);
    bench.say(HANDSHAKE);
    let error = StreamError::new(StreamCondition::Conflict, "Connected already");
    let answer = bench.on(Event::ComponentAdmitted(Err(error)));
    assert!(answer.contains("<conflict"), "{answer}");
    assert!(!answer.contains("<handshake"), "{answer}");
}

#[test]
fn time_runs_out_before_the_handshake_and_a_silent_one_is_probed_after() {
    for said in ["", HEADER] {
        let mut bench = Bench::new();
        bench.say(said);
        let answer = bench.deadline();
        assert_eq!(bench.now, Mono::from_millis(31_000));
        assert!(answer.contains("<connection-timeout"), "{answer}");
    }
    let mut bench = Bench::open();
    for minute in 1..4 {
        assert_eq!(bench.deadline(), " ");
        assert_eq!(bench.now, Mono::from_millis(1_000 + minute * 60_000));
    }
    bench.now = bench.now + Duration::from_secs(59);
    let now = bench.now;
    bench.stream.touch(now);
    assert_eq!(bench.on(Event::Deadline), "", "it has just said something");
}
