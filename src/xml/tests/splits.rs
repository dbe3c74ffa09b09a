//! However the bytes are cut, the items are the same; and what `unread`, `restart` and errors promise.

use proptest::prelude::*;

use super::corpus::documents;
use super::*;

#[test]
fn one_cut_at_any_place_changes_nothing() {
    for (name, bytes) in documents() {
        let whole = parse(&bytes);
        for cut in 0..=bytes.len() {
            let (left, right) = bytes.split_at(cut);
            assert_eq!(parse_pieces([left, right]), whole, "{name} cut at {cut}");
        }
    }
}

#[test]
fn single_bytes_change_nothing() {
    for (name, bytes) in documents() {
        assert_eq!(parse_pieces(bytes.chunks(1)), parse(&bytes), "{name}");
    }
}

/// Between any two stanzas a new parser can take the place of one that was given back.
#[test]
fn a_resumed_parser_goes_on_where_the_first_one_rested() {
    let mut rests = 0;
    for (name, bytes) in documents() {
        let mut parser = Parser::new(Bounds::of(256 * 1024));
        let (mut items, mut error) = (Vec::new(), None);
        for byte in bytes.chunks(1) {
            parser.feed(byte);
            error = drain(&mut parser, &mut items);
            if parser.can_rest() {
                parser = Parser::resumed(parser.bounds());
                rests += 1;
            }
        }
        assert_eq!((items, error), parse(&bytes), "{name}");
    }
    assert!(rests > 100, "{rests}");
}

#[test]
fn a_parser_rests_between_elements_of_a_usual_stream_alone() {
    let can_rest = |document: &str| {
        let mut parser = Parser::new(Bounds::of(256 * 1024));
        parser.feed(document.as_bytes());
        let _ = drain(&mut parser, &mut Vec::new());
        parser.can_rest()
    };
    assert!(can_rest(HEADER));
    assert!(can_rest(&format!("{HEADER}<presence/>")));
    let lang = HEADER.replace(
        "<stream:stream",
        "<stream:stream xml:lang='en' to='a.example'",
    );
    assert!(can_rest(&lang));
    for (part, other) in [
        ("stream:stream", "s:stream"),
        ("xmlns=", "xmlns:more='urn:m' xmlns="),
        ("jabber:client", "jabber:server"),
        ("http://etherx", "https://etherx"),
    ] {
        let header = HEADER.replace(part, other).replace(
            "s:stream xmlns='jabber:client' xmlns:stream",
            "s:stream xmlns='jabber:client' xmlns:s",
        );
        assert!(!can_rest(&header), "{header}");
    }
    assert!(!can_rest(&HEADER.replace('>', "/>")), "the stream is over");
    for begun in [
        "<",
        "<presence>",
        "<presence/></stream:stream>",
        "<a b='<'/>",
        "x",
    ] {
        assert!(!can_rest(&format!("{HEADER}{begun}")), "{begun}");
    }
}

#[test]
fn a_code_point_cut_in_two_is_not_lost() {
    let document = format!("{HEADER}<message><body>xé漢😀z</body></message>");
    let (items, error) = parse_pieces(document.as_bytes().chunks(1));
    assert_eq!(error, None);
    match items.last() {
        Some(Item::Top(top)) => {
            let body = top.payload.find_element("", "body").expect("a body");
            assert_eq!(body.text(), "xé漢😀z");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn waiting_for_bytes_is_no_end_of_the_stream() {
    let mut parser = Parser::new(Bounds::UNAUTHENTICATED);
    for piece in [
        "",
        "<stream:stream xmlns:stream='urn:s' ",
        "",
        "",
        ">",
        "",
        "<a",
        "",
        "/>",
    ] {
        parser.feed(piece.as_bytes());
        for _ in 0..3 {
            assert!(parser.next().is_ok(), "{piece}");
        }
    }
    parser.feed(b"</stream:stream>");
    assert_eq!(parser.next(), Ok(Some(Item::Close)));
    parser.feed(b"anything");
    assert_eq!(parser.next(), Ok(None));
    assert_eq!(parser.unread(), 0);
}

/// The library would go on in half a state after an error of its lexer.
#[test]
fn after_an_error_nothing_but_that_error_is_told() {
    let mut parser = Parser::new(Bounds::UNAUTHENTICATED);
    parser.feed(HEADER.as_bytes());
    parser.feed(b"<a b='<' c=''/><presence/>");
    assert!(matches!(parser.next(), Ok(Some(Item::Open(_)))));
    let first = parser.next();
    assert!(first.is_err());
    parser.feed(b"<presence/>");
    assert_eq!(parser.next(), first);
    assert_eq!(parser.next(), first);
}

#[test]
fn unread_bytes_are_counted_but_for_white_space() {
    let mut parser = Parser::new(Bounds::UNAUTHENTICATED);
    parser.feed(format!(" {HEADER} <a/> \n<b/>").as_bytes());
    assert!(matches!(parser.next(), Ok(Some(Item::Open(_)))));
    assert_eq!(parser.unread(), "<a/> \n<b/>".len());
    assert!(matches!(parser.next(), Ok(Some(Item::Top(_)))));
    assert_eq!(parser.unread(), "<b/>".len());
    assert!(matches!(parser.next(), Ok(Some(Item::Top(_)))));
    assert_eq!(parser.unread(), 0);
    parser.feed(b" \n ");
    assert_eq!(parser.unread(), 0);
    parser.feed(b"<abc d='");
    assert_eq!(parser.unread(), 8);
    assert_eq!(parser.next(), Ok(None));
    assert_eq!(
        parser.unread(),
        8,
        "a begun element is unread to its first byte"
    );
    parser.feed("é'".as_bytes());
    assert_eq!(parser.next(), Ok(None));
    assert_eq!(parser.unread(), 11);
}

/// RFC 6120 §4.3.3; white space after the last element of the old stream is that stream's.
#[test]
fn a_new_document_begins_with_the_unread_bytes() {
    let mut parser = Parser::new(Bounds::UNAUTHENTICATED);
    parser.feed(format!("<?xml version='1.0'?>{HEADER}<auth xmlns='urn:a'/>").as_bytes());
    parser.feed(format!("\n<?xml version='1.0'?>{HEADER}<b xmlns='urn:b'/>").as_bytes());
    assert!(matches!(parser.next(), Ok(Some(Item::Open(_)))));
    assert!(matches!(parser.next(), Ok(Some(Item::Top(_)))));
    parser.restart();
    assert!(matches!(parser.next(), Ok(Some(Item::Open(_)))));
    match parser.next() {
        Ok(Some(Item::Top(top))) => assert_eq!((top.name.as_str(), top.size), ("b", 18)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_parser_moves_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Parser>();
}

/// A document of the corpus with some bytes changed, and where to cut it.
fn damaged() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let documents = documents()
        .into_iter()
        .map(|(_, bytes)| bytes)
        .collect::<Vec<_>>();
    let change = (
        any::<prop::sample::Index>(),
        prop::sample::select(&b"<>/&;'\"=![]-? ax:\0\r\xC3\xA9"[..]),
    );
    (
        prop::sample::select(documents),
        prop::collection::vec(change, 0..3),
        prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    )
        .prop_map(|(mut bytes, changes, cuts)| {
            for (index, byte) in changes {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.sort_unstable();
            (bytes, cuts)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_cuts_of_damaged_documents_change_nothing((bytes, cuts) in damaged()) {
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts {
            pieces.push(&bytes[from..cut]);
            from = cut;
        }
        pieces.push(&bytes[from..]);
        prop_assert_eq!(parse_pieces(pieces), parse(&bytes));
    }
}
