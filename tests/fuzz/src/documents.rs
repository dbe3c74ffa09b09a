//! What a server has written on a connection: XML documents, one behind the other.

use stanzad::xml::{Bounds, Item, Parser};

const END: &str = "</stream:stream>";

/// What they hold.
///
/// # Panics
/// One of them is not well-formed as far as it goes, an element is written half, or something follows
/// the end of a stream.
pub fn read_documents(said: &str) -> Vec<Item> {
    if let Some(at) = said.find(END) {
        let behind = &said[at + END.len()..];
        assert_eq!(behind, "", "something is written after the end: {said}");
    }
    let mut items = Vec::new();
    // What is written of a peer's has no processing instruction, so each of these begins a document.
    for document in said.split("<?xml ").skip(1) {
        let mut parser = Parser::new(Bounds::of(16 << 20));
        parser.feed(b"<?xml ");
        parser.feed(document.as_bytes());
        loop {
            match parser.next() {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => panic!("{error} is written: {said}"),
            }
        }
        assert_eq!(parser.unread(), 0, "half an element is written: {said}");
    }
    items
}
