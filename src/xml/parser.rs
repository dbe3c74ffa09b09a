//! A stream's XML, incrementally: bytes in, one `Item` at a time out, everything within bounds.
//!
//! The XML library turns bytes into events; this file decides which documents a stream may be
//! (RFC 6120 §11.1), refuses what other parsers would refuse, and writes the children of each
//! top-level element anew into a canonical `Payload`. The result does not depend on how the bytes
//! were cut into pieces.
//!
//! Invariants: the library is not called again after an error, nor after the root's end tag; it
//! never sees a DTD, nor white space between elements of the stream; for each element that is
//! open the namespace declarations in scope are counted, since it copies them all for each event.

use std::borrow::Cow;

use ::xml::common::XmlVersion;
use ::xml::name::OwnedName;
use ::xml::reader::{ErrorKind, EventReader, ParserConfig, XmlEvent};

use super::element::{Attribute, Element};
use super::error::XmlError;
use super::feed::Feed;
use super::payload::{Builder, Payload};
use super::start_tag::{self, Declared};
use crate::{limits, ns};

/// What one element of a stream may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of one top-level element or of the stream header, as sent; what is written anew may
    /// have twice as many.
    pub element_bytes_max: usize,
    /// Open elements, the stream's root included.
    pub depth_max: usize,
    /// Attributes of one element, declarations of namespaces not counted.
    pub attributes_max: usize,
    /// Namespace declarations of all open elements together, the stream's root included.
    pub bindings_max: usize,
    /// Bytes of a name or of a namespace.
    pub name_bytes_max: usize,
    /// Bytes of an attribute's value, as sent.
    pub attribute_bytes_max: usize,
}

impl Bounds {
    /// Before authentication: 10 KiB (DESIGN §9).
    pub const UNAUTHENTICATED: Bounds = Bounds::of(limits::UNAUTHENTICATED_ELEMENT_BYTES_MAX);

    /// After authentication; `stanza_bytes_max` is the domain's setting.
    pub fn client(stanza_bytes_max: usize) -> Bounds {
        Bounds::of(stanza_bytes_max)
    }

    const fn of(element_bytes_max: usize) -> Bounds {
        Bounds {
            element_bytes_max,
            depth_max: limits::XML_DEPTH_MAX,
            attributes_max: limits::XML_ATTRIBUTES_MAX,
            bindings_max: limits::XML_BINDINGS_MAX,
            name_bytes_max: limits::XML_NAME_BYTES_MAX,
            attribute_bytes_max: limits::XML_ATTRIBUTE_BYTES_MAX,
        }
    }
}

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
    /// The namespace as resolved: `jabber:client` and `jabber:server` are told apart here, and
    /// only here. Empty if it has none.
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
}

/// Where in the document the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Before the root. `declaration`: an XML declaration may still come. `restarted`: white
    /// space in front of it belongs to the document before, where RFC 6120 §11.7 allows it.
    Prolog { declaration: bool, restarted: bool },
    /// In the XML declaration.
    Declaration,
    /// In the start tag of the root.
    Root,
    /// Between children of the root.
    Between,
    /// In a child of the root, or in the root's end tag.
    Inside,
    /// Behind the root.
    Closed,
}

/// What is remembered of an open element.
#[derive(Debug)]
struct Scope {
    ns: String,
    /// The stanza itself, and what is in the content namespace all the way up to it.
    is_content: bool,
    /// Declarations of this element and all around it.
    bindings: usize,
    binding_bytes: usize,
}

/// The parser of one stream, for its whole life.
pub struct Parser {
    reader: EventReader<Feed>,
    bounds: Bounds,
    stage: Stage,
    /// Stream offset at which the document, then each element, begins.
    start: u64,
    /// Open elements, the root first.
    scopes: Vec<Scope>,
    top: Option<Box<Top>>,
    builder: Builder,
    failed: Option<XmlError>,
}

impl Parser {
    /// A parser at the beginning of a stream.
    pub fn new(bounds: Bounds) -> Parser {
        let mut parser = Parser {
            reader: reader(Feed::default()),
            bounds,
            stage: Stage::Prolog {
                declaration: true,
                restarted: false,
            },
            start: 0,
            scopes: Vec::new(),
            top: None,
            builder: Builder::default(),
            failed: None,
        };
        parser.bound_element();
        parser
    }

    /// Sets the bounds, from the next byte on.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        if self.stage != Stage::Between {
            self.bound_element();
        }
    }

    /// Takes bytes from the connection. They are parsed by `next`.
    pub fn feed(&mut self, bytes: &[u8]) {
        // Nothing that follows an error or the end can matter.
        if self.failed.is_none() && self.stage != Stage::Closed {
            self.reader.source_mut().append(bytes);
        }
    }

    /// The next item; None if more bytes are needed, and always after `Close`.
    ///
    /// # Errors
    /// What the peer did wrong. The stream cannot go on; every later call says the same.
    pub fn next(&mut self) -> Result<Option<Item>, XmlError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.advance();
        match &result {
            Ok(Some(_)) => {}
            Ok(None) => self.reader.source_mut().release(),
            Err(error) => {
                self.failed = Some(error.clone());
                self.forget();
            }
        }
        result
    }

    /// A new document follows (RFC 6120 §4.3.3: after STARTTLS and after SASL). Unread bytes
    /// stay and are its beginning.
    ///
    /// Call it between items: an element of which `next` has already seen a part is lost.
    pub fn restart(&mut self) {
        let feed = std::mem::take(self.reader.source_mut());
        self.reader = reader(feed);
        self.stage = Stage::Prolog {
            declaration: true,
            restarted: true,
        };
        self.start = self.reader.source().offset();
        self.scopes.clear();
        self.top = None;
        self.builder = Builder::default();
        self.failed = None;
        self.reader.source_mut().mark_markup();
        self.bound_element();
    }

    /// Bytes fed that belong to no item returned. White space between elements does not count.
    pub fn unread(&self) -> usize {
        let unread = self.reader.source().unread();
        match self.stage {
            Stage::Prolog { .. } | Stage::Between => unread.trim_ascii_start().len(),
            Stage::Closed => 0,
            Stage::Declaration | Stage::Root | Stage::Inside => {
                let begun = self.reader.source().offset() - self.start;
                usize::try_from(begun).unwrap_or(usize::MAX) + unread.len()
            }
        }
    }

    /// Drops unread bytes. If an element is begun, only a new document can follow.
    pub fn discard(&mut self) {
        self.reader.source_mut().clear();
        if !matches!(self.stage, Stage::Between | Stage::Closed) && self.failed.is_none() {
            self.restart();
        }
    }

    fn advance(&mut self) -> Result<Option<Item>, XmlError> {
        loop {
            let goes_on = match self.stage {
                Stage::Prolog { .. } => self.enter_document()?,
                Stage::Between => self.enter_element()?,
                Stage::Closed => false,
                Stage::Declaration | Stage::Root | Stage::Inside => true,
            };
            if !goes_on {
                return Ok(None);
            }
            let item = match self.reader.next() {
                Ok(event) => self.on(event)?,
                Err(error) => return self.on_obstacle(error.kind()),
            };
            if item.is_some() {
                return Ok(item);
            }
        }
    }

    /// Looks at what stands in front of the root, which is kept from the library unless it is
    /// the XML declaration: so no DTD ever reaches it. True if the library can go on.
    fn enter_document(&mut self) -> Result<bool, XmlError> {
        const DECLARATION: &[u8] = b"<?xml";
        let Stage::Prolog {
            declaration,
            restarted,
        } = self.stage
        else {
            return Ok(true);
        };
        let feed = self.reader.source_mut();
        let blank = blank_len(feed.ahead());
        if blank > 0 {
            feed.skip(blank);
            // XML 1.0 §2.8: nothing stands in front of a declaration.
            self.stage = Stage::Prolog {
                declaration: declaration && restarted,
                restarted,
            };
            return self.enter_document();
        }
        let found = match feed.ahead() {
            // An empty prefix, or UTF-16 without a mark.
            [0, ..] | [b'<', 0, ..] => Err(XmlError::UnsupportedEncoding),
            [b'<', b'?', ..] if !declaration => Err(PROCESSING_INSTRUCTION),
            [b'<', b'?', ..] => match feed.ahead() {
                [_, _, b'x', b'm', b'l', b' ' | b'\t' | b'\r' | b'\n', ..] => {
                    Ok(Some(Stage::Declaration))
                }
                begun if DECLARATION.starts_with(begun) || begun == DECLARATION => Ok(None),
                _ => Err(PROCESSING_INSTRUCTION),
            },
            [b'<', b'!', b'-', ..] => Err(COMMENT),
            [b'<', b'!', b'D', ..] => Err(DTD),
            [b'<', b'!', _, ..] => Err(not_well_formed("Text in front of the stream header")),
            [] | [b'<'] | [b'<', b'!'] => Ok(None),
            [b'<', ..] => Ok(Some(Stage::Root)),
            _ => Err(not_well_formed("Text in front of the stream header")),
        };
        match found? {
            Some(stage) => {
                self.stage = stage;
                Ok(true)
            }
            None => self.wait(),
        }
    }

    /// Passes over white space between elements, which would pile up in the library, and looks
    /// at how the next one begins. True if the library can go on.
    fn enter_element(&mut self) -> Result<bool, XmlError> {
        let feed = self.reader.source_mut();
        feed.skip(blank_len(feed.ahead()));
        match feed.ahead() {
            [b'<', b'?', ..] => Err(PROCESSING_INSTRUCTION),
            [b'<', b'!', b'-', ..] => Err(COMMENT),
            [b'<', b'!', b'D', ..] => Err(DTD),
            [b'<', b'!', b'[', ..] => Err(TEXT_BETWEEN),
            [b'<', b'!', _, ..] => Err(not_well_formed("Unknown markup")),
            [] | [b'<'] | [b'<', b'!'] => self.wait(),
            [b'<', ..] => {
                self.stage = Stage::Inside;
                self.start = feed.offset();
                self.bound_element();
                Ok(true)
            }
            _ => Err(TEXT_BETWEEN),
        }
    }

    /// Says that more bytes are needed, or why they would not help.
    fn wait(&self) -> Result<bool, XmlError> {
        self.reader.source().obstacle().map_or(Ok(false), Err)
    }

    fn on_obstacle(&mut self, kind: &ErrorKind) -> Result<Option<Item>, XmlError> {
        match kind {
            ErrorKind::Io(_) => {
                self.reader.source_mut().mark_waiting();
                self.wait().map(|_| None)
            }
            ErrorKind::Syntax(message) => Err(syntax_error(message)),
            // The feed hands out valid UTF-8 and never ends.
            ErrorKind::Utf8(_) => Err(XmlError::UnsupportedEncoding),
            _ => Err(not_well_formed("The XML cannot be read")),
        }
    }

    fn on(&mut self, event: XmlEvent) -> Result<Option<Item>, XmlError> {
        match event {
            XmlEvent::StartElement {
                name,
                attributes,
                namespace,
            } => {
                let bindings = namespace.0.iter().map(|(p, n)| (p.as_str(), n.as_str()));
                let declared = self.check_tag(&attributes, bindings.clone())?;
                let attributes = attributes.into_iter().map(|attribute| Attribute {
                    name: attribute.name.local_name,
                    ns: attribute.name.namespace,
                    value: attribute.value,
                });
                if self.stage == Stage::Root {
                    return self
                        .open_root(name, attributes, bindings, declared)
                        .map(Some);
                }
                self.open_element(name, attributes, declared)?;
                Ok(None)
            }
            XmlEvent::EndElement { name } => {
                self.reader.source_mut().mark_markup();
                self.close_element(&name)
            }
            XmlEvent::Characters(text) | XmlEvent::CData(text) | XmlEvent::Whitespace(text) => {
                self.reader.source_mut().mark_end_of_text();
                if self.top.is_none() {
                    return Err(TEXT_BETWEEN);
                }
                self.builder.text(&text);
                self.check_written()?;
                Ok(None)
            }
            XmlEvent::StartDocument { version, .. } => {
                if version != XmlVersion::Version10 {
                    // RFC 6120 §11.8. Such a document is well-formed by its own rules.
                    return Err(XmlError::BadFormat("A stream must be XML 1.0"));
                }
                // Without a declaration this event comes from within the root's tag.
                if self.stage == Stage::Declaration {
                    self.reader.source_mut().mark_markup();
                    self.stage = Stage::Prolog {
                        declaration: false,
                        restarted: false,
                    };
                }
                Ok(None)
            }
            XmlEvent::Comment(_) => Err(COMMENT),
            XmlEvent::ProcessingInstruction { .. } => Err(PROCESSING_INSTRUCTION),
            XmlEvent::Doctype { .. } => Err(DTD),
            XmlEvent::EndDocument => Err(not_well_formed("The stream is over")),
        }
    }

    /// Checks what holds for every start tag, and counts its declarations.
    fn check_tag<'a>(
        &mut self,
        attributes: &[::xml::attribute::OwnedAttribute],
        mut bindings: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Declared, XmlError> {
        let declared = start_tag::check(self.reader.source().start_tag(), &self.bounds)?;
        self.reader.source_mut().mark_markup();
        if self.scopes.len() >= self.bounds.depth_max {
            return Err(XmlError::TooBig("depth of elements"));
        }
        let (count, bytes) = self.bindings_in_scope(declared);
        if count > self.bounds.bindings_max || bytes > limits::XML_BINDING_BYTES_MAX {
            return Err(start_tag::TOO_MANY_BINDINGS);
        }
        // Namespaces in XML 1.0 §3 reserves both; the library checks the default namespace.
        let is_reserved = |(prefix, space): (&str, &str)| {
            matches!(space, ns::XML | ns::XMLNS) && !matches!(prefix, "xml" | "xmlns")
        };
        if declared.prefixes > 0 && bindings.any(is_reserved) {
            return Err(not_well_formed("A prefix is bound to a reserved namespace"));
        }
        for attribute in attributes {
            match attribute.name.namespace.as_deref() {
                None | Some(ns::XML) => {}
                Some(space) => check_namespace(space)?,
            }
        }
        Ok(declared)
    }

    fn bindings_in_scope(&self, declared: Declared) -> (usize, usize) {
        let around = self.scopes.last();
        let around = around.map_or((0, 0), |scope| (scope.bindings, scope.binding_bytes));
        (around.0 + declared.bindings, around.1 + declared.bytes)
    }

    fn open_root<'a>(
        &mut self,
        name: OwnedName,
        attributes: impl Iterator<Item = Attribute>,
        bindings: impl Iterator<Item = (&'a str, &'a str)>,
        declared: Declared,
    ) -> Result<Item, XmlError> {
        let mut header = Header {
            name: name.local_name,
            ns: name.namespace.unwrap_or_default(),
            prefix: name.prefix,
            ..Header::default()
        };
        for (prefix, namespace) in bindings {
            match prefix {
                "" => header.content_ns = namespace.to_owned(),
                _ => header.binds_stream_ns |= namespace == ns::STREAM,
            }
        }
        for attribute in attributes {
            let field = match (attribute.ns.as_deref(), attribute.name.as_str()) {
                (None, "from") => &mut header.from,
                (None, "to") => &mut header.to,
                (None, "id") => &mut header.id,
                (None, "version") => &mut header.version,
                (Some(ns::XML), "lang") => &mut header.lang,
                _ => continue,
            };
            *field = Some(attribute.value);
        }
        self.push_scope(header.ns.clone(), false, declared);
        self.stage = Stage::Between;
        self.reader.source_mut().set_bound(None);
        Ok(Item::Open(Box::new(header)))
    }

    fn open_element(
        &mut self,
        name: OwnedName,
        attributes: impl Iterator<Item = Attribute>,
        declared: Declared,
    ) -> Result<(), XmlError> {
        let ns = name.namespace.unwrap_or_default();
        let (local, prefix) = (name.local_name, name.prefix);
        let Some(parent) = self.scopes.last().filter(|_| self.top.is_some()) else {
            check_namespace(&ns)?;
            check_prefix(&ns, prefix.as_deref())?;
            self.top = Some(Box::new(Top {
                name: local,
                ns: ns.clone(),
                attributes: attributes.collect(),
                payload: Payload::empty(),
                size: 0,
            }));
            self.push_scope(ns, true, declared);
            return Ok(());
        };
        // A stanza goes to streams of either content namespace, and so do those of its children
        // that are in one of them (RFC 6120 §4.8.3). Within other elements names stay as they are.
        let is_content = parent.is_content && is_content_namespace(&ns);
        let xmlns = match is_content {
            true => {
                check_prefix(&ns, prefix.as_deref())?;
                None
            }
            false => (parent.is_content || parent.ns != ns).then_some(ns.as_str()),
        };
        if let Some(ns) = xmlns {
            check_namespace(ns)?;
        }
        let attributes: Vec<Attribute> = attributes.collect();
        let written = attributes.iter();
        let written = written.map(|a| (a.ns.as_deref(), a.name.as_str(), a.value.as_str()));
        self.builder.open(&local, xmlns, written);
        self.push_scope(ns, is_content, declared);
        self.check_written()
    }

    fn push_scope(&mut self, ns: String, is_content: bool, declared: Declared) {
        let (bindings, binding_bytes) = self.bindings_in_scope(declared);
        self.scopes.push(Scope {
            ns,
            is_content,
            bindings,
            binding_bytes,
        });
    }

    fn close_element(&mut self, name: &OwnedName) -> Result<Option<Item>, XmlError> {
        self.scopes.pop();
        match self.scopes.len() {
            0 => {
                self.stage = Stage::Closed;
                self.forget();
                Ok(Some(Item::Close))
            }
            1 => {
                let end = self.reader.source().offset();
                self.stage = Stage::Between;
                self.reader.source_mut().set_bound(None);
                let payload = self.builder.finish();
                Ok(self.top.take().map(|mut top| {
                    top.size = usize::try_from(end - self.start).unwrap_or(usize::MAX);
                    top.payload = payload;
                    Item::Top(top)
                }))
            }
            _ => {
                self.builder.close(&name.local_name);
                Ok(None)
            }
        }
    }

    /// Namespaces are declared where they are used and characters escaped, so that what is
    /// written can be longer than what came; for real stanzas it hardly is.
    fn check_written(&self) -> Result<(), XmlError> {
        match self.builder.len() > self.bounds.element_bytes_max.saturating_mul(2) {
            true => Err(XmlError::TooBig("size of one element in bytes")),
            false => Ok(()),
        }
    }

    fn bound_element(&mut self) {
        let bound = self
            .start
            .saturating_add(self.bounds.element_bytes_max as u64);
        self.reader.source_mut().set_bound(Some(bound));
    }

    /// Gives memory back when nothing more can be parsed.
    fn forget(&mut self) {
        self.reader.source_mut().clear();
        self.scopes = Vec::new();
        self.top = None;
        self.builder = Builder::default();
    }
}

const COMMENT: XmlError = XmlError::RestrictedXml("comments");
const DTD: XmlError = XmlError::RestrictedXml("document type declarations");
const ENTITY: XmlError = XmlError::RestrictedXml("entity references but the five predefined");
const PROCESSING_INSTRUCTION: XmlError = XmlError::RestrictedXml("processing instructions");
const TEXT_BETWEEN: XmlError = XmlError::BadFormat("Text between the elements of a stream");

fn not_well_formed(what: &'static str) -> XmlError {
    XmlError::NotWellFormed(Cow::Borrowed(what))
}

/// The library's configuration. Its own bounds are as high as ours can be set; ours are checked
/// here, because bounds change within a document.
fn reader(feed: Feed) -> EventReader<Feed> {
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
fn syntax_error(message: &str) -> XmlError {
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
    } else {
        let clipped: String = message.chars().take(TEXT_CHARS_MAX).collect();
        XmlError::NotWellFormed(Cow::Owned(clipped))
    }
}

fn blank_len(bytes: &[u8]) -> usize {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    bytes.iter().position(is_text).unwrap_or(bytes.len())
}

fn is_content_namespace(namespace: &str) -> bool {
    matches!(namespace, ns::CLIENT | ns::SERVER)
}

/// RFC 6120 §4.8.5: no prefix for the content namespace.
fn check_prefix(namespace: &str, prefix: Option<&str>) -> Result<(), XmlError> {
    if prefix.is_some() && is_content_namespace(namespace) {
        let what = "The content namespace must not have a prefix";
        return Err(XmlError::BadNamespacePrefix(what));
    }
    Ok(())
}

fn check_namespace(namespace: &str) -> Result<(), XmlError> {
    if start_tag::is_portable_namespace(namespace) {
        return Ok(());
    }
    Err(XmlError::BadFormat(
        "A namespace has characters that no URI has",
    ))
}
