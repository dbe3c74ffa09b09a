//! Bounds on everything that a peer can make grow, each with its unit and reason.

/// Bytes of one element before authentication: enough for any header, `<starttls/>` or SASL
/// exchange (DESIGN §9).
pub const UNAUTHENTICATED_ELEMENT_BYTES_MAX: usize = 10 * 1024;
/// Open XML elements. Real stanzas nest about ten; parsers of clients may recurse.
pub const XML_DEPTH_MAX: usize = 128;
/// Attributes of one XML element. Real elements have about ten.
pub const XML_ATTRIBUTES_MAX: usize = 64;
/// Namespace declarations in scope. The XML library copies all of them for each element.
pub const XML_BINDINGS_MAX: usize = 32;
/// Bytes of the namespaces and prefixes in scope, for the same reason.
pub const XML_BINDING_BYTES_MAX: usize = 4096;
/// Bytes of an XML name or namespace. The longest registered namespace has about 70.
pub const XML_NAME_BYTES_MAX: usize = 1024;
/// Bytes of the value of an XML attribute; the longest seen carry certificates or data: URIs.
pub const XML_ATTRIBUTE_BYTES_MAX: usize = 64 * 1024;
