//! Each bound holds to the byte, and floods end early.

use super::*;
use crate::limits;

fn outcome(bounds: Bounds, document: &str) -> (usize, &'static str) {
    let mut parser = Parser::new(bounds);
    let mut items = Vec::new();
    parser.feed(document.as_bytes());
    let error = drain(&mut parser, &mut items);
    (items.len(), error.map_or("ok", |e| e.condition()))
}

fn stanza_outcome(stanza: &str) -> &'static str {
    let document = format!("{HEADER}{stanza}");
    let (items, condition) = outcome(Bounds::of(256 * 1024), &document);
    assert!(
        items == 2 || condition != "ok",
        "the stanza is not complete"
    );
    condition
}

fn nested(open: impl Fn(usize) -> String, close: impl Fn(usize) -> String, depth: usize) -> String {
    let opened: String = (0..depth).map(&open).collect();
    let closed: String = (0..depth).rev().map(&close).collect();
    opened + &closed
}

#[test]
fn an_element_may_have_as_many_bytes_as_the_bound_and_no_more() {
    for filler in [
        "x".to_owned(),
        "<![CDATA[".to_owned() + &"x".repeat(50) + "]]>",
        "&amp;".to_owned(),
        "é".to_owned(),
    ] {
        let stanza = |n: usize| format!("<message>{}</message>", filler.repeat(n));
        let exact = stanza(40);
        let bounds = Bounds {
            element_bytes_max: exact.len().max(HEADER.len()),
            ..Bounds::of(0)
        };
        let fits = format!("{HEADER}{exact}{exact}");
        assert_eq!(outcome(bounds, &fits), (3, "ok"), "{filler}");
        let bounds = Bounds {
            element_bytes_max: exact.len() - 1,
            ..bounds
        };
        let mut parser = Parser::new(Bounds::of(1000));
        parser.feed(HEADER.as_bytes());
        assert!(matches!(parser.next(), Ok(Some(Item::Open(_)))));
        parser.set_bounds(bounds);
        parser.feed(exact.as_bytes());
        assert_eq!(
            parser.next().map_err(|e| e.condition()),
            Err("policy-violation"),
            "{filler}"
        );
    }
}

#[test]
fn cdata_is_bounded_although_it_does_not_end() {
    let mut parser = Parser::new(Bounds::UNAUTHENTICATED);
    parser.feed(format!("{HEADER}<message><![CDATA[").as_bytes());
    assert!(matches!(parser.next(), Ok(Some(Item::Open(_)))));
    let piece = [b'x'; 1000];
    let mut fed = 0;
    while parser.next() == Ok(None) {
        parser.feed(&piece);
        fed += piece.len();
        assert!(fed <= limits::UNAUTHENTICATED_ELEMENT_BYTES_MAX + piece.len());
    }
    assert_eq!(
        parser.next().map_err(|e| e.condition()),
        Err("policy-violation")
    );
}

#[test]
fn a_header_is_bounded_with_all_that_stands_before_it() {
    let max = limits::UNAUTHENTICATED_ELEMENT_BYTES_MAX;
    let blank = |n: usize| " ".repeat(n);
    for document in [
        blank(max + 1),
        format!("<?xml version='1.0'{}?>{HEADER}", blank(max)),
        format!("<stream:stream a='{}", blank(max)),
        format!("{}{HEADER}", blank(max)),
    ] {
        assert_eq!(
            outcome(Bounds::UNAUTHENTICATED, &document),
            (0, "policy-violation")
        );
    }
}

/// A client may send white space for months (RFC 6120 §4.6.1).
#[test]
fn white_space_between_elements_is_unbounded_and_takes_no_memory() {
    let mut parser = Parser::new(Bounds::UNAUTHENTICATED);
    parser.feed(HEADER.as_bytes());
    assert!(matches!(parser.next(), Ok(Some(Item::Open(_)))));
    for _ in 0..2000 {
        parser.feed(&[b' '; 1000]);
        assert_eq!(parser.next(), Ok(None));
        assert_eq!(parser.unread(), 0);
    }
    parser.feed(b"<presence/>");
    assert!(matches!(parser.next(), Ok(Some(Item::Top(_)))));
}

#[test]
fn depth_is_bounded() {
    let deep = |depth| nested(|_| "<a>".into(), |_| "</a>".into(), depth);
    // The root is one of them.
    assert_eq!(stanza_outcome(&deep(limits::XML_DEPTH_MAX - 1)), "ok");
    assert_eq!(
        stanza_outcome(&deep(limits::XML_DEPTH_MAX)),
        "policy-violation"
    );
}

#[test]
fn attributes_are_bounded() {
    let many = |n: usize| {
        format!(
            "<a{}/>",
            (0..n).map(|i| format!(" a{i}=''")).collect::<String>()
        )
    };
    assert_eq!(stanza_outcome(&many(limits::XML_ATTRIBUTES_MAX)), "ok");
    assert_eq!(
        stanza_outcome(&many(limits::XML_ATTRIBUTES_MAX + 1)),
        "policy-violation"
    );
    assert_eq!(stanza_outcome(&many(20_000)), "policy-violation");
}

#[test]
fn attribute_values_are_bounded() {
    let long = |n: usize| format!("<a b='{}'/>", "v".repeat(n));
    assert_eq!(stanza_outcome(&long(limits::XML_ATTRIBUTE_BYTES_MAX)), "ok");
    assert_eq!(
        stanza_outcome(&long(limits::XML_ATTRIBUTE_BYTES_MAX + 1)),
        "policy-violation"
    );
}

/// The header declares two.
#[test]
fn a_flood_of_namespaces_ends_at_the_32nd_declaration_in_scope() {
    let flat = |n: usize| {
        let declared: String = (0..n).map(|i| format!(" xmlns:a{i}='x'")).collect();
        format!("<message{declared}>{}</message>", "<b/>".repeat(1000))
    };
    assert_eq!(stanza_outcome(&flat(limits::XML_BINDINGS_MAX - 2)), "ok");
    assert_eq!(
        stanza_outcome(&flat(limits::XML_BINDINGS_MAX - 1)),
        "policy-violation"
    );
    assert_eq!(stanza_outcome(&flat(5000)), "policy-violation");
}

#[test]
fn nested_declarations_count_even_of_the_same_prefix() {
    for declaration in ["xmlns='urn:a'", "xmlns:a='urn:a'"] {
        let deep = |depth| nested(|_| format!("<a {declaration}>"), |_| "</a>".into(), depth);
        assert_eq!(stanza_outcome(&deep(limits::XML_BINDINGS_MAX - 2)), "ok");
        assert_eq!(
            stanza_outcome(&deep(limits::XML_BINDINGS_MAX - 1)),
            "policy-violation"
        );
    }
    // Side by side they are out of scope again.
    let many = format!("<message>{}</message>", "<a xmlns='urn:a'/>".repeat(1000));
    assert_eq!(stanza_outcome(&many), "ok");
}

/// Each of many small elements would copy long namespaces.
#[test]
fn long_namespaces_in_scope_are_bounded_together() {
    let long = |n: usize| {
        let name = "x".repeat(1000);
        let declared: String = (0..n).map(|i| format!(" xmlns:a{i}='{name}'")).collect();
        format!("<message{declared}/>")
    };
    assert_eq!(stanza_outcome(&long(3)), "ok");
    assert_eq!(stanza_outcome(&long(5)), "policy-violation");
    let too_long = format!(
        "<a xmlns='{}'/>",
        "x".repeat(limits::XML_NAME_BYTES_MAX + 1)
    );
    assert_eq!(stanza_outcome(&too_long), "policy-violation");
}

#[test]
fn many_elements_with_many_namespaces_in_scope_are_bounded() {
    let declared: String = (0..20).map(|i| format!(" xmlns:a{i}='x'")).collect();
    let stanza = |n: usize| format!("<message{declared}>{}</message>", "<b/>".repeat(n));
    assert_eq!(stanza_outcome(&stanza(2_900)), "ok");
    assert_eq!(stanza_outcome(&stanza(3_000)), "policy-violation");
    // The count is per stanza.
    let document = format!("{HEADER}{0}{0}", stanza(2_900));
    assert_eq!(outcome(Bounds::of(256 * 1024), &document), (3, "ok"));
}

/// Declaring a namespace at each use must not blow a stanza up.
#[test]
fn what_is_written_is_at_most_twice_the_bound() {
    let name = "x".repeat(1000);
    let pairs = "<a:x/><b:x/>".repeat(10_000);
    let stanza = format!("<message xmlns:a='a{name}' xmlns:b='b{name}'>{pairs}</message>");
    assert_eq!(stanza_outcome(&stanza), "policy-violation");
    let escaped = format!("<message><![CDATA[{}]]></message>", "<".repeat(200 * 1024));
    assert_eq!(stanza_outcome(&escaped), "policy-violation");
}

#[test]
fn bounds_can_be_raised_within_a_stream() {
    let mut parser = Parser::new(Bounds::UNAUTHENTICATED);
    parser.feed(HEADER.as_bytes());
    assert!(matches!(parser.next(), Ok(Some(Item::Open(_)))));
    parser.set_bounds(Bounds::of(100_000));
    parser.feed(format!("<message>{}</message>", "x".repeat(50_000)).as_bytes());
    match parser.next() {
        Ok(Some(Item::Top(top))) => assert_eq!(top.size, 50_000 + "<message></message>".len()),
        other => panic!("{other:?}"),
    }
}
