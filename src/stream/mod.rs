//! Stream machines: what is negotiated on a connection before stanzas flow, and how it ends
//! (RFC 6120 §4 to §7).
//!
//! A machine takes events and gives back its next state, bytes for the peer and actions for its
//! shard. It reads no clock and draws no random bytes: both are lent by the shard.

pub mod authenticate;
pub mod bind;
pub mod c2s;
pub mod component;
pub mod dialback;
mod ending;
pub mod features;
pub mod header;
pub mod machine;
pub mod peer_facts;
pub mod policy;
pub mod s2s;
mod starttls;
#[cfg(test)]
mod testing;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ::log::debug;

use crate::clock::{Mono, Now};
use crate::config::{ComponentSettings, Settings};
use crate::jid::{BareJid, Domain, FullJid};
use crate::net::arrivals::Refused;
use crate::net::certificate::Pin;
use crate::net::throttle::Throttle;
use crate::net::transport::TlsFacts;
use crate::ns;
use crate::router::account::Proof;
use crate::router::effects::Refusal;
use crate::router::peers::history::ShownCertificate;
use crate::router::peers::{Failure, LinkNews, Objection, PeerNews};
use crate::router::pipeline::Pipeline;
use crate::router::placement::Placement;
use crate::sasl::Credentials;
use crate::slots::Key;
use crate::stanza::{Stanza, StanzaError, StreamError};
use crate::storage::logins::Login;
use crate::storage::{StoreError, Value};
use crate::stream::dialback::{Checked, Pair};
use crate::stream::peer_facts::{PeerDns, PeerFacts, PeerQuestion};
use crate::stream::s2s::{Ask, Asker, Attempted};
use crate::xml::{Header, Top, XmlError};

/// What happens to a stream.
#[derive(Debug)]
pub enum Event {
    /// The peer's stream header.
    Open(Box<Header>),
    /// A complete child of the stream.
    Top(Box<Top>),
    /// The peer's `</stream:stream>`.
    Close,
    /// Bytes that are no stream.
    BadXml(XmlError),
    /// The TLS handshake is done.
    Established(Box<TlsFacts>),
    /// The answer to [`Action::LoadCredentials`].
    Credentials(Result<Login, StoreError>),
    /// The answer to [`Action::Work`]; none if the workers have too much to do.
    Worked(Option<Value>),
    /// The answer to [`Action::Admit`].
    Admitted(Result<(), Refusal>),
    /// The answer to [`Action::Bind`].
    Bound(Result<(Key, FullJid), StanzaError>),
    /// The answer to [`Action::AdmitComponent`].
    ComponentAdmitted(Result<Key, StreamError>),
    /// The connection that we dialled is being made.
    Begin,
    /// Another stream has a dialback key that this one's peer is to be asked about.
    Ask(Box<Ask>),
    /// The answer to [`Action::PeerProven`]: where what the peer sends is settled.
    Placed(Key),
    /// What came of [`Action::Verify`].
    Verified(Pair, Checked),
    /// The answer to [`Action::LookUp`].
    LookedUp(Domain, PeerDns),
    /// Other settings are in force; whether they have us dial the peer at another place.
    Reloaded {
        /// See there.
        is_elsewhere: bool,
    },
    /// The machine's deadline has come.
    Deadline,
    /// The session or the server ends the stream.
    End(StreamError),
}

impl Event {
    /// Whether it is a stanza, which limits count; nonzas are none.
    pub fn is_stanza(&self) -> bool {
        matches!(self, Event::Top(top) if matches!(&*top.ns, ns::CLIENT | ns::SERVER | ns::COMPONENT))
    }
}

/// What a stream machine asks of its shard. Carried out in order, at once.
pub enum Action {
    /// Begin the server's TLS handshake when the bytes written so far are sent; the name is the
    /// stream's `to`.
    StartTls(String),
    /// Read nothing before that time.
    Pause(Mono),
    /// A new XML document follows.
    Restart,
    /// Accept elements up to so many bytes from now on.
    AcceptStanzas(usize),
    /// Read what a login as this account needs, whether it exists or not.
    LoadCredentials(BareJid),
    /// Run a costly computation on a worker.
    Work(Box<dyn FnOnce() -> Value + Send>),
    /// Take the connection to the account's shard, if it is not there, and let it in.
    Admit(BareJid, Proof),
    /// Store better verifiers for an account.
    Upgrade {
        /// The account.
        jid: BareJid,
        /// The generation that was proven.
        generation: u64,
        /// The verifiers.
        credentials: Credentials,
    },
    /// Bind a prepared resource.
    Bind(Box<BindRequest>),
    /// Route a stanza of the session; its size as received.
    Route(Box<Stanza>, usize),
    /// The client has closed the stream of the session, which ends next.
    Closed(Key),
    /// End the session.
    Unbind(Key),
    /// Give up the place of an admitted identity that has no session.
    Leave(BareJid),
    /// The peer has proven a domain, the first of the stream: take the connection to that domain's shard,
    /// if it is not there, and make a place for what the peer sends. Nothing comes behind it.
    PeerProven(Domain),
    /// Take the connection to the shard of a component's domain, if it is not there, and let it in: it
    /// has proven itself by these settings.
    AdmitComponent(Arc<ComponentSettings>),
    /// Route a stanza of the component; its size as received.
    FromComponent(Box<Stanza>, usize),
    /// The component's stream has ended.
    ComponentClosed(Key),
    /// Route a stanza of the peer; its size as received.
    FromPeer(Box<Stanza>, usize),
    /// Send a stanza to another server.
    ToPeer(Box<Stanza>),
    /// Have a dialback key verified, that was offered on this stream: the pair, the stream's id, the key.
    Verify(Box<(Pair, String, String)>),
    /// Find out what the DNS vouches for about the server of a domain.
    LookUp(Domain),
    /// A server has shown a certificate with this key, and is proven: the pair of domains, the key.
    PeerKey(Pair, Pin),
    /// Tell another stream what came of verifying its key.
    Tell(Box<(Asker, Checked)>),
    /// News of the stream management of what the peer sends.
    PeerNews(Key, PeerNews),
    /// News of the stream management of what a link sends.
    LinkNews(Key, LinkNews),
    /// The peer's stream has ended.
    PeerClosed(Key),
    /// The server at the other end of a link's stream can be asked about dialback keys.
    LinkOpen(Key),
    /// The stream takes the stanzas of a link.
    LinkReady(Key),
    /// No stream comes of it.
    LinkFailed(Key, Failure),
    /// The peer ends the stream with an error that may be about what it was sent; the end follows.
    PeerObjected(Box<Objection>),
    /// The stream of a link has ended.
    LinkEnded(Key),
    /// The stream, which the peer has opened, takes stanzas of a pair of domains.
    PairOpen(Pair),
    /// It takes them no more.
    PairClosed(Pair),
    /// Note for `stanzad explain` what came of an attempt.
    Attempted(Box<Attempted>),
    /// Close our direction when everything is sent.
    Shutdown,
    /// Drop the connection now.
    Drop,
}

/// What [`Action::Bind`] binds.
#[derive(Debug)]
pub struct BindRequest {
    /// The account.
    pub jid: BareJid,
    /// The resourcepart, prepared.
    pub resource: String,
    /// What the login has proven.
    pub proof: Proof,
    /// How the client came here.
    pub origin: crate::router::session::SessionOrigin,
}

/// What a shard lends to a stream machine for one event.
pub struct Context<'a> {
    /// When the turn began.
    pub now: Now,
    /// The configuration in force.
    pub settings: &'a Arc<Settings>,
    /// The features in force.
    pub pipeline: &'a Pipeline,
    /// What is known of certificates.
    pub certificates: &'a dyn Certificates,
    /// The limits per address and account.
    pub throttle: &'a Throttle,
    /// The server's secret, for what strangers must not foresee.
    pub secret: &'a [u8; 32],
    /// Fills a buffer with random bytes.
    pub random: &'a mut dyn FnMut(&mut [u8]),
    /// Which shard owns what.
    pub placement: &'a Placement,
    /// The shard that asks.
    pub shard: u32,
    /// Bytes that the peer sent behind what this event is about.
    pub unread: usize,
    /// Bytes for the peer.
    pub out: &'a mut Vec<u8>,
    /// What the shard is to do.
    pub actions: &'a mut Vec<Action>,
}

/// What stream machines ask of the certificates of a generation.
pub trait Certificates: Send + Sync {
    /// Whether a domain has a certificate, so that STARTTLS can be offered.
    fn has_certificate(&self, domain: &str) -> bool;

    /// The JIDs that a client certificate proves in a domain (XEP-0178 §2); empty if it proves none.
    /// `chain` is DER, the leaf first.
    fn client_identities(&self, domain: &str, chain: &[Vec<u8>]) -> Vec<String>;

    /// What is to be told of the certificates that another server has shown, to the log and to
    /// `stanzad explain`: they are judged by what decides about that server.
    fn describe(&self, question: &PeerQuestion<'_>) -> ShownCertificate {
        let _ = question;
        ShownCertificate::default()
    }

    /// What the certificates that another server has shown are worth to a domain of ours
    /// (RFC 6120 §13.7.2).
    fn peer(&self, question: &PeerQuestion<'_>) -> PeerFacts {
        PeerFacts::worthless(question.dns)
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Its number in the log.
    pub stream: u64,
    /// The peer's address.
    pub address: std::net::SocketAddr,
    /// When it was accepted.
    pub accepted: Mono,
}

impl Origin {
    /// The address that limits count by.
    pub fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }

    /// Until when a TLS handshake that is wanted now waits for its address's turn; none if it need not.
    /// Half of the time to authenticate is left for what follows: a handshake too late for it would be
    /// paid for in vain.
    ///
    /// # Errors
    /// Its turn would come too late. That, and a wait, is told to the log.
    pub fn handshake_waits(
        &self,
        settings: &Settings,
        throttle: &Throttle,
        now: Mono,
    ) -> Result<Option<Mono>, Refused> {
        let address = self.ip();
        let limit = Duration::from_secs(settings.limits.unauthenticated_seconds_max);
        let by = now.max(self.accepted + limit / 2);
        let at = throttle
            .handshake(address, now, by)
            .inspect_err(|refused| refused.log_handshake(address))?;
        if at <= now {
            return Ok(None);
        }
        let (stream, milliseconds) = (self.stream, at.millis() - now.millis());
        debug!(stream, milliseconds; "TLS handshake waits for its turn");
        Ok(Some(at))
    }

    /// Tells the log that the state of the connection's stream has changed, if it has.
    fn tell_change(&self, before: &'static str, after: &'static str) {
        if before != after {
            debug!(stream = self.stream, before, after; "stream state changed");
        }
    }
}

impl Context<'_> {
    /// `bytes` random bytes, in lower-case hexadecimal digits.
    pub fn random_hex(&mut self, bytes: usize) -> String {
        let mut buffer = vec![0; bytes];
        (self.random)(&mut buffer);
        hex(&buffer)
    }
}

/// Bytes in lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
