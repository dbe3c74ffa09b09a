//! What the XML library leaves unsaid about a start tag, read from its raw bytes.
//!
//! The library has already accepted the tag, but it keeps the first of two `xmlns` silently,
//! copies all bindings in scope for each element, takes names of XML's fifth edition and prefixes
//! of any form, and lets `</`, `<!--` and `<![CDATA[` pass in attribute values. Other parsers end
//! the stream over the first and the last, so they are refused here; declarations are counted,
//! so that the copying stays bounded.

use super::bounds::Bounds;
use super::error::XmlError;

/// What a start tag declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Declared {
    /// Declarations, of the default namespace and of prefixes.
    pub bindings: usize,
    /// Declarations of prefixes alone.
    pub prefixes: usize,
    /// Bytes of prefixes and namespaces as sent.
    pub bytes: usize,
}

/// Checks a raw start tag, `<name a='v'>` or `<name a="v"/>`.
///
/// # Errors
/// `NotWellFormed` for a namespace declared twice, `<` in a value, a name that is no QName;
/// `BadFormat` for names outside ASCII; `TooBig` for names, values and counts over their bounds.
pub(super) fn check(tag: &[u8], bounds: &Bounds) -> Result<Declared, XmlError> {
    let mut declared = Declared::default();
    let mut attributes = 0;
    let mut first: &[u8] = &[];
    let mut others: Vec<&[u8]> = Vec::new();
    let rest = tag.strip_prefix(b"<").ok_or_else(unreadable)?;
    let (_, mut rest) = take_name(rest, bounds)?;
    loop {
        rest = rest.trim_ascii_start();
        if matches!(rest, [b'>'] | [b'/', b'>']) {
            return Ok(declared);
        }
        let (name, after) = take_name(rest, bounds)?;
        let (value, after) = take_value(after)?;
        rest = after;
        let is_prefix = name.starts_with(b"xmlns:");
        if !is_prefix && name != b"xmlns" {
            attributes += 1;
            if attributes > bounds.attributes_max {
                return Err(XmlError::TooBig("attributes of one element"));
            }
            if value.len() > bounds.attribute_bytes_max {
                return Err(XmlError::TooBig("length of an attribute in bytes"));
            }
            continue;
        }
        declared.bindings += 1;
        declared.prefixes += usize::from(is_prefix);
        declared.bytes += name.len() + value.len();
        if declared.bindings > bounds.bindings_max {
            return Err(TOO_MANY_BINDINGS);
        }
        if value.len() > bounds.name_bytes_max {
            return Err(XmlError::TooBig("length of a namespace in bytes"));
        }
        if name == first || others.contains(&name) {
            return Err(XmlError::NotWellFormed(
                "A namespace is declared twice on one element".into(),
            ));
        }
        match declared.bindings {
            1 => first = name,
            _ => others.push(name),
        }
    }
}

pub(super) const TOO_MANY_BINDINGS: XmlError = XmlError::TooBig("namespace declarations in scope");

fn unreadable() -> XmlError {
    XmlError::NotWellFormed("A start tag cannot be read".into())
}

fn take_name<'a>(bytes: &'a [u8], bounds: &Bounds) -> Result<(&'a [u8], &'a [u8]), XmlError> {
    let is_end = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'=' | b'/' | b'>');
    let length = bytes.iter().position(is_end).ok_or_else(unreadable)?;
    let (name, rest) = bytes.split_at(length);
    if length > bounds.name_bytes_max {
        return Err(XmlError::TooBig("length of a name in bytes"));
    }
    // Well-formed, but parsers differ in which of these names they take (XML 1.0, fourth and
    // fifth edition), and no XMPP extension has one.
    if !name.is_ascii() {
        return Err(XmlError::BadFormat(
            "Names of elements and attributes must be ASCII",
        ));
    }
    // Namespaces in XML 1.0 §4: QName ::= (NCName ':')? NCName. The library does not check the
    // first character behind the colon.
    let mut parts = name.split(|byte| *byte == b':');
    let (one, two, more) = (parts.next(), parts.next(), parts.next());
    if one.is_some_and(is_nc_name) && two.is_none_or(is_nc_name) && more.is_none() {
        return Ok((name, rest));
    }
    Err(XmlError::NotWellFormed(
        "A name is no qualified name".into(),
    ))
}

fn is_nc_name(name: &[u8]) -> bool {
    let starts = name
        .first()
        .is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_');
    starts
        && name
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(b))
}

fn take_value(bytes: &[u8]) -> Result<(&[u8], &[u8]), XmlError> {
    let bytes = bytes
        .trim_ascii_start()
        .strip_prefix(b"=")
        .ok_or_else(unreadable)?;
    let (quote, bytes) = bytes
        .trim_ascii_start()
        .split_first()
        .ok_or_else(unreadable)?;
    if !matches!(quote, b'\'' | b'"') {
        return Err(unreadable());
    }
    let is_end = |byte: &u8| byte == quote || *byte == b'<';
    let length = bytes.iter().position(is_end).ok_or_else(unreadable)?;
    let (value, rest) = bytes.split_at(length);
    match rest.split_first() {
        Some((b'<', _)) => Err(XmlError::NotWellFormed(
            "'<' is not allowed in attributes".into(),
        )),
        Some((_, rest)) => Ok((value, rest)),
        None => Err(unreadable()),
    }
}

/// True if every parser takes `namespace` as a name: its ASCII characters are those of
/// RFC 3986 §2. Expat refuses to parse a namespace that holds the character by which the
/// application wants names joined (`}`, space, control characters are in use); it excepts these.
pub(super) fn is_portable_namespace(namespace: &str) -> bool {
    let is_uri = |b: u8| match b {
        b'!' | b'#'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~' => true,
        _ => !b.is_ascii(),
    };
    namespace.bytes().all(is_uri)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bounds() -> Bounds {
        Bounds::of(10_000)
    }

    fn condition(tag: &str) -> &'static str {
        check(tag.as_bytes(), &bounds()).map_or_else(|e| e.condition(), |_| "ok")
    }

    #[test]
    fn declarations_are_counted_apart_from_attributes() {
        let tag = b"<a:b xmlns='x' c = \"1\"\n xmlns:a=\"urn:a\" a:d=''/>";
        let declared = Declared {
            bindings: 2,
            prefixes: 1,
            bytes: "xmlnsx".len() + "xmlns:aurn:a".len(),
        };
        assert_eq!(check(tag, &bounds()), Ok(declared));
    }

    #[test]
    fn each_thing_the_library_lets_pass_is_refused() {
        for (tag, expected) in [
            ("<a xmlns='x' xmlns='y'>", "not-well-formed"),
            ("<a xmlns:p='x' xmlns='y' xmlns:p='x'>", "not-well-formed"),
            ("<a b='</'>", "not-well-formed"),
            ("<a b='<!-- -->'>", "not-well-formed"),
            ("<a:1b>", "not-well-formed"),
            ("<a 1b=''>", "not-well-formed"),
            ("<a p:=''>", "not-well-formed"),
            ("<a p:q:r=''>", "not-well-formed"),
            ("<é>", "bad-format"),
            ("<a é=''>", "bad-format"),
            ("<a b⁰=''>", "bad-format"),
            ("<a", "not-well-formed"),
            ("<a b>", "not-well-formed"),
            ("<a b=c>", "not-well-formed"),
            ("<a b='c>", "not-well-formed"),
        ] {
            assert_eq!(condition(tag), expected, "{tag}");
        }
        assert_eq!(condition("<a b='>/' c='\"'/>"), "ok");
    }

    #[test]
    fn names_values_and_counts_have_bounds() {
        let many = |what: &dyn Fn(usize) -> String, n: usize| {
            format!("<a{}>", (0..n).map(what).collect::<String>())
        };
        let attribute = |i: usize| format!(" a{i}=''");
        let binding = |i: usize| format!(" xmlns:a{i}='x'");
        let (attributes, bindings) = (bounds().attributes_max, bounds().bindings_max);
        assert_eq!(condition(&many(&attribute, attributes)), "ok");
        assert_eq!(
            condition(&many(&attribute, attributes + 1)),
            "policy-violation"
        );
        assert_eq!(condition(&many(&binding, bindings)), "ok");
        assert_eq!(condition(&many(&binding, bindings + 1)), "policy-violation");
        let name = "a".repeat(bounds().name_bytes_max);
        assert_eq!(
            condition(&format!("<{name} {name}='' xmlns='{name}'>")),
            "ok"
        );
        assert_eq!(condition(&format!("<{name}a>")), "policy-violation");
        assert_eq!(
            condition(&format!("<a xmlns='{name}a'>")),
            "policy-violation"
        );
        let value = "v".repeat(bounds().attribute_bytes_max);
        assert_eq!(condition(&format!("<a b='{value}'>")), "ok");
        assert_eq!(condition(&format!("<a b='{value}v'>")), "policy-violation");
    }

    #[test]
    fn namespaces_that_join_badly_are_not_portable() {
        assert!(is_portable_namespace(
            "http://jabber.org/protocol/disco#info"
        ));
        assert!(is_portable_namespace("urn:é?a=1&b='2'"));
        for byte in 0..0x80_u8 {
            let is_uri = byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte);
            assert_eq!(
                is_portable_namespace(&char::from(byte).to_string()),
                is_uri,
                "{byte}"
            );
        }
        for bad in ["a b", "a}b", "\n", "\u{1}", "a<b", "a\"b", "\u{7f}"] {
            assert!(!is_portable_namespace(bad), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_is_a_whole_tag(tag in prop::collection::vec(any::<u8>(), 0..50), text in "<[a:= '\"<>/x]{0,40}") {
            for tag in [tag.as_slice(), text.as_bytes()] {
                let whole = tag.first() == Some(&b'<') && tag.last() == Some(&b'>');
                prop_assert!(whole || check(tag, &bounds()).is_err());
            }
        }
    }
}
