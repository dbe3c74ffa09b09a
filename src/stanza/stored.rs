//! Whole stanzas as the store keeps them where one column has to do: what [`Stanza::write`] gives.

use super::{Kind, Stanza, Type};
use crate::jid::Jid;
use crate::xml::Payload;

impl Stanza {
    /// The bytes of the whole stanza, for [`Stanza::from_stored`].
    pub fn to_stored(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    /// The stanza of which [`Stanza::to_stored`] gave the bytes.
    ///
    /// # Errors
    /// None if they are no such bytes (the row is damaged).
    pub fn from_stored(bytes: Vec<u8>) -> Option<Stanza> {
        // The first `>` ends the start tag: in values it is escaped.
        let start = bytes.iter().position(|byte| *byte == b'>')? + 1;
        let end = match bytes.get(..start)? {
            empty if empty.ends_with(b"/>") => start,
            _ => bytes.iter().rposition(|byte| *byte == b'<')?,
        };
        let payload = Payload::from_canonical(bytes.get(start..end)?.to_vec())?;
        let whole = Payload::from_canonical(bytes)?;
        let [child] = whole.children() else {
            return None;
        };
        let element = whole.element(child);
        let kind = Kind::parse(&element.name)?;
        let type_ = Type::parse(kind, element.attribute("type"))?;
        let address = |name| match element.attribute(name) {
            Some(text) => Jid::parse(text).map(Some),
            None => Ok(None),
        };
        Some(Stanza {
            kind,
            type_,
            from: address("from").ok()?,
            to: address("to").ok()?,
            id: element.attribute("id").map(Into::into),
            lang: element.attribute("xml:lang").map(Into::into),
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Element;

    fn stanza(payload: Payload) -> Stanza {
        let mut stanza = Stanza::new(Kind::Presence, Type::Subscribe, payload);
        stanza.from = Some(Jid::parse("romeo@example.net").unwrap());
        stanza.to = Some(Jid::parse("juliet@example.com").unwrap());
        stanza
    }

    #[test]
    fn a_stanza_is_read_as_it_was_stored() {
        let nick = Element::new("http://jabber.org/protocol/nick", "nick").with_text("a > b & 'c'");
        let status = Element::new(crate::ns::CLIENT, "status").attr("xml:lang", "it");
        for payload in [
            Payload::empty(),
            Payload::from_elements(std::slice::from_ref(&nick)),
            Payload::from_elements(&[nick, status]),
        ] {
            let mut stanza = stanza(payload);
            assert_eq!(
                Stanza::from_stored(stanza.to_stored()),
                Some(stanza.clone())
            );
            stanza.id = Some("<'x'>\"&\u{e4}".into());
            stanza.lang = Some("de".into());
            assert_eq!(
                Stanza::from_stored(stanza.to_stored()),
                Some(stanza.clone())
            );
        }
    }

    #[test]
    fn damaged_bytes_are_none() {
        let whole = stanza(Payload::from_elements(&[Element::new("urn:x", "x")])).to_stored();
        for end in 0..whole.len() {
            assert_eq!(Stanza::from_stored(whole[..end].to_vec()), None, "{end}");
        }
        for bytes in [
            "<iq/>",
            "<presence/><presence/>",
            "x",
            ">",
            "<presence to='@'/>",
        ] {
            assert_eq!(Stanza::from_stored(bytes.into()), None, "{bytes}");
        }
    }
}
