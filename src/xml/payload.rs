//! Canonical children of a stanza: bytes that can be written to any stream as they are, with an index.
//!
//! The default namespace around the bytes is the content namespace, `jabber:client` and
//! `jabber:server` alike, so they need no change between client and server streams
//! (RFC 6120 §4.8.3). No byte of a peer is in them: see `parser`.

use std::ops::Range;
use std::str;
use std::sync::Arc;

use super::canonical::{self, Token, Tokens};
use super::element::{Element, Node};
use super::writer::{self, AttributeRef};
use crate::ns;

/// What `Payload::ns` calls an element in no namespace (`xmlns=''`); no feature answers to it.
pub const NO_NAMESPACE: &str = "(none)";

/// The children of a stanza, shared: a clone costs one count.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    /// None is the empty payload, which costs no memory.
    inner: Option<Arc<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// First the canonical bytes, then namespaces that stand escaped in them (hardly ever any).
    bytes: Vec<u8>,
    canonical_len: usize,
    children: Vec<Child>,
}

/// Where one child element stands in its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    name: Range<u32>,
    /// Empty for the content namespace; `NOWHERE` for no namespace.
    ns: Range<u32>,
    range: Range<u32>,
}

/// Canonical bytes of most stanzas' children; the first allocation of each.
const ORDINARY_BYTES: usize = 256;

const NOWHERE: Range<u32> = u32::MAX..u32::MAX;

impl PartialEq for Payload {
    fn eq(&self, other: &Payload) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Payload {}

impl Payload {
    /// No children.
    pub const fn empty() -> Payload {
        Payload { inner: None }
    }

    /// True if there are neither children nor text.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// The canonical bytes of all children, and text between them.
    pub fn bytes(&self) -> &[u8] {
        let inner = self.inner.as_deref();
        inner.map_or(&[], |inner| slice(&inner.bytes, 0..inner.canonical_len))
    }

    /// The index, in document order.
    pub fn children(&self) -> &[Child] {
        self.inner.as_deref().map_or(&[], |inner| &inner.children)
    }

    /// The local name of a child of this payload.
    pub fn name(&self, child: &Child) -> &str {
        self.string(&child.name)
    }

    /// The namespace of a child of this payload: empty is the content namespace,
    /// `NO_NAMESPACE` none.
    pub fn ns(&self, child: &Child) -> &str {
        if child.ns == NOWHERE {
            return NO_NAMESPACE;
        }
        self.string(&child.ns)
    }

    /// The canonical bytes of one child.
    pub fn child_bytes(&self, child: &Child) -> &[u8] {
        slice(self.bytes(), widen(&child.range))
    }

    /// The first child of that namespace and name; `""` and `jabber:client` mean the content
    /// namespace.
    pub fn find(&self, ns: &str, name: &str) -> Option<&Child> {
        let ns = if ns == ns::CLIENT { "" } else { ns };
        let mut children = self.children().iter();
        children.find(|child| self.name(child) == name && self.ns(child) == ns)
    }

    /// The tree of one child, in which the content namespace is `jabber:client`.
    pub fn element(&self, child: &Child) -> Element {
        let nodes = canonical::nodes(self.child_bytes(child), ns::CLIENT);
        let element = nodes.into_iter().find_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        });
        // A child's range always holds an element; the other arm keeps this total.
        element.unwrap_or_else(|| Element::new(self.ns(child), self.name(child)))
    }

    /// The tree of the first child of that namespace and name.
    pub fn find_element(&self, ns: &str, name: &str) -> Option<Element> {
        self.find(ns, name).map(|child| self.element(child))
    }

    /// The text directly inside, unescaped; text of children is not in it.
    pub fn text(&self) -> String {
        let mut depth = 0_usize;
        let mut text = String::new();
        for token in Tokens::new(self.bytes()) {
            match token {
                Token::Open { empty, .. } => depth += usize::from(!empty),
                Token::Close => depth = depth.saturating_sub(1),
                Token::Text(escaped) if depth == 0 => text.push_str(&writer::unescape(escaped)),
                Token::Text(_) => {}
            }
        }
        text
    }

    /// All children and text as trees.
    pub fn nodes(&self) -> Vec<Node> {
        canonical::nodes(self.bytes(), ns::CLIENT)
    }

    /// A payload of these children.
    pub fn from_elements(elements: &[Element]) -> Payload {
        let mut builder = Builder::default();
        for element in elements {
            builder.element(element);
        }
        builder.finish()
    }

    /// A payload from bytes that `bytes` gave earlier, as the store keeps them.
    ///
    /// # Errors
    /// None if they are not canonical (the row is damaged).
    pub fn from_canonical(bytes: Vec<u8>) -> Option<Payload> {
        str::from_utf8(&bytes).ok()?;
        let mut builder = Builder::default();
        let mut tokens = Tokens::new(&bytes);
        loop {
            let start = tokens.position();
            let Some(token) = tokens.next() else { break };
            match token {
                Token::Open {
                    name,
                    attributes,
                    empty,
                } => {
                    if builder.depth == 0 {
                        let xmlns = canonical::declared_namespace(attributes).map(writer::unescape);
                        builder.index(start, name, xmlns.as_deref());
                    }
                    builder.depth += usize::from(!empty);
                }
                Token::Close => builder.depth = builder.depth.checked_sub(1)?,
                Token::Text(_) => continue,
            }
            if builder.depth == 0 {
                builder.end_child(tokens.position());
            }
        }
        if builder.depth != 0 || tokens.position() != bytes.len() {
            return None;
        }
        builder.bytes = bytes;
        Some(builder.finish())
    }

    /// The same without the children that `drop` names; text between children stays.
    #[must_use]
    pub fn without(&self, drop: impl Fn(&Payload, &Child) -> bool) -> Payload {
        if !self.children().iter().any(|child| drop(self, child)) {
            return self.clone();
        }
        self.copied(drop).finish()
    }

    /// The same with one more child at the end.
    #[must_use]
    pub fn with(&self, extra: &Element) -> Payload {
        let mut builder = self.copied(|_, _| false);
        builder.element(extra);
        builder.finish()
    }

    /// What is left without the children that `drop` names.
    fn copied(&self, drop: impl Fn(&Payload, &Child) -> bool) -> Builder {
        let mut builder = Builder::default();
        let mut copied = 0;
        for child in self.children() {
            let range = widen(&child.range);
            builder
                .bytes
                .extend_from_slice(slice(self.bytes(), copied..range.start));
            copied = range.end;
            if !drop(self, child) {
                builder.copy(self, child);
            }
        }
        let rest = slice(self.bytes(), copied..self.bytes().len());
        builder.bytes.extend_from_slice(rest);
        builder
    }

    fn string(&self, range: &Range<u32>) -> &str {
        let bytes = self.inner.as_deref().map_or(&[][..], |inner| &inner.bytes);
        str::from_utf8(slice(bytes, widen(range))).unwrap_or_default()
    }
}

/// Writes canonical bytes and their index in one pass, from events or trees.
#[derive(Debug, Default)]
pub(super) struct Builder {
    bytes: Vec<u8>,
    children: Vec<Child>,
    /// Namespaces that stand escaped in `bytes`, with the child each belongs to.
    escaped: Vec<(usize, String)>,
    depth: usize,
    /// The last start tag waits for `>` or `/>`.
    tag_is_open: bool,
}

impl Builder {
    /// Bytes written so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Makes room for an ordinary stanza.
    pub(super) fn begin(&mut self) {
        self.bytes.reserve(ORDINARY_BYTES);
    }

    /// Opens an element; `xmlns` is its namespace if that differs from its parent's.
    pub(super) fn open<'a>(
        &mut self,
        name: &str,
        xmlns: Option<&str>,
        attributes: impl Iterator<Item = AttributeRef<'a>> + Clone,
    ) {
        self.finish_tag();
        if self.depth == 0 {
            self.index(self.bytes.len(), name, xmlns);
        }
        writer::open_tag(&mut self.bytes, name, xmlns, attributes);
        self.tag_is_open = true;
        self.depth += 1;
    }

    /// Closes the innermost element, which has that name.
    pub(super) fn close(&mut self, name: &str) {
        if self.tag_is_open {
            self.bytes.extend_from_slice(b"/>");
            self.tag_is_open = false;
        } else {
            self.bytes.extend_from_slice(b"</");
            self.bytes.extend_from_slice(name.as_bytes());
            self.bytes.push(b'>');
        }
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0 {
            self.end_child(self.bytes.len());
        }
    }

    /// Appends character data.
    pub(super) fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.finish_tag();
            writer::escape_text(&mut self.bytes, text);
        }
    }

    /// Appends character data that `writer::plain_text_len` has measured.
    pub(super) fn plain_text(&mut self, text: &[u8]) {
        self.finish_tag();
        writer::escape_plain_text(&mut self.bytes, text);
    }

    /// The payload; the builder is as new.
    pub(super) fn finish(&mut self) -> Payload {
        let Builder {
            mut bytes,
            mut children,
            escaped,
            ..
        } = std::mem::take(self);
        if bytes.is_empty() {
            return Payload::empty();
        }
        let canonical_len = bytes.len();
        for (index, namespace) in escaped {
            let start = bytes.len();
            bytes.extend_from_slice(namespace.as_bytes());
            if let Some(child) = children.get_mut(index) {
                child.ns = narrow(start..bytes.len());
            }
        }
        // A payload may wait in a queue for days: what doubling left over is given back.
        if bytes.capacity() > ORDINARY_BYTES.max(bytes.len() + bytes.len() / 4) {
            bytes.shrink_to_fit();
        }
        let inner = Inner {
            bytes,
            canonical_len,
            children,
        };
        Payload {
            inner: Some(Arc::new(inner)),
        }
    }

    fn finish_tag(&mut self) {
        if self.tag_is_open {
            self.bytes.push(b'>');
            self.tag_is_open = false;
        }
    }

    fn element(&mut self, element: &Element) {
        let xmlns = (element.ns != ns::CLIENT).then_some(element.ns.as_str());
        self.index(self.bytes.len(), &element.name, xmlns);
        element.write(&mut self.bytes, ns::CLIENT);
        self.end_child(self.bytes.len());
    }

    /// Copies a child of another payload, bytes and index.
    fn copy(&mut self, from: &Payload, child: &Child) {
        let ns = from.ns(child);
        let xmlns = match &child.ns {
            range if *range == NOWHERE => Some(""),
            _ if ns.is_empty() => None,
            _ => Some(ns),
        };
        self.index(self.bytes.len(), from.name(child), xmlns);
        self.bytes.extend_from_slice(from.child_bytes(child));
        self.end_child(self.bytes.len());
    }

    /// Indexes a child whose start tag begins at `start`: `<name xmlns='namespace'`.
    fn index(&mut self, start: usize, name: &str, xmlns: Option<&str>) {
        let name_end = start + 1 + name.len();
        let ns = match xmlns {
            None => 0..0,
            Some("") => NOWHERE,
            Some(ns) if writer::is_escaped(ns) => {
                self.escaped.push((self.children.len(), ns.to_owned()));
                0..0
            }
            Some(ns) => {
                let ns_start = name_end + " xmlns='".len();
                narrow(ns_start..ns_start + ns.len())
            }
        };
        self.children.push(Child {
            name: narrow(start + 1..name_end),
            ns,
            range: narrow(start..start),
        });
    }

    fn end_child(&mut self, end: usize) {
        if let Some(child) = self.children.last_mut() {
            child.range.end = narrow(end..end).end;
        }
    }
}

/// Stanzas are far below 4 GiB; what is not would get an index that finds nothing.
fn narrow(range: Range<usize>) -> Range<u32> {
    let narrow = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
    narrow(range.start)..narrow(range.end)
}

fn widen(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

fn slice(bytes: &[u8], range: Range<usize>) -> &[u8] {
    bytes.get(range).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Element {
        Element::new(ns::CLIENT, "body").with_text(text)
    }

    fn odd() -> Element {
        Element::new("urn:x?a=1&b='2'", "odd").attr("k", "v")
    }

    fn names(payload: &Payload) -> Vec<(String, String)> {
        let children = payload.children().iter();
        let named = children.map(|c| (payload.ns(c).to_owned(), payload.name(c).to_owned()));
        named.collect()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let pairs = pairs.iter();
        pairs
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    #[test]
    fn children_are_found_by_namespace_and_name() {
        let ping = Element::new("urn:xmpp:ping", "ping");
        let none = Element::new("", "none");
        let payload = Payload::from_elements(&[body("hi"), odd(), ping.clone(), none.clone()]);
        assert_eq!(
            names(&payload),
            owned(&[
                ("", "body"),
                ("urn:x?a=1&b='2'", "odd"),
                ("urn:xmpp:ping", "ping"),
                (NO_NAMESPACE, "none"),
            ])
        );
        assert_eq!(payload.find_element("", "body"), Some(body("hi")));
        assert_eq!(payload.find_element(ns::CLIENT, "body"), Some(body("hi")));
        assert_eq!(payload.find_element("urn:x?a=1&b='2'", "odd"), Some(odd()));
        assert_eq!(payload.find_element("urn:xmpp:ping", "ping"), Some(ping));
        assert_eq!(payload.find_element(NO_NAMESPACE, "none"), Some(none));
        assert_eq!(payload.find_element("urn:xmpp:ping", "body"), None);
    }

    #[test]
    fn dropping_and_adding_children_keeps_the_others_and_their_index() {
        let payload = Payload::from_elements(&[odd(), body("a"), odd()]);
        let fewer = payload.without(|p, c| p.name(c) == "body");
        assert_eq!(
            fewer.nodes(),
            vec![Node::Element(odd()), Node::Element(odd())]
        );
        let more = fewer.with(&body("b"));
        assert_eq!(more, Payload::from_elements(&[odd(), odd(), body("b")]));
        assert_eq!(
            names(&more),
            names(&Payload::from_elements(&[odd(), odd(), body("b")]))
        );
        assert!(payload.without(|_, _| true).is_empty());
    }

    #[test]
    fn stored_bytes_become_the_same_payload_again() {
        let payload = Payload::from_elements(&[odd(), body("a&b"), Element::new("", "none")]);
        let again = Payload::from_canonical(payload.bytes().to_vec()).expect("canonical");
        assert_eq!(again, payload);
        assert_eq!(names(&again), names(&payload));
        let ranges = |p: &Payload| {
            p.children()
                .iter()
                .map(|c| c.range.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(ranges(&again), ranges(&payload));
    }

    #[test]
    fn damaged_bytes_are_no_payload() {
        for damaged in ["<a>", "<a></a></a>", "<a", "<a/><b", "</a>"] {
            assert_eq!(Payload::from_canonical(damaged.into()), None, "{damaged}");
        }
        assert_eq!(Payload::from_canonical(vec![0xFF]), None);
    }

    #[test]
    fn direct_text_is_told_from_text_of_children() {
        let payload = Payload::from_canonical(b"a&lt;<b>c<d/>e</b>f".to_vec()).expect("canonical");
        assert_eq!(payload.text(), "a<f");
        assert_eq!(payload.children().len(), 1);
    }
}
