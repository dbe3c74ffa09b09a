//! What a parser yields: the stream header, complete elements, the close.

use super::element::{Attribute, Element};
use super::error::XmlError;
use super::payload::Payload;
use super::writer;
use crate::ns;

/// One step of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The stream header.
    Open(Box<Header>),
    /// A complete child of the root: a stanza or a nonza.
    Top(Box<Top>),
    /// `</stream:stream>`. Nothing follows but a `restart`.
    Close,
}

/// The start tag of the root element, as it came; `check` judges it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The local name.
    pub name: String,
    /// The namespace of the root element; empty if it has none.
    pub ns: String,
    /// The prefix of the root element.
    pub prefix: Option<String>,
    /// The default namespace declared on the root; empty if none is.
    pub content_ns: String,
    /// Some prefix is bound to the stream namespace.
    pub binds_stream_ns: bool,
    /// `from`, as sent.
    pub from: Option<String>,
    /// `to`, as sent.
    pub to: Option<String>,
    /// `id`, as sent.
    pub id: Option<String>,
    /// `version`, as sent.
    pub version: Option<String>,
    /// `xml:lang`, as sent.
    pub lang: Option<String>,
}

impl Header {
    /// Judges names and namespaces of a header for a stream with this content namespace.
    ///
    /// Any prefix is taken for the stream namespace (RFC 6120 §4.8.5 allows but does not ask for
    /// `stream` alone), and the content namespace may be left undeclared (§4.8.2).
    ///
    /// # Errors
    /// `BadNamespacePrefix` if the root lacks the prefix that is bound to the stream namespace
    /// (§4.9.3.2), `InvalidNamespace` for another root or content namespace (§4.8.1, §4.9.3.10),
    /// `BadFormat` if the root is not `stream`.
    pub fn check(&self, content_ns: &str) -> Result<(), XmlError> {
        if self.ns != ns::STREAM {
            if self.binds_stream_ns && self.name == "stream" {
                let what = "The root element lacks the prefix of the stream namespace";
                return Err(XmlError::BadNamespacePrefix(what));
            }
            let what = "The root element is not in the stream namespace";
            return Err(XmlError::InvalidNamespace(what));
        }
        if self.name != "stream" {
            return Err(XmlError::BadFormat("The root element is not a stream"));
        }
        let undeclared = self.content_ns.is_empty() || self.content_ns == ns::STREAM;
        if !undeclared && self.content_ns != content_ns {
            let what = "The default namespace is not the content namespace of this stream";
            return Err(XmlError::InvalidNamespace(what));
        }
        Ok(())
    }
}

/// One complete child of the root, its children already canonical.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// The local name.
    pub name: String,
    /// The namespace as resolved: `jabber:client`, `jabber:server` and `jabber:component:accept` are
    /// told apart here, and only here. Empty if it has none.
    pub ns: String,
    /// In document order, declarations of namespaces left out.
    pub attributes: Vec<Attribute>,
    /// Children and text.
    pub payload: Payload,
    /// Bytes as received.
    pub size: usize,
}

impl Top {
    /// The value of an attribute without namespace, or of `xml:lang`.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|a| a.is_named(name));
        found.map(|attribute| attribute.value.as_str())
    }

    /// Takes an attribute out, as `attribute` finds it.
    pub fn take_attribute(&mut self, name: &str) -> Option<String> {
        let found = self.attributes.iter_mut().find(|a| a.is_named(name));
        found.map(|attribute| std::mem::take(&mut attribute.value))
    }

    /// True if this is the element of that namespace and name.
    pub fn is(&self, ns: &str, name: &str) -> bool {
        self.ns == ns && self.name == name
    }

    /// The whole as a tree. Children in the content namespace are in `jabber:client` there.
    pub fn to_element(&self) -> Element {
        let mut element = Element::new(self.ns.as_str(), self.name.as_str());
        element.attributes.clone_from(&self.attributes);
        element.nodes = self.payload.nodes();
        element
    }

    /// The text directly inside, unescaped.
    pub fn text(&self) -> String {
        self.payload.text()
    }

    /// Appends the canonical form, for a stream whose default namespace is its content namespace.
    pub fn write(&self, out: &mut Vec<u8>) {
        if !is_content_namespace(&self.ns) {
            // The payload supposes the content namespace around it.
            self.to_element().write(out, ns::CLIENT);
            return;
        }
        let attributes = self.attributes.iter();
        let attributes = attributes.map(|a| (a.ns.as_deref(), a.name.as_str(), a.value.as_str()));
        writer::open_tag(out, &self.name, None, attributes);
        if self.payload.is_empty() {
            out.extend_from_slice(b"/>");
            return;
        }
        out.push(b'>');
        out.extend_from_slice(self.payload.bytes());
        out.extend_from_slice(b"</");
        out.extend_from_slice(self.name.as_bytes());
        out.push(b'>');
    }
}

/// RFC 6120 §4.8.3.
pub(super) fn is_content_namespace(namespace: &str) -> bool {
    matches!(namespace, ns::CLIENT | ns::SERVER | ns::COMPONENT)
}
