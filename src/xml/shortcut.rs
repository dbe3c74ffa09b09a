//! What the XML library need not see of a start tag: plain values of attributes, and the declaration
//! of a default namespace.
//!
//! The library takes some 20 ns for each byte, five calls deep, and copies all declarations in scope
//! for each element. In a chat message half of what is no text are values and namespaces that mean
//! themselves. They are cut out of the tag before the library reads it, and put back into its event;
//! what is anything but plain stays in.
//!
//! Only a tag that is here to its end is cut, so nothing is half cut when bytes are waited for; the
//! tag as it was sent is still checked whole (`start_tag`).

use std::ops::Range;

/// A part of a tag that the library does not see. Positions are bytes from the tag's `<`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// What is left out.
    pub gap: Range<usize>,
    /// What is to be put back.
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The value of the attribute of that number, declarations not counted. It is the gap.
    Value(usize),
    /// The default namespace, which stands there.
    DefaultNamespace(Range<usize>),
}

/// Values so short that looking at them gains nothing.
const VALUE_BYTES_MIN: usize = 3;

/// Namespaces that the library has rules for (Namespaces in XML 1.0 §3) begin so.
const RULED: &[u8] = b"http://www.w3.org/";

/// Finds what can be cut out of the start tag with which `bytes` begin. Nothing, if they begin with
/// something else, or the tag has not come whole, or is not as nearly all clients write it.
pub(super) fn cuts(bytes: &[u8], cuts: &mut Vec<Cut>) {
    cuts.clear();
    if find(bytes, cuts).is_none() {
        cuts.clear();
    }
}

fn find(bytes: &[u8], cuts: &mut Vec<Cut>) -> Option<()> {
    let mut at = 1 + name_len(bytes.strip_prefix(b"<")?)?;
    let mut attributes = 0;
    let mut has_default = false;
    loop {
        let space = at;
        at += bytes.get(at..)?.iter().position(|byte| *byte != b' ')?;
        match bytes.get(at..)? {
            [b'>', ..] | [b'/', b'>', ..] => return Some(()),
            _ if at == space => return None,
            _ => {}
        }
        let name = at;
        at += name_len(bytes.get(at..)?)?;
        let name = bytes.get(name..at)?;
        let quote = match bytes.get(at..)? {
            [b'=', quote @ (b'\'' | b'"'), ..] => *quote,
            _ => return None,
        };
        let start = at + 2;
        let value = bytes.get(start..)?;
        let value = value.get(..value.iter().position(|byte| *byte == quote)?)?;
        let end = start + value.len();
        at = end + 1;
        if name == b"xmlns" {
            // The second of two is an error, which is told of the tag as it was sent.
            let is_plain = !value.is_empty() && !value.starts_with(RULED) && is_plain(value);
            if is_plain && !has_default {
                cuts.push(Cut {
                    gap: space..at,
                    what: What::DefaultNamespace(start..end),
                });
            } else if has_default {
                return None;
            }
            has_default = true;
        } else if !name.starts_with(b"xmlns:") {
            if value.len() >= VALUE_BYTES_MIN && is_plain(value) {
                cuts.push(Cut {
                    gap: start..end,
                    what: What::Value(attributes),
                });
            }
            attributes += 1;
        }
    }
}

fn name_len(bytes: &[u8]) -> Option<usize> {
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || b"_-.:".contains(b);
    let length = bytes.iter().position(|byte| !is_name(byte))?;
    bytes
        .first()
        .is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
        .then_some(length)
}

/// Printable ASCII that means itself in a value.
fn is_plain(value: &[u8]) -> bool {
    value
        .iter()
        .all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'&' | b'<'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tag without what is cut, and what is put back.
    fn cut(tag: &str) -> (String, Vec<(Option<usize>, &str)>) {
        let mut found = Vec::new();
        cuts(tag.as_bytes(), &mut found);
        let mut left = tag.to_owned();
        for Cut { gap, .. } in found.iter().rev() {
            left.replace_range(gap.clone(), "");
        }
        let put_back = found.iter().map(|cut| match &cut.what {
            What::Value(number) => (Some(*number), &tag[cut.gap.clone()]),
            What::DefaultNamespace(value) => (None, &tag[value.clone()]),
        });
        (left, put_back.collect())
    }

    #[test]
    fn plain_values_and_default_namespaces_are_cut_out() {
        let tag =
            "<a:b id='1' to=\"juliet@example.org\" xmlns='urn:x' xmlns:a='urn:a' x='y y'/>more";
        let (left, put_back) = cut(tag);
        assert_eq!(left, "<a:b id='1' to=\"\" xmlns:a='urn:a' x=''/>more");
        let expected = [
            (Some(1), "juliet@example.org"),
            (None, "urn:x"),
            (Some(2), "y y"),
        ];
        assert_eq!(put_back, expected);
    }

    #[test]
    fn what_is_not_plain_stays() {
        for tag in [
            "<a b='x&amp;y'>",
            "<a b='x\ny'>",
            "<a b='h\u{e9}llo'>",
            "<a b='x\u{7f}y'>",
            "<a xmlns=''>",
            "<a xmlns='urn:&lt;'>",
            "<a xmlns='http://www.w3.org/2000/xmlns/'>",
            "<a xmlns:b='urn:b'>",
        ] {
            assert_eq!(cut(tag), (tag.to_owned(), vec![]), "{tag}");
        }
    }

    #[test]
    fn nothing_is_cut_out_of_what_is_no_whole_and_common_tag() {
        for tag in [
            "<a b='long'",
            "<a b='long",
            "<a b='long' c",
            "<a b='long'c='long'>",
            "<a b = 'long'>",
            "<a\nb='long'>",
            "<a b=long>",
            "</a b='long'>",
            "<!a b='long'>",
            "<?a b='long'>",
            "<1 b='long'>",
            "<\u{e9} b='long'>",
            "<a xmlns='urn:x' xmlns='urn:x'>",
            "text b='long'>",
            "",
        ] {
            assert_eq!(cut(tag), (tag.to_owned(), vec![]), "{tag}");
        }
    }
}
