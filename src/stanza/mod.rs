//! Message, presence and IQ: what is common to them, checked once and written quickly (RFC 6120 §8).
//!
//! A stanza is its kind, five attributes and a shared canonical `Payload`. Other attributes of the
//! stanza element itself are not kept: RFC 6120 §8.4 tells entities not to send them.

pub mod capabilities;
mod delay;
mod error;
pub mod forms;
mod stored;
mod stream_error;

pub use delay::delay;
pub use error::{Condition, ErrorType, StanzaError};
pub use stream_error::{StreamCondition, StreamError};

use std::fmt;

use crate::jid::Jid;
use crate::ns;
use crate::xml::{Element, Payload, Top, attribute};

/// The three kinds of stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// RFC 6120 §8.2.1.
    Message,
    /// RFC 6120 §8.2.2.
    Presence,
    /// RFC 6120 §8.2.3.
    Iq,
}

impl Kind {
    /// The kind of a top-level element's name; None for a nonza.
    pub fn parse(name: &str) -> Option<Kind> {
        match name {
            "message" => Some(Kind::Message),
            "presence" => Some(Kind::Presence),
            "iq" => Some(Kind::Iq),
            _ => None,
        }
    }

    /// The element's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Message => "message",
            Kind::Presence => "presence",
            Kind::Iq => "iq",
        }
    }
}

/// The types of all three kinds. Which go with which: RFC 6121 §5.2.2 and §4.7.1, RFC 6120 §8.2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Message, the default.
    Normal,
    /// Message.
    Chat,
    /// Message.
    Groupchat,
    /// Message.
    Headline,
    /// All three kinds.
    Error,
    /// Presence without a type.
    Available,
    /// Presence.
    Unavailable,
    /// Presence.
    Subscribe,
    /// Presence.
    Subscribed,
    /// Presence.
    Unsubscribe,
    /// Presence.
    Unsubscribed,
    /// Presence.
    Probe,
    /// IQ.
    Get,
    /// IQ.
    Set,
    /// IQ.
    Result,
}

impl Type {
    /// The type that an attribute means for a kind. None if it must be refused.
    ///
    /// A message of an unknown type is `normal` (RFC 6121 §5.2.2); presence and IQ of an unknown
    /// type, and IQ of none, are refused (RFC 6121 §4.7.1, RFC 6120 §8.2.3).
    pub fn parse(kind: Kind, value: Option<&str>) -> Option<Type> {
        let type_ = match (kind, value) {
            (_, Some("error")) => Type::Error,
            (Kind::Message, Some("chat")) => Type::Chat,
            (Kind::Message, Some("groupchat")) => Type::Groupchat,
            (Kind::Message, Some("headline")) => Type::Headline,
            (Kind::Message, _) => Type::Normal,
            (Kind::Presence, None) => Type::Available,
            (Kind::Presence, Some("unavailable")) => Type::Unavailable,
            (Kind::Presence, Some("subscribe")) => Type::Subscribe,
            (Kind::Presence, Some("subscribed")) => Type::Subscribed,
            (Kind::Presence, Some("unsubscribe")) => Type::Unsubscribe,
            (Kind::Presence, Some("unsubscribed")) => Type::Unsubscribed,
            (Kind::Presence, Some("probe")) => Type::Probe,
            (Kind::Iq, Some("get")) => Type::Get,
            (Kind::Iq, Some("set")) => Type::Set,
            (Kind::Iq, Some("result")) => Type::Result,
            (Kind::Presence | Kind::Iq, _) => return None,
        };
        Some(type_)
    }

    /// The value of the attribute; empty if it is left out: for the default of messages, for
    /// available presence, and for a type that the kind does not have.
    pub fn as_str(self, kind: Kind) -> &'static str {
        match (kind, self) {
            (_, Type::Error) => "error",
            (Kind::Message, Type::Chat) => "chat",
            (Kind::Message, Type::Groupchat) => "groupchat",
            (Kind::Message, Type::Headline) => "headline",
            (Kind::Presence, Type::Unavailable) => "unavailable",
            (Kind::Presence, Type::Subscribe) => "subscribe",
            (Kind::Presence, Type::Subscribed) => "subscribed",
            (Kind::Presence, Type::Unsubscribe) => "unsubscribe",
            (Kind::Presence, Type::Unsubscribed) => "unsubscribed",
            (Kind::Presence, Type::Probe) => "probe",
            (Kind::Iq, Type::Get) => "get",
            (Kind::Iq, Type::Set) => "set",
            (Kind::Iq, Type::Result) => "result",
            _ => "",
        }
    }
}

/// A stanza that keeps the rules of RFC 6120 §8. A clone shares addresses and payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stanza {
    /// Message, presence or IQ.
    pub kind: Kind,
    /// Its type, defaults filled in.
    pub type_: Type,
    /// The sender, if it is told.
    pub from: Option<Jid>,
    /// The recipient, if it is told.
    pub to: Option<Jid>,
    /// Chosen by the sender; always there on an IQ that came in.
    pub id: Option<Box<str>>,
    /// `xml:lang`.
    pub lang: Option<Box<str>>,
    /// Children.
    pub payload: Payload,
}

impl Stanza {
    /// A stanza without addresses, id and language.
    pub fn new(kind: Kind, type_: Type, payload: Payload) -> Stanza {
        Stanza {
            kind,
            type_,
            from: None,
            to: None,
            id: None,
            lang: None,
            payload,
        }
    }

    /// Checks a top-level element that is a message, presence or IQ in the content namespace.
    ///
    /// # Errors
    /// `BadStanza` tells what is wrong and what to answer.
    pub fn from_top(mut top: Top) -> Result<Stanza, BadStanza> {
        let Some(kind) = Kind::parse(&top.name) else {
            return Err(BadStanza::UnknownKind(top.name));
        };
        let from = match top
            .take_attribute("from")
            .map(|raw| (Jid::parse(&raw), raw))
        {
            None => None,
            Some((Ok(from), _)) => Some(from),
            Some((Err(_), raw)) => return Err(BadStanza::BadFrom(raw)),
        };
        let raw_type = top.take_attribute("type");
        let type_ = Type::parse(kind, raw_type.as_deref());
        let mut stanza = Stanza {
            kind,
            // Where it is refused below, any type that may be answered does.
            type_: type_.unwrap_or(Type::Get),
            from,
            to: None,
            id: top.take_attribute("id").map(String::into_boxed_str),
            lang: top.take_attribute("xml:lang").map(String::into_boxed_str),
            payload: top.payload,
        };
        let attributes = &mut top.attributes;
        let to = attributes
            .iter_mut()
            .find(|a| a.ns.is_none() && a.name == "to");
        if let Some(to) = to {
            match Jid::parse(&to.value) {
                Ok(jid) => stanza.to = Some(jid),
                Err(_) => {
                    return Err(BadStanza::BadTo(
                        std::mem::take(&mut to.value),
                        stanza.into(),
                    ));
                }
            }
        }
        if type_.is_none() {
            return Err(BadStanza::BadType(
                raw_type.unwrap_or_default(),
                stanza.into(),
            ));
        }
        if kind == Kind::Iq {
            if stanza.id.is_none() {
                return Err(BadStanza::MissingId(stanza.into()));
            }
            let children = stanza.payload.children().len();
            let may_have = match stanza.type_ {
                Type::Get | Type::Set => children == 1,
                Type::Result => children <= 1,
                _ => true,
            };
            if !may_have {
                return Err(BadStanza::IqChildren(stanza.into()));
            }
        }
        Ok(stanza)
    }

    /// Appends the whole stanza for a stream whose default namespace is its content namespace.
    pub fn write(&self, out: &mut Vec<u8>) {
        let to = self.to.as_ref().map(Jid::as_str);
        out.reserve(self.size() + to.map_or(0, str::len));
        let name = self.kind.as_str();
        out.push(b'<');
        out.extend_from_slice(name.as_bytes());
        let type_ = self.type_.as_str(self.kind);
        for (name, value) in [
            ("from", self.from.as_ref().map(Jid::as_str)),
            ("to", to),
            ("id", self.id.as_deref()),
            ("type", Some(type_).filter(|value| !value.is_empty())),
            ("xml:lang", self.lang.as_deref()),
        ] {
            if let Some(value) = value {
                attribute(out, name, value);
            }
        }
        if self.payload.is_empty() {
            out.extend_from_slice(b"/>");
            return;
        }
        out.push(b'>');
        out.extend_from_slice(self.payload.bytes());
        out.extend_from_slice(b"</");
        out.extend_from_slice(name.as_bytes());
        out.push(b'>');
    }

    /// A stanza back to the sender with the same id.
    #[must_use]
    pub fn reply(&self, type_: Type, payload: Payload) -> Stanza {
        Stanza {
            kind: self.kind,
            type_,
            from: self.to.clone(),
            to: self.from.clone(),
            id: self.id.clone(),
            lang: None,
            payload,
        }
    }

    /// The error stanza that answers this one, without its payload; None for errors and results,
    /// which are never answered (RFC 6120 §8.3.1, §8.2.3).
    pub fn error(&self, error: &StanzaError) -> Option<Stanza> {
        if matches!(self.type_, Type::Error | Type::Result) {
            return None;
        }
        let payload = Payload::from_elements(&[error.to_element()]);
        Some(self.reply(Type::Error, payload))
    }

    /// Whether it answers a request (RFC 6120 §8.2.3).
    pub fn is_answer(&self) -> bool {
        self.kind == Kind::Iq && matches!(self.type_, Type::Result | Type::Error)
    }

    /// An error in the place of an answer, which is from the same entity and much smaller: whoever has asked
    /// hears of it one way or the other, and once (RFC 6120 §8.2.3). None for what is no answer.
    pub fn instead_of_answer(&self, error: &StanzaError) -> Option<Stanza> {
        self.is_answer().then(|| Stanza {
            type_: Type::Error,
            payload: Payload::from_elements(&[error.to_element()]),
            ..self.clone()
        })
    }

    /// The whole as a tree in `jabber:client`.
    pub fn to_element(&self) -> Element {
        let mut element = Element::new(ns::CLIENT, self.kind.as_str());
        let type_ = self.type_.as_str(self.kind);
        for (name, value) in [
            ("from", self.from.as_ref().map(Jid::as_str)),
            ("to", self.to.as_ref().map(Jid::as_str)),
            ("id", self.id.as_deref()),
            ("type", Some(type_).filter(|value| !value.is_empty())),
            ("xml:lang", self.lang.as_deref()),
        ] {
            if let Some(value) = value {
                element = element.attr(name, value);
            }
        }
        element.nodes = self.payload.nodes();
        element
    }

    /// Bytes that `write` appends, but for escapes in attributes; never less than the payload.
    pub fn size(&self) -> usize {
        let around = "<>".len() + "</>".len() + 2 * self.kind.as_str().len();
        let value = |name: &str, value: usize| name.len() + " =''".len() + value;
        let type_ = self.type_.as_str(self.kind).len();
        around
            + self
                .from
                .as_ref()
                .map_or(0, |jid| value("from", jid.as_str().len()))
            + self
                .to
                .as_ref()
                .map_or(0, |jid| value("to", jid.as_str().len()))
            + self.id.as_ref().map_or(0, |id| value("id", id.len()))
            + if type_ == 0 { 0 } else { value("type", type_) }
            + self
                .lang
                .as_ref()
                .map_or(0, |lang| value("xml:lang", lang.len()))
            + self.payload.bytes().len()
    }
}

/// Why a top-level element is no stanza. The stanza inside has what was right about it, so that
/// it can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadStanza {
    /// Neither message, presence nor IQ; its name.
    UnknownKind(String),
    /// `from` is no address; as sent.
    BadFrom(String),
    /// `to` is no address; as sent.
    BadTo(String, Box<Stanza>),
    /// Presence or IQ of an unknown type, as sent; empty for an IQ without one.
    BadType(String, Box<Stanza>),
    /// An IQ without an id.
    MissingId(Box<Stanza>),
    /// An IQ with the wrong number of children for its type.
    IqChildren(Box<Stanza>),
}

/// What to do about a bad stanza.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Close the stream with this condition (RFC 6120 §4.9.3).
    StreamError(StreamCondition),
    /// Send this stanza error to the sender. Its `from` is missing if `to` was no address
    /// (RFC 6120 §8.3.1), its `to` if there was no `from`.
    Stanza(Box<Stanza>),
    /// Drop it: an error or result must not be answered (RFC 6120 §8.3.1, §8.2.3).
    Nothing,
}

impl BadStanza {
    /// What to do about it.
    pub fn answer(&self) -> Answer {
        let (stanza, condition) = match self {
            // RFC 6120 §4.9.3.24.
            BadStanza::UnknownKind(_) => {
                return Answer::StreamError(StreamCondition::UnsupportedStanzaType);
            }
            // RFC 6120 §4.9.3.9.
            BadStanza::BadFrom(_) => return Answer::StreamError(StreamCondition::InvalidFrom),
            BadStanza::BadTo(_, stanza) => (stanza, Condition::JidMalformed),
            // RFC 6120 §8.2.3, RFC 6121 §4.7.1.
            BadStanza::BadType(_, stanza)
            | BadStanza::MissingId(stanza)
            | BadStanza::IqChildren(stanza) => (stanza, Condition::BadRequest),
        };
        let error = StanzaError::new(condition).text(self.text());
        match stanza.error(&error) {
            Some(mut answer) => {
                // RFC 6120 §8.3.1: the id is empty if the IQ had none.
                if answer.kind == Kind::Iq {
                    answer.id.get_or_insert_default();
                }
                Answer::Stanza(Box::new(answer))
            }
            None => Answer::Nothing,
        }
    }

    /// What is wrong, for the people who read the error.
    pub fn text(&self) -> &'static str {
        match self {
            BadStanza::UnknownKind(_) => "Not a message, presence or iq",
            BadStanza::BadFrom(_) => "The 'from' attribute is not an address",
            BadStanza::BadTo(..) => "The 'to' attribute is not an address",
            BadStanza::BadType(..) => "The 'type' attribute has none of the defined values",
            BadStanza::MissingId(_) => "An iq needs an 'id' attribute",
            BadStanza::IqChildren(_) => {
                "An iq has one child if its type is get or set, and at most one if it is result"
            }
        }
    }
}

impl fmt::Display for BadStanza {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())?;
        match self {
            BadStanza::UnknownKind(raw)
            | BadStanza::BadFrom(raw)
            | BadStanza::BadTo(raw, _)
            | BadStanza::BadType(raw, _) => write!(f, ": {raw:?}"),
            BadStanza::MissingId(_) | BadStanza::IqChildren(_) => Ok(()),
        }
    }
}

impl std::error::Error for BadStanza {}

#[cfg(test)]
mod tests;
