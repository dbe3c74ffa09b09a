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

use std::sync::Arc;

use ::xml::attribute::OwnedAttribute;
use ::xml::common::XmlVersion;
use ::xml::name::OwnedName;
use ::xml::namespace::Namespace;
use ::xml::reader::{ErrorKind, EventReader, XmlEvent};

use super::bounds::Bounds;
use super::element::Attribute;
use super::error::{COMMENT, DTD, PROCESSING_INSTRUCTION, TEXT_BETWEEN, XmlError, not_well_formed};
use super::feed::Feed;
use super::item::{Header, Item, Top, is_content_namespace};
use super::library::{reader, syntax_error};
use super::outside::{self, Ahead, blank_len};
use super::payload::{Builder, Payload};
use super::start_tag::{self, Declared};
use super::writer;
use crate::{limits, ns};

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

/// The root of nearly all clients' streams, without what only the header tells.
const USUAL_ROOT: &[u8] = b"<stream:stream xmlns='jabber:client' \
                            xmlns:stream='http://etherx.jabber.org/streams'>";

/// What is remembered of an open element.
#[derive(Debug)]
struct Scope {
    ns: Arc<str>,
    /// Of names without a prefix. The library does not see every declaration of it.
    default_ns: Arc<str>,
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
    /// The library stands just behind a tag of a child of the root, and nothing is pending in it.
    behind_tag: bool,
    /// The root is one for which [`USUAL_ROOT`] can stand.
    has_usual_root: bool,
    /// Declarations in scope, summed over the elements of this child of the root.
    copies: usize,
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
            behind_tag: false,
            has_usual_root: false,
            copies: 0,
            top: None,
            builder: Builder::default(),
            failed: None,
        };
        parser.bound_element();
        parser
    }

    /// A parser in the place of one of which [`Parser::can_rest`] is true.
    pub fn resumed(bounds: Bounds) -> Parser {
        let mut parser = Parser::new(bounds);
        parser.feed(USUAL_ROOT);
        let root = parser.next();
        debug_assert!(matches!(root, Ok(Some(Item::Open(_)))), "{root:?}");
        parser
    }

    /// Whether nothing of the document matters to what follows but that its root is open, and binds
    /// what nearly all clients bind: then [`Parser::resumed`] goes on as well.
    pub fn can_rest(&self) -> bool {
        self.has_usual_root
            && self.stage == Stage::Between
            && self.failed.is_none()
            && self.reader.source().unread().is_empty()
    }

    /// The bounds in force.
    pub fn bounds(&self) -> Bounds {
        self.bounds
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
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator that says None must not go on later"
    )]
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
        let mut feed = std::mem::take(self.reader.source_mut());
        // They were found for an element.
        feed.whole_again();
        self.reader = reader(feed);
        self.stage = Stage::Prolog {
            declaration: true,
            restarted: true,
        };
        self.start = self.reader.source().offset();
        self.scopes.clear();
        self.behind_tag = false;
        self.has_usual_root = false;
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
            Stage::Prolog { .. } | Stage::Between => unread.len() - blank_len(unread),
            Stage::Closed => 0,
            Stage::Declaration | Stage::Root | Stage::Inside => {
                let begun = self.reader.source().offset() - self.start;
                usize::try_from(begun).unwrap_or(usize::MAX) + unread.len()
            }
        }
    }

    fn advance(&mut self) -> Result<Option<Item>, XmlError> {
        loop {
            let goes_on = match self.stage {
                Stage::Prolog { .. } => self.enter_document()?,
                Stage::Between => self.enter_element()?,
                Stage::Closed => false,
                Stage::Inside if self.behind_tag => self.take_plain_text()?,
                Stage::Declaration | Stage::Root | Stage::Inside => true,
            };
            if !goes_on {
                return Ok(None);
            }
            self.behind_tag = false;
            if self.stage == Stage::Inside {
                self.reader.source_mut().shorten_tag();
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

    /// Keeps what stands in front of the root from the library, but for the XML declaration: so no
    /// DTD ever reaches it. True if the library can go on.
    fn enter_document(&mut self) -> Result<bool, XmlError> {
        let Stage::Prolog {
            declaration,
            restarted,
        } = self.stage
        else {
            return Ok(true);
        };
        let feed = self.reader.source_mut();
        let blank = blank_len(feed.ahead());
        feed.skip(blank);
        // XML 1.0 §2.8: nothing stands in front of a declaration.
        let declaration = declaration && (restarted || blank == 0);
        self.stage = match outside::before_root(feed.ahead(), declaration)? {
            Ahead::Unclear => {
                self.stage = Stage::Prolog {
                    declaration,
                    restarted,
                };
                return self.wait();
            }
            Ahead::Declaration => Stage::Declaration,
            Ahead::Tag => Stage::Root,
        };
        Ok(true)
    }

    /// Passes over white space between elements, which would pile up in the library. True if the
    /// library can go on.
    fn enter_element(&mut self) -> Result<bool, XmlError> {
        let feed = self.reader.source_mut();
        feed.skip(blank_len(feed.ahead()));
        if outside::between(feed.ahead())? == Ahead::Unclear {
            return self.wait();
        }
        self.stage = Stage::Inside;
        self.start = feed.offset();
        self.behind_tag = false;
        self.copies = 0;
        self.bound_element();
        Ok(true)
    }

    /// Copies text that means itself without showing it to the library, which takes about a
    /// hundred times longer over it. It can be left out because it would only be collected for
    /// one event. True if the library can go on.
    fn take_plain_text(&mut self) -> Result<bool, XmlError> {
        let feed = self.reader.source_mut();
        let length = writer::plain_text_len(feed.ahead());
        if length > 0 {
            self.builder
                .plain_text(feed.ahead().get(..length).unwrap_or_default());
            feed.skip(length);
            self.check_written()?;
        }
        match self.reader.source().ahead() {
            [] => self.wait(),
            _ => Ok(true),
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
                mut attributes,
                namespace,
            } => {
                let bindings = namespace.0.iter().map(|(p, n)| (p.as_str(), n.as_str()));
                for (number, value) in self.reader.source().cut_values() {
                    if let Some(attribute) = attributes.get_mut(number) {
                        attribute.value.push_str(value);
                    }
                }
                let declared = self.check_tag(&attributes, bindings.clone())?;
                let default_ns = self.default_ns(declared, &namespace);
                self.reader.source_mut().whole_again();
                if self.stage == Stage::Root {
                    return self
                        .open_root(name, attributes, bindings, declared, default_ns)
                        .map(Some);
                }
                self.open_element(name, attributes, declared, default_ns)?;
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
        attributes: &[OwnedAttribute],
        mut bindings: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Declared, XmlError> {
        let tag = self.reader.source().start_tag();
        let declared = start_tag::check(tag, &self.bounds)?;
        // The end of an empty element is still to be told.
        self.behind_tag = !tag.ends_with(b"/>");
        self.reader.source_mut().mark_markup();
        if self.scopes.len() >= self.bounds.depth_max {
            return Err(XmlError::TooBig("depth of elements"));
        }
        let (count, bytes) = self.bindings_in_scope(declared);
        if count > self.bounds.bindings_max || bytes > limits::XML_BINDING_BYTES_MAX {
            return Err(start_tag::TOO_MANY_BINDINGS);
        }
        self.copies += count;
        if self.copies > limits::XML_BINDING_COPIES_MAX {
            return Err(XmlError::TooBig("elements with namespaces in scope"));
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

    /// The namespace of names without a prefix in the element that was just opened.
    fn default_ns(&self, declared: Declared, seen: &Namespace) -> Arc<str> {
        if let Some(cut) = self.reader.source().cut_namespace() {
            return Arc::from(cut);
        }
        match self.scopes.last() {
            Some(around) if declared.bindings == declared.prefixes => {
                Arc::clone(&around.default_ns)
            }
            _ => Arc::from(seen.get("").unwrap_or_default()),
        }
    }

    fn bindings_in_scope(&self, declared: Declared) -> (usize, usize) {
        let around = self.scopes.last();
        let around = around.map_or((0, 0), |scope| (scope.bindings, scope.binding_bytes));
        (around.0 + declared.bindings, around.1 + declared.bytes)
    }

    fn open_root<'a>(
        &mut self,
        name: OwnedName,
        attributes: Vec<OwnedAttribute>,
        bindings: impl Iterator<Item = (&'a str, &'a str)>,
        declared: Declared,
        default_ns: Arc<str>,
    ) -> Result<Item, XmlError> {
        let mut header = Header {
            name: name.local_name,
            ns: name.namespace.unwrap_or_default(),
            prefix: name.prefix,
            ..Header::default()
        };
        let mut has_usual_prefix = header.prefix.as_deref() == Some("stream");
        for (prefix, namespace) in bindings {
            match prefix {
                "" => header.content_ns = namespace.to_owned(),
                _ => header.binds_stream_ns |= namespace == ns::STREAM,
            }
            has_usual_prefix &= prefix != "stream" || namespace == ns::STREAM;
        }
        // Of an empty root the library has the end still to tell.
        self.has_usual_root = has_usual_prefix
            && self.behind_tag
            && (header.name.as_str(), header.content_ns.as_str()) == ("stream", ns::CLIENT)
            && (declared.bindings, declared.prefixes) == (2, 1);
        for attribute in attributes {
            let name = &attribute.name;
            let field = match (name.namespace.as_deref(), name.local_name.as_str()) {
                (None, "from") => &mut header.from,
                (None, "to") => &mut header.to,
                (None, "id") => &mut header.id,
                (None, "version") => &mut header.version,
                (Some(ns::XML), "lang") => &mut header.lang,
                _ => continue,
            };
            *field = Some(attribute.value);
        }
        let ns = Arc::from(header.ns.as_str());
        self.push_scope(ns, default_ns, false, declared);
        self.stage = Stage::Between;
        self.reader.source_mut().set_bound(None);
        Ok(Item::Open(Box::new(header)))
    }

    fn open_element(
        &mut self,
        name: OwnedName,
        attributes: Vec<OwnedAttribute>,
        declared: Declared,
        default_ns: Arc<str>,
    ) -> Result<(), XmlError> {
        let (local, prefix) = (name.local_name, name.prefix);
        let ns = match &prefix {
            None => Arc::clone(&default_ns),
            Some(_) => Arc::from(name.namespace.unwrap_or_default()),
        };
        let Some(parent) = self.scopes.last().filter(|_| self.top.is_some()) else {
            check_namespace(&ns)?;
            check_prefix(&ns, prefix.as_deref())?;
            if local == "stream" && *ns == *ns::STREAM {
                // RFC 6120 §4.2: one stream at a time. Its end would be waited for in vain.
                return Err(XmlError::BadFormat("A stream within a stream"));
            }
            self.builder.begin();
            self.top = Some(Box::new(Top {
                name: local,
                ns: ns.to_string(),
                attributes: attributes.into_iter().map(owned).collect(),
                payload: Payload::empty(),
                size: 0,
            }));
            self.push_scope(ns, default_ns, true, declared);
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
            false => (parent.is_content || parent.ns != ns).then_some(&*ns),
        };
        if let Some(ns) = xmlns {
            check_namespace(ns)?;
        }
        let written = attributes.iter().map(|a| {
            let name = &a.name;
            (
                name.namespace.as_deref(),
                name.local_name.as_str(),
                a.value.as_str(),
            )
        });
        self.builder.open(&local, xmlns, written);
        self.push_scope(ns, default_ns, is_content, declared);
        self.check_written()
    }

    fn push_scope(
        &mut self,
        ns: Arc<str>,
        default_ns: Arc<str>,
        is_content: bool,
        declared: Declared,
    ) {
        let (bindings, binding_bytes) = self.bindings_in_scope(declared);
        self.scopes.push(Scope {
            ns,
            default_ns,
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
                self.behind_tag = true;
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

fn owned(attribute: OwnedAttribute) -> Attribute {
    Attribute {
        name: attribute.name.local_name,
        ns: attribute.name.namespace,
        value: attribute.value,
    }
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
