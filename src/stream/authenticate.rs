//! SASL on a client's stream (RFC 6120 §6): which mechanism, whose account, what proof.
//!
//! What must wait goes out as an action and comes back as an event: credentials from the store,
//! comparisons of passwords from a worker. A failure is held back as long as the throttle says.
//! Nothing that a client can see tells whether an account exists (RFC 6120 §6.5, §13.11).

mod comparison;
mod failure;
mod passwordless;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use zeroize::Zeroizing;

use self::comparison::{Compared, compare, generation, shown_form};
use self::failure::Failure;

use crate::config::DomainSettings;
use crate::jid::{self, BareJid};
use crate::net::throttle::Verdict;
use crate::ns;
use crate::router::account::Proof;
use crate::router::effects::Refusal;
use crate::router::feature::value;
use crate::sasl::credentials::SALT_BYTES;
use crate::sasl::decoy::{self, fake_verifier};
use crate::sasl::scram::{ClientFirst, Exchange, downgrade_string};
use crate::sasl::simple::{self, Plain};
use crate::sasl::{Credentials, Hash, Mechanism, SaslFailure, identity};
use crate::stanza::{StreamCondition, StreamError};
use crate::storage::logins::Login;
use crate::storage::{StoreError, Value};
use crate::stream::c2s::{ClientStream, State, unsupported};
use crate::stream::features::Offer;
use crate::stream::header::Opened;
use crate::stream::policy::c2s::{self as policy, Facts};
use crate::stream::{Action, Context};
use crate::xml::Top;

/// A stream that has its features and is not authenticated.
pub(super) struct Negotiating {
    pub opened: Opened,
    pub offer: Offer,
    pub facts: Facts,
    /// The accounts of the domain that the client's certificate proves.
    pub identities: Vec<BareJid>,
}

/// A login whose account's credentials are being read.
pub(super) struct Attempt {
    jid: BareJid,
    mechanism: Mechanism,
    step: Step,
}

enum Step {
    Scram(Hash, ClientFirst),
    Plain(Zeroizing<String>),
}

/// A SCRAM exchange whose challenge was sent.
pub(super) struct Responding {
    exchange: Exchange,
    jid: BareJid,
    mechanism: Mechanism,
    generation: u64,
    /// What the log adds if it fails: something that the client must not learn.
    hidden_reason: Option<&'static str>,
}

/// Who the client has proven to be, or is about to.
pub(super) struct Identity {
    pub jid: BareJid,
    pub domain: Arc<DomainSettings>,
    pub mechanism: Mechanism,
    pub proof: Proof,
    /// Better verifiers of the password that was shown.
    upgrade: Option<Credentials>,
    /// What goes into `<success/>`.
    success: Option<Vec<u8>>,
}

type Next = Result<State, StreamError>;

impl ClientStream {
    /// An element while features are on the table.
    pub(super) fn negotiate(
        &mut self,
        negotiating: Box<Negotiating>,
        top: Top,
        cx: &mut Context<'_>,
    ) -> Next {
        match (top.ns.as_str(), top.name.as_str()) {
            (ns::TLS, "starttls") => self.start_tls(negotiating, cx),
            (ns::SASL, "auth") => self.auth(negotiating, &top, cx),
            (ns::SASL, "abort") => self.failed(
                negotiating,
                Failure::new(SaslFailure::Aborted, "nothing to abort"),
                cx,
            ),
            (ns::SASL, "response") => self.failed(
                negotiating,
                Failure::new(SaslFailure::MalformedRequest, "a response to no challenge"),
                cx,
            ),
            // RFC 6120 §4.9.3.12.
            (ns::CLIENT, "message" | "presence" | "iq") => Err(StreamError::new(
                StreamCondition::NotAuthorized,
                "Log in before you send stanzas",
            )),
            _ => Err(unsupported(&top)),
        }
    }

    fn auth(&mut self, negotiating: Box<Negotiating>, top: &Top, cx: &mut Context<'_>) -> Next {
        let name = top.attribute("mechanism").unwrap_or_default();
        let Some(mechanism) = Mechanism::parse(name) else {
            let failure = Failure::new(SaslFailure::InvalidMechanism, "an unknown mechanism");
            return self.failed(negotiating, failure, cx);
        };
        if !negotiating.offer.mechanisms.contains(&mechanism) {
            return self.not_offered(negotiating, mechanism, cx);
        }
        // A password is in there, as good as in the clear.
        let text = Zeroizing::new(top.text());
        match simple::decode(&text) {
            Err(failure) => {
                let failure = Failure::new(failure, "no base64").with(mechanism);
                self.failed(negotiating, failure, cx)
            }
            Ok(Some(data)) => self.initial(negotiating, mechanism, &data, cx),
            // EXTERNAL and ANONYMOUS have nothing that they must say.
            Ok(None) if matches!(mechanism, Mechanism::External | Mechanism::Anonymous) => {
                self.initial(negotiating, mechanism, b"", cx)
            }
            Ok(None) => {
                write_with_data(cx.out, "challenge", Some(b""));
                Ok(State::Asked(negotiating, mechanism))
            }
        }
    }

    /// RFC 6120 §6.5.4, §6.5.7.
    fn not_offered(
        &mut self,
        negotiating: Box<Negotiating>,
        mechanism: Mechanism,
        cx: &mut Context<'_>,
    ) -> Next {
        let domain = &negotiating.opened.domain;
        let verdict = policy::may_use(mechanism, &domain.c2s, &domain.auth, negotiating.facts);
        let encrypted = Facts {
            is_encrypted: true,
            has_binding: true,
            ..negotiating.facts
        };
        let helps = policy::may_use(mechanism, &domain.c2s, &domain.auth, encrypted).allowed;
        let needs_login = policy::may_authenticate(&domain.c2s, negotiating.facts);
        let failure = if !needs_login.allowed || (!negotiating.facts.is_encrypted && helps) {
            SaslFailure::EncryptionRequired
        } else {
            SaslFailure::InvalidMechanism
        };
        let failure = Failure::new(failure, verdict.reason).with(mechanism);
        self.failed(negotiating, failure, cx)
    }

    /// An element after an empty challenge.
    pub(super) fn asked(
        &mut self,
        negotiating: Box<Negotiating>,
        mechanism: Mechanism,
        top: &Top,
        cx: &mut Context<'_>,
    ) -> Next {
        match self.response(top) {
            Ok(data) => self.initial(negotiating, mechanism, &data, cx),
            Err(Some(failure)) => {
                let failure = Failure::new(failure, "no response").with(mechanism);
                self.failed(negotiating, failure, cx)
            }
            Err(None) => Err(not_in_sasl(top)),
        }
    }

    /// The data of a `<response/>`.
    ///
    /// # Errors
    /// The SASL failure that answers the element; none if it is no part of SASL.
    fn response(&self, top: &Top) -> Result<Zeroizing<Vec<u8>>, Option<SaslFailure>> {
        match (top.ns.as_str(), top.name.as_str()) {
            (ns::SASL, "response") => {
                let text = Zeroizing::new(top.text());
                let data = simple::decode(&text).map_err(Some)?;
                Ok(data.unwrap_or_default())
            }
            (ns::SASL, "abort") => Err(Some(SaslFailure::Aborted)),
            (ns::SASL, _) => Err(Some(SaslFailure::MalformedRequest)),
            _ => Err(None),
        }
    }

    fn initial(
        &mut self,
        negotiating: Box<Negotiating>,
        mechanism: Mechanism,
        data: &[u8],
        cx: &mut Context<'_>,
    ) -> Next {
        match mechanism {
            Mechanism::Anonymous => self.anonymous(negotiating, data, cx),
            Mechanism::External => self.external(negotiating, data, cx),
            Mechanism::Plain => {
                let plain = match Plain::parse(data) {
                    Ok(plain) => plain,
                    Err(failure) => {
                        let failure =
                            Failure::new(failure, "the message is broken").with(mechanism);
                        return self.failed(negotiating, failure, cx);
                    }
                };
                let (username, authzid) = (plain.username, plain.authzid);
                // A password that cannot be prepared is nobody's; it takes the same way.
                let password = jid::prepare_password(&plain.password)
                    .map_or_else(|_| plain.password.clone(), Zeroizing::new);
                let step = Step::Plain(password);
                self.look_up(negotiating, mechanism, &username, authzid, step, cx)
            }
            _ => self.scram(negotiating, mechanism, data, cx),
        }
    }

    fn scram(
        &mut self,
        negotiating: Box<Negotiating>,
        mechanism: Mechanism,
        data: &[u8],
        cx: &mut Context<'_>,
    ) -> Next {
        let Some((hash, plus)) = mechanism.scram() else {
            let failure = Failure::new(SaslFailure::InvalidMechanism, "it is not built");
            return self.failed(negotiating, failure, cx);
        };
        let has_plus = negotiating.offer.has_plus();
        match ClientFirst::parse_explained(data, hash, plus, has_plus, self.bindings()) {
            Ok(first) => {
                let (username, authzid) = (first.username.clone(), first.authzid.clone());
                let step = Step::Scram(hash, first);
                self.look_up(negotiating, mechanism, &username, authzid, step, cx)
            }
            Err(refusal) => {
                let failure = Failure::new(refusal.failure, refusal.reason).with(mechanism);
                self.failed(negotiating, failure, cx)
            }
        }
    }

    /// Asks the store for the credentials of the account that a login is for.
    fn look_up(
        &mut self,
        negotiating: Box<Negotiating>,
        mechanism: Mechanism,
        username: &str,
        authzid: Option<String>,
        step: Step,
        cx: &mut Context<'_>,
    ) -> Next {
        let domain = &negotiating.opened.domain.name;
        let jid = match identity::named(username, authzid.as_deref(), domain) {
            Ok(jid) => jid,
            Err(refusal) => {
                let failure = Failure::new(refusal.failure, refusal.reason).with(mechanism);
                return self.failed(negotiating, failure, cx);
            }
        };
        let verdict = cx
            .throttle
            .may_log_in(self.origin.ip(), jid.as_str(), cx.now.mono);
        if verdict == Verdict::Refuse {
            let failure = Failure::new(
                SaslFailure::TemporaryAuthFailure,
                "too many failed logins from this address or for this account",
            )
            .with(mechanism)
            .of(&jid);
            return self.failed(negotiating, failure, cx);
        }
        cx.actions.push(Action::LoadCredentials(jid.clone()));
        Ok(State::Loading(
            negotiating,
            Box::new(Attempt {
                jid,
                mechanism,
                step,
            }),
        ))
    }

    /// The store has answered.
    pub(super) fn loaded(
        &mut self,
        negotiating: Box<Negotiating>,
        attempt: Attempt,
        answer: Result<Login, StoreError>,
        cx: &mut Context<'_>,
    ) -> Next {
        let Attempt {
            jid,
            mechanism,
            step,
        } = attempt;
        let login = match answer {
            Ok(login) => login,
            Err(error) => {
                log::log!(error.level(), jid:% = jid, error:%; "credentials not loaded");
                let failure = Failure::new(SaslFailure::TemporaryAuthFailure, "the store failed")
                    .with(mechanism)
                    .of(&jid);
                return self.failed(negotiating, failure, cx);
            }
        };
        match step {
            Step::Scram(hash, first) => {
                Ok(self.challenge(negotiating, jid, mechanism, hash, first, login, cx))
            }
            Step::Plain(password) => Ok(self.compare(negotiating, jid, password, login, cx)),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "it is one step of a login, cut out only for its length"
    )]
    fn challenge(
        &mut self,
        negotiating: Box<Negotiating>,
        jid: BareJid,
        mechanism: Mechanism,
        hash: Hash,
        first: ClientFirst,
        login: Login,
        cx: &mut Context<'_>,
    ) -> State {
        let policy = negotiating.opened.domain.auth.hash_policy();
        let account = login.account.as_ref();
        let known = account.and_then(|(_, credentials)| credentials.verifier(hash));
        let hidden_reason = match (account, known) {
            (_, Some(_)) => None,
            (None, None) => Some("there is no such account"),
            (Some((_, credentials)), None) if credentials.bcrypt.is_some() => {
                Some("the account has only a bcrypt hash, which takes PLAIN")
            }
            (Some(_), None) => Some("the account has no verifier for this hash"),
        };
        // Made also when it is not used, so that all ways cost the same.
        let form = shown_form(&login, &policy).challenge(hash, &policy);
        let fake = fake_verifier(cx.secret, jid.as_str(), form);
        let offer = downgrade_string(&negotiating.offer.mechanisms, &negotiating.offer.bindings);
        let nonce = cx.random_hex(18);
        let (exchange, challenge) = first.challenge(
            known.unwrap_or(&fake),
            known.is_some(),
            &nonce,
            Some(&offer),
        );
        write_with_data(cx.out, "challenge", Some(&challenge));
        State::Responding(
            negotiating,
            Box::new(Responding {
                exchange,
                jid,
                mechanism,
                generation: generation(&login),
                hidden_reason,
            }),
        )
    }

    /// The answer to a SCRAM challenge.
    pub(super) fn responded(
        &mut self,
        negotiating: Box<Negotiating>,
        responding: Responding,
        top: &Top,
        cx: &mut Context<'_>,
    ) -> Next {
        let Responding {
            exchange,
            jid,
            mechanism,
            generation,
            hidden_reason,
        } = responding;
        let data = match self.response(top) {
            Ok(data) => data,
            Err(Some(failure)) => {
                let failure = Failure::new(failure, "no response")
                    .with(mechanism)
                    .of(&jid);
                return self.failed(negotiating, failure, cx);
            }
            Err(None) => return Err(not_in_sasl(top)),
        };
        match exchange.finish_explained(&data) {
            Ok(success) => {
                let identity = Box::new(Identity {
                    jid,
                    domain: Arc::clone(&negotiating.opened.domain),
                    mechanism,
                    proof: Proof::Credentials(generation),
                    upgrade: None,
                    success: Some(success),
                });
                Ok(self.proven(negotiating, identity, cx))
            }
            Err(refusal) => {
                let reason = hidden_reason.unwrap_or(refusal.reason);
                let failure = Failure::new(refusal.failure, reason)
                    .with(mechanism)
                    .of(&jid);
                self.failed(negotiating, failure, cx)
            }
        }
    }

    /// Has a worker compare a password with what is stored, or with a decoy.
    fn compare(
        &mut self,
        negotiating: Box<Negotiating>,
        jid: BareJid,
        password: Zeroizing<String>,
        login: Login,
        cx: &mut Context<'_>,
    ) -> State {
        let generation = generation(&login);
        let policy = negotiating.opened.domain.auth.hash_policy();
        let (secret, name) = (*cx.secret, jid.clone());
        let mut fresh = [0; SALT_BYTES];
        (cx.random)(&mut fresh);
        cx.actions.push(Action::Work(Box::new(move || {
            let salt = |hash: Option<Hash>| match hash {
                Some(hash) => decoy::salt(&secret, name.as_str(), hash),
                None => fresh,
            };
            value(compare(&login, &password, &policy, &salt))
        })));
        let identity = Box::new(Identity {
            jid,
            domain: Arc::clone(&negotiating.opened.domain),
            mechanism: Mechanism::Plain,
            proof: Proof::Credentials(generation),
            upgrade: None,
            success: None,
        });
        State::Hashing(negotiating, identity)
    }

    /// A worker has compared the password.
    pub(super) fn hashed(
        &mut self,
        negotiating: Box<Negotiating>,
        mut identity: Box<Identity>,
        answer: Option<Value>,
        cx: &mut Context<'_>,
    ) -> Next {
        let Some(answer) = answer else {
            let failure = Failure::new(SaslFailure::TemporaryAuthFailure, "too many logins wait")
                .with(Mechanism::Plain)
                .of(&identity.jid);
            return self.failed(negotiating, failure, cx);
        };
        match answer.downcast::<Compared>() {
            Ok(compared) if compared.is_right => {
                identity.upgrade = compared.upgrade;
                Ok(self.proven(negotiating, identity, cx))
            }
            _ => {
                let failure = Failure::new(SaslFailure::NotAuthorized, "wrong name or password")
                    .with(Mechanism::Plain)
                    .of(&identity.jid);
                self.failed(negotiating, failure, cx)
            }
        }
    }

    fn proven(
        &mut self,
        negotiating: Box<Negotiating>,
        identity: Box<Identity>,
        cx: &mut Context<'_>,
    ) -> State {
        cx.actions
            .push(Action::Admit(identity.jid.clone(), identity.proof));
        State::Admitting(negotiating, identity)
    }

    /// The account's shard has decided.
    pub(super) fn admitted(
        &mut self,
        negotiating: Box<Negotiating>,
        mut identity: Box<Identity>,
        verdict: Result<(), Refusal>,
        cx: &mut Context<'_>,
    ) -> Next {
        let (failure, reason) = match verdict {
            Ok(()) => {
                write_with_data(cx.out, "success", identity.success.take().as_deref());
                if let (Some(credentials), Proof::Credentials(generation)) =
                    (identity.upgrade.take(), identity.proof)
                {
                    cx.actions.push(Action::Upgrade {
                        jid: identity.jid.clone(),
                        generation,
                        credentials,
                    });
                }
                log::debug!(
                    stream = self.origin.stream, jid:% = identity.jid,
                    mechanism = identity.mechanism.name();
                    "authenticated"
                );
                return Ok(self.authenticated(identity, cx));
            }
            Err(Refusal::Changed) => (
                SaslFailure::NotAuthorized,
                "the credentials changed during the login, or there is no such account",
            ),
            Err(Refusal::Disabled) => (SaslFailure::AccountDisabled, "the account is disabled"),
            Err(Refusal::Unavailable) => (SaslFailure::TemporaryAuthFailure, "the store failed"),
        };
        let failure = Failure::new(failure, reason)
            .with(identity.mechanism)
            .of(&identity.jid);
        self.failed(negotiating, failure, cx)
    }
}

/// An element of another namespace in the middle of an exchange.
fn not_in_sasl(top: &Top) -> StreamError {
    if top.ns == ns::CLIENT {
        StreamError::new(
            StreamCondition::NotAuthorized,
            "Log in before you send stanzas",
        )
    } else {
        unsupported(top)
    }
}

fn write_with_data(out: &mut Vec<u8>, name: &str, data: Option<&[u8]>) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b" xmlns='");
    out.extend_from_slice(ns::SASL.as_bytes());
    match data {
        None => out.extend_from_slice(b"'/>"),
        Some(data) => {
            out.extend_from_slice(b"'>");
            out.extend_from_slice(simple::encode(data).as_bytes());
            out.extend_from_slice(b"</");
            out.extend_from_slice(name.as_bytes());
            out.push(b'>');
        }
    }
}
