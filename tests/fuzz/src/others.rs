//! Other servers that our server dials. They are honest: what they are asked about they did not do.

use std::collections::BTreeSet;
use std::sync::Arc;

use stanzad::net::transport::TlsFacts;
use stanzad::ns;
use stanzad::shard::testing::servers::{Network, answer};
use stanzad::shard::testing::{Client, Server};
use stanzad::xml::{Bounds, Element, Item, Parser, Top};

/// The domain whose server says of the key `good` that it is its own.
pub const VOUCHING: &str = "b.example";

/// All of them that were dialled, and what came of it.
pub struct Others {
    network: Arc<Network>,
    dialled: Vec<Other>,
    /// Domains of which one has said that they have sent a key.
    pub vouched: BTreeSet<String>,
    /// Stanzas that they were sent: the domain, and what it was.
    pub sent: Vec<(String, Box<Top>)>,
}

struct Other {
    domain: String,
    client: Client,
    parser: Parser,
}

impl Others {
    /// Of this network.
    pub fn new(network: Arc<Network>) -> Others {
        network.set_down(false);
        Others {
            network,
            dialled: Vec::new(),
            vouched: BTreeSet::new(),
            sent: Vec::new(),
        }
    }

    /// The connections on which they are, or were, spoken to.
    pub fn clients(&self) -> impl Iterator<Item = &Client> {
        self.dialled.iter().map(|other| &other.client)
    }

    /// They are reached no more, and end the connections that they have.
    pub fn hang_up(&mut self) {
        self.network.set_down(true);
        for other in &self.dialled {
            other.client.wire.lock().expect("one thread").is_ended = true;
        }
    }

    /// Each answers what it was told, until nobody has anything to say.
    ///
    /// # Panics
    /// They talk for ever, or our server does not speak XML.
    pub fn attend(&mut self, server: &mut Server) {
        for _ in 0..1_000 {
            let new = self.network.take().into_iter();
            self.dialled.extend(new.map(|(domain, client)| Other {
                domain,
                client,
                parser: Parser::new(Bounds::of(16 << 20)),
            }));
            let mut said = String::new();
            let mut at = 0;
            while said.is_empty() && at < self.dialled.len() {
                said = self.answer(at);
                at += 1;
            }
            if said.is_empty() {
                return;
            }
            let client = &self.dialled[at - 1].client;
            client
                .wire
                .lock()
                .expect("one thread")
                .sent
                .extend(said.bytes());
            server.news();
            server.run();
        }
        panic!("the servers talk for ever");
    }

    /// What one of them says to what it was told since the last call.
    fn answer(&mut self, at: usize) -> String {
        let other = &mut self.dialled[at];
        other.parser.feed(other.client.take().as_bytes());
        let mut said = String::new();
        loop {
            match other.parser.next() {
                Ok(None) => return said,
                Ok(Some(Item::Open(_))) => said.push_str(&answer(&other.domain, "")),
                Ok(Some(Item::Close)) => {
                    other.client.wire.lock().expect("one thread").is_ended = true;
                }
                Ok(Some(Item::Top(top))) => match (top.ns.as_str(), top.name.as_str()) {
                    (ns::TLS, "starttls") => {
                        said.push_str("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
                        let mut wire = other.client.wire.lock().expect("one thread");
                        wire.facts = Some(certificate(&other.domain));
                        other.parser.restart();
                    }
                    (ns::DIALBACK, "result" | "verify") if top.attribute("type").is_none() => {
                        let is_key = top.name == "verify";
                        let is_own = other.domain == VOUCHING && top.text() == "good";
                        if is_key && is_own {
                            self.vouched.insert(other.domain.clone());
                        }
                        said.push_str(&judged(&top, !is_key || is_own));
                    }
                    (ns::SERVER, _) => self.sent.push((other.domain.clone(), top)),
                    _ => {}
                },
                Err(error) => panic!("{error} is written to {}", other.domain),
            }
        }
    }
}

/// TLS with a certificate that names this domain.
pub fn certificate(domain: &str) -> TlsFacts {
    TlsFacts {
        version: "TLSv1.3",
        peer_chain: vec![domain.as_bytes().to_vec()],
        ..TlsFacts::default()
    }
}

/// An answer of dialback (XEP-0220 §2.1).
fn judged(asked: &Top, is_valid: bool) -> String {
    let said = |name| asked.attribute(name).unwrap_or_default();
    let mut answer = Element::new(ns::DIALBACK, asked.name.as_str())
        .attr("from", said("to"))
        .attr("to", said("from"))
        .attr("type", if is_valid { "valid" } else { "invalid" });
    if let Some(id) = asked.attribute("id") {
        answer = answer.attr("id", id);
    }
    String::from_utf8(answer.to_bytes()).expect("UTF-8 is written")
}
