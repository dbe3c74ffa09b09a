//! What is negotiated on a stream that another server has opened: TLS, and EXTERNAL (XEP-0178 §3).

use super::{Exchange, Role, ServerStream, State, no_stream, ours, unsupported};
use crate::config::DomainSettings;
use crate::jid::Domain;
use crate::ns;
use crate::sasl::simple;
use crate::stanza::{StreamCondition, StreamError};
use crate::stream::dialback::{Ledger, Pair};
use crate::stream::ending::Cause;
use crate::stream::header::{self, ServerOpened};
use crate::stream::policy::s2s::{Dialback, Means, Outcome, S2sPolicy, shut_out};
use crate::stream::{Action, Context, starttls};
use crate::xml::Top;

impl ServerStream {
    /// The header of a peer that has opened a stream to us.
    pub(super) fn opened_by_peer(
        &mut self,
        opened: ServerOpened,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        let id = cx.random_hex(16);
        let local = opened
            .to
            .as_ref()
            .and_then(|to| cx.settings.served(to.as_str()))
            .cloned();
        let to = opened.from.as_ref().map(Domain::as_str);
        let Some(local) = local.filter(|local| local.s2s.enabled) else {
            let text = match &opened.to {
                None => "The stream has no 'to': name the domain that you want",
                Some(_) => "This server does not serve that domain to other servers",
            };
            self.note_unserved(&opened, cx);
            return Err(StreamError::new(StreamCondition::HostUnknown, text));
        };
        header::write_server(cx.out, Some(local.name.as_str()), to, Some(&id));
        self.is_header_sent = true;
        let from = opened.from.as_ref();
        if from.is_some_and(|from| cx.settings.served(from.as_str()).is_some()) {
            return Err(ours());
        }
        if let Some(remote) = &opened.from
            && let Some(verdict) = shut_out(&S2sPolicy::of(&local.s2s, remote), remote)
        {
            let pair = Pair {
                local: local.name.clone(),
                remote: remote.clone(),
            };
            self.tell_refusal(&pair, &verdict, cx);
            let text = verdict.reason.sentence(remote);
            return Err(StreamError::new(StreamCondition::PolicyViolation, text));
        }
        let mut ledger = Ledger::accepted(id);
        if self.is_bidirectional {
            ledger.make_bidirectional();
        }
        // After EXTERNAL the stream is that of the pair that was proven, whatever it says now.
        let is_proven = match &self.role {
            Role::Accepted(Some((local, Some(remote)))) if self.is_external => ledger.prove(Pair {
                local: local.clone(),
                remote: remote.clone(),
            }),
            _ => false,
        };
        self.ledger = Some(ledger);
        if !is_proven {
            self.role = Role::Accepted(Some((local.name.clone(), opened.from.clone())));
        }
        let has_features = opened.has_features;
        // Whether EXTERNAL is offered depends on what the DNS vouches for.
        if let Some(remote) = &opened.from
            && self.tls.is_some()
            && self.needs_lookup(&local, remote)
        {
            cx.actions.push(Action::LookUp(remote.clone()));
            return Ok(State::LookingUp { has_features });
        }
        self.offer_features(has_features, cx)
    }

    /// Offers features to a peer that has opened the stream, if it knows them.
    pub(super) fn offer_features(
        &mut self,
        has_features: bool,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        let Role::Accepted(Some((local, remote))) = &self.role else {
            return Err(no_stream());
        };
        let Some(settings) = cx.settings.served(local.as_str()).cloned() else {
            return Err(StreamError::new(
                StreamCondition::HostGone,
                "This server does not serve the domain any more",
            ));
        };
        if has_features {
            let is_proven = self.ledger.as_ref().zip(remote.as_ref());
            let is_proven = is_proven
                .is_some_and(|(ledger, remote)| ledger.is_proven(local.as_str(), remote.as_str()));
            self.write_features(&settings, remote.as_ref(), is_proven, cx);
        }
        self.write_proven_pairs(cx);
        self.make_up_for_reload(State::Open, cx)
    }

    /// Who is turned away for the domain that it wants is noted under the name that it claims.
    fn note_unserved(&mut self, opened: &ServerOpened, cx: &mut Context<'_>) {
        if let (Some(remote), Some(local)) = (&opened.from, &opened.to) {
            let outcome = match cx.settings.domains.contains_key(local) {
                true => "we refused it: s2s.enabled = false for the domain that it wants",
                false => "we refused it: the domain that it wants is not served here",
            };
            let pair = Pair {
                local: local.clone(),
                remote: remote.clone(),
            };
            self.note_attempt(&pair, false, outcome, cx.actions);
        }
    }

    fn write_features(
        &self,
        local: &DomainSettings,
        remote: Option<&Domain>,
        is_proven: bool,
        cx: &mut Context<'_>,
    ) {
        cx.out.extend_from_slice(b"<stream:features>");
        let may_secure = self.tls.is_none() && cx.certificates.has_certificate(local.name.as_str());
        if may_secure && local.s2s.require_encryption {
            // RFC 6120 §5.3.1.
            write_feature(cx.out, "starttls", ns::TLS, "<required/>");
        } else {
            if may_secure {
                write_feature(cx.out, "starttls", ns::TLS, "");
            }
            let by_certificate = |remote: &Domain| {
                matches!(
                    self.judge(local, remote, Dialback::NotTried, cx)
                        .verdict
                        .outcome,
                    Outcome::Accept(Means::Certificate | Means::Pin | Means::Dane)
                )
            };
            // XEP-0178 §3: only who would succeed is offered it.
            if !is_proven && remote.is_some_and(by_certificate) {
                let external = "<mechanism>EXTERNAL</mechanism>";
                write_feature(cx.out, "mechanisms", ns::SASL, external);
            }
            // XEP-0288 §2.1; before TLS it would be void (`policy::s2s::bidirectional`).
            if !is_proven && self.tls.is_some() {
                write_feature(cx.out, "bidi", ns::BIDI_FEATURE, "");
            }
            // XEP-0220 §2.4.2.
            write_feature(cx.out, "dialback", ns::DIALBACK_FEATURE, "<errors/>");
            // Who proves a domain by dialback sees no features after that.
            Self::write_management(cx);
        }
        cx.out.extend_from_slice(b"</stream:features>");
    }

    /// STARTTLS, or EXTERNAL, of a peer.
    pub(super) fn negotiate(
        &mut self,
        top: Top,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        match (top.ns.as_str(), top.name.as_str()) {
            (ns::TLS, "starttls") => self.start_tls(cx),
            (ns::SASL, "auth") => self.external(&top, cx),
            (ns::SASL, "abort") => {
                write_failure(cx.out, "aborted");
                Ok(State::Open)
            }
            _ => Err(unsupported()),
        }
    }

    fn start_tls(&mut self, cx: &mut Context<'_>) -> Result<State, StreamError> {
        let Role::Accepted(Some((local, _))) = &self.role else {
            return Err(no_stream());
        };
        if self.tls.is_some() || !cx.certificates.has_certificate(local.as_str()) {
            starttls::refuse(cx);
            self.ends_by(Cause::Ours("STARTTLS was refused"));
            return Ok(self.close(cx));
        }
        starttls::proceed(&self.origin, local.as_str(), cx)?;
        Ok(State::Securing)
    }

    /// XEP-0178 §3: the authorization identity is the domain of the stream's `from`, or says nothing.
    fn external(&mut self, top: &Top, cx: &mut Context<'_>) -> Result<State, StreamError> {
        if top.attribute("mechanism") != Some("EXTERNAL") {
            return self.refuse_sasl("invalid-mechanism", cx);
        }
        // Who has proven itself has nothing more to prove.
        let (Role::Accepted(Some((local, Some(remote)))), false) = (&self.role, self.is_external)
        else {
            return self.refuse_sasl("not-authorized", cx);
        };
        let (local, remote) = (local.clone(), remote.clone());
        // No message at all and one of no octets both leave it to the certificate (RFC 4422 App. A.1).
        let message = match simple::decode(&top.text()) {
            Ok(message) => message.unwrap_or_default(),
            Err(failure) => return self.refuse_sasl(failure.condition(), cx),
        };
        let asked = match simple::parse_external(&message) {
            Ok(None) => Some(remote.clone()),
            Ok(Some(name)) => Domain::parse(&name).ok(),
            Err(failure) => return self.refuse_sasl(failure.condition(), cx),
        };
        if asked.as_ref() != Some(&remote) {
            return self.refuse_sasl("invalid-authzid", cx);
        }
        let Some(settings) = cx.settings.served(local.as_str()).cloned() else {
            return self.refuse_sasl("not-authorized", cx);
        };
        let judged = self.judge(&settings, &remote, Dialback::NotTried, cx);
        let pair = Pair { local, remote };
        let Outcome::Accept(means) = judged.verdict.outcome else {
            self.tell_refusal(&pair, &judged.verdict, cx);
            return self.refuse_sasl("not-authorized", cx);
        };
        write_feature(cx.out, "success", ns::SASL, "");
        self.accept(&pair, means, &judged, cx);
        self.proven(&pair, Exchange::External, cx);
        self.is_external = true;
        self.is_header_sent = false;
        self.ledger = None;
        self.unruled.clear();
        cx.actions.push(Action::Restart);
        Ok(State::Opening)
    }

    /// RFC 6120 §6.4.5: some tries are for mistakes; each costs a look at the certificate.
    fn refuse_sasl(&mut self, condition: &str, cx: &mut Context<'_>) -> Result<State, StreamError> {
        write_failure(cx.out, condition);
        self.sasl_failures += 1;
        if self.sasl_failures < cx.settings.limits.login_failures_per_stream_max {
            return Ok(State::Open);
        }
        Err(StreamError::new(
            StreamCondition::PolicyViolation,
            "Too many attempts to authenticate have failed",
        ))
    }
}

fn write_feature(out: &mut Vec<u8>, name: &str, ns: &str, content: &str) {
    out.extend_from_slice(format!("<{name} xmlns='{ns}'").as_bytes());
    if content.is_empty() {
        out.extend_from_slice(b"/>");
    } else {
        out.extend_from_slice(format!(">{content}</{name}>").as_bytes());
    }
}

fn write_failure(out: &mut Vec<u8>, condition: &str) {
    write_feature(out, "failure", ns::SASL, &format!("<{condition}/>"));
}
