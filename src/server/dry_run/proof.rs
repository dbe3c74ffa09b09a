//! How another server takes our proof: what a link does on a stream that it has dialled, up to the
//! answer. No stanza follows, and the stream ends.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::DomainSettings;
use crate::jid::Domain;
use crate::limits::PEER_TEXT_CHARS_MAX;
use crate::log::for_people;
use crate::net::probe::{Secured, Seen, Stop};
use crate::ns;
use crate::server::control::ProofStep;
use crate::stream::dialback::{Answer, Body, Packet, Pair, Secret};
use crate::xml::{Element, Top};

/// How long the answers may take together: to verify a dialback key the other server dials back.
const PROOF_WAIT: Duration = Duration::from_secs(10);

/// How many elements may come that are no answer.
const STRANGE_MAX: usize = 16;

/// Who proves himself, to whom, and by what.
pub struct Proving<'a> {
    /// Ours.
    pub local: &'a DomainSettings,
    /// Theirs.
    pub remote: &'a Domain,
    /// Whether ours has shown a certificate.
    pub has_certificate: bool,
    /// That of the running server, which answers for the keys that are made of it; none if no server
    /// would.
    pub secret: Option<&'a [u8]>,
}

impl Proving<'_> {
    /// Proves us as a link does: by EXTERNAL where it is offered and there is a certificate, else, or if
    /// that is refused, by dialback.
    pub fn prove(&self, mut stream: Secured, seen: &Seen) -> Vec<ProofStep> {
        stream.extend(Instant::now() + PROOF_WAIT);
        let offer = seen.offer.as_ref();
        let is_offered =
            offer.is_some_and(|offer| offer.mechanisms.iter().any(|name| name == "EXTERNAL"));
        let mut steps = Vec::new();
        let local = &self.local.name;
        match (self.has_certificate, is_offered) {
            (true, true) => {
                let step = self.external(&mut stream);
                let is_over = step.accepted == Some(true) || step.broken;
                steps.push(step);
                if is_over {
                    stream.close();
                    return steps;
                }
            }
            (true, false) => steps.push(untried("EXTERNAL", "it does not offer EXTERNAL")),
            (false, true) => {
                let text = format!("EXTERNAL is not tried, as {local} has no certificate");
                steps.push(untried("EXTERNAL", text));
            }
            (false, false) => {}
        }
        steps.push(self.dialback(&mut stream));
        stream.close();
        steps
    }

    /// XEP-0178 §3, up to the answer.
    fn external(&self, stream: &mut Secured) -> ProofStep {
        let identity = STANDARD.encode(self.local.name.as_str());
        let auth = format!(
            "<auth xmlns='{}' mechanism='EXTERNAL'>{identity}</auth>",
            ns::SASL
        );
        let what = "the answer to EXTERNAL";
        let answer = stream
            .say(auth.as_bytes(), what)
            .and_then(|()| stream.hear(what));
        match answer {
            Ok(top) if top.is(ns::SASL, "success") => {
                taken("EXTERNAL", "it takes our certificate: EXTERNAL")
            }
            Ok(top) => refused(
                "EXTERNAL",
                format!("it refuses EXTERNAL: {}", failure(&top)),
            ),
            Err(stop) => broken("EXTERNAL", &stop),
        }
    }

    /// XEP-0220 §2.1.1 and the answer. It is offered also where it is not announced, as a link does.
    fn dialback(&self, stream: &mut Secured) -> ProofStep {
        let Some(secret) = self.secret else {
            let text = "dialback is not tried: it takes a running server to answer for the key";
            return untried("dialback", text);
        };
        let pair = Pair {
            local: self.local.name.clone(),
            remote: self.remote.clone(),
        };
        let key = Secret::new(secret).key(&pair.remote, &pair.local, &stream.id);
        let mut packet = Vec::new();
        Packet::to_peer(pair.clone(), Body::Offer { key }).write(&mut packet);
        let what = "the answer to our dialback key";
        let said = stream.say(&packet, what);
        match said.and_then(|()| answer(stream, &pair, what)) {
            Ok(Answer::Valid) => taken("dialback", "it takes our dialback key"),
            Ok(Answer::Invalid) => {
                let text = format!(
                    "it says that our dialback key is not ours: does the DNS lead it to this server \
                     for {}?",
                    pair.local
                );
                refused("dialback", text)
            }
            Ok(Answer::Error(trouble)) => {
                let text = format!(
                    "it refuses our dialback key: {} {}",
                    trouble.condition, trouble.text
                );
                refused("dialback", text)
            }
            Err(stop) => broken("dialback", &stop),
        }
    }
}

/// What the other server says of our key; what it says else is not looked at.
fn answer(stream: &mut Secured, pair: &Pair, what: &'static str) -> Result<Answer, Stop> {
    for _ in 0..STRANGE_MAX {
        let top = stream.hear(what)?;
        if let Ok(packet) = Packet::parse(&top)
            && packet.pair() == *pair
            && let Body::Result(answer) = packet.body
        {
            return Ok(answer);
        }
    }
    Err(Stop::NotXmpp("it says anything but an answer".to_owned()))
}

/// The condition of a SASL failure (RFC 6120 §6.5), and its text.
fn failure(top: &Top) -> String {
    if !top.is(ns::SASL, "failure") {
        return format!("it answers with <{}/>", top.name);
    }
    let element = top.to_element();
    let condition = element.elements().find(|child| child.name != "text");
    let condition = condition.map_or("no condition", |child| child.name.as_str());
    let text = element.elements().find(|child| child.name == "text");
    match text.map(Element::text) {
        Some(text) if !text.is_empty() => format!("{condition}, \"{text}\""),
        _ => condition.to_owned(),
    }
}

fn step(means: &str, accepted: Option<bool>, text: impl Into<String>) -> ProofStep {
    ProofStep {
        means: means.to_owned(),
        accepted,
        text: for_people(text.into().trim_end(), PEER_TEXT_CHARS_MAX),
        broken: false,
    }
}

fn taken(means: &str, text: impl Into<String>) -> ProofStep {
    step(means, Some(true), text)
}

fn refused(means: &str, text: impl Into<String>) -> ProofStep {
    step(means, Some(false), text)
}

/// A step that was not taken, and why.
pub fn untried(means: &str, text: impl Into<String>) -> ProofStep {
    step(means, None, text)
}

/// The stream broke, or no answer came.
fn broken(means: &str, stop: &Stop) -> ProofStep {
    ProofStep {
        broken: true,
        ..refused(means, format!("{means} comes to nothing: {stop}"))
    }
}
