//! Writing XML that every parser reads alike: escapes, start tags, and undoing both for our own bytes.

use crate::ns;

/// Appends character data.
///
/// `&`, `<`, `>` and CR become references: a bare CR would be read back as LF (XML 1.0 §2.11).
/// Characters that XML 1.0 §2.2 forbids become U+FFFD, so that no string can break a stream.
pub fn escape_text(out: &mut Vec<u8>, text: &str) {
    escape(out, text.as_bytes(), &TEXT);
}

/// Appends an attribute value; safe between single and between double quotes.
///
/// TAB, LF and CR become references, since XML 1.0 §3.3.3 turns the bare ones into spaces.
/// Characters that XML 1.0 §2.2 forbids become U+FFFD.
pub fn escape_attribute(out: &mut Vec<u8>, value: &str) {
    escape(out, value.as_bytes(), &ATTRIBUTE);
}

/// True if `escape_attribute` writes something else than `value`.
pub(super) fn is_escaped(value: &str) -> bool {
    value
        .bytes()
        .any(|byte| ATTRIBUTE[usize::from(byte)] && byte != 0xEF)
}

/// Appends ` name='value'`. The name is one of ours and is not escaped.
pub fn attribute(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    escape_attribute(out, value);
    out.push(b'\'');
}

/// One attribute as the writer sees it: namespace, local name, value.
pub(super) type AttributeRef<'a> = (Option<&'a str>, &'a str, &'a str);

/// Appends a start tag without its end (`>` or `/>`), so that an empty element can be closed short.
///
/// `xmlns` is the default namespace to declare, if it differs from the parent's. Elements never
/// get a prefix. An attribute in a foreign namespace cannot do without one (Namespaces in
/// XML 1.0 §6.2: the default namespace does not apply to attributes), so its prefix is declared
/// on this very element, as `n` and the place of the first attribute with that namespace.
pub(super) fn open_tag<'a>(
    out: &mut Vec<u8>,
    name: &str,
    xmlns: Option<&str>,
    attributes: impl Iterator<Item = AttributeRef<'a>> + Clone,
) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    if let Some(xmlns) = xmlns {
        attribute(out, "xmlns", xmlns);
    }
    for (index, (namespace, local, value)) in attributes.clone().enumerate() {
        match namespace {
            None => attribute(out, local, value),
            Some(ns::XML) => {
                out.extend_from_slice(b" xml:");
                finish_attribute(out, local, value);
            }
            Some(foreign) => {
                let place = attributes
                    .clone()
                    .position(|(other, _, _)| other == Some(foreign))
                    .unwrap_or(index);
                if place == index {
                    attribute(out, &format!("xmlns:n{place}"), foreign);
                }
                out.extend_from_slice(format!(" n{place}:").as_bytes());
                finish_attribute(out, local, value);
            }
        }
    }
}

fn finish_attribute(out: &mut Vec<u8>, local: &str, value: &str) {
    out.extend_from_slice(local.as_bytes());
    out.extend_from_slice(b"='");
    escape_attribute(out, value);
    out.push(b'\'');
}

/// Appends character data that `plain_text_len` has measured.
pub(super) fn escape_plain_text(out: &mut Vec<u8>, text: &[u8]) {
    escape(out, text, &TEXT);
}

/// How many bytes in front are text that means itself: no markup or reference, no `]` that could
/// begin `]]>`, no CR, which would be read as LF, no character that XML 1.0 §2.2 forbids.
pub(super) fn plain_text_len(utf8: &[u8]) -> usize {
    let mut from = 0;
    while let Some(rest) = utf8.get(from..) {
        let Some(at) = rest.iter().position(|byte| NOT_PLAIN[usize::from(*byte)]) else {
            return utf8.len();
        };
        match rest.get(at..at + 2) {
            Some([0xEF, second]) if *second != 0xBF => from += at + 2,
            _ => return from + at,
        }
    }
    utf8.len()
}

/// Undoes `escape_text` and `escape_attribute`. Other references are left as they are.
pub(super) fn unescape(escaped: &[u8]) -> String {
    let mut plain = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.iter().position(|byte| *byte == b'&') {
        let (before, reference) = rest.split_at(at);
        plain.extend_from_slice(before);
        let known = REFERENCES
            .iter()
            .find(|(written, _)| reference.starts_with(written.as_bytes()));
        let (byte, used) = known.map_or((b'&', 1), |(written, byte)| (*byte, written.len()));
        plain.push(byte);
        rest = reference.get(used..).unwrap_or_default();
    }
    plain.extend_from_slice(rest);
    String::from_utf8(plain)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

const REFERENCES: [(&str, u8); 8] = [
    ("&amp;", b'&'),
    ("&lt;", b'<'),
    ("&gt;", b'>'),
    ("&apos;", b'\''),
    ("&quot;", b'"'),
    ("&#9;", b'\t'),
    ("&#10;", b'\n'),
    ("&#13;", b'\r'),
];

const REPLACEMENT: &str = "\u{FFFD}";

/// Bytes that cannot be copied as they are. 0xEF is the first byte of U+FFFE and U+FFFF.
const fn special(always: &[u8], plain_controls: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    let mut index = 0;
    while index < plain_controls.len() {
        table[plain_controls[index] as usize] = false;
        index += 1;
    }
    index = 0;
    while index < always.len() {
        table[always[index] as usize] = true;
        index += 1;
    }
    table[0xEF] = true;
    table
}

static TEXT: [bool; 256] = special(b"&<>", b"\t\n");
static NOT_PLAIN: [bool; 256] = special(b"&<]", b"\t\n");
static ATTRIBUTE: [bool; 256] = special(b"&<>'\"", b"");

fn escape(out: &mut Vec<u8>, bytes: &[u8], special: &[bool; 256]) {
    out.reserve(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| special[usize::from(*byte)]) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let used = match tail {
            [0xEF, 0xBF, 0xBE | 0xBF, ..] => {
                out.extend_from_slice(REPLACEMENT.as_bytes());
                3
            }
            [0xEF, ..] => {
                out.push(0xEF);
                1
            }
            [byte, ..] => {
                let known = REFERENCES.iter().find(|(_, plain)| plain == byte);
                out.extend_from_slice(known.map_or(REPLACEMENT, |(written, _)| written).as_bytes());
                1
            }
            [] => 0,
        };
        rest = tail.get(used..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(plain: &str) -> String {
        let mut out = Vec::new();
        escape_text(&mut out, plain);
        String::from_utf8(out).expect("escaping keeps UTF-8")
    }

    fn value(plain: &str) -> String {
        let mut out = Vec::new();
        escape_attribute(&mut out, plain);
        String::from_utf8(out).expect("escaping keeps UTF-8")
    }

    #[test]
    fn text_keeps_line_feeds_and_protects_carriage_returns() {
        assert_eq!(text("a\r\n\tb]]>&<'\""), "a&#13;\n\tb]]&gt;&amp;&lt;'\"");
    }

    #[test]
    fn attribute_protects_white_space_and_both_quotes() {
        assert_eq!(
            value("\t\n\r'\"<>& x"),
            "&#9;&#10;&#13;&apos;&quot;&lt;&gt;&amp; x"
        );
    }

    #[test]
    fn characters_outside_xml_become_the_replacement_character() {
        assert_eq!(
            text("a\0\u{1}\u{FFFE}\u{FFFF}\u{FFFD}\u{FF21}b"),
            "a\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FF21}b"
        );
        assert_eq!(value("\u{b}\u{1f}"), "\u{FFFD}\u{FFFD}");
    }

    #[test]
    fn foreign_attributes_share_a_locally_declared_prefix() {
        let attributes = [
            (None, "a", "1"),
            (Some("urn:x"), "b", "2"),
            (Some(ns::XML), "lang", "en"),
            (Some("urn:y"), "b", "3"),
            (Some("urn:x"), "c", "4"),
        ];
        let mut out = Vec::new();
        open_tag(&mut out, "e", Some("urn:e"), attributes.iter().copied());
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            "<e xmlns='urn:e' a='1' xmlns:n1='urn:x' n1:b='2' xml:lang='en' xmlns:n3='urn:y' n3:b='3' n1:c='4'"
        );
    }

    #[test]
    fn plain_text_ends_at_whatever_needs_a_parser() {
        for (text, expected) in [
            ("abc\t\n>\"'", 8),
            ("é漢😀\u{FF21}<", 12),
            ("ab&amp;", 2),
            ("ab]", 2),
            ("ab\r", 2),
            ("ab\u{1}", 2),
            ("ab\u{FFFE}", 2),
            ("ab\u{FFFD}", 2),
            ("", 0),
        ] {
            assert_eq!(plain_text_len(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(plain_text_len(b"ab\xEF"), 2);
    }

    proptest! {
        #[test]
        fn what_is_escaped_comes_back(plain in "[\\t\\n\\r -\u{D7FF}\u{E000}-\u{FFFD}]{0,40}") {
            prop_assert_eq!(&unescape(text(&plain).as_bytes()), &plain);
            prop_assert_eq!(&unescape(value(&plain).as_bytes()), &plain);
        }
    }
}
