//! What is negotiated on a stream that we have opened to another server.

use ::log::info;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::bidirectional::write_request;
use super::{Ask, Exchange, Role, ServerStream, State, no_stream, unsupported};
use crate::jid::Domain;
use crate::limits::PEER_TEXT_CHARS_MAX;
use crate::log::for_people;
use crate::ns;
use crate::router::peers::Failure;
use crate::slots::Key;
use crate::stanza::{Condition, StreamCondition, StreamError};
use crate::stream::dialback::{Answer, Checked, Ledger, Pair, Secret, Unreached};
use crate::stream::ending::Cause;
use crate::stream::header::{self, ServerOpened};
use crate::stream::peer_facts::PeerDns;
use crate::stream::policy::s2s::{Dialback, Outcome};
use crate::stream::{Action, Context};
use crate::xml::Top;

/// What a dialled stream is for.
pub struct Dialled {
    /// The link whose stanzas it is to take.
    pub link: Key,
    /// Ours.
    pub local: Domain,
    /// Theirs.
    pub remote: Domain,
    /// Whether it begins with TLS (XEP-0368).
    pub is_direct: bool,
    /// What the DNS vouches for about the place that was dialled.
    pub dns: PeerDns,
    /// Whether the peer has taken our EXTERNAL.
    pub(super) is_authenticated: bool,
    /// Whether it has refused it.
    pub(super) is_external_refused: bool,
    /// Whether its header has named another domain than the one that was dialled.
    pub(super) is_misnamed: bool,
    /// Whether its link has been told that it comes to nothing.
    pub(super) is_failed: bool,
    /// Whether stanzas flow.
    pub(super) is_ready: bool,
}

impl Dialled {
    /// A stream for a link.
    pub fn new(link: Key, local: Domain, remote: Domain, is_direct: bool, dns: PeerDns) -> Dialled {
        Dialled {
            link,
            local,
            remote,
            is_direct,
            dns,
            is_authenticated: false,
            is_external_refused: false,
            is_misnamed: false,
            is_failed: false,
            is_ready: false,
        }
    }

    pub(super) fn pair(&self) -> Pair {
        Pair {
            local: self.local.clone(),
            remote: self.remote.clone(),
        }
    }
}

/// What the peer offers.
#[derive(Debug, Default)]
struct Offered {
    starttls: bool,
    management: bool,
    external: bool,
    bidi: bool,
}

impl ServerStream {
    fn dialled_mut(&mut self) -> Result<&mut Dialled, StreamError> {
        match &mut self.role {
            Role::Dialled(dialled) => Ok(dialled),
            Role::Accepted(_) => Err(no_stream()),
        }
    }

    pub(super) fn send_our_header(&mut self, cx: &mut Context<'_>) {
        if let Role::Dialled(dialled) = &self.role {
            let (local, remote) = (dialled.local.as_str(), dialled.remote.as_str());
            header::write_server(cx.out, Some(local), Some(remote), None);
            self.is_header_sent = true;
        }
    }

    /// The peer's answer to our header.
    pub(super) fn opened_by_us(
        &mut self,
        opened: ServerOpened,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        let dialled = self.dialled_mut()?;
        // Who does not serve the domain answers in the name of another, and says so next
        // (RFC 6120 §4.9.1.3).
        dialled.is_misnamed = opened.from.is_some_and(|from| from != dialled.remote);
        let remote = dialled.remote.clone();
        // Dialback keys are bound to it; who has none cannot be shown one.
        let mut ledger = Ledger::dialled(opened.id.unwrap_or_default(), remote);
        if self.is_bidirectional {
            ledger.make_bidirectional();
        }
        self.ledger = Some(ledger);
        match opened.has_features {
            true => Ok(State::Featuring),
            false => self.authenticate(&Offered::default(), cx),
        }
    }

    pub(super) fn features(
        &mut self,
        top: &Top,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        if !top.is(ns::STREAM, "features") {
            return Err(unsupported());
        }
        if self.dialled_mut()?.is_misnamed {
            return Err(StreamError::new(
                StreamCondition::InvalidFrom,
                "The stream was opened to another domain",
            ));
        }
        let features = top.to_element();
        let mut offered = Offered::default();
        for feature in features.elements() {
            match (&*feature.ns, &*feature.name) {
                (ns::TLS, "starttls") => offered.starttls = true,
                (ns::BIDI_FEATURE, "bidi") => offered.bidi = true,
                (ns::STREAM_MANAGEMENT, "sm") => offered.management = true,
                (ns::SASL, "mechanisms") => {
                    let mut names = feature.elements().map(|mechanism| mechanism.text());
                    offered.external = names.any(|name| name == "EXTERNAL");
                }
                _ => {}
            }
        }
        self.management_offered(offered.management);
        self.authenticate(&offered, cx)
    }

    /// Does what comes next: TLS, then our proof.
    fn authenticate(
        &mut self,
        offered: &Offered,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        let (pair, is_authenticated, is_refused, needs_tls) = {
            let dialled = self.dialled_mut()?;
            (
                dialled.pair(),
                dialled.is_authenticated,
                dialled.is_external_refused,
                dialled.dns.needs_tls(),
            )
        };
        let Some(local) = cx.settings.served(pair.local.as_str()).cloned() else {
            return Err(StreamError::new(
                StreamCondition::HostGone,
                "This server does not serve the domain any more",
            ));
        };
        // RFC 7590 §3.1: tried also where it is not offered, unless we could do without.
        let needs_tls = local.s2s.require_encryption || (local.s2s.dane && needs_tls);
        if self.tls.is_none() && (offered.starttls || needs_tls) {
            cx.out.extend_from_slice(b"<starttls xmlns='");
            cx.out.extend_from_slice(ns::TLS.as_bytes());
            cx.out.extend_from_slice(b"'/>");
            let is_offered = offered.starttls;
            return Ok(State::Starting { is_offered });
        }
        let judged = self.judge(&local, &pair.remote, Dialback::NotTried, cx);
        let Outcome::Accept(means) = judged.verdict.outcome else {
            self.tell_refusal(&pair, &judged.verdict, cx);
            let text = judged.verdict.reason.sentence(&pair.remote);
            return Ok(self.give_up(Condition::RemoteServerNotFound, text, true, cx));
        };
        self.accept(&pair, means, &judged, cx);
        if is_authenticated {
            return Ok(self.ready(Exchange::External, cx));
        }
        // XEP-0288 §2.2: before either kind of proof.
        if offered.bidi && self.wants_bidirectional(&pair, cx) {
            write_request(cx.out);
            self.is_bidirectional = true;
            let ledger = self.ledger.as_mut().ok_or_else(no_stream)?;
            ledger.make_bidirectional();
        }
        let has_certificate = cx.certificates.has_certificate(pair.local.as_str());
        if offered.external && !is_refused && self.tls.is_some() && has_certificate {
            cx.out.extend_from_slice(b"<auth xmlns='");
            cx.out.extend_from_slice(ns::SASL.as_bytes());
            cx.out.extend_from_slice(b"' mechanism='EXTERNAL'>");
            let identity = STANDARD.encode(pair.local.as_str());
            cx.out.extend_from_slice(identity.as_bytes());
            cx.out.extend_from_slice(b"</auth>");
            return Ok(State::Authenticating);
        }
        self.offer_key(cx)
    }

    /// XEP-0220 §2.1.1.
    fn offer_key(&mut self, cx: &mut Context<'_>) -> Result<State, StreamError> {
        let pair = self.dialled_mut()?.pair();
        let ledger = self.ledger.as_mut().ok_or_else(no_stream)?;
        let offer = ledger.offer(pair, &Secret::new(cx.secret));
        if let Ok(packet) = offer {
            packet.write(cx.out);
        }
        cx.actions.push(Action::LinkOpen(self.dialled_mut()?.link));
        Ok(State::Open)
    }

    /// It has refused STARTTLS: for good where that is a must, and otherwise only for now, since
    /// encryption that is offered, or that its TLSA records ask for, is never done without.
    pub(super) fn without_tls(
        &mut self,
        is_offered: bool,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        let pair = self.dialled_mut()?.pair();
        let local = cx.settings.served(pair.local.as_str()).cloned();
        let judged = local.map(|local| self.judge(&local, &pair.remote, Dialback::NotTried, cx));
        match judged.map(|judged| judged.verdict) {
            Some(verdict) if verdict.outcome == Outcome::Refuse => {
                self.tell_refusal(&pair, &verdict, cx);
                let text = verdict.reason.sentence(&pair.remote);
                Ok(self.give_up(Condition::RemoteServerNotFound, text, true, cx))
            }
            _ => {
                let text = match is_offered {
                    true => "it offers STARTTLS and does not begin it",
                    false => "it does not begin STARTTLS, which its TLSA records ask for",
                };
                Ok(self.give_up(Condition::RemoteServerTimeout, text, false, cx))
            }
        }
    }

    pub(super) fn proceed(
        &mut self,
        top: &Top,
        is_offered: bool,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        if !top.is(ns::TLS, "proceed") {
            return self.without_tls(is_offered, cx);
        }
        if cx.unread > 0 {
            return Err(StreamError::new(
                StreamCondition::PolicyViolation,
                "Bytes were sent behind <proceed/> before the handshake",
            ));
        }
        let remote = self.dialled_mut()?.remote.to_ascii();
        cx.actions.push(Action::StartTls(remote));
        Ok(State::Securing)
    }

    pub(super) fn authenticated(
        &mut self,
        top: &Top,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        match (top.ns.as_str(), top.name.as_str()) {
            (ns::SASL, "success") => {
                self.dialled_mut()?.is_authenticated = true;
                self.restart(cx);
                Ok(State::Opening)
            }
            // It may take a dialback key all the same.
            (ns::SASL, "failure") => {
                self.dialled_mut()?.is_external_refused = true;
                self.offer_key(cx)
            }
            _ => Err(unsupported()),
        }
    }

    /// The peer has answered our key. False: it does not take our stanzas.
    pub(super) fn dialback_answered(&mut self, answer: &Answer, cx: &mut Context<'_>) -> bool {
        let (why, is_final) = match answer {
            Answer::Valid => {
                self.ready(Exchange::Dialback, cx);
                return true;
            }
            Answer::Invalid => ("it says that our dialback key is not ours".to_owned(), true),
            Answer::Error(trouble) => (
                format!(
                    "it refuses our dialback: {} {}",
                    trouble.condition, trouble.text
                ),
                !is_passing(&trouble.condition),
            ),
        };
        let condition = match is_final {
            true => Condition::RemoteServerNotFound,
            false => Condition::RemoteServerTimeout,
        };
        self.failed(condition, why, is_final, cx.actions);
        false
    }

    fn ready(&mut self, exchange: Exchange, cx: &mut Context<'_>) -> State {
        if let Role::Dialled(dialled) = &self.role {
            let pair = dialled.pair();
            self.note_proof(&pair, exchange);
            self.note_attempt(&pair, true, "it takes our stanzas", cx.actions);
        }
        if let Role::Dialled(dialled) = &mut self.role {
            info!(
                stream = self.origin.stream, address:% = self.origin.ip(), from:% = dialled.local,
                to:% = dialled.remote, means = exchange.name(), encrypted = self.tls.is_some();
                "stream to server ready"
            );
            dialled.is_ready = true;
            let local = cx.settings.served(dialled.local.as_str());
            let bytes = local.map_or(0, |domain| domain.s2s.stanza_bytes_max);
            let (link, remote, pair) = (dialled.link, dialled.remote.clone(), dialled.pair());
            // Stanzas follow what is written here, and are counted.
            self.enable_management(cx);
            cx.actions.push(Action::LinkReady(link));
            cx.actions.push(Action::LinkOpen(link));
            cx.actions.push(Action::AcceptStanzas(bytes));
            // XEP-0288 §2.2: the peer may send by the inverse of the pair that we have proven. Whether
            // that is the peer was decided before it was asked to.
            if self.is_bidirectional
                && self
                    .ledger
                    .as_mut()
                    .is_some_and(|ledger| ledger.prove(pair))
                && self.source.is_none()
            {
                self.first_proven = Some(remote);
            }
        }
        State::Open
    }

    /// Asks the peer about a key that was offered on another stream.
    pub(super) fn ask(&mut self, ask: Ask, cx: &mut Context<'_>) {
        let asker = ask.asker.clone();
        let asked = self.ledger.as_mut().map(|ledger| {
            let Ask { asker, id, key } = ask;
            ledger.ask(asker.pair.clone(), &id, &key, asker, cx.now.mono)
        });
        match asked {
            Some(Ok(packet)) => packet.write(cx.out),
            Some(Err(_)) | None => {
                let unreached = Checked::Unreached(Unreached::Timeout);
                cx.actions.push(Action::Tell(Box::new((asker, unreached))));
            }
        }
    }

    /// Tells the link that this stream comes to nothing, once.
    pub(super) fn failed(
        &mut self,
        condition: Condition,
        text: impl Into<String>,
        is_final: bool,
        actions: &mut Vec<Action>,
    ) {
        let Role::Dialled(dialled) = &mut self.role else {
            return;
        };
        if dialled.is_ready || std::mem::replace(&mut dialled.is_failed, true) {
            return;
        }
        // Each sender is told, and operators read it: what the peer has written of it has bounds.
        let text = for_people(&text.into(), PEER_TEXT_CHARS_MAX);
        let (link, pair) = (dialled.link, dialled.pair());
        self.note_attempt(&pair, false, &text, actions);
        let failure = Failure {
            condition,
            text,
            is_final,
        };
        actions.push(Action::LinkFailed(link, failure));
    }

    /// Ends a stream that comes to nothing.
    pub(super) fn give_up(
        &mut self,
        condition: Condition,
        text: impl Into<String>,
        is_final: bool,
        cx: &mut Context<'_>,
    ) -> State {
        let text = text.into();
        self.ends_by(Cause::Ours(&text));
        self.failed(condition, text, is_final, cx.actions);
        self.close(cx)
    }
}

/// Whether an error of dialback (XEP-0220 §2.5) says that the peer cannot verify our key now: it may be
/// able to later, and what waits for it goes on waiting.
fn is_passing(condition: &str) -> bool {
    matches!(
        condition,
        "internal-server-error"
            | "remote-connection-failed"
            | "remote-server-timeout"
            | "resource-constraint"
    )
}
