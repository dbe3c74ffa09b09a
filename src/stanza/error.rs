//! Stanza errors: conditions, types, and the element that carries them (RFC 6120 §8.3).

use std::borrow::Cow;

use crate::ns;
use crate::xml::Element;

/// The defined conditions, in the order of RFC 6120 §8.3.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// §8.3.3.1: malformed, or without what the request needs.
    BadRequest,
    /// §8.3.3.2: a resource or session with the same name or address exists.
    Conflict,
    /// §8.3.3.3: not implemented.
    FeatureNotImplemented,
    /// §8.3.3.4: the requesting entity lacks the permission.
    Forbidden,
    /// §8.3.3.5: can no longer be contacted here; perhaps at this URI.
    Gone(Option<String>),
    /// §8.3.3.6: our own fault.
    InternalServerError,
    /// §8.3.3.7: no such thing.
    ItemNotFound,
    /// §8.3.3.8: an address breaks the rules of RFC 7622.
    JidMalformed,
    /// §8.3.3.9: understood, but against the recipient's criteria.
    NotAcceptable,
    /// §8.3.3.10: nobody may do that.
    NotAllowed,
    /// §8.3.3.11: credentials are needed.
    NotAuthorized,
    /// §8.3.3.12: against a policy.
    PolicyViolation,
    /// §8.3.3.13: temporarily unavailable.
    RecipientUnavailable,
    /// §8.3.3.14: elsewhere for now; perhaps at this URI.
    Redirect(Option<String>),
    /// §8.3.3.15: registration is needed first.
    RegistrationRequired,
    /// §8.3.3.16: no such server.
    RemoteServerNotFound,
    /// §8.3.3.17: the server could not be reached in time.
    RemoteServerTimeout,
    /// §8.3.3.18: busy.
    ResourceConstraint,
    /// §8.3.3.19: not provided here; also what keeps presence secret.
    ServiceUnavailable,
    /// §8.3.3.20: a subscription is needed first.
    SubscriptionRequired,
    /// §8.3.3.21: none of the others; see the application's condition.
    UndefinedCondition,
    /// §8.3.3.22: understood, but not at this time.
    UnexpectedRequest,
}

impl Condition {
    /// The name of the condition's element.
    pub fn as_str(&self) -> &'static str {
        match self {
            Condition::BadRequest => "bad-request",
            Condition::Conflict => "conflict",
            Condition::FeatureNotImplemented => "feature-not-implemented",
            Condition::Forbidden => "forbidden",
            Condition::Gone(_) => "gone",
            Condition::InternalServerError => "internal-server-error",
            Condition::ItemNotFound => "item-not-found",
            Condition::JidMalformed => "jid-malformed",
            Condition::NotAcceptable => "not-acceptable",
            Condition::NotAllowed => "not-allowed",
            Condition::NotAuthorized => "not-authorized",
            Condition::PolicyViolation => "policy-violation",
            Condition::RecipientUnavailable => "recipient-unavailable",
            Condition::Redirect(_) => "redirect",
            Condition::RegistrationRequired => "registration-required",
            Condition::RemoteServerNotFound => "remote-server-not-found",
            Condition::RemoteServerTimeout => "remote-server-timeout",
            Condition::ResourceConstraint => "resource-constraint",
            Condition::ServiceUnavailable => "service-unavailable",
            Condition::SubscriptionRequired => "subscription-required",
            Condition::UndefinedCondition => "undefined-condition",
            Condition::UnexpectedRequest => "unexpected-request",
        }
    }

    /// The type that RFC 6120 §8.3.3 recommends; where it names two, the one that suits a server:
    /// `cancel` for a feature that is not there, `modify` for a policy, `wait` for the order.
    pub fn default_type(&self) -> ErrorType {
        match self {
            Condition::BadRequest
            | Condition::JidMalformed
            | Condition::NotAcceptable
            | Condition::PolicyViolation
            | Condition::Redirect(_) => ErrorType::Modify,
            Condition::Conflict
            | Condition::FeatureNotImplemented
            | Condition::Gone(_)
            | Condition::InternalServerError
            | Condition::ItemNotFound
            | Condition::NotAllowed
            | Condition::RemoteServerNotFound
            | Condition::ServiceUnavailable
            | Condition::UndefinedCondition => ErrorType::Cancel,
            Condition::Forbidden
            | Condition::NotAuthorized
            | Condition::RegistrationRequired
            | Condition::SubscriptionRequired => ErrorType::Auth,
            Condition::RecipientUnavailable
            | Condition::RemoteServerTimeout
            | Condition::ResourceConstraint
            | Condition::UnexpectedRequest => ErrorType::Wait,
        }
    }

    /// Where to go instead, of `gone` and `redirect`.
    fn address(&self) -> Option<&str> {
        match self {
            Condition::Gone(address) | Condition::Redirect(address) => address.as_deref(),
            _ => None,
        }
    }
}

/// What the sender can do about an error (RFC 6120 §8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// Retry after providing credentials.
    Auth,
    /// Do not retry.
    Cancel,
    /// Proceed: it was a warning.
    Continue,
    /// Retry after changing the data.
    Modify,
    /// Retry after waiting.
    Wait,
}

impl ErrorType {
    /// The value of the `type` attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorType::Auth => "auth",
            ErrorType::Cancel => "cancel",
            ErrorType::Continue => "continue",
            ErrorType::Modify => "modify",
            ErrorType::Wait => "wait",
        }
    }
}

/// A stanza error as we send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StanzaError {
    /// What is wrong.
    pub condition: Condition,
    /// What the sender can do.
    pub type_: ErrorType,
    /// For people, in English.
    pub text: Option<Cow<'static, str>>,
    /// An application-specific condition (RFC 6120 §8.3.4).
    pub application: Option<Element>,
}

impl StanzaError {
    /// An error of the type that is recommended for the condition.
    pub fn new(condition: Condition) -> StanzaError {
        StanzaError {
            type_: condition.default_type(),
            condition,
            text: None,
            application: None,
        }
    }

    /// Says more to people.
    #[must_use]
    pub fn text(mut self, text: impl Into<Cow<'static, str>>) -> StanzaError {
        self.text = Some(text.into());
        self
    }

    /// Sets another type than the recommended one.
    #[must_use]
    pub fn with_type(mut self, type_: ErrorType) -> StanzaError {
        self.type_ = type_;
        self
    }

    /// Adds an application-specific condition.
    #[must_use]
    pub fn with_application(mut self, condition: Element) -> StanzaError {
        self.application = Some(condition);
        self
    }

    /// The `<error/>` element.
    pub fn to_element(&self) -> Element {
        let mut condition = Element::new(ns::STANZA_ERROR, self.condition.as_str());
        if let Some(address) = self.condition.address() {
            condition = condition.with_text(address);
        }
        let mut error = Element::new(ns::CLIENT, "error")
            .attr("type", self.type_.as_str())
            .child(condition);
        if let Some(text) = &self.text {
            let text = Element::new(ns::STANZA_ERROR, "text")
                .attr("xml:lang", "en")
                .with_text(text.as_ref());
            error = error.child(text);
        }
        if let Some(application) = &self.application {
            error = error.child(application.clone());
        }
        error
    }
}

impl From<Condition> for StanzaError {
    fn from(condition: Condition) -> StanzaError {
        StanzaError::new(condition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(error: &StanzaError) -> String {
        String::from_utf8(error.to_element().to_bytes()).expect("UTF-8")
    }

    /// RFC 6120 §8.3.3.
    #[test]
    fn each_condition_has_the_recommended_type() {
        use Condition::*;
        for (condition, name, type_) in [
            (BadRequest, "bad-request", "modify"),
            (Conflict, "conflict", "cancel"),
            (FeatureNotImplemented, "feature-not-implemented", "cancel"),
            (Forbidden, "forbidden", "auth"),
            (Gone(None), "gone", "cancel"),
            (InternalServerError, "internal-server-error", "cancel"),
            (ItemNotFound, "item-not-found", "cancel"),
            (JidMalformed, "jid-malformed", "modify"),
            (NotAcceptable, "not-acceptable", "modify"),
            (NotAllowed, "not-allowed", "cancel"),
            (NotAuthorized, "not-authorized", "auth"),
            (PolicyViolation, "policy-violation", "modify"),
            (RecipientUnavailable, "recipient-unavailable", "wait"),
            (Redirect(None), "redirect", "modify"),
            (RegistrationRequired, "registration-required", "auth"),
            (RemoteServerNotFound, "remote-server-not-found", "cancel"),
            (RemoteServerTimeout, "remote-server-timeout", "wait"),
            (ResourceConstraint, "resource-constraint", "wait"),
            (ServiceUnavailable, "service-unavailable", "cancel"),
            (SubscriptionRequired, "subscription-required", "auth"),
            (UndefinedCondition, "undefined-condition", "cancel"),
            (UnexpectedRequest, "unexpected-request", "wait"),
        ] {
            assert_eq!(
                written(&StanzaError::new(condition)),
                format!(
                    "<error type='{type_}'><{name} xmlns='{}'/></error>",
                    ns::STANZA_ERROR
                )
            );
        }
    }

    /// RFC 6120 §8.3.2, §8.3.4.
    #[test]
    fn address_text_and_application_condition_are_written_in_order() {
        let error = StanzaError::new(Condition::Gone(Some("xmpp:a@b".into())))
            .with_type(ErrorType::Continue)
            .text("Moved & gone")
            .with_application(Element::new("urn:example", "moved"));
        assert_eq!(
            written(&error),
            "<error type='continue'>\
             <gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>xmpp:a@b</gone>\
             <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>Moved &amp; gone</text>\
             <moved xmlns='urn:example'/></error>"
        );
    }
}
