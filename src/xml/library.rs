//! The XML library: how it is configured, and what its errors mean to a stream.

use std::borrow::Cow;

use ::xml::reader::{EventReader, ParserConfig};

use super::error::{DTD, ENTITY, XmlError};
use super::feed::Feed;
use crate::limits;

/// The library's configuration. Its own bounds are as high as ours can be set; ours are checked
/// here, because bounds change within a document.
pub(super) fn reader(feed: Feed) -> EventReader<Feed> {
    let mut config = ParserConfig::new()
        .ignore_end_of_stream(true)
        .whitespace_to_characters(true)
        .cdata_to_characters(true)
        .coalesce_characters(true)
        .ignore_comments(false);
    // No sniffing of byte order marks, no other encodings (RFC 6120 §11.6).
    config.override_encoding = "utf-8".parse().ok();
    config.allow_multiple_root_elements = false;
    config.max_entity_expansion_depth = 0;
    config.max_attributes = limits::XML_ATTRIBUTES_MAX;
    EventReader::new_with_config(feed, config)
}

/// The library tells kinds of syntax errors apart by their texts alone.
pub(super) fn syntax_error(message: &str) -> XmlError {
    const TEXT_CHARS_MAX: usize = 200;
    let begins = |start: &str| message.starts_with(start);
    if begins("Unexpected entity: ") {
        ENTITY
    } else if begins("Unexpected token: <!DOCTYPE") {
        DTD
    } else if begins("Unsupported encoding: ") || begins("Declared encoding ") {
        XmlError::UnsupportedEncoding
    } else if begins("This document is larger") {
        XmlError::TooBig("attributes of one element")
    } else if begins("Unexpected closing tag") {
        // The text names namespaces, of which the library does not see all (`shortcut`).
        XmlError::NotWellFormed("An end tag does not match its start tag".into())
    } else {
        // The text quotes the peer and goes into logs.
        let shown = |c: char| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        };
        let clipped: String = message.chars().take(TEXT_CHARS_MAX).map(shown).collect();
        XmlError::NotWellFormed(Cow::Owned(clipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_quotes_the_peer_is_short_and_has_no_control_characters() {
        let error = syntax_error(&format!(
            "Unexpected token: \n\u{1b}[2J{}",
            "x".repeat(1000)
        ));
        let text = error.text();
        assert!(
            !text.contains(char::is_control) && text.chars().count() == 200,
            "{text}"
        );
    }
}
