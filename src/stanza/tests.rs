//! Claims about stanzas.

use super::*;
use crate::xml::{Bounds, Item, Parser};

fn top(xml: &str) -> Top {
    let mut parser = Parser::new(Bounds::of(10_000));
    parser.feed(
        b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
    );
    parser.feed(xml.as_bytes());
    assert!(matches!(parser.next(), Ok(Some(Item::Open(_)))));
    match parser.next() {
        Ok(Some(Item::Top(top))) => *top,
        other => panic!("{xml}: {other:?}"),
    }
}

fn stanza(xml: &str) -> Stanza {
    Stanza::from_top(top(xml)).unwrap_or_else(|bad| panic!("{xml}: {bad}"))
}

fn written(stanza: &Stanza) -> String {
    let mut out = Vec::new();
    stanza.write(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

fn answer(xml: &str) -> String {
    let bad = Stanza::from_top(top(xml)).expect_err("refused");
    match bad.answer() {
        Answer::StreamError(condition) => condition.name().to_owned(),
        Answer::Stanza(stanza) => written(&stanza),
        Answer::Nothing => String::new(),
    }
}

#[test]
fn attributes_are_understood_and_written_in_one_order() {
    let message = stanza(
        "<message type='chat' xml:lang='en' id='1&amp;' to='romeo@example.org' odd='x' \
         from='juliet@example.org/a&apos;b'>\n <body>hi</body></message>",
    );
    assert_eq!(message.type_, Type::Chat);
    assert_eq!(
        written(&message),
        "<message from='juliet@example.org/a&apos;b' to='romeo@example.org' id='1&amp;' \
         type='chat' xml:lang='en'>\n <body>hi</body></message>"
    );
}

#[test]
fn a_written_stanza_is_the_same_stanza_when_read_again() {
    for xml in [
        "<message to='a@example.org'><body>hi</body></message>",
        "<presence/>",
        "<presence to='a@example.org' type='subscribe'/>",
        "<iq id='7' type='get'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq id='7' type='result'/>",
    ] {
        let first = stanza(xml);
        assert_eq!(stanza(&written(&first)), first, "{xml}");
        assert_eq!(written(&first), xml, "{xml}");
        assert_eq!(first.to_element().to_bytes(), xml.as_bytes(), "{xml}");
        let mut long_form = first.clone();
        long_form.payload = Payload::from_elements(&[Element::new("urn:x", "x")]);
        assert_eq!(long_form.size(), written(&long_form).len(), "{xml}");
    }
}

/// RFC 6121 §5.2.2, §4.7.1; RFC 6120 §8.2.3.
#[test]
fn each_type_belongs_to_its_kind() {
    use Type::*;
    let all = [
        (Kind::Message, vec![Chat, Groupchat, Headline, Error]),
        (
            Kind::Presence,
            vec![
                Unavailable,
                Subscribe,
                Subscribed,
                Unsubscribe,
                Unsubscribed,
                Probe,
                Error,
            ],
        ),
        (Kind::Iq, vec![Get, Set, Result, Error]),
    ];
    for (kind, types) in &all {
        for type_ in types {
            assert_eq!(Type::parse(*kind, Some(type_.as_str(*kind))), Some(*type_));
        }
        for (other, foreign) in &all {
            for type_ in foreign.iter().filter(|t| other != kind && **t != Error) {
                let parsed = Type::parse(*kind, Some(type_.as_str(*other)));
                assert_eq!(parsed, (*kind == Kind::Message).then_some(Normal));
                assert_eq!(type_.as_str(*kind), "");
            }
        }
    }
    assert_eq!(Type::parse(Kind::Message, None), Some(Normal));
    assert_eq!(Type::parse(Kind::Message, Some("normal")), Some(Normal));
    assert_eq!(Type::parse(Kind::Message, Some("other")), Some(Normal));
    assert_eq!(Type::parse(Kind::Presence, None), Some(Available));
    assert_eq!(Type::parse(Kind::Presence, Some("available")), None);
    assert_eq!(Type::parse(Kind::Iq, None), None);
}

/// RFC 6120 §8.3.1.
#[test]
fn an_error_goes_back_to_the_sender_without_the_payload() {
    let request = stanza(
        "<iq from='a@example.org/x' to='example.org' id='1' type='set'><q xmlns='urn:q'/></iq>",
    );
    let error = request
        .error(&Condition::Forbidden.into())
        .expect("a request is answered");
    assert_eq!(
        written(&error),
        "<iq from='example.org' to='a@example.org/x' id='1' type='error'><error type='auth'>\
         <forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    );
    assert_eq!(error.error(&Condition::Forbidden.into()), None);
    let result = request.reply(Type::Result, Payload::empty());
    assert_eq!(
        written(&result),
        "<iq from='example.org' to='a@example.org/x' id='1' type='result'/>"
    );
    assert_eq!(result.error(&Condition::Forbidden.into()), None);
}

/// RFC 6120 §8.3.3.8, §8.3.1: no malformed address in the error.
#[test]
fn a_malformed_recipient_is_answered_without_it() {
    let error = answer("<message from='a@example.org' to='b@@example.org' id='1'/>");
    assert!(
        error.starts_with("<message to='a@example.org' id='1' type='error'>"),
        "{error}"
    );
    assert!(error.contains("<jid-malformed "), "{error}");
}

/// RFC 6120 §4.9.3.9.
#[test]
fn a_malformed_sender_ends_the_stream() {
    assert_eq!(answer("<message from='a@@example.org'/>"), "invalid-from");
}

/// RFC 6120 §8.2.3.
#[test]
fn an_iq_against_its_rules_is_a_bad_request() {
    for xml in [
        "<iq id='1'><a xmlns='urn:a'/></iq>",
        "<iq id='1' type='subscribe'><a xmlns='urn:a'/></iq>",
        "<iq id='1' type='get'/>",
        "<iq id='1' type='set'>text</iq>",
        "<iq id='1' type='get'><a xmlns='urn:a'/><b xmlns='urn:b'/></iq>",
    ] {
        let error = answer(xml);
        assert!(error.starts_with("<iq id='1' type='error'>"), "{error}");
        assert!(error.contains("<bad-request "), "{error}");
    }
    assert!(
        answer("<iq type='get'><a xmlns='urn:a'/></iq>").starts_with("<iq id='' type='error'>")
    );
}

/// RFC 6121 §4.7.1.
#[test]
fn presence_of_an_unknown_type_is_a_bad_request() {
    assert!(answer("<presence type='invisible'/>").contains("<bad-request "));
}

/// RFC 6120 §8.3.1, §8.2.3.
#[test]
fn a_bad_error_or_result_is_never_answered() {
    for xml in [
        "<message type='error' to='@'/>",
        "<iq type='error' to='@' id='1'/>",
        "<iq type='result' to='@' id='1'/>",
        "<iq type='result' id='1'><a xmlns='urn:a'/><b xmlns='urn:b'/></iq>",
        "<iq type='result'/>",
    ] {
        assert_eq!(answer(xml), "", "{xml}");
    }
}

/// RFC 6120 §4.9.3.24.
#[test]
fn another_element_ends_the_stream() {
    assert_eq!(answer("<pubsub/>"), "unsupported-stanza-type");
}
