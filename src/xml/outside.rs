//! What may stand outside of a stream's elements: before the root, and between its children.
//!
//! These are judgments over the bytes ahead, white space already passed over; the XML library
//! sees only what they let through. They need three bytes, six for an XML declaration.

use super::error::{COMMENT, DTD, PROCESSING_INSTRUCTION, TEXT_BETWEEN, XmlError, not_well_formed};

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    /// An XML declaration.
    Declaration,
    /// A start or end tag.
    Tag,
    /// More bytes are needed to tell.
    Unclear,
}

/// Judges what stands in front of the root; `declaration` if an XML declaration may stand here.
pub(super) fn before_root(ahead: &[u8], declaration: bool) -> Result<Ahead, XmlError> {
    const DECLARATION: &[u8] = b"<?xml";
    match ahead {
        // UTF-16 without a byte order mark; one with a mark is no UTF-8 either.
        [0, ..] | [b'<', 0, ..] => Err(XmlError::UnsupportedEncoding),
        [b'<', b'?', ..] if declaration => match ahead {
            [_, _, b'x', b'm', b'l', b' ' | b'\t' | b'\r' | b'\n', ..] => Ok(Ahead::Declaration),
            begun if DECLARATION.starts_with(begun) => Ok(Ahead::Unclear),
            _ => Err(PROCESSING_INSTRUCTION),
        },
        [] | [b'<', b'?' | b'!', ..] | [b'<'] => markup(ahead),
        [b'<', ..] => Ok(Ahead::Tag),
        _ => Err(not_well_formed("Text in front of the stream header")),
    }
}

/// Judges what stands between children of the root (RFC 6120 §11.7).
pub(super) fn between(ahead: &[u8]) -> Result<Ahead, XmlError> {
    match ahead {
        [b'<', b'!', b'[', ..] => Err(TEXT_BETWEEN),
        [] | [b'<', b'?' | b'!', ..] | [b'<'] => markup(ahead),
        [b'<', ..] => Ok(Ahead::Tag),
        _ => Err(TEXT_BETWEEN),
    }
}

/// RFC 6120 §11.1.
fn markup(ahead: &[u8]) -> Result<Ahead, XmlError> {
    match ahead {
        [b'<', b'?', ..] => Err(PROCESSING_INSTRUCTION),
        [b'<', b'!', b'-', ..] => Err(COMMENT),
        [b'<', b'!', b'D', ..] => Err(DTD),
        [b'<', b'!', _, ..] => Err(not_well_formed("Unknown markup")),
        _ => Ok(Ahead::Unclear),
    }
}

/// Bytes of white space in front.
pub(super) fn blank_len(bytes: &[u8]) -> usize {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    bytes.iter().position(is_text).unwrap_or(bytes.len())
}
