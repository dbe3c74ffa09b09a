//! The documents in `tests/xml_corpus`: each is taken, or refused with the condition in its name.

use std::fs;
use std::path::Path;

use super::*;

/// Name and bytes of each document.
pub(super) fn documents() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/xml_corpus");
    let entries = fs::read_dir(&folder).expect("tests/xml_corpus is there");
    let mut documents: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .map(|path| {
            let name = path
                .file_stem()
                .expect("named")
                .to_string_lossy()
                .into_owned();
            (name, fs::read(&path).expect("readable"))
        })
        .collect();
    documents.sort();
    documents
}

/// `refused-CONDITION--what`.
fn expected_condition(name: &str) -> Option<&str> {
    let (condition, _) = name.strip_prefix("refused-")?.split_once("--")?;
    Some(condition)
}

/// RFC 6120 §11: one document for each form that must be refused.
#[test]
fn each_document_of_the_corpus_is_taken_or_refused_as_it_says() {
    let documents = documents();
    assert!(documents.len() > 90, "the corpus is not complete");
    for (name, bytes) in documents {
        let (items, error) = parse(&bytes);
        let condition = error.as_ref().map(XmlError::condition);
        assert_eq!(condition, expected_condition(&name), "{name}: {error:?}");
        assert_eq!(
            items.last() == Some(&Item::Close),
            error.is_none(),
            "{name}"
        );
        assert!(error.is_none_or(|error| !error.text().is_empty()), "{name}");
    }
}

fn refused(inside: &str, condition: &str) {
    let document = format!("{HEADER}<message>{inside}</message>");
    let (items, error) = parse(document.as_bytes());
    assert_eq!(items.len(), 1, "{inside}");
    assert_eq!(error.map(|e| e.condition()), Some(condition), "{inside}");
}

/// RFC 6120 §11.1.
#[test]
fn comments_are_restricted_xml() {
    refused("<!-- a -->", "restricted-xml");
}

/// RFC 6120 §11.1.
#[test]
fn processing_instructions_are_restricted_xml() {
    refused("<?a b?>", "restricted-xml");
    refused("<?a?>", "restricted-xml");
}

/// RFC 6120 §11.1.
#[test]
fn a_dtd_is_restricted_xml_before_any_of_it_is_read() {
    let (_, error) = parse(b"<!D");
    assert_eq!(error.map(|e| e.condition()), Some("restricted-xml"));
    let (_, error) = parse(b"<?xml version='1.0'?>\n<!DOCTYPE");
    assert_eq!(error.map(|e| e.condition()), Some("restricted-xml"));
    refused("<!DOCTYPE a>", "restricted-xml");
}

/// RFC 6120 §11.1.
#[test]
fn entities_but_the_five_are_restricted_xml() {
    refused("&nbsp;", "restricted-xml");
    refused("<a xmlns='urn:a' b='&a;'/>", "restricted-xml");
    let document = format!("{HEADER}<message>&lt;&gt;&amp;&apos;&quot;&#65;</message>");
    assert_eq!(parse(document.as_bytes()).1, None);
}

/// RFC 6120 §11.8.
#[test]
fn xml_1_1_is_a_bad_format() {
    let (_, error) = parse(b"<?xml version='1.1'?><a/>");
    assert_eq!(error.map(|e| e.condition()), Some("bad-format"));
}

/// RFC 6120 §11.6: U+FEFF is text, and no text may stand in front of the root.
#[test]
fn a_byte_order_mark_is_not_well_formed() {
    let (_, error) = parse(format!("\u{FEFF}{HEADER}").as_bytes());
    assert_eq!(error.map(|e| e.condition()), Some("not-well-formed"));
    let document = format!("{HEADER}<message>\u{FEFF}</message>");
    assert_eq!(parse(document.as_bytes()).1, None);
}

/// RFC 6120 §4.9.3.22, §11.6.
#[test]
fn bytes_that_are_not_utf_8_are_an_unsupported_encoding() {
    for bad in [
        &b"\xFF"[..],
        b"\xC0\x80",
        b"\xED\xA0\x80",
        b"\xE9 ",
        b"\xF0\x9Fx",
    ] {
        let mut document = format!("{HEADER}<message>").into_bytes();
        document.extend_from_slice(bad);
        let (items, error) = parse(&document);
        assert_eq!(
            (items.len(), error),
            (1, Some(XmlError::UnsupportedEncoding)),
            "{bad:?}"
        );
    }
}

/// Items in front of the broken bytes are not lost with them.
#[test]
fn what_came_before_broken_bytes_is_still_told() {
    let mut document = format!("{HEADER}<presence/>").into_bytes();
    document.push(0xFF);
    let (items, error) = parse(&document);
    assert_eq!(
        (items.len(), error),
        (2, Some(XmlError::UnsupportedEncoding))
    );
}

#[test]
fn a_namespace_declared_twice_is_not_well_formed() {
    refused("<a xmlns='urn:a' xmlns='urn:b'/>", "not-well-formed");
    refused(
        "text<a xmlns:a='urn:a' b='' xmlns:a='urn:b'/>",
        "not-well-formed",
    );
    refused(
        "<![CDATA[]]><![CDATA[]]><a xmlns='urn:a' xmlns='urn:b'/>",
        "not-well-formed",
    );
    refused(
        "<![CDATA[<b>]]><a xmlns='urn:a' xmlns='urn:b'/>",
        "not-well-formed",
    );
}

#[test]
fn a_prefix_for_a_reserved_namespace_is_not_well_formed() {
    refused(
        "<a xmlns:b='http://www.w3.org/XML/1998/namespace'/>",
        "not-well-formed",
    );
    refused(
        "<a xmlns:b='http://www.w3.org/2000/xmlns/'/>",
        "not-well-formed",
    );
}

#[test]
fn names_outside_ascii_are_a_bad_format() {
    refused("<\u{2070}x/>", "bad-format");
    refused("<x b\u{2070}=''/>", "bad-format");
}

#[test]
fn control_characters_in_a_namespace_are_a_bad_format() {
    refused("<b:x xmlns:b='&#10;'/>", "bad-format");
    refused("<x xmlns:b='&#9;' b:c=''/>", "bad-format");
}

/// RFC 6120 §11.7: only white space may stand between elements.
#[test]
fn text_between_elements_is_a_bad_format() {
    for text in ["x", "&#32;", "<![CDATA[ ]]>", ">"] {
        let (items, error) = parse(format!("{HEADER}<presence/> {text}<presence/>").as_bytes());
        assert_eq!(
            (items.len(), error.map(|e| e.condition())),
            (2, Some("bad-format")),
            "{text}"
        );
    }
}

/// RFC 6120 §4.8.5.
#[test]
fn a_prefix_on_a_stanza_is_a_bad_namespace_prefix() {
    for inside in [
        "<a:message xmlns:a='jabber:client'/>",
        "<a:iq xmlns:a='jabber:server'/>",
    ] {
        let (_, error) = parse(format!("{HEADER}{inside}").as_bytes());
        assert_eq!(error.map(|e| e.condition()), Some("bad-namespace-prefix"));
    }
    refused("<a:body xmlns:a='jabber:client'/>", "bad-namespace-prefix");
}

fn header(document: &str) -> super::super::Header {
    match parse(document.as_bytes()) {
        (items, None) => match items.into_iter().next() {
            Some(Item::Open(header)) => *header,
            other => panic!("{document}: {other:?}"),
        },
        (_, error) => panic!("{document}: {error:?}"),
    }
}

#[test]
fn a_header_tells_its_names_and_attributes() {
    let header = header(
        "<?xml version='1.0'?><s:stream from='a@b' to='c' id='d' version='1.0' xml:lang='en' x='y' \
         xmlns='jabber:server' xmlns:s='http://etherx.jabber.org/streams'>",
    );
    assert_eq!(
        (header.name.as_str(), header.prefix.as_deref()),
        ("stream", Some("s"))
    );
    assert_eq!(
        (header.ns.as_str(), header.content_ns.as_str()),
        (crate::ns::STREAM, "jabber:server")
    );
    let attributes = [
        &header.from,
        &header.to,
        &header.id,
        &header.version,
        &header.lang,
    ];
    let attributes = attributes.map(|a| a.as_deref().unwrap_or_default());
    assert_eq!(attributes, ["a@b", "c", "d", "1.0", "en"]);
}

/// RFC 6120 §4.8.1, §4.8.2, §4.8.5, §4.9.3.1, §4.9.3.2, §4.9.3.10.
#[test]
fn a_header_with_wrong_names_gets_the_condition_for_it() {
    const STREAM: &str = "http://etherx.jabber.org/streams";
    for (document, expected) in [
        (
            format!("<stream:stream xmlns='jabber:client' xmlns:stream='{STREAM}'>"),
            "ok",
        ),
        (
            format!("<s:stream xmlns='jabber:client' xmlns:s='{STREAM}'>"),
            "ok",
        ),
        (format!("<stream xmlns='{STREAM}'>"), "ok"),
        (format!("<stream:stream xmlns:stream='{STREAM}'>"), "ok"),
        (
            format!("<stream xmlns='jabber:client' xmlns:stream='{STREAM}'>"),
            "bad-namespace-prefix",
        ),
        (
            format!("<stream xmlns:stream='{STREAM}'>"),
            "bad-namespace-prefix",
        ),
        ("<stream xmlns='jabber:client'>".into(), "invalid-namespace"),
        ("<stream>".into(), "invalid-namespace"),
        (
            "<s:stream xmlns:s='urn:s' xmlns='jabber:client'>".into(),
            "invalid-namespace",
        ),
        (
            format!("<s:stream xmlns='jabber:server' xmlns:s='{STREAM}'>"),
            "invalid-namespace",
        ),
        (
            format!("<s:stream xmlns='urn:x' xmlns:s='{STREAM}'>"),
            "invalid-namespace",
        ),
        (
            format!("<s:stanza xmlns='jabber:client' xmlns:s='{STREAM}'>"),
            "bad-format",
        ),
    ] {
        let verdict = header(&document).check("jabber:client");
        assert_eq!(
            verdict.map_or_else(|e| e.condition(), |()| "ok"),
            expected,
            "{document}"
        );
    }
}
