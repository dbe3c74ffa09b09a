//! The XML of a stream: the same items however the bytes are cut and wherever the parser rests,
//! memory within bounds, nothing after an error or the end, and all that is taken can be written
//! and read again.
//!
//! The first line of an input tells how the rest is cut, and if its first character is odd, the
//! parser rests in between.

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

/// What a document is: its items, and the error behind them.
type Outcome = (Vec<Item>, Option<XmlError>);

fn main() {
    run(|input| {
        let (pieces, document) = pieces(input);
        let whole = read_whole(document);
        // Pieces end up in the parser's buffer as they are: none is larger than an element.
        let small = pieces.iter().flat_map(|piece| piece.chunks(512));
        let rests = input.first().is_some_and(|first| first % 2 == 1);
        let peak = peak_of(|| read_again(small, rests, &whole));
        assert!(peak <= HEAP_MAX, "{peak} bytes were held");
        for item in &whole.0 {
            if let Item::Top(top) = item {
                check_written(top);
            }
        }
    });
}

fn read_whole(document: &[u8]) -> Outcome {
    let mut parser = Parser::new(BOUNDS);
    parser.feed(document);
    let mut items = Vec::new();
    let error = loop {
        match parser.next() {
            Ok(Some(item)) => items.push(item),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    match &error {
        Some(error) => check_failed(&mut parser, error),
        None => check_unread(&parser),
    }
    let is_open = |item: &Item| matches!(item, Item::Open(_));
    let opens = items.iter().filter(|item| is_open(item)).count();
    let close = items.iter().position(|item| *item == Item::Close);
    assert!(
        items.first().is_none_or(is_open) && opens <= 1,
        "a second document"
    );
    assert!(
        close.is_none_or(|at| at + 1 == items.len()),
        "something comes after the end"
    );
    if close.is_some() {
        parser.feed(HEADER);
        assert_eq!(parser.next(), Ok(None), "something comes after the end");
        assert_eq!(parser.unread(), 0, "bytes are kept after the end");
        assert!(!parser.can_rest(), "an ended stream rests");
    }
    (items, error)
}

/// Reads the document in pieces, with another parser wherever that may be if it `rests`. Items are
/// dropped as soon as they are compared, so that memory held is the parser's.
fn read_again<'a>(pieces: impl Iterator<Item = &'a [u8]>, rests: bool, whole: &Outcome) {
    let mut parser = Parser::new(BOUNDS);
    let mut expected = whole.0.iter();
    for piece in pieces {
        parser.feed(piece);
        loop {
            match parser.next() {
                Ok(Some(item)) => {
                    assert_eq!(Some(&item), expected.next(), "cuts or rests change an item");
                }
                Ok(None) => break,
                Err(error) => {
                    // Texts may quote what the library has seen, which is less of a whole tag.
                    assert_eq!(
                        Some(error.condition()),
                        whole.1.as_ref().map(XmlError::condition),
                        "cuts or rests change the error"
                    );
                    assert_eq!(expected.next(), None, "cuts or rests lose an item");
                    return check_failed(&mut parser, &error);
                }
            }
        }
        check_unread(&parser);
        if rests && parser.can_rest() {
            parser = Parser::resumed(parser.bounds());
        }
    }
    assert_eq!(
        (expected.next(), None),
        (None, whole.1.as_ref()),
        "cuts or rests lose something"
    );
}

/// A code point whose end is missing is not yet the library's, nor counted by the bound.
fn check_unread(parser: &Parser) {
    let unread = parser.unread();
    assert!(
        unread <= BOUNDS.element_bytes_max + 3,
        "{unread} bytes are kept"
    );
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
