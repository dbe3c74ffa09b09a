//! An element as a tree, for who handles it; what is only forwarded stays bytes (`payload`).

use super::writer;
use crate::ns;

/// An element with its namespace resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// The local name.
    pub name: String,
    /// The namespace. The content namespace is always `jabber:client` here, whatever the
    /// stream's (RFC 6120 §4.8.3); empty is an element in no namespace.
    pub ns: String,
    /// In document order, declarations of namespaces left out.
    pub attributes: Vec<Attribute>,
    /// In document order; neighboring texts may be separate nodes.
    pub nodes: Vec<Node>,
}

/// What an element contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A child element.
    Element(Element),
    /// Character data, unescaped.
    Text(String),
}

/// An attribute with its namespace resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// The local name: `lang` of `xml:lang`.
    pub name: String,
    /// None for an attribute without a prefix.
    pub ns: Option<String>,
    /// The value, unescaped.
    pub value: String,
}

impl Attribute {
    /// True if `name` means this attribute: a local name without namespace, or `xml:` and one.
    pub(super) fn is_named(&self, name: &str) -> bool {
        match &self.ns {
            None => self.name == name,
            Some(space) => space == ns::XML && name.strip_prefix("xml:") == Some(&self.name),
        }
    }
}

impl Element {
    /// An empty element without attributes.
    pub fn new(ns: impl Into<String>, name: impl Into<String>) -> Element {
        Element {
            name: name.into(),
            ns: ns.into(),
            attributes: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// Adds an attribute: a plain name, or `xml:lang`.
    #[must_use]
    pub fn attr(mut self, name: &str, value: impl Into<String>) -> Element {
        let (name, space) = match name.strip_prefix("xml:") {
            Some(local) => (local, Some(ns::XML.to_owned())),
            None => (name, None),
        };
        self.attributes.push(Attribute {
            name: name.to_owned(),
            ns: space,
            value: value.into(),
        });
        self
    }

    /// Adds a child element at the end.
    #[must_use]
    pub fn child(mut self, child: Element) -> Element {
        self.nodes.push(Node::Element(child));
        self
    }

    /// Adds text at the end.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Element {
        self.nodes.push(Node::Text(text.into()));
        self
    }

    /// The value of an attribute without namespace, or of `xml:lang`.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|a| a.is_named(name));
        found.map(|attribute| attribute.value.as_str())
    }

    /// The first child element of that namespace and name.
    pub fn find(&self, ns: &str, name: &str) -> Option<&Element> {
        self.elements().find(|e| e.ns == ns && e.name == name)
    }

    /// True if this is the element of that namespace and name.
    pub fn is(&self, ns: &str, name: &str) -> bool {
        self.ns == ns && self.name == name
    }

    /// The child elements in order.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The text directly inside, joined; text of children is not in it.
    pub fn text(&self) -> String {
        let texts = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        texts.collect()
    }

    /// Appends the canonical form; `xmlns` is written only where it differs from the parent's.
    pub fn write(&self, out: &mut Vec<u8>, parent_ns: &str) {
        let xmlns = (self.ns != parent_ns).then_some(self.ns.as_str());
        let attributes = self.attributes.iter();
        let attributes = attributes.map(|a| (a.ns.as_deref(), a.name.as_str(), a.value.as_str()));
        writer::open_tag(out, &self.name, xmlns, attributes);
        let mut is_empty = true;
        for node in &self.nodes {
            match node {
                Node::Text(text) if text.is_empty() => continue,
                _ if is_empty => out.push(b'>'),
                _ => {}
            }
            is_empty = false;
            match node {
                Node::Text(text) => writer::escape_text(out, text),
                Node::Element(child) => child.write(out, &self.ns),
            }
        }
        if is_empty {
            out.extend_from_slice(b"/>");
        } else {
            out.extend_from_slice(b"</");
            out.extend_from_slice(self.name.as_bytes());
            out.push(b'>');
        }
    }

    /// The canonical form inside a stream whose default namespace is the content namespace.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out, ns::CLIENT);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(element: &Element) -> String {
        String::from_utf8(element.to_bytes()).expect("UTF-8")
    }

    #[test]
    fn namespaces_are_declared_only_where_they_change() {
        let message = Element::new(ns::CLIENT, "message")
            .child(Element::new(ns::CLIENT, "body").with_text("a<b"))
            .child(
                Element::new("urn:x", "x")
                    .child(Element::new("urn:x", "y"))
                    .child(Element::new(ns::CLIENT, "message"))
                    .child(Element::new("", "none")),
            );
        assert_eq!(
            written(&message),
            "<message><body>a&lt;b</body><x xmlns='urn:x'><y/>\
             <message xmlns='jabber:client'/><none xmlns=''/></x></message>"
        );
    }

    #[test]
    fn language_is_found_under_its_usual_name() {
        let body = Element::new(ns::CLIENT, "body")
            .attr("xml:lang", "cs")
            .attr("lang", "no");
        assert_eq!(body.attribute("xml:lang"), Some("cs"));
        assert_eq!(body.attribute("lang"), Some("no"));
        assert_eq!(written(&body), "<body xml:lang='cs' lang='no'/>");
    }

    #[test]
    fn empty_text_leaves_the_element_empty() {
        let body = Element::new(ns::CLIENT, "body").with_text("").with_text("");
        assert_eq!(written(&body), "<body/>");
    }
}
