//! Stanzas both ways on one stream (XEP-0288).

use super::*;

const BIDI: &str = "<bidi xmlns='urn:xmpp:bidi'/>";
const FEATURE: &str = "<bidi xmlns='urn:xmpp:features:bidi'/>";
const BACK: &str =
    "<message from='romeo@b.example' to='juliet@a.example/x'><body>b</body></message>";

fn wire(s2s: S2s) -> Wire {
    Wire::new(s2s.clone(), s2s)
}

fn opened(end: &End) -> Vec<Pair> {
    let asked = end.asked.iter();
    asked
        .filter_map(|action| match action {
            Action::PairOpen(pair) => Some(pair.clone()),
            _ => None,
        })
        .collect()
}

fn took(end: &End) -> usize {
    let asked = end.asked.iter();
    asked
        .filter(|action| matches!(action, Action::FromPeer(..)))
        .count()
}

/// XEP-0288 §2.1, §2.2.
#[test]
fn it_is_agreed_on_after_tls_and_before_external() {
    let mut wire = wire(S2s::default());
    wire.run();
    let mut features = wire.b.said.split("<stream:features>").skip(1);
    let offers: Vec<bool> = features
        .by_ref()
        .map(|text| text.contains(FEATURE))
        .collect();
    assert_eq!(offers, [false, true, false], "{}", wire.b.said);
    let places = ["<starttls ", BIDI, "<auth "].map(|text| wire.a.said.find(text).expect(text));
    assert!(places.is_sorted(), "{}", wire.a.said);
    assert!(wire.a.is_ready());
    assert_eq!(opened(&wire.b), [pair(B, A)]);
    assert_eq!(wire.b.stream.written_pairs(), [pair(B, A)]);
    assert_eq!((wire.a.hear(BACK), took(&wire.a)), (String::new(), 1));
    assert_eq!((wire.b.hear(MESSAGE), took(&wire.b)), (String::new(), 1));
}

/// XEP-0288 §2.2: nothing is sent before the peer is proven, nor for others.
#[test]
fn with_dialback_the_pair_opens_when_its_key_is_verified() {
    let mut wire = Wire::untrusting();
    let places = [BIDI, "<db:result "].map(|text| wire.a.said.find(text).expect(text));
    assert!(places.is_sorted(), "{}", wire.a.said);
    assert_eq!(opened(&wire.b), []);
    wire.verify();
    assert_eq!(opened(&wire.b), [pair(B, A)]);
    assert_eq!((wire.a.hear(BACK), took(&wire.a)), (String::new(), 1));
    let other = BACK.replace("b.example", "c.example");
    let said = wire.a.hear(&other);
    assert!(said.contains("<invalid-from "), "{said}");
    assert!(wire.a.is_over);
}

#[test]
fn a_server_whose_certificate_would_not_do_if_it_were_dialled_is_dialled_all_the_same() {
    let mut wire = wire(S2s::default());
    wire.b.judge.mistrusts = Some(Direction::Dialled);
    wire.run();
    assert!(wire.a.is_ready() && wire.a.said.contains(BIDI));
    assert_eq!(opened(&wire.b), []);
    // That b has something to say is b's to decide.
    assert_eq!((wire.a.hear(BACK), took(&wire.a)), (String::new(), 1));
}

#[test]
fn a_server_whose_certificate_would_not_be_let_in_is_not_asked_to_send() {
    let mut wire = wire(S2s::default());
    wire.a.judge.mistrusts = Some(Direction::Accepted);
    wire.run();
    assert!(
        wire.a.is_ready() && !wire.a.said.contains(BIDI),
        "{}",
        wire.a.said
    );
    assert_eq!(opened(&wire.b), []);
    let said = wire.a.hear(BACK);
    assert!(said.contains("<not-authorized "), "{said}");
}

/// XEP-0288 §2.1: STARTTLS comes first.
#[test]
fn what_was_agreed_on_in_the_clear_is_void_with_tls() {
    let s2s = S2s {
        require_encryption: false,
        ..lenient()
    };
    let mut b = End::accepting(s2s);
    assert!(!b.hear(HEADER).contains(FEATURE));
    b.hear(BIDI);
    b.hear("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    b.on(established(A));
    assert!(b.hear(HEADER).contains(FEATURE));
    let key = "<db:result from='a.example' to='b.example'>k</db:result>";
    assert!(b.hear(key).contains("type='valid'"));
    assert_eq!(opened(&b), []);
    // Late, but not too late: it holds for what is proven.
    b.hear(BIDI);
    assert_eq!(opened(&b), [pair(B, A)]);
}

/// RFC 6120 §4.4: who closes takes what is on its way.
#[test]
fn a_stream_is_idle_if_neither_sends_and_takes_what_comes_until_both_have_closed_it() {
    let mut wire = wire(S2s::default());
    wire.run();
    let due = wire.a.stream.deadline(&wire.a.settings).unwrap();
    wire.a
        .stream
        .note_written(wire.a.now + Duration::from_secs(1));
    wire.a.now = due;
    assert_eq!(wire.a.on(Event::Deadline), "", "we have written meanwhile");
    wire.a.now = wire.a.stream.deadline(&wire.a.settings).unwrap();
    assert_eq!(wire.a.now, due + Duration::from_secs(1));
    assert_eq!(wire.a.on(Event::Deadline), "</stream:stream>");
    let ended = |action: &Action| matches!(action, Action::LinkEnded(_));
    assert_eq!(wire.a.asked.iter().filter(|asked| ended(asked)).count(), 1);
    assert_eq!((wire.a.hear(BACK), took(&wire.a)), (String::new(), 1));
    assert!(!wire.a.is_over);
    assert_eq!(wire.b.hear("</stream:stream>"), "</stream:stream>");
    let closed =
        |action: &Action| matches!(action, Action::PairClosed(closed) if *closed == pair(B, A));
    assert!(wire.b.asked.iter().any(closed));
    wire.a.hear("</stream:stream>");
    assert!(wire.a.is_over);
}

/// XEP-0199 §4.3: nobody needs a stream for that.
#[test]
fn pings_and_their_answers_keep_no_stream_open() {
    let mut wire = wire(S2s::default());
    wire.run();
    let due = wire.a.stream.deadline(&wire.a.settings).unwrap();
    wire.a.now = wire.a.now + Duration::from_secs(1);
    let second = Duration::from_secs(1);
    let from = "from='b.example' to='a.example' id='1'";
    for aside in [
        format!("<iq type='get' {from}><ping xmlns='urn:xmpp:ping'/></iq>"),
        format!("<iq type='result' {from}/>"),
        format!("<iq type='error' {from}><error type='cancel'/></iq>"),
    ] {
        wire.a.hear(&aside);
        let still = wire.a.stream.deadline(&wire.a.settings);
        assert_eq!(still, Some(due), "{aside}");
    }
    wire.a.hear(BACK);
    let later = wire.a.stream.deadline(&wire.a.settings);
    assert_eq!(later, Some(due + second));
}
