use std::time::Duration;

use super::*;
use crate::router::effects::Refusal;
use crate::stanza::{Condition, StanzaError};
use crate::stream::testing::{Bench, HEADER, auth, found, header, open, settings, top, unknown};
use crate::xml::XmlError;

const STATES: [&str; 14] = [
    "opening",
    "authenticated",
    "negotiating",
    "securing",
    "asked",
    "loading",
    "hashing",
    "responding",
    "delayed",
    "admitting",
    "binding",
    "bound",
    "closing",
    "closed",
];

/// A stream in the named state.
fn bench(state: &str) -> Bench {
    let mut bench = Bench::new(open());
    let plain = auth("PLAIN", Some(b"\0juliet\0secret"));
    match state {
        "opening" => {}
        "authenticated" => bench.log_in(),
        "binding" => {
            bench.log_in();
            bench.open();
        }
        "bound" => {
            bench.bind();
        }
        "closing" => {
            bench.on(Event::Close);
        }
        "closed" => {
            bench.on(Event::Close);
            bench.deadline();
        }
        _ => {
            bench.open();
            let _written: String = match state {
                "negotiating" => String::new(),
                "securing" => bench.top("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
                "asked" => bench.top(&auth("PLAIN", None)),
                "responding" => {
                    let first = b"n,,n=juliet,r=abcdefghijklmnop";
                    bench.top(&auth("SCRAM-SHA-256", Some(first)));
                    bench.on(unknown())
                }
                "delayed" => {
                    bench
                        .throttle
                        .set_limits(crate::net::throttle::ThrottleLimits {
                            connections_per_address_max: 10,
                            login_failures_per_address_max: 2,
                            login_failures_per_account_max: 100,
                            ..Default::default()
                        });
                    bench.top(&plain);
                    bench.on(unknown());
                    bench.work()
                }
                _ => {
                    bench.top(&plain);
                    if state == "admitting" {
                        bench.on(found());
                        bench.work();
                    } else if state == "hashing" {
                        bench.on(unknown());
                    }
                    String::new()
                }
            };
        }
    }
    assert_eq!(bench.state(), state);
    bench
}

fn event(name: &str, bench: &mut Bench) -> Event {
    match name {
        "open" => Event::Open(header(HEADER)),
        "iq" => Event::Top(top(
            "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
        )),
        "error" => Event::Top(top("<stream:error/>")),
        "close" => Event::Close,
        "bad" => Event::BadXml(XmlError::UnsupportedEncoding),
        "tls" => Event::Established(Box::default()),
        "found" => unknown(),
        "worked" => Event::Worked(None),
        "admitted" => Event::Admitted(Ok(())),
        "refused" => Event::Admitted(Err(Refusal::Changed)),
        "bound" => Event::Bound(Err(StanzaError::new(Condition::Conflict))),
        "late" => {
            bench.pass(Duration::from_secs(3600));
            Event::Deadline
        }
        "early" => Event::Deadline,
        _ => Event::End(StreamError::new(StreamCondition::Reset, "")),
    }
}

/// Where each event leads from each state; `=` is: nowhere, and `.`: the shard never gives it.
const TABLE: &str = "
              open        iq      error   close   bad     tls     found      worked      admitted      refused     bound late        early end
opening       negotiating .       .       closing closing =       =          =           =             =           =     closing     =     closing
authenticated binding     .       .       closing closing =       =          =           =             =           =     closing     =     closing
negotiating   .           closing closing closing closing =       =          =           =             =           =     closing     =     closing
securing      .           .       .       .       .       opening =          =           =             =           =     closed      =     closed
asked         .           closing closing closing closing =       =          =           =             =           =     closing     =     closing
loading       .           .       .       .       .       =       hashing    =           =             =           =     closing     =     closing
hashing       .           .       .       .       .       =       =          negotiating =             =           =     closing     =     closing
responding    .           closing closing closing closing =       =          =           =             =           =     closing     =     closing
delayed       .           .       .       .       .       =       =          =           =             =           =     negotiating =     closing
admitting     .           .       .       .       .       =       =          =           authenticated negotiating =     closing     =     closing
binding       .           closing closing closing closing =       =          =           =             =           =     closing     =     closing
bound         .           =       closing closing closing =       =          =           =             =           =     =           =     closing
closing       =           =       =       =       =       =       =          =           =             =           =     closed      =     =
closed        =           =       =       =       =       =       =          =           =             =           =     =           =     =
";

#[test]
fn every_state_takes_every_event() {
    let mut lines = TABLE.trim_matches('\n').lines();
    let events: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    let rows: Vec<Vec<&str>> = lines
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), STATES.len());
    for (row, state) in rows.iter().zip(STATES) {
        assert_eq!(row[0], state);
        for (name, &next) in events.iter().zip(&row[1..]) {
            if next == "." {
                continue;
            }
            let mut bench = bench(state);
            let takes = bench.stream.takes_input();
            let event = event(name, &mut bench);
            assert!(
                takes || !matches!(event, Event::Top(_) | Event::Open(_)) || state == "closed",
                "{state} gets no input"
            );
            let written = bench.on(event);
            let expected = if next == "=" { state } else { next };
            assert_eq!(bench.state(), expected, "{state} on {name}");
            check_end(state, name, &written, &bench);
        }
    }
}

/// What holds for every end: our side is closed once, what was held is given back, and nothing is
/// said after it.
fn check_end(state: &str, name: &str, written: &str, bench: &Bench) {
    let actions = &bench.actions;
    let was_over = matches!(state, "closing" | "closed");
    if was_over {
        assert_eq!(written, "", "{state} on {name}");
    }
    if bench.state() == "closing" && !was_over {
        let shut = |action: &Action| matches!(action, Action::Shutdown);
        assert_eq!(actions.iter().filter(|action| shut(action)).count(), 1);
        // A peer that ends a stream which has not begun gets no end of it either.
        let has_begun = !(name == "close" && matches!(state, "opening" | "authenticated"));
        assert_eq!(
            written.ends_with("</stream:stream>"),
            has_begun,
            "{state} on {name}"
        );
        assert_eq!(
            written.contains("<stream:error>"),
            !matches!(name, "close" | "error")
        );
        let holds = matches!(state, "authenticated" | "admitting" | "binding" | "bound");
        let given_back = |action: &&Action| matches!(action, Action::Leave(_) | Action::Unbind(_));
        let count = actions.iter().filter(given_back).count();
        assert_eq!(count, usize::from(holds), "{state} on {name}");
    }
}

/// RFC 6120 §4.9.1.2: an error before our header comes behind one.
#[test]
fn an_error_in_a_header_is_answered_behind_our_header() {
    for (text, condition) in [
        (
            HEADER.replace("example.org", "example.net"),
            "<host-unknown",
        ),
        (HEADER.replace("to='example.org' ", ""), "<host-unknown"),
        (
            HEADER.replace("'1.0' xmlns", "'0.9' xmlns"),
            "<unsupported-version",
        ),
        (
            HEADER.replace("jabber:client", "jabber:server"),
            "<invalid-namespace",
        ),
    ] {
        let mut bench = Bench::new(open());
        let written = bench.on(Event::Open(header(&text)));
        let header_at = written.find("<stream:stream ");
        let error_at = written.find(condition);
        assert!(
            header_at.is_some() && error_at > header_at,
            "{text}: {written}"
        );
        assert_eq!(bench.state(), "closing");
    }
}

// Deadlines.

#[test]
fn a_login_has_its_time_whatever_the_state() {
    for state in &STATES[..11] {
        let bench = bench(state);
        let due = bench.stream.deadline(&bench.settings).unwrap();
        let limit = Duration::from_secs(bench.settings.limits.unauthenticated_seconds_max);
        let login = bench.stream.origin.accepted + limit;
        if *state == "delayed" {
            assert!(due < login);
        } else {
            assert_eq!(due, login, "{state}");
        }
    }
}

/// RFC 6120 §4.6.4, XEP-0199 §4.1.
#[test]
fn a_silent_client_is_pinged_once_then_taken_for_gone() {
    let mut bench = bench("bound");
    let ping = bench.deadline();
    assert!(
        ping.starts_with("<iq from='example.org' to='juliet@example.org/balcony' id='ping-"),
        "{ping}"
    );
    let answered = bench.stream.deadline(&bench.settings).unwrap();
    assert_eq!(answered - bench.now, Duration::from_secs(30));
    let end = bench.deadline();
    assert!(end.contains("<connection-timeout"), "{end}");
    assert_eq!(bench.state(), "closing");
}

/// XEP-0478 §3.1: "after which the server may [...] perform liveness checks". Not before a login, when
/// no silence is counted, and not where nobody is pinged.
#[test]
fn a_client_is_told_after_how_much_silence_it_is_pinged() {
    for idle_seconds in [300, 7, 0] {
        let mut settings = open();
        let domain = settings.domains.values_mut().next().unwrap();
        std::sync::Arc::make_mut(domain).c2s.idle_seconds = idle_seconds;
        let mut bench = Bench::new(settings);
        let before = bench.open();
        assert!(before.contains("<max-bytes>10240</max-bytes>"), "{before}");
        assert!(!before.contains("<idle-seconds>"), "{before}");
        bench = Bench::new(Settings::clone(&bench.settings));
        bench.log_in();
        let features = bench.open();
        let told = features.split_once("<idle-seconds>");
        let told = told.and_then(|(_, rest)| rest.split_once("</idle-seconds></limits>"));
        bench = Bench::new(Settings::clone(&bench.settings));
        bench.bind();
        let due = bench.stream.deadline(&bench.settings);
        let silence = due.map(|due| (due - bench.now).as_secs().to_string());
        assert_eq!(told.map(|(seconds, _)| seconds), silence.as_deref());
        assert_eq!(told.is_some(), idle_seconds > 0);
    }
}

#[test]
fn whatever_a_client_sends_answers_a_ping() {
    let mut bench = bench("bound");
    bench.deadline();
    assert!(bench.stream.touch(bench.now), "the deadline may be sooner");
    let due = bench.stream.deadline(&bench.settings).unwrap();
    assert_eq!(due - bench.now, Duration::from_secs(300));
    assert!(!bench.stream.touch(bench.now));
}

#[test]
fn no_idle_seconds_are_no_pings() {
    let c2s = crate::config::C2s {
        require_encryption: false,
        allow_unencrypted_plain: true,
        idle_seconds: 0,
        ..Default::default()
    };
    let mut bench = Bench::new(settings(c2s, crate::config::Auth::default()));
    bench.bind();
    assert_eq!(bench.stream.deadline(&bench.settings), None);
}

#[test]
fn a_closing_stream_ends_at_its_time_and_has_no_deadline_then() {
    let mut bench = bench("closing");
    let due = bench.stream.deadline(&bench.settings).unwrap();
    assert_eq!(due - bench.now, crate::limits::CLOSE_WAIT);
    assert_eq!(bench.deadline(), "");
    assert!(matches!(bench.actions[..], [Action::Drop]));
    assert_eq!(bench.stream.deadline(&bench.settings), None);
}

// Stanzas.

/// RFC 6120 §4.7.4.
#[test]
fn a_stanza_without_a_language_has_the_streams() {
    let mut bench = Bench::new(open());
    bench.log_in();
    let german = HEADER.replace("to='", "xml:lang='de' to='");
    bench.on(Event::Open(header(&german)));
    bench.top("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
    let jid = crate::jid::FullJid::parse("juliet@example.org/balcony").unwrap();
    bench.on(Event::Bound(Ok((crate::stream::testing::some_key(), jid))));
    for (sent, lang) in [("<message/>", "de"), ("<message xml:lang='fr'/>", "fr")] {
        bench.top(sent);
        match &bench.actions[..] {
            [Action::Route(stanza, _)] => assert_eq!(stanza.lang.as_deref(), Some(lang)),
            _ => panic!("{sent} is not routed"),
        }
    }
}

/// RFC 6120 §8.1.1.2, §8.3.1: the error goes to who sits at the other end, whoever it claims to be.
#[test]
fn an_error_that_the_stream_writes_is_addressed_to_its_client() {
    let mut bench = bench("bound");
    for bad in [
        "<iq type='get' id='7' from='romeo@example.net'/>",
        "<iq type='get' id='7' to='@'><ping xmlns='urn:xmpp:ping'/></iq>",
    ] {
        let reply = bench.top(bad);
        assert!(
            reply.contains(" to='juliet@example.org/balcony'"),
            "{reply}"
        );
        assert!(reply.contains(" id='7' type='error'"), "{reply}");
        assert!(bench.actions.is_empty(), "nothing is routed");
    }
}

/// RFC 6120 §7.1.
#[test]
fn no_stanza_but_a_bind_is_taken_before_a_bind() {
    for stanza in ["<message/>", "<presence/>", "<message to='@'/>"] {
        let mut bench = bench("binding");
        let written = bench.top(stanza);
        assert!(written.contains("<not-authorized"), "{written}");
        assert_eq!(bench.state(), "closing");
    }
}

/// RFC 6120 §7.7.
#[test]
fn a_refused_bind_may_be_tried_again() {
    let mut bench = bench("binding");
    bench.top("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
    let refused = bench.on(Event::Bound(Err(StanzaError::new(Condition::Conflict))));
    assert!(refused.contains("id='b' type='error'"), "{refused}");
    assert!(refused.contains("<conflict "), "{refused}");
    assert_eq!(bench.state(), "binding");
    bench.top("<iq type='set' id='c'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
    assert!(matches!(bench.actions[..], [Action::Bind(_)]));
}
