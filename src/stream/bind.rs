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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::testing::top;

    fn read(stanza: &str) -> Request {
        let stanza = Stanza::from_top(*top(stanza)).unwrap();
        request(&stanza, &BareJid::parse("juliet@example.org").unwrap())
    }

    fn wanted(attributes: &str, resource: &str) -> String {
        format!(
            "<iq type='set' id='b' {attributes}><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             {resource}</bind></iq>"
        )
    }

    /// RFC 6120 §7.6, §7.7.
    #[test]
    fn a_resource_is_asked_for_or_left_to_the_server() {
        for (resource, expected) in [
            ("", None),
            ("<resource/>", None),
            ("<resource>balcony</resource>", Some("balcony")),
            ("<resource>a b/c@d</resource>", Some("a b/c@d")),
        ] {
            match read(&wanted("", resource)) {
                Request::Bind(found) => assert_eq!(found.as_deref(), expected),
                other => panic!("{resource}: {other:?}"),
            }
        }
    }

    fn refusal(stanza: &str) -> Condition {
        match read(stanza) {
            Request::Refused(error) => error.condition,
            other => panic!("{stanza}: {other:?}"),
        }
    }

    /// RFC 6120 §7.7.2.1.
    #[test]
    fn a_resource_that_none_may_have_is_a_bad_request() {
        let long = format!("<resource>{}</resource>", "a".repeat(1024));
        for resource in [long.as_str(), "<resource>a&#9;b</resource>"] {
            assert_eq!(refusal(&wanted("", resource)), Condition::BadRequest);
        }
    }

    #[test]
    fn a_resource_of_somebody_else_is_not_allowed() {
        for attribute in [
            "to='romeo@example.org'",
            "from='romeo@example.org'",
            "to='example.net'",
        ] {
            assert_eq!(refusal(&wanted(attribute, "")), Condition::NotAllowed);
        }
        for attribute in ["to='example.org'", "to='juliet@example.org'"] {
            assert!(matches!(read(&wanted(attribute, "")), Request::Bind(None)));
        }
    }

    #[test]
    fn what_is_no_bind_is_told_apart() {
        for other in [
            "<iq type='get' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
            "<iq type='set' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
            "<iq type='result' id='1'/>",
        ] {
            assert!(matches!(read(other), Request::Other), "{other}");
        }
    }
}
