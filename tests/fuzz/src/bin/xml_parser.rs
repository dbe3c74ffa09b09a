//! The XML of a stream: the same items however the bytes are cut and wherever the parser rests,
//! memory within bounds, nothing after an error or the end, and all that is taken can be written
//! and read again.

use stanzad::ns;
use stanzad::xml::{Bounds, Item, Parser, Top, XmlError};
use stanzad_fuzz::{peak_of, pieces, run};

/// Small, so that short inputs reach every bound.
const BOUNDS: Bounds = Bounds {
    element_bytes_max: 2048,
    depth_max: 8,
    attributes_max: 6,
    bindings_max: 7,
    name_bytes_max: 48,
    attribute_bytes_max: 256,
};

/// What the writer makes has no prefixes from outside: its namespaces are declared anew at each
/// use, and references are longer than what they stand for.
const BOUNDS_OF_WRITTEN: Bounds = Bounds {
    element_bytes_max: 64 * 1024,
    depth_max: BOUNDS.depth_max,
    attributes_max: BOUNDS.attributes_max,
    bindings_max: 200,
    name_bytes_max: 512,
    attribute_bytes_max: 4096,
};

/// Bytes that a parser may hold at once while it reads one piece: the piece, the element as read,
/// as parsed and as written (twice), each in a buffer that has doubled; and what the library
/// needs for itself, whatever comes.
const HEAP_MAX: usize = 12 * BOUNDS.element_bytes_max + 32 * 1024;

const HEADER: &[u8] = b"<stream:stream xmlns='jabber:client' \
                        xmlns:stream='http://etherx.jabber.org/streams'>";

fn main() {
    run(|input| {
        let (pieces, document) = pieces(input);
        let whole = outcome(&[document], false);
        assert_eq!(outcome(&pieces, false), whole, "cuts change what is read");
        assert_eq!(outcome(&pieces, true), whole, "a rest changes what is read");
        // Pieces end up in the parser's buffer as they are: none is larger than an element.
        let small: Vec<&[u8]> = pieces.iter().flat_map(|piece| piece.chunks(512)).collect();
        let peak = peak_of(|| read_only(&small));
        assert!(peak <= HEAP_MAX, "{peak} bytes were held");
        for item in &whole.0 {
            if let Item::Top(top) = item {
                check_written(top);
            }
        }
    });
}

/// All items, and the error behind them.
fn outcome(pieces: &[&[u8]], rests: bool) -> (Vec<Item>, Option<XmlError>) {
    let mut parser = Parser::new(BOUNDS);
    let mut items = Vec::new();
    for piece in pieces {
        parser.feed(piece);
        loop {
            match parser.next() {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => {
                    check_failed(&mut parser, &error);
                    return (items, Some(error));
                }
            }
        }
        // A code point whose end is missing is not yet the library's, nor counted by the bound.
        assert!(
            parser.unread() <= BOUNDS.element_bytes_max + 3,
            "too much is kept"
        );
        if rests && parser.can_rest() {
            parser = Parser::resumed(parser.bounds());
        }
    }
    if items.last() == Some(&Item::Close) {
        parser.feed(HEADER);
        assert_eq!(parser.next(), Ok(None), "something comes after the end");
        assert_eq!(parser.unread(), 0, "bytes are kept after the end");
        assert!(!parser.can_rest(), "an ended stream rests");
    }
    let closes = items.iter().filter(|item| **item == Item::Close).count();
    let opens = items
        .iter()
        .filter(|item| matches!(item, Item::Open(_)))
        .count();
    assert!(closes <= opens && opens <= 1, "more than one document");
    (items, None)
}

fn check_failed(parser: &mut Parser, error: &XmlError) {
    parser.feed(HEADER);
    parser.feed(b"<presence/></stream:stream>");
    for _ in 0..2 {
        assert_eq!(parser.next().as_ref(), Err(error), "an error is forgotten");
    }
    assert!(!parser.can_rest(), "a broken stream rests");
    assert!(!error.condition().is_empty() && !error.text().is_empty());
}

fn read_only(pieces: &[&[u8]]) {
    let mut parser = Parser::new(BOUNDS);
    for piece in pieces {
        parser.feed(piece);
        while let Ok(Some(_)) = parser.next() {}
    }
}

/// What was written is read again as the same, and written again as the same bytes.
fn check_written(top: &Top) {
    let mut written = Vec::new();
    top.write(&mut written);
    let mut parser = Parser::new(BOUNDS_OF_WRITTEN);
    parser.feed(HEADER);
    parser.feed(&written);
    assert!(matches!(parser.next(), Ok(Some(Item::Open(_)))));
    let again = match parser.next() {
        Ok(Some(Item::Top(again))) => again,
        other => panic!("{:?} became {other:?}", String::from_utf8_lossy(&written)),
    };
    assert_eq!(parser.next(), Ok(None));
    assert_eq!(parser.unread(), 0);
    // Both content namespaces are written as the one of the stream (RFC 6120 §4.8.3).
    let ns = match top.ns.as_str() {
        ns::SERVER => ns::CLIENT,
        ns => ns,
    };
    assert_eq!((again.ns.as_str(), &again.name), (ns, &top.name));
    assert_eq!(again.attributes, top.attributes);
    assert_eq!(again.payload.nodes(), top.payload.nodes());
    let mut once_more = Vec::new();
    again.write(&mut once_more);
    assert_eq!(once_more, written, "the canonical form is not its own");
}
