//! Whatever a socket sends gets an error or a closed stream: dialogs that were damaged at random,
//! by seeds, so that each failure can be repeated.

use crate::common::client::{Client, Heard, header};
use crate::common::server::{PASSWORD, Server};

const CONF: &str = "[c2s]\nrequire_encryption = false\nallow_unencrypted_plain = true\n\
                    [limits]\nresources_per_account_max = 1000\n";

/// What does harm in the middle of XML.
const SHARDS: [&[u8]; 24] = [
    b"<",
    b">",
    b"</",
    b"/>",
    b"&",
    b"&#0;",
    b"&#xD800;",
    b"]]>",
    b"<![CDATA[",
    b"<!--",
    b"<?xml version='1.0'?>",
    b"<!DOCTYPE a>",
    b"\0",
    b"\xff",
    b"\xf0\x9f\x8c",
    b"'",
    b"\"",
    b" xmlns='",
    b" xmlns:a='jabber:client'",
    b" to='@'",
    b" from='romeo@example.org'",
    b"</stream:stream>",
    b"<a xmlns='b'>",
    b"\x16\x03\x01\x02\x00",
];

/// Xorshift: enough chance for a test, and the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound.max(1) as u64).unwrap()
    }

    /// Damages some places of a script.
    fn damage(&mut self, script: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(script.len());
            let length = self.below(40).min(script.len() - at);
            match self.below(5) {
                0 => drop(script.drain(at..at + length)),
                1 => {
                    let copy = script[at..at + length].to_vec();
                    let to = self.below(script.len());
                    script.splice(to..to, copy);
                }
                2 => {
                    let shard = SHARDS[self.below(SHARDS.len())];
                    script.splice(at..at, shard.iter().copied());
                }
                3 => script[at] ^= 1 << self.below(8),
                _ => script.truncate(at),
            }
            if script.is_empty() {
                return;
            }
        }
    }
}

/// Sends a script in pieces, then no more; the connection has to end, and what comes back has to be
/// XML. The client reads only afterwards.
fn play(client: &mut Client, script: &[u8], chance: &mut Chance) {
    let mut rest = script;
    while !rest.is_empty() {
        let (piece, others) = rest.split_at(1 + chance.below(rest.len()));
        rest = others;
        if client.try_send(piece).is_err() {
            break;
        }
    }
    // The server may have hung up already.
    let _ = client.tcp().shutdown(std::net::Shutdown::Write);
    while !matches!(client.try_hear(), Ok(Heard::End) | Err(_)) {}
}

/// RFC 6120 §11, §13.12: before the login.
#[test]
fn damaged_logins_end_and_harm_nobody() {
    let server = Server::start(CONF);
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let header = header("example.org");
    let script = format!(
        "{header}<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>\
         biwsbj1yb21lbyxyPWFiYw==</auth>\
         <response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>Yz1iaXdzLHI9YWJjLHA9</response>\
         <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>\
         AHJvbWVvAHIwbTMwbXlyMG0zMA==</auth>{header}\
         <iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>\
         <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><presence/></stream:stream>"
    );
    for seed in 1..=200 {
        let mut chance = Chance(seed * 0x9E37_79B9);
        let mut script = script.clone().into_bytes();
        chance.damage(&mut script);
        play(&mut Client::connect(&server), &script, &mut chance);
    }
    juliet.settle();
    assert_eq!(server.status().connections, 1);
}

/// RFC 6120 §11, §8: on a bound stream; others hear whole stanzas or nothing.
#[test]
fn damaged_stanzas_end_their_stream_at_most() {
    let server = Server::start(CONF);
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let script = "<message to='juliet@example.org/balcony' type='chat' id='m'>\
                  <body xml:lang='cs'>caf\u{e9} &amp; \u{1f339}</body>\
                  <x:y xmlns:x='urn:x' x:z='1'><q/></x:y></message>\
                  <presence><priority>5</priority></presence>\
                  <iq type='get' id='i' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>\
                  <iq type='set' id='j' to='juliet@example.org/balcony'><a xmlns='urn:a'/></iq>\
                  <message to='nobody@example.org'/> <presence type='unavailable'/>\
                  <message to='romeo@montague.example'><body>a</body></message>\
                  </stream:stream>";
    for seed in 1..=200 {
        let mut chance = Chance(seed * 0x9E37_79B9);
        let mut romeo = Client::connect(&server);
        romeo.open("example.org");
        romeo.scram("SCRAM-SHA-1", "romeo", PASSWORD).unwrap();
        romeo.open("example.org");
        romeo.bind(None);
        let mut script = script.as_bytes().to_vec();
        chance.damage(&mut script);
        play(&mut romeo, &script, &mut chance);
    }
    for heard in juliet.until_settled() {
        let from = heard.attribute("from").unwrap();
        assert!(from.starts_with("romeo@example.org/"), "{from}");
    }
    assert_eq!(server.sessions(None).len(), 1);
}
