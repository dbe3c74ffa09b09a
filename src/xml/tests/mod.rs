//! Claims about whole streams: what is refused, what bounds hold, that cuts do not matter, and
//! that a second parser reads in what we write what came in.

mod bounds;
mod corpus;
mod reading;
mod splits;

use super::{Bounds, Item, Parser, XmlError};

pub(super) const HEADER: &str = "<stream:stream xmlns='jabber:client' \
                          xmlns:stream='http://etherx.jabber.org/streams'>";

/// Items until the parser wants more, then how it ended.
pub(super) type Outcome = (Vec<Item>, Option<XmlError>);

pub(super) fn drain(parser: &mut Parser, items: &mut Vec<Item>) -> Option<XmlError> {
    loop {
        match parser.next() {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return None,
            Err(error) => return Some(error),
        }
    }
}

/// Parses pieces that are fed one after the other.
pub(super) fn parse_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut parser = Parser::new(Bounds::of(256 * 1024));
    let mut items = Vec::new();
    let mut error = None;
    for piece in pieces {
        parser.feed(piece);
        error = drain(&mut parser, &mut items);
    }
    (items, error)
}

pub(super) fn parse(document: &[u8]) -> Outcome {
    parse_pieces([document])
}
