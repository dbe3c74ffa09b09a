//! What one element of a stream may cost, so that no peer can make the server spend more.

use crate::limits;

/// What one element of a stream may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of one top-level element or of the stream header, as sent; what is written anew may
    /// have twice as many.
    pub element_bytes_max: usize,
    /// Open elements, the stream's root included.
    pub depth_max: usize,
    /// Attributes of one element, declarations of namespaces not counted.
    pub attributes_max: usize,
    /// Namespace declarations of all open elements together, the stream's root included.
    pub bindings_max: usize,
    /// Bytes of a name or of a namespace.
    pub name_bytes_max: usize,
    /// Bytes of an attribute's value, as sent.
    pub attribute_bytes_max: usize,
}

impl Bounds {
    /// Before authentication: 10 KiB (`Bounds` in lib.rs).
    pub const UNAUTHENTICATED: Bounds = Bounds::of(limits::UNAUTHENTICATED_ELEMENT_BYTES_MAX);

    /// Those of elements of so many bytes: of stanzas, what the settings of their domain say.
    pub const fn of(element_bytes_max: usize) -> Bounds {
        Bounds {
            element_bytes_max,
            depth_max: limits::XML_DEPTH_MAX,
            attributes_max: limits::XML_ATTRIBUTES_MAX,
            bindings_max: limits::XML_BINDINGS_MAX,
            name_bytes_max: limits::XML_NAME_BYTES_MAX,
            attribute_bytes_max: limits::XML_ATTRIBUTE_BYTES_MAX,
        }
    }
}
