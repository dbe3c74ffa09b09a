//! Counts bytes parsed a second: a whole client stream, from its header to its end, fed at once,
//! by our parser and by the XML library alone.
//!
//! The loads are what clients send most, and what costs most for its length. The library is
//! given; it serves the choice of what we do around it (`Canonical stanzas` in lib.rs): the
//! distance between the two is what bounds, canonical payloads and the guards against parser
//! differences cost, or what is won by keeping plain text from the library.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use stanzad::xml::{Bounds, Item, Parser};
use xml::reader::{EventReader, XmlEvent};

const HEADER: &str = "<stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' to='example.org' version='1.0'>";
const FOOTER: &str = "</stream:stream>";
/// The default of `c2s.stanza_bytes_max` (stanzad.toml(5)).
const STANZA_BYTES_MAX: usize = 262_144;

/// A chat message as clients send it, of about 300 bytes.
pub const CHAT: &str = "<message type='chat' to='romeo@example.net/orchard' id='c2b1f7a0-5d4e' \
    xml:lang='en'><body>Art thou not Romeo, and a Montague? Wherefore art thou here?</body>\
    <active xmlns='http://jabber.org/protocol/chatstates'/>\
    <request xmlns='urn:xmpp:receipts'/>\
    <origin-id xmlns='urn:xmpp:sid:0' id='c2b1f7a0-5d4e'/></message>";
const PRESENCE: &str = "<presence id='p7'><show>away</show><status>On the balcony</status>\
    <priority>5</priority><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' \
    node='https://client.example/' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/></presence>";
const ROSTER_PUSH: &str = "<iq type='set' id='a78b4q6ha463' to='juliet@example.org/balcony'>\
    <query xmlns='jabber:iq:roster' ver='ver34'><item jid='romeo@example.net' name='Romeo' \
    subscription='both'><group>Friends</group><group>Verona</group></item></query></iq>";

/// A name, a stanza, and how many of it make one stream.
fn loads() -> Vec<(&'static str, String, usize)> {
    let text = "Good night, good night! Parting is such sweet sorrow. ".repeat(1_214);
    let nest = "<a>".repeat(100) + &"</a>".repeat(100);
    vec![
        ("chat", CHAT.to_owned(), 64),
        ("presence", PRESENCE.to_owned(), 64),
        ("roster push", ROSTER_PUSH.to_owned(), 64),
        (
            "64 KiB of text",
            format!("<message><body>{text}</body></message>"),
            1,
        ),
        (
            "6,400 small elements",
            format!("<message>{}</message>", nest.repeat(64)),
            1,
        ),
    ]
}

/// Parses a whole stream and yields how many stanzas it had.
fn ours(stream: &str) -> usize {
    let mut parser = Parser::new(Bounds::of(STANZA_BYTES_MAX));
    parser.feed(stream.as_bytes());
    let mut stanzas = 0;
    while let Some(item) = parser.next().expect("the stream is within bounds") {
        match black_box(item) {
            Item::Open(_) => {}
            Item::Top(_) => stanzas += 1,
            Item::Close => return stanzas,
        }
    }
    panic!("the stream has no end");
}

/// The same by the library alone, in its own configuration; events are dropped as they come.
fn library(stream: &str) -> usize {
    let (mut depth, mut stanzas) = (0, 0);
    for event in EventReader::new(stream.as_bytes()) {
        match black_box(event.expect("the stream is well-formed")) {
            XmlEvent::StartElement { .. } => depth += 1,
            XmlEvent::EndElement { .. } => {
                depth -= 1;
                stanzas += usize::from(depth == 1);
            }
            _ => {}
        }
    }
    stanzas
}

pub fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for (name, stanza, count) in loads() {
        let stream = format!("{HEADER}{}{FOOTER}", stanza.repeat(count));
        assert_eq!((ours(&stream), library(&stream)), (count, count), "{name}");
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_with_input(BenchmarkId::new("stanzad", name), &stream, |b, stream| {
            b.iter(|| ours(stream));
        });
        group.bench_with_input(BenchmarkId::new("xml-rs", name), &stream, |b, stream| {
            b.iter(|| library(stream));
        });
    }
    group.finish();
}
