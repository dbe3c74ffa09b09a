//! Resource binding (RFC 6120 §7).

use crate::jid::{self, BareJid, FullJid};
use crate::ns;
use crate::stanza::{Condition, StanzaError};
use crate::stanza::{Kind, Stanza, Type};
use crate::xml::Element;
use crate::xml::Payload;

/// Bytes of chance in a resourcepart that the server makes (RFC 6120 §7.6).
pub const MADE_RESOURCE_BYTES: usize = 12;

/// What a stanza is to a stream that waits for a bind.
#[derive(Debug)]
pub enum Request {
    /// A bind request with the resourcepart that it wants, prepared.
    Bind(Option<String>),
    /// A bind request that is refused.
    Refused(StanzaError),
    /// No bind request: the client may not send it yet (RFC 6120 §7.1).
    Other,
}

/// Reads a bind request of the account `jid`. What is addressed to somebody else is refused: nobody
/// binds a resource of another account.
pub fn request(stanza: &Stanza, jid: &BareJid) -> Request {
    let payload = &stanza.payload;
    if stanza.kind != Kind::Iq || stanza.type_ != Type::Set {
        return Request::Other;
    }
    let Some(child) = payload.find(ns::BIND, "bind") else {
        return Request::Other;
    };
    let is_own = |address: &Option<crate::jid::Jid>| {
        address.as_ref().is_none_or(|address| {
            address.as_str() == jid.domain() || address.as_str() == jid.as_str()
        })
    };
    if !is_own(&stanza.to) || !is_own(&stanza.from) {
        return Request::Refused(
            StanzaError::new(Condition::NotAllowed).text("You bind resources of your own account"),
        );
    }
    let bind = payload.element(child);
    let wanted = match bind.find(ns::BIND, "resource") {
        None => return Request::Bind(None),
        Some(resource) => resource.text(),
    };
    if wanted.is_empty() {
        return Request::Bind(None);
    }
    match jid::prepare_resource(&wanted) {
        Ok(resource) => Request::Bind(Some(resource)),
        // RFC 6120 §7.7.2.1.
        Err(_) => Request::Refused(
            StanzaError::new(Condition::BadRequest)
                .text("The resource has characters that none may have, or is too long"),
        ),
    }
}

/// The children of the answer to a successful bind.
pub fn result(jid: &FullJid) -> Payload {
    let bind =
        Element::new(ns::BIND, "bind").child(Element::new(ns::BIND, "jid").with_text(jid.as_str()));
    Payload::from_elements(&[bind])
}
