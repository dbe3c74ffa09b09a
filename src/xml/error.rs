//! What can be wrong with a stream's XML, and the stream error that says so.

use std::borrow::Cow;

/// Why a stream cannot go on. Each has its condition in RFC 6120 §4.9.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XmlError {
    /// Well-formed, yet nothing that a stream may carry (RFC 6120 §4.9.3.1).
    BadFormat(&'static str),
    /// The stream or content namespace came under a prefix it must not have, or without the
    /// one it needs (RFC 6120 §4.8.5, §4.9.3.2).
    BadNamespacePrefix(&'static str),
    /// The root is not in the stream namespace, or the content namespace is not the stream's
    /// (RFC 6120 §4.8.1, §4.8.3, §4.9.3.10).
    InvalidNamespace(&'static str),
    /// Against XML 1.0 or Namespaces in XML 1.0 (RFC 6120 §4.9.3.13).
    NotWellFormed(Cow<'static, str>),
    /// A comment, processing instruction, DTD or entity reference (RFC 6120 §11.1, §4.9.3.18).
    RestrictedXml(&'static str),
    /// Over one of the `Bounds`; names which (RFC 6120 §4.9.3.14).
    TooBig(&'static str),
    /// Not UTF-8 (RFC 6120 §11.6, §4.9.3.22).
    UnsupportedEncoding,
}

impl XmlError {
    /// The defined condition of the stream error.
    pub fn condition(&self) -> &'static str {
        match self {
            XmlError::BadFormat(_) => "bad-format",
            XmlError::BadNamespacePrefix(_) => "bad-namespace-prefix",
            XmlError::InvalidNamespace(_) => "invalid-namespace",
            XmlError::NotWellFormed(_) => "not-well-formed",
            XmlError::RestrictedXml(_) => "restricted-xml",
            XmlError::TooBig(_) => "policy-violation",
            XmlError::UnsupportedEncoding => "unsupported-encoding",
        }
    }

    /// What was wrong, for the people who read the stream error or the log.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            XmlError::BadFormat(what)
            | XmlError::BadNamespacePrefix(what)
            | XmlError::InvalidNamespace(what) => Cow::Borrowed(what),
            XmlError::NotWellFormed(what) => Cow::Borrowed(what),
            XmlError::RestrictedXml(what) => Cow::Owned(format!("XMPP forbids {what}")),
            XmlError::TooBig(what) => Cow::Owned(format!("Over the limit: {what}")),
            XmlError::UnsupportedEncoding => Cow::Borrowed("A stream must be UTF-8"),
        }
    }
}

impl std::fmt::Display for XmlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.condition(), self.text())
    }
}

impl std::error::Error for XmlError {}

pub(super) const COMMENT: XmlError = XmlError::RestrictedXml("comments");
pub(super) const DTD: XmlError = XmlError::RestrictedXml("document type declarations");
pub(super) const ENTITY: XmlError =
    XmlError::RestrictedXml("entity references but the five predefined");
pub(super) const PROCESSING_INSTRUCTION: XmlError =
    XmlError::RestrictedXml("processing instructions");
pub(super) const TEXT_BETWEEN: XmlError =
    XmlError::BadFormat("Text between the elements of a stream");

pub(super) fn not_well_formed(what: &'static str) -> XmlError {
    XmlError::NotWellFormed(Cow::Borrowed(what))
}
