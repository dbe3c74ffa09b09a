//! The bytes of a stream on their way into the XML library, one at a time.
//!
//! The library reads from a `Read` byte by byte and keeps its place across `WouldBlock`. Three
//! things it must never see, because it loses bytes or its state over them: the end of the
//! stream (`Ok(0)`), a part of a code point, and bytes that are not UTF-8. So only whole, checked
//! code points are handed out, at most up to a bound. The raw bytes of the tag that is being read
//! are kept, since the library does not tell everything about it (`start_tag`).

use std::io::{self, Read};
use std::str;

use super::error::XmlError;
use super::shortcut::{self, Cut, What};

#[derive(Debug)]
pub(super) struct Feed {
    buf: Vec<u8>,
    /// Stream offset of `buf[0]`.
    base: u64,
    /// Next byte for the library.
    pos: usize,
    /// The library may read up to here: the least of `whole` and the bound.
    end: usize,
    /// Whole code points, checked to be UTF-8, reach up to here.
    whole: usize,
    /// What stands at `whole` is not UTF-8.
    broken: bool,
    /// Stream offset that must not be read past, if there is a bound at the moment.
    bound: Option<u64>,
    /// Where the markup that is being read begins, if `in_text` is false.
    mark: usize,
    /// Text is being read: the library will tell where it ends by an event.
    in_text: bool,
    /// What the library does not see of the tag that is being read.
    cuts: Vec<Cut>,
    /// Where that tag begins.
    tag: usize,
    /// The gap that the library comes to next, as positions in `buf`; `NO_GAP` if there is none.
    gap: (usize, usize),
    /// How many gaps it has passed.
    passed: usize,
}

const NO_GAP: (usize, usize) = (usize::MAX, usize::MAX);

impl Default for Feed {
    fn default() -> Feed {
        Feed {
            buf: Vec::new(),
            base: 0,
            pos: 0,
            end: 0,
            whole: 0,
            broken: false,
            bound: None,
            mark: 0,
            in_text: false,
            cuts: Vec::new(),
            tag: 0,
            gap: NO_GAP,
            passed: 0,
        }
    }
}

impl Feed {
    /// Appends bytes from the connection.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        // What follows broken bytes can never be reached.
        if self.broken {
            return;
        }
        self.compact();
        self.buf.extend_from_slice(bytes);
        match str::from_utf8(self.buf.get(self.whole..).unwrap_or_default()) {
            Ok(_) => self.whole = self.buf.len(),
            Err(error) => {
                self.whole += error.valid_up_to();
                self.broken = error.error_len().is_some();
            }
        }
        self.set_end();
    }

    /// Drops the bytes in front that nobody needs. Only once they outweigh what must move, so
    /// that a large element coming in small pieces costs linear time.
    fn compact(&mut self) {
        let keep = self.keep();
        if keep < self.buf.len() - keep {
            return;
        }
        self.buf.drain(..keep);
        self.base += keep as u64;
        self.pos -= keep;
        self.whole -= keep;
        self.mark = self.mark.saturating_sub(keep);
        // Nothing of the tag has been read if there are cuts now: it would have been to its end.
        self.tag = self.tag.saturating_sub(keep);
        self.set_gap();
        self.set_end();
    }

    /// The first byte that is still needed.
    fn keep(&self) -> usize {
        // The event that ends a text comes when `<` and the character behind it were read.
        const LOOK_BACK: usize = 8;
        match self.in_text {
            true => self.pos.saturating_sub(LOOK_BACK).max(self.mark),
            false => self.mark,
        }
    }

    fn set_end(&mut self) {
        let bound = match self.bound {
            Some(bound) => usize::try_from(bound.saturating_sub(self.base)).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        self.end = self.whole.min(bound).max(self.pos);
    }

    /// Gives memory back while more bytes are awaited: an idle stream holds none.
    pub(super) fn release(&mut self) {
        self.compact();
        if self.buf.is_empty() {
            self.buf = Vec::new();
            self.cuts = Vec::new();
        }
    }

    /// Drops all that was not read.
    pub(super) fn clear(&mut self) {
        self.base += self.buf.len() as u64;
        self.buf = Vec::new();
        (self.pos, self.end, self.whole, self.mark) = (0, 0, 0, 0);
        (self.broken, self.in_text, self.bound) = (false, false, None);
        self.whole_again();
    }

    /// Cuts what it need not see out of the tag that the library comes to, if it comes to one: what
    /// looks like a tag is none where the library has stopped within a CDATA section, a comment or a
    /// processing instruction.
    pub(super) fn shorten_tag(&mut self) {
        let is_between = !self.in_text && self.pos == self.mark;
        if is_between && self.cuts.is_empty() && self.ahead().first() == Some(&b'<') {
            let mut cuts = std::mem::take(&mut self.cuts);
            shortcut::cuts(self.ahead(), &mut cuts);
            (self.cuts, self.tag, self.passed) = (cuts, self.pos, 0);
            self.set_gap();
        }
    }

    fn set_gap(&mut self) {
        self.gap = match self.cuts.get(self.passed) {
            Some(Cut { gap, .. }) => (self.tag + gap.start, self.tag + gap.end),
            None => NO_GAP,
        };
    }

    /// The values that were cut out of the tag that was read, each with the number of its attribute.
    pub(super) fn cut_values(&self) -> impl Iterator<Item = (usize, &str)> {
        self.cuts.iter().filter_map(|cut| match cut.what {
            What::Value(number) => Some((number, self.in_tag(&cut.gap))),
            What::DefaultNamespace(_) => None,
        })
    }

    /// The default namespace that was cut out of the tag that was read.
    pub(super) fn cut_namespace(&self) -> Option<&str> {
        self.cuts.iter().find_map(|cut| match &cut.what {
            What::DefaultNamespace(value) => Some(self.in_tag(value)),
            What::Value(_) => None,
        })
    }

    fn in_tag(&self, range: &std::ops::Range<usize>) -> &str {
        let bytes = self.buf.get(self.tag + range.start..self.tag + range.end);
        // Only ASCII is cut out.
        str::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
    }

    /// The library has told the tag; nothing is cut out of what follows.
    pub(super) fn whole_again(&mut self) {
        self.cuts.clear();
        self.gap = NO_GAP;
    }

    /// The stream offset of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.pos as u64
    }

    /// All bytes not yet read, whole or not.
    pub(super) fn unread(&self) -> &[u8] {
        self.buf.get(self.pos..).unwrap_or_default()
    }

    /// The bytes that may be read.
    pub(super) fn ahead(&self) -> &[u8] {
        self.buf.get(self.pos..self.end).unwrap_or_default()
    }

    /// Passes over bytes that the library shall not see.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.pos = (self.pos + bytes).min(self.end);
        self.mark_markup();
    }

    /// Sets or lifts the bound on what may be read, as a stream offset.
    pub(super) fn set_bound(&mut self, bound: Option<u64>) {
        self.bound = bound;
        self.set_end();
    }

    /// Why nothing more can be read although more bytes would not help; None if they would.
    pub(super) fn obstacle(&self) -> Option<XmlError> {
        if self
            .bound
            .is_some_and(|bound| self.base + self.end as u64 >= bound)
        {
            return Some(XmlError::TooBig("size of one element in bytes"));
        }
        (self.broken && self.end == self.whole).then_some(XmlError::UnsupportedEncoding)
    }

    /// An element's tag was read to its end: what comes next is text or markup.
    pub(super) fn mark_markup(&mut self) {
        self.mark = self.pos;
        self.in_text = false;
    }

    /// Called when the library waits for bytes: if a text has begun, its bytes are not needed.
    pub(super) fn mark_waiting(&mut self) {
        if !self.in_text && self.buf.get(self.mark).is_some_and(|first| *first != b'<') {
            self.in_text = true;
        }
    }

    /// The library has told a text, so it has just read `<` and the character behind it.
    pub(super) fn mark_end_of_text(&mut self) {
        let read = self.buf.get(self.mark..self.pos).unwrap_or_default();
        if let Some(at) = read.iter().rposition(|byte| *byte == b'<') {
            self.mark += at;
        }
        self.in_text = false;
    }

    /// The raw start tag that was just read, from `<` to `>`.
    pub(super) fn start_tag(&self) -> &[u8] {
        // Empty CDATA sections in front of it are text of which no event tells.
        const NOTHING: &[u8] = b"<![CDATA[]]>";
        let mut tag = self.buf.get(self.mark..self.pos).unwrap_or_default();
        while let Some(rest) = tag.strip_prefix(NOTHING) {
            tag = rest;
        }
        tag
    }
}

impl Read for Feed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.pos == self.gap.0 {
            self.pos = self.gap.1;
            self.passed += 1;
            self.set_gap();
        }
        let next = self.buf.get(..self.end).and_then(|read| read.get(self.pos));
        if let (Some(byte), Some(slot)) = (next, out.first_mut()) {
            *slot = *byte;
            self.pos += 1;
            return Ok(1);
        }
        // Never Ok(0), which would mean the end of the document. The kind is for the parser
        // alone, which asks `obstacle` what is in the way.
        Err(io::ErrorKind::WouldBlock.into())
    }
}
