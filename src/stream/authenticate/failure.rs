//! Failed logins: the log's line, the throttle, and the answer (RFC 6120 §6.4.5, §6.5).

use super::{Negotiating, Next};
use crate::jid::BareJid;
use crate::net::throttle::Verdict;
use crate::ns;
use crate::sasl::{Mechanism, SaslFailure};
use crate::stanza::{StreamCondition, StreamError};
use crate::stream::Context;
use crate::stream::c2s::{ClientStream, State};

/// Why a login failed.
pub(super) struct Failure<'a> {
    pub failure: SaslFailure,
    pub mechanism: Option<Mechanism>,
    pub jid: Option<&'a BareJid>,
    pub reason: &'a str,
}

impl ClientStream {
    /// A login has failed. Logs it in the one form that log watchers know, counts it where it was a
    /// guess, and answers after the delay that the throttle demands.
    pub(super) fn failed(
        &mut self,
        negotiating: Box<Negotiating>,
        failure: Failure<'_>,
        cx: &mut Context<'_>,
    ) -> Next {
        let name = failure.jid.map_or("-", BareJid::as_str);
        let mechanism = failure.mechanism.map_or("-", Mechanism::name);
        log::info!(
            address:% = self.origin.ip(), jid = name,
            domain = negotiating.opened.domain.name.as_str(), mechanism,
            condition = failure.failure.condition(), reason = failure.reason,
            stream = self.origin.stream;
            "login failed"
        );
        self.failures = self.failures.saturating_add(1);
        let is_guess = matches!(
            failure.failure,
            SaslFailure::NotAuthorized | SaslFailure::InvalidAuthzid
        );
        if is_guess {
            let (address, now) = (self.origin.ip(), cx.now.mono);
            cx.throttle.login_failed(address, name, now);
            // A right password is never held back: its owner is not the one who guesses.
            if let Verdict::SlowDown(delay) = cx.throttle.may_log_in(address, name, now) {
                return Ok(State::Delayed(negotiating, now + delay, failure.failure));
            }
        }
        self.send_failure(negotiating, failure.failure, cx)
    }

    /// Answers a failed login; after too many the stream ends (RFC 6120 §6.4.5).
    pub(in crate::stream) fn send_failure(
        &mut self,
        negotiating: Box<Negotiating>,
        failure: SaslFailure,
        cx: &mut Context<'_>,
    ) -> Next {
        cx.out.extend_from_slice(b"<failure xmlns='");
        cx.out.extend_from_slice(ns::SASL.as_bytes());
        cx.out.extend_from_slice(b"'><");
        cx.out.extend_from_slice(failure.condition().as_bytes());
        cx.out.extend_from_slice(b"/></failure>");
        if self.failures >= cx.settings.limits.login_failures_per_stream_max {
            return Err(StreamError::new(
                StreamCondition::PolicyViolation,
                "Too many failed logins",
            ));
        }
        Ok(State::Negotiating(negotiating))
    }
}

impl<'a> Failure<'a> {
    pub(super) fn new(failure: SaslFailure, reason: &'a str) -> Failure<'a> {
        Failure {
            failure,
            mechanism: None,
            jid: None,
            reason,
        }
    }

    pub(super) fn with(self, mechanism: Mechanism) -> Failure<'a> {
        Failure {
            mechanism: Some(mechanism),
            ..self
        }
    }

    pub(super) fn of(self, jid: &'a BareJid) -> Failure<'a> {
        Failure {
            jid: Some(jid),
            ..self
        }
    }
}
