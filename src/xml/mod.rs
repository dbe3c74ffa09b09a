//! XML of streams: incremental parsing within bounds, canonical payloads, safe writing.
//!
//! A peer's bytes go into a `Parser` and come out as a `Header`, `Top` elements and a close, or
//! as one `XmlError`. A `Top` carries its children as a `Payload`: canonical bytes written anew
//! from what was understood, so that no byte of a peer is ever forwarded (RFC 6120 §11, and the
//! differences between XML parsers). A tree (`Element`) is built only by who wants one.
//!
//! Only this module imports the XML library; `feed` and `start_tag` guard what it does not.

mod bounds;
mod canonical;
mod element;
mod error;
mod feed;
mod item;
mod library;
mod outside;
mod parser;
mod payload;
mod shortcut;
mod start_tag;
mod writer;

pub use bounds::Bounds;
pub use element::{Attribute, Element, Node};
pub use error::XmlError;
pub use item::{Header, Item, Top};
pub use parser::Parser;
pub use payload::{Child, NO_NAMESPACE, Payload};
pub use writer::{attribute, escape_attribute, escape_text};

#[cfg(test)]
mod tests;
