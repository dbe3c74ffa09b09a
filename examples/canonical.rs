//! Reads a stream document on stdin and prints what stanzad makes of it: each top-level element in
//! its canonical form on a line of its own, or `error CONDITION` where the stream would be closed.
//!
//! `tests/interop` compares these lines, read by expat, with what expat reads in the document.
//! LF in text is printed as `&#10;`, so that an element stays on its line.

use std::io::{self, Read, Write};

use stanzad::xml::{Bounds, Item, Parser};

fn main() -> io::Result<()> {
    let mut document = Vec::new();
    io::stdin().read_to_end(&mut document)?;
    let mut out = io::stdout().lock();
    let mut parser = Parser::new(Bounds::of(256 * 1024));
    parser.feed(&document);
    loop {
        match parser.next() {
            Ok(Some(Item::Top(top))) => {
                let mut element = Vec::new();
                top.write(&mut element);
                for piece in element.split_inclusive(|byte| *byte == b'\n') {
                    match piece.strip_suffix(b"\n") {
                        Some(line) => {
                            out.write_all(line)?;
                            out.write_all(b"&#10;")?;
                        }
                        None => out.write_all(piece)?,
                    }
                }
                out.write_all(b"\n")?;
            }
            Ok(Some(Item::Open(_))) => {}
            Ok(Some(Item::Close) | None) => return Ok(()),
            Err(error) => return writeln!(out, "error {}", error.condition()),
        }
    }
}
