//! Stream errors: the conditions that end a stream (RFC 6120 §4.9).

use std::borrow::Cow;

use crate::ns;
use crate::xml::{Element, XmlError, escape_text};

/// A defined condition, in the order of RFC 6120 §4.9.3. The two that a server which accepts clients
/// never sends (`remote-connection-failed`, `see-other-host`) are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamCondition {
    /// §4.9.3.1
    BadFormat,
    /// §4.9.3.2
    BadNamespacePrefix,
    /// §4.9.3.3
    Conflict,
    /// §4.9.3.4
    ConnectionTimeout,
    /// §4.9.3.5
    HostGone,
    /// §4.9.3.6
    HostUnknown,
    /// §4.9.3.7
    ImproperAddressing,
    /// §4.9.3.8
    InternalServerError,
    /// §4.9.3.9
    InvalidFrom,
    /// §4.9.3.10
    InvalidNamespace,
    /// §4.9.3.11
    InvalidXml,
    /// §4.9.3.12
    NotAuthorized,
    /// §4.9.3.13
    NotWellFormed,
    /// §4.9.3.14
    PolicyViolation,
    /// §4.9.3.16
    Reset,
    /// §4.9.3.17
    ResourceConstraint,
    /// §4.9.3.18
    RestrictedXml,
    /// §4.9.3.20
    SystemShutdown,
    /// §4.9.3.21
    UndefinedCondition,
    /// §4.9.3.22
    UnsupportedEncoding,
    /// §4.9.3.23
    UnsupportedFeature,
    /// §4.9.3.24
    UnsupportedStanzaType,
    /// §4.9.3.25
    UnsupportedVersion,
}

impl StreamCondition {
    /// The element's name on the wire.
    pub const fn name(self) -> &'static str {
        use StreamCondition::*;
        match self {
            BadFormat => "bad-format",
            BadNamespacePrefix => "bad-namespace-prefix",
            Conflict => "conflict",
            ConnectionTimeout => "connection-timeout",
            HostGone => "host-gone",
            HostUnknown => "host-unknown",
            ImproperAddressing => "improper-addressing",
            InternalServerError => "internal-server-error",
            InvalidFrom => "invalid-from",
            InvalidNamespace => "invalid-namespace",
            InvalidXml => "invalid-xml",
            NotAuthorized => "not-authorized",
            NotWellFormed => "not-well-formed",
            PolicyViolation => "policy-violation",
            Reset => "reset",
            ResourceConstraint => "resource-constraint",
            RestrictedXml => "restricted-xml",
            SystemShutdown => "system-shutdown",
            UndefinedCondition => "undefined-condition",
            UnsupportedEncoding => "unsupported-encoding",
            UnsupportedFeature => "unsupported-feature",
            UnsupportedStanzaType => "unsupported-stanza-type",
            UnsupportedVersion => "unsupported-version",
        }
    }
}

/// Why a stream ends, with a text for the person at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// The defined condition.
    pub condition: StreamCondition,
    /// What to tell the peer; nothing internal.
    pub text: Cow<'static, str>,
    /// An application-specific condition (RFC 6120 §4.9.4).
    pub application: Option<Box<Element>>,
}

impl StreamError {
    /// A condition with its text.
    pub fn new(condition: StreamCondition, text: impl Into<Cow<'static, str>>) -> StreamError {
        StreamError {
            condition,
            text: text.into(),
            application: None,
        }
    }

    /// Adds an application-specific condition.
    #[must_use]
    pub fn with_application(mut self, condition: Element) -> StreamError {
        self.application = Some(Box::new(condition));
        self
    }

    /// Writes the `<stream:error/>` element.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<stream:error><");
        out.extend_from_slice(self.condition.name().as_bytes());
        out.extend_from_slice(b" xmlns='");
        out.extend_from_slice(ns::STREAM_ERROR.as_bytes());
        out.extend_from_slice(b"'/>");
        if !self.text.is_empty() {
            out.extend_from_slice(b"<text xmlns='");
            out.extend_from_slice(ns::STREAM_ERROR.as_bytes());
            out.extend_from_slice(b"' xml:lang='en'>");
            escape_text(out, &self.text);
            out.extend_from_slice(b"</text>");
        }
        if let Some(application) = &self.application {
            application.write(out, "");
        }
        out.extend_from_slice(b"</stream:error>");
    }
}

impl From<XmlError> for StreamError {
    fn from(error: XmlError) -> StreamError {
        let condition = match &error {
            XmlError::BadFormat(_) => StreamCondition::BadFormat,
            XmlError::BadNamespacePrefix(_) => StreamCondition::BadNamespacePrefix,
            XmlError::InvalidNamespace(_) => StreamCondition::InvalidNamespace,
            XmlError::NotWellFormed(_) => StreamCondition::NotWellFormed,
            XmlError::RestrictedXml(_) => StreamCondition::RestrictedXml,
            XmlError::TooBig(_) => StreamCondition::PolicyViolation,
            XmlError::UnsupportedEncoding => StreamCondition::UnsupportedEncoding,
        };
        StreamError::new(condition, error.text().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_stream_error_is_escaped() {
        let mut out = Vec::new();
        StreamError::new(StreamCondition::HostUnknown, "a<b").write(&mut out);
        let written = String::from_utf8(out).unwrap();
        assert!(written.contains("<host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"));
        assert!(written.contains(">a&lt;b</text>"), "{written}");
    }

    /// RFC 6120 §4.9.4.
    #[test]
    fn an_application_specific_condition_comes_last() {
        let mut out = Vec::new();
        StreamError::new(StreamCondition::UndefinedCondition, "")
            .with_application(Element::new("urn:x", "too-much").attr("n", "1"))
            .write(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "<stream:error>\
             <undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             <too-much xmlns='urn:x' n='1'/></stream:error>"
        );
    }
}
