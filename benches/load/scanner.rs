//! Finds the ends of stanzas in a stream by counting tags, without an XML parser.
//!
//! A load generator must be cheaper than what it measures. The servers it drives send well-formed
//! XML (their clients would disconnect otherwise), so all that matters here is where a top-level
//! element ends: tags are counted, quotes are minded, CDATA and processing instructions are passed.
//! Nothing is resolved or validated.

use std::ops::Range;

/// What the scanner found; ranges are for [`Scanner::bytes`] until the next `push` or `compact`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The start tag of the stream.
    Open(Range<usize>),
    /// One complete child of the stream: a stanza or a nonza.
    Element(Range<usize>),
    /// The end tag of the stream.
    Close,
}

/// The scanner of one stream. Its buffer holds only what no event has been given for.
#[derive(Debug, Default)]
pub struct Scanner {
    bytes: Vec<u8>,
    /// Everything before it has been scanned.
    at: usize,
    /// Where the top-level element that is being scanned begins.
    start: usize,
    depth: u32,
}

impl Scanner {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes of an event's range.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// A new stream follows (RFC 6120 §4.3.3); bytes already received belong to it.
    pub fn restart(&mut self) {
        self.depth = 0;
        self.start = self.at;
    }

    /// Forgets what events were given for. Call it when the events of one read are done with.
    pub fn compact(&mut self) {
        let keep = if self.depth > 1 { self.start } else { self.at };
        if keep == self.bytes.len() {
            self.bytes.clear();
        } else {
            self.bytes.drain(..keep);
        }
        self.at -= keep;
        self.start = self.start.saturating_sub(keep);
    }

    /// The next event, or `None` when more bytes are needed.
    pub fn next(&mut self) -> Option<Event> {
        loop {
            let rest = &self.bytes[self.at..];
            let Some(skip) = rest.iter().position(|&b| b == b'<') else {
                self.at = self.bytes.len();
                return None;
            };
            // An unfinished tag is scanned again when the rest of it has come.
            let open = self.at + skip;
            self.at = open;
            let length = markup_length(&self.bytes[open..])?;
            self.at = open + length;
            if let Some(event) = self.tag(open, self.at) {
                return Some(event);
            }
        }
    }

    /// Counts the markup in `open..end` and tells whether it completes something.
    fn tag(&mut self, open: usize, end: usize) -> Option<Event> {
        let empty = self.bytes[end - 2] == b'/';
        match (self.bytes[open + 1], self.depth) {
            (b'?' | b'!', _) => None,
            (b'/', 0 | 1) => {
                self.depth = 0;
                Some(Event::Close)
            }
            (b'/', _) => {
                self.depth -= 1;
                (self.depth == 1).then_some(Event::Element(self.start..end))
            }
            (_, 0) => {
                self.depth = 1;
                Some(Event::Open(open..end))
            }
            (_, 1) if empty => Some(Event::Element(open..end)),
            (_, depth) => {
                if depth == 1 {
                    self.start = open;
                }
                self.depth += u32::from(!empty);
                None
            }
        }
    }
}

/// The length of the markup at the start of `bytes` (which is `<`), if all of it is there.
fn markup_length(bytes: &[u8]) -> Option<usize> {
    const CDATA: &[u8] = b"<![CDATA[";
    if bytes.len() < CDATA.len() && CDATA.starts_with(bytes) && bytes.len() > 1 {
        return None;
    }
    if bytes.starts_with(CDATA) {
        return find(bytes, b"]]>").map(|at| at + 3);
    }
    let mut quote = 0;
    for (at, &byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            b'>' if quote == 0 => return Some(at + 1),
            b'\'' | b'"' if quote == 0 => quote = byte,
            _ if byte == quote => quote = 0,
            _ => {}
        }
    }
    None
}

/// Where `needle` (not empty) first stands in `bytes`.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + bytes[from..].iter().position(|&b| b == needle[0])?;
        if bytes[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Whether `needle` stands in `bytes`.
pub fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    find(bytes, needle).is_some()
}

/// The name of an element as written, with its prefix.
pub fn name(element: &[u8]) -> &[u8] {
    let name = element.get(1..).unwrap_or_default();
    let end = name.iter().position(|b| b" \t\r\n/>".contains(b));
    &name[..end.unwrap_or(name.len())]
}

/// An attribute of the element's start tag, as written (references are not resolved).
pub fn attribute<'a>(element: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut rest = &element[1 + name(element).len()..];
    loop {
        rest = rest.trim_ascii_start();
        if matches!(rest.first(), None | Some(b'>' | b'/')) {
            return None;
        }
        let equals = rest.iter().position(|&b| b == b'=')?;
        let found = rest[..equals].trim_ascii_end();
        let quoted = rest[equals + 1..].trim_ascii_start();
        let (&quote, value) = quoted.split_first()?;
        let end = value.iter().position(|&b| b == quote)?;
        if found == wanted {
            return Some(&value[..end]);
        }
        rest = &value[end + 1..];
    }
}

/// The bytes between an element's start tag and its end tag; empty for an empty element.
pub fn content(element: &[u8]) -> &[u8] {
    let start = markup_length(element).unwrap_or(element.len());
    let end = element.iter().rposition(|&b| b == b'<').unwrap_or(0);
    element.get(start..end).unwrap_or_default()
}

/// The contents of all descendants written as `<name>` or `<name …>`, for flat elements only.
pub fn texts<'a>(element: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let opening = format!("<{name}");
    let mut rest = element;
    std::iter::from_fn(move || {
        loop {
            let at = find(rest, opening.as_bytes())?;
            let tag = &rest[at..];
            let length = markup_length(tag)?;
            rest = &tag[length..];
            if !matches!(tag.get(opening.len()), Some(b'>' | b' ')) {
                continue;
            }
            let end = rest.iter().position(|&b| b == b'<')?;
            return Some(&rest[..end]);
        }
    })
}

/// Claims about the scanner, run by `load check`.
pub fn check() {
    let stream = b"<?xml version='1.0'?><stream:stream to=\"a>b\" xmlns='jabber:client'>\n\
        <stream:features><m>A</m><x/></stream:features> <iq id='1' type=\"result\"/>\
        <message id='2'><body>a &lt; b</body><a b='/>'/><![CDATA[</message>]]></message></stream:stream>";
    let mut whole = Vec::new();
    for step in 1..stream.len() {
        let mut scanner = Scanner::default();
        let mut seen: Vec<Vec<u8>> = Vec::new();
        for part in stream.chunks(step) {
            scanner.push(part);
            while let Some(event) = scanner.next() {
                seen.push(match event {
                    Event::Open(range) | Event::Element(range) => scanner.bytes(range).to_vec(),
                    Event::Close => b"close".to_vec(),
                });
            }
            scanner.compact();
        }
        if step == 1 {
            assert_eq!(seen.len(), 5, "a stream of three elements");
            whole = seen;
        } else {
            assert_eq!(seen, whole, "cut every {step} bytes");
        }
    }
    assert_eq!(name(&whole[2]), b"iq");
    assert_eq!(attribute(&whole[2], b"type"), Some(&b"result"[..]));
    assert_eq!(attribute(&whole[2], b"to"), None);
    assert_eq!(attribute(&whole[0], b"to"), Some(&b"a>b"[..]));
    assert_eq!(content(&whole[1]), b"<m>A</m><x/>");
    assert_eq!(texts(&whole[1], "m").collect::<Vec<_>>(), [b"A"]);
    assert!(contains(&whole[3], b"<body>a &lt; b</body>"));
}
