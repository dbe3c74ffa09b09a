//! Reading back what `writer` wrote: a small tokenizer for canonical bytes only, never for a peer's.
//!
//! Canonical bytes have no declaration, comment, CDATA or DTD; `>` ends a tag wherever it stands,
//! because it is escaped in values; values stand in single quotes; elements have no prefix.
//! Bytes that break these rules (a damaged database row) yield nonsense or nothing, not a panic.

use std::str;

use super::element::{Attribute, Element, Node};
use super::writer::unescape;
use crate::ns;

/// A piece of canonical bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A start tag; `attributes` is what stands between the name and `>` or `/>`.
    Open {
        name: &'a str,
        attributes: &'a [u8],
        empty: bool,
    },
    /// An end tag.
    Close,
    /// Character data, still escaped.
    Text(&'a [u8]),
}

/// Yields tokens with the place where each begins.
#[derive(Clone, Debug)]
pub(super) struct Tokens<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Tokens<'a> {
        Tokens { bytes, at: 0 }
    }

    /// Where the next token begins.
    pub(super) fn position(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let rest = self.bytes.get(self.at..)?;
        if *rest.first()? != b'<' {
            let length = rest.iter().position(|b| *b == b'<').unwrap_or(rest.len());
            self.at += length;
            return Some(Token::Text(rest.get(..length)?));
        }
        let end = rest.iter().position(|b| *b == b'>')?;
        self.at += end + 1;
        let tag = rest.get(1..end)?;
        if tag.first() == Some(&b'/') {
            return Some(Token::Close);
        }
        let (tag, empty) = match tag.strip_suffix(b"/") {
            Some(tag) => (tag, true),
            None => (tag, false),
        };
        let name_len = tag.iter().position(|b| *b == b' ').unwrap_or(tag.len());
        let (name, attributes) = tag.split_at(name_len);
        Some(Token::Open {
            name: str::from_utf8(name).ok()?,
            attributes,
            empty,
        })
    }
}

/// Splits ` a='1' b='2'` into names and escaped values.
struct RawAttributes<'a>(&'a [u8]);

impl<'a> Iterator for RawAttributes<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.strip_prefix(b" ")?;
        let equals = rest.iter().position(|b| *b == b'=')?;
        let (name, rest) = rest.split_at(equals);
        let rest = rest.strip_prefix(b"='")?;
        let quote = rest.iter().position(|b| *b == b'\'')?;
        let (value, rest) = rest.split_at(quote);
        self.0 = rest.get(1..)?;
        Some((str::from_utf8(name).ok()?, value))
    }
}

/// The escaped default namespace that a tag declares.
pub(super) fn declared_namespace(attributes: &[u8]) -> Option<&[u8]> {
    let (name, value) = RawAttributes(attributes).next()?;
    (name == "xmlns").then_some(value)
}

fn element(name: &str, attributes: &[u8], parent_ns: &str) -> Element {
    let mut element = Element::new(parent_ns, name);
    let mut prefixes: Vec<(&str, String)> = Vec::new();
    for (name, value) in RawAttributes(attributes) {
        let value = unescape(value);
        let (name, space) = match name.split_once(':') {
            None if name == "xmlns" => {
                element.ns = value;
                continue;
            }
            Some(("xmlns", prefix)) => {
                prefixes.push((prefix, value));
                continue;
            }
            None => (name, None),
            Some(("xml", local)) => (local, Some(ns::XML.to_owned())),
            Some((prefix, local)) => {
                let bound = prefixes.iter().find(|(known, _)| *known == prefix);
                (local, bound.map(|(_, space)| space.clone()))
            }
        };
        element.attributes.push(Attribute {
            name: name.to_owned(),
            ns: space,
            value,
        });
    }
    element
}

/// Builds the nodes of canonical content whose default namespace is `parent_ns`.
pub(super) fn nodes(bytes: &[u8], parent_ns: &str) -> Vec<Node> {
    let mut done = Vec::new();
    // Elements that are still open, outermost first: no recursion over a peer's nesting.
    let mut open: Vec<Element> = Vec::new();
    for token in Tokens::new(bytes) {
        let node = match token {
            Token::Text(escaped) => Node::Text(unescape(escaped)),
            Token::Open {
                name,
                attributes,
                empty,
            } => {
                let parent = open.last().map_or(parent_ns, |parent| parent.ns.as_str());
                let element = element(name, attributes, parent);
                if !empty {
                    open.push(element);
                    continue;
                }
                Node::Element(element)
            }
            Token::Close => match open.pop() {
                Some(element) => Node::Element(element),
                None => continue,
            },
        };
        match open.last_mut() {
            Some(parent) => parent.nodes.push(node),
            None => done.push(node),
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arbitrary_element() -> impl Strategy<Value = Element> {
        let space = prop::sample::select(vec![ns::CLIENT, "", "urn:x", "http://a/?b=1&c='2'"]);
        let attribute = (
            "[a-z]{1,3}",
            prop::option::of(prop::sample::select(vec![ns::XML, "urn:y", "urn:z&"])),
            "[\\t\\n\\r -~é漢]{0,8}",
        );
        let leaf = (
            space.clone(),
            "[a-z]{1,4}",
            prop::collection::vec(attribute, 0..4),
        )
            .prop_map(|(space, name, attributes)| {
                let mut element = Element::new(space, name);
                for (name, space, value) in attributes {
                    let taken = |a: &Attribute| a.name == name && a.ns.as_deref() == space;
                    if !element.attributes.iter().any(taken) {
                        let ns = space.map(str::to_owned);
                        element.attributes.push(Attribute { name, ns, value });
                    }
                }
                element
            });
        leaf.prop_recursive(4, 24, 4, |inner| {
            (
                inner.clone(),
                prop::collection::vec((inner, "[\\t\\n\\r -~é😀]{1,6}"), 0..4),
            )
                .prop_map(|(mut parent, children)| {
                    for (child, text) in children {
                        parent.nodes.push(Node::Text(text));
                        parent.nodes.push(Node::Element(child));
                    }
                    parent
                })
        })
    }

    proptest! {
        #[test]
        fn a_written_tree_is_read_back_the_same(tree in arbitrary_element()) {
            prop_assert_eq!(nodes(&tree.to_bytes(), ns::CLIENT), vec![Node::Element(tree)]);
        }

        #[test]
        fn damaged_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), tag in "[<>/a =':x&;]{0,40}") {
            nodes(&bytes, ns::CLIENT);
            nodes(tag.as_bytes(), ns::CLIENT);
        }
    }
}
