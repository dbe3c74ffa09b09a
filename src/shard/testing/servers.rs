//! Other servers, which the test speaks for: they connect, or are dialled.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::{Client, Server, Socket, Wire, open_settings};
use crate::config::{DomainSettings, S2s, Settings};
use crate::dns::{self, Found, Target, Tlsa};
use crate::jid::Domain;
use crate::net::transport::{TlsFacts, Transport};
use crate::shard::{Dialler, Peer, Post};
use crate::stream::policy::s2s::{Fault, Shown};

/// The address of all other servers.
const ADDRESS: &str = "192.0.2.9:5269";

/// Every other server is reached, unless it is down.
#[derive(Default)]
pub struct Network {
    is_down: AtomicBool,
    dialled: Mutex<Vec<(String, Client)>>,
}

impl Network {
    /// Whether nobody is reached from now on.
    pub fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
    }

    /// The connections that were dialled since the last call, and the domains they were dialled for.
    pub fn take(&self) -> Vec<(String, Client)> {
        std::mem::take(&mut self.dialled.lock().unwrap())
    }
}

impl Dialler for Network {
    fn dial(
        &self,
        _: SocketAddr,
        _: &str,
        remote: &str,
        _: bool,
    ) -> io::Result<(Box<dyn Transport>, u64)> {
        if self.is_down.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        let wire = Arc::new(Mutex::new(Wire::default()));
        let mut dialled = self.dialled.lock().unwrap();
        let client = Client {
            wire: Arc::clone(&wire),
        };
        dialled.push((remote.to_owned(), client));
        Ok((Box::new(Socket(wire)), 1_000 + dialled.len() as u64))
    }
}

/// What a certificate is worth: that of a server is its name.
pub fn shown(chain: &[Vec<u8>], remote: &Domain) -> Shown {
    let names_peer = chain
        .first()
        .is_some_and(|leaf| leaf == remote.as_str().as_bytes());
    Shown {
        chain: match names_peer {
            true => Ok(()),
            false => Err(Fault::UnknownAuthority),
        },
        names_peer,
        matches_pin: false,
        matches_tlsa: false,
    }
}

/// [`open_settings`] of a server that dialback satisfies, without TLS if need be.
pub fn lenient_settings() -> Settings {
    let mut settings = open_settings();
    let s2s = S2s {
        require_encryption: false,
        secure_auth: false,
        ..S2s::default()
    };
    let lenient = |domain: &Arc<DomainSettings>| {
        Arc::new(DomainSettings {
            s2s: s2s.clone(),
            ..(**domain).clone()
        })
    };
    settings.domains.values_mut().for_each(|domain| {
        *domain = lenient(domain);
    });
    settings.s2s = s2s;
    settings
}

/// A server's stream header to `example.org`.
pub fn header(from: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream from='{from}' to='example.org' version='1.0' \
         xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
         xmlns:stream='http://etherx.jabber.org/streams'>"
    )
}

/// A server's answer to our header, and what it offers.
pub fn answer(from: &str, features: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream from='{from}' to='example.org' version='1.0' id='{from}' \
         xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
         xmlns:stream='http://etherx.jabber.org/streams'>\
         <stream:features>{features}</stream:features>"
    )
}

/// A message of a remote account to juliet.
pub fn to_juliet(from: &str, body: &str) -> String {
    format!(
        "<message from='{from}' to='juliet@example.org/balcony' type='chat'><body>{body}</body>\
         </message>"
    )
}

/// An EXTERNAL that leaves the identity to the stream's header.
pub const EXTERNAL: &str =
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>";

impl Server {
    /// Accepts a server's connection on a shard.
    pub fn connect_server(&mut self, shard: usize) -> Client {
        self.connect_from(shard, Peer::Server)
    }

    /// The same, and has it open a stream over TLS, with a certificate for that domain.
    pub fn connect_securely(&mut self, shard: usize, domain: &str) -> Client {
        let peer = self.connect_server(shard);
        peer.wire.lock().unwrap().facts = Some(TlsFacts {
            version: "TLSv1.3",
            peer_chain: vec![domain.as_bytes().to_vec()],
            ..TlsFacts::default()
        });
        self.say(&peer, &header(domain));
        let proceed = self.say(&peer, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        assert!(proceed.contains("<proceed "), "{proceed}");
        let features = self.say(&peer, &header(domain));
        assert!(
            features.contains("<mechanism>EXTERNAL</mechanism>"),
            "{features}"
        );
        peer
    }

    /// On how many connections each shard sits.
    pub fn places(&self) -> Vec<usize> {
        self.shards
            .iter()
            .map(|shard| shard.connections())
            .collect()
    }

    /// The shard of a domain's links.
    pub fn shard_of(&self, domain: &str) -> usize {
        self.shards[0].router.placement.shard_of(domain) as usize
    }

    /// A domain of another server whose links are on that shard.
    pub fn remote_of(&self, shard: usize) -> String {
        let names = (0..1_000).map(|n| format!("s{n}.example"));
        names
            .into_iter()
            .find(|name| self.shard_of(name) == shard)
            .unwrap()
    }

    /// Says of each server that is asked for that it is at [`ADDRESS`].
    pub(super) fn answer_questions(&mut self, shard: usize) -> bool {
        let questions = std::mem::take(&mut self.worlds[shard].questions);
        let is_asked = !questions.is_empty();
        let address: SocketAddr = ADDRESS.parse().unwrap();
        for (link, question) in questions {
            let target = Target {
                kind: dns::Kind::StartTls,
                host: question.domain.clone(),
                port: address.port(),
                priority: 0,
                weight: 0,
                addresses: vec![address.ip()],
                is_srv_secure: false,
                is_address_secure: false,
                tlsa: Tlsa::None,
                failure: None,
            };
            let found = Found {
                domain: question.domain,
                verdict: dns::Verdict::FallBack,
                targets: vec![target],
                lookups: Vec::new(),
            };
            self.mail[shard].push(Post::Resolved(link, Box::new(found)));
        }
        is_asked
    }
}
