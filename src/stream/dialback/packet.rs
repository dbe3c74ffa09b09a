//! Dialback packets: `<db:result/>` and `<db:verify/>`, as requests and as answers (XEP-0220 §2).

use std::borrow::Cow;

use super::Pair;
use crate::jid::Domain;
use crate::limits::{DIALBACK_ID_BYTES_MAX, DIALBACK_KEY_BYTES_MAX, DIALBACK_TEXT_BYTES_MAX};
use crate::ns;
use crate::stanza::{Condition, ErrorType, StreamCondition, StreamError};
use crate::xml::{Element, Top, attribute, escape_text};

/// A packet, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The domain that speaks.
    pub from: Domain,
    /// The domain that is spoken to.
    pub to: Domain,
    /// What is said.
    pub body: Body,
}

/// What a packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// `<db:result/>`, step 1: a key that proves the sender domain.
    Offer {
        /// The key.
        key: String,
    },
    /// `<db:verify/>`, step 2: is this key yours?
    Verify {
        /// The id of the stream that the key was offered on.
        id: String,
        /// The key.
        key: String,
    },
    /// `<db:verify/>` with a type, step 3.
    Verified {
        /// The id of the request.
        id: String,
        /// The answer.
        answer: Answer,
    },
    /// `<db:result/>` with a type, step 4.
    Result(Answer),
}

/// The type of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `valid`
    Valid,
    /// `invalid`
    Invalid,
    /// `error`: nothing is known of the key (XEP-0220 §2.5).
    Error(Trouble),
}

/// The `<error/>` of an answer. Peers use conditions that RFC 6120 does not know as stanza errors,
/// `remote-connection-failed` of XEP-0220 §2.5 among them, so the name is kept as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What its sender advises.
    pub type_: ErrorType,
    /// The name of the condition; empty if there was none.
    pub condition: Cow<'static, str>,
    /// For people; empty if there was none.
    pub text: Cow<'static, str>,
}

impl Trouble {
    /// An error of ours.
    pub fn new(condition: Condition, text: impl Into<Cow<'static, str>>) -> Trouble {
        Trouble {
            type_: condition.default_type(),
            condition: Cow::Borrowed(condition.as_str()),
            text: text.into(),
        }
    }

    /// The error in an answer. One that breaks the rule to have an `<error/>` with a condition is an
    /// error all the same.
    fn parse(top: &Top) -> Trouble {
        let element = top.to_element();
        let error = element.elements().find(|child| child.name == "error");
        let children = || {
            let all = error.into_iter().flat_map(Element::elements);
            all.filter(|child| child.ns == ns::STANZA_ERROR)
        };
        let condition = children().find(|child| child.name != "text");
        let condition = condition.map_or(String::new(), |child| child.name.clone());
        let text = children().find(|child| child.name == "text");
        let mut text = text.map_or(String::new(), Element::text);
        let mut cuts = (0..=DIALBACK_TEXT_BYTES_MAX).rev();
        let cut = cuts.find(|at| text.is_char_boundary(*at));
        text.truncate(cut.unwrap_or(0));
        let type_ = error.and_then(|error| error.attribute("type"));
        Trouble {
            type_: match type_ {
                Some("auth") => ErrorType::Auth,
                Some("continue") => ErrorType::Continue,
                Some("modify") => ErrorType::Modify,
                Some("wait") => ErrorType::Wait,
                _ => ErrorType::Cancel,
            },
            condition: Cow::Owned(condition),
            text: Cow::Owned(text),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<error");
        attribute(out, "type", self.type_.as_str());
        out.extend_from_slice(b">");
        if !self.condition.is_empty() {
            Element::new(ns::STANZA_ERROR, self.condition.as_ref()).write(out, "");
        }
        if !self.text.is_empty() {
            let text = Element::new(ns::STANZA_ERROR, "text").attr("xml:lang", "en");
            text.with_text(self.text.as_ref()).write(out, "");
        }
        out.extend_from_slice(b"</error>");
    }
}

impl Packet {
    /// A packet from the local domain of a pair to the remote one.
    pub fn to_peer(pair: Pair, body: Body) -> Packet {
        Packet {
            from: pair.local,
            to: pair.remote,
            body,
        }
    }

    /// The pair of a packet that the peer has sent.
    pub fn pair(&self) -> Pair {
        Pair {
            local: self.to.clone(),
            remote: self.from.clone(),
        }
    }

    /// Reads a top-level element in the dialback namespace.
    ///
    /// # Errors
    /// For an element that dialback does not know (RFC 6120 §4.9.3.24), for addresses that are missing
    /// or no domains (§4.9.3.7), for what the schema of XEP-0220 §6.1 does not allow (§4.9.3.11), and
    /// for an id or a key beyond all use (§4.9.3.14).
    pub fn parse(top: &Top) -> Result<Packet, StreamError> {
        let is_verify = match (top.ns.as_str(), top.name.as_str()) {
            (ns::DIALBACK, "result") => false,
            (ns::DIALBACK, "verify") => true,
            _ => {
                return Err(StreamError::new(
                    StreamCondition::UnsupportedStanzaType,
                    "This is no element of server dialback",
                ));
            }
        };
        let (from, to) = (address(top, "from")?, address(top, "to")?);
        let answer = match top.attribute("type") {
            None => None,
            Some("valid") => Some(Answer::Valid),
            Some("invalid") => Some(Answer::Invalid),
            Some("error") => Some(Answer::Error(Trouble::parse(top))),
            Some(_) => return Err(invalid("Dialback has no such type")),
        };
        let body = match (is_verify, answer) {
            (false, None) => Body::Offer { key: key(top)? },
            (false, Some(answer)) => Body::Result(answer),
            (true, None) => Body::Verify {
                id: id(top)?,
                key: key(top)?,
            },
            (true, Some(answer)) => Body::Verified {
                id: id(top)?,
                answer,
            },
        };
        Ok(Packet { from, to, body })
    }

    /// Appends the packet, for a stream whose header declares the prefix `db`: some servers know no
    /// other way to write the namespace (XEP-0220 §2.4.1).
    pub fn write(&self, out: &mut Vec<u8>) {
        let (name, id, key, answer) = match &self.body {
            Body::Offer { key } => ("db:result", None, Some(key), None),
            Body::Verify { id, key } => ("db:verify", Some(id), Some(key), None),
            Body::Verified { id, answer } => ("db:verify", Some(id), None, Some(answer)),
            Body::Result(answer) => ("db:result", None, None, Some(answer)),
        };
        out.push(b'<');
        out.extend_from_slice(name.as_bytes());
        attribute(out, "from", self.from.as_str());
        attribute(out, "to", self.to.as_str());
        if let Some(id) = id {
            attribute(out, "id", id);
        }
        match answer {
            None => {}
            Some(Answer::Valid) => attribute(out, "type", "valid"),
            Some(Answer::Invalid) => attribute(out, "type", "invalid"),
            Some(Answer::Error(_)) => attribute(out, "type", "error"),
        }
        match (key, answer) {
            (Some(key), _) => {
                out.push(b'>');
                escape_text(out, key);
            }
            (None, Some(Answer::Error(trouble))) => {
                out.push(b'>');
                trouble.write(out);
            }
            (None, _) => return out.extend_from_slice(b"/>"),
        }
        out.extend_from_slice(b"</");
        out.extend_from_slice(name.as_bytes());
        out.push(b'>');
    }
}

fn address(top: &Top, name: &str) -> Result<Domain, StreamError> {
    let value = top.attribute(name);
    value
        .and_then(|value| Domain::parse(value).ok())
        .ok_or_else(|| {
            StreamError::new(
                StreamCondition::ImproperAddressing,
                "Dialback is from a domain to a domain",
            )
        })
}

fn id(top: &Top) -> Result<String, StreamError> {
    match top.attribute("id") {
        None | Some("") => Err(invalid("Verification of a dialback key needs an id")),
        Some(id) if id.len() > DIALBACK_ID_BYTES_MAX => Err(too_long()),
        Some(id) => Ok(id.to_owned()),
    }
}

/// The key without the white space that people and examples put around it.
fn key(top: &Top) -> Result<String, StreamError> {
    let text = top.text();
    match text.trim_ascii() {
        "" => Err(invalid("A dialback request has a key")),
        key if key.len() > DIALBACK_KEY_BYTES_MAX => Err(too_long()),
        key => Ok(key.to_owned()),
    }
}

fn invalid(text: &'static str) -> StreamError {
    StreamError::new(StreamCondition::InvalidXml, text)
}

fn too_long() -> StreamError {
    StreamError::new(
        StreamCondition::PolicyViolation,
        "The dialback id or key is too long",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::xml::{Bounds, Item, Parser};

    const HEADER: &str = "<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
         xmlns:stream='http://etherx.jabber.org/streams'>";

    fn top(text: &str) -> Box<Top> {
        let mut parser = Parser::new(Bounds::of(1 << 20));
        parser.feed(HEADER.as_bytes());
        parser.feed(text.as_bytes());
        parser.next().unwrap();
        match parser.next() {
            Ok(Some(Item::Top(top))) => top,
            other => panic!("{other:?}: {text}"),
        }
    }

    fn parse(text: &str) -> Result<Packet, StreamError> {
        Packet::parse(&top(text))
    }

    fn written(packet: &Packet) -> String {
        let mut out = Vec::new();
        packet.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn packet(body: Body) -> Packet {
        Packet {
            from: Domain::parse("capulet.example").unwrap(),
            to: Domain::parse("montague.example").unwrap(),
            body,
        }
    }

    /// XEP-0220 §2, examples 1 to 16.
    #[test]
    fn the_examples_are_read_and_written() {
        let key = || "b4835385f37fe2895af6c196b59097b16862406db80559900d96bf6fa7d23df3".to_owned();
        let id = || "417GAF25".to_owned();
        let not_found = || {
            Answer::Error(Trouble {
                type_: ErrorType::Cancel,
                condition: "item-not-found".into(),
                text: "".into(),
            })
        };
        let error = "<error type='cancel'>\
                     <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
        for (attributes, inside, body) in [
            ("", key(), Body::Offer { key: key() }),
            (" type='valid'", String::new(), Body::Result(Answer::Valid)),
            (
                " type='invalid'",
                String::new(),
                Body::Result(Answer::Invalid),
            ),
            (" type='error'", error.to_owned(), Body::Result(not_found())),
            (
                " id='417GAF25'",
                key(),
                Body::Verify {
                    id: id(),
                    key: key(),
                },
            ),
            (
                " id='417GAF25' type='valid'",
                String::new(),
                Body::Verified {
                    id: id(),
                    answer: Answer::Valid,
                },
            ),
            (
                " id='417GAF25' type='error'",
                error.to_owned(),
                Body::Verified {
                    id: id(),
                    answer: not_found(),
                },
            ),
        ] {
            let name = if attributes.contains("id=") {
                "db:verify"
            } else {
                "db:result"
            };
            let start = format!("<{name} from='capulet.example' to='montague.example'{attributes}");
            let text = match inside.as_str() {
                "" => format!("{start}/>"),
                inside => format!("{start}>{inside}</{name}>"),
            };
            let packet = packet(body);
            assert_eq!(written(&packet), text);
            assert_eq!(parse(&text), Ok(packet.clone()), "{text}");
            // Another prefix, and the white space of the examples.
            let spaced = format!("{start}>\n   {inside}\n  </{name}>").replace("db:", "d:");
            let spaced = spaced.replacen(" from", " xmlns:d='jabber:server:dialback'\n from", 1);
            assert_eq!(parse(&spaced), Ok(packet), "{spaced}");
        }
    }

    #[test]
    fn domains_are_prepared() {
        let packet = parse("<db:result from='XN--BCHER-KVA.example' to='ORG'>k</db:result>");
        let packet = packet.unwrap();
        assert_eq!(packet.from, "bücher.example");
        assert_eq!(packet.pair().local, "org");
    }

    #[test]
    fn what_is_no_dialback_ends_the_stream() {
        let long = "k".repeat(DIALBACK_KEY_BYTES_MAX + 1);
        let long_id = "i".repeat(DIALBACK_ID_BYTES_MAX + 1);
        let both = "from='a.example' to='b.example'";
        use StreamCondition::*;
        for (text, condition) in [
            (
                format!("<db:request {both}>k</db:request>"),
                UnsupportedStanzaType,
            ),
            (format!("<result {both}>k</result>"), UnsupportedStanzaType),
            (
                "<db:result from='a.example'>k</db:result>".into(),
                ImproperAddressing,
            ),
            (
                "<db:result to='a.example'>k</db:result>".into(),
                ImproperAddressing,
            ),
            (
                "<db:result to='a.example' from='juliet@b.example'>k</db:result>".into(),
                ImproperAddressing,
            ),
            (
                "<db:result to='a.example/x' from='b.example'>k</db:result>".into(),
                ImproperAddressing,
            ),
            (
                "<db:result to='' from='b.example'>k</db:result>".into(),
                ImproperAddressing,
            ),
            (format!("<db:result {both}/>"), InvalidXml),
            (format!("<db:result {both}> </db:result>"), InvalidXml),
            (format!("<db:result {both} type='maybe'/>"), InvalidXml),
            (format!("<db:verify {both}>k</db:verify>"), InvalidXml),
            (format!("<db:verify {both} id=''>k</db:verify>"), InvalidXml),
            (format!("<db:verify {both} type='valid'/>"), InvalidXml),
            (
                format!("<db:result {both}>{long}</db:result>"),
                PolicyViolation,
            ),
            (
                format!("<db:verify {both} id='{long_id}'>k</db:verify>"),
                PolicyViolation,
            ),
        ] {
            let error = parse(&text).expect_err(&text);
            assert_eq!(error.condition, condition, "{text}");
        }
    }

    /// XEP-0220 §2.5; what peers send instead of what it tells them.
    #[test]
    fn an_error_is_one_whatever_it_holds() {
        let both = "from='a.example' to='b.example'";
        let stanzas = "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'";
        for (inside, type_, condition, text) in [
            ("", ErrorType::Cancel, "", ""),
            ("<error/>", ErrorType::Cancel, "", ""),
            (
                &*format!(
                    "<db:error type='wait'><text {stanzas}>é</text>\
                     <remote-connection-failed {stanzas}/></db:error>"
                ),
                ErrorType::Wait,
                "remote-connection-failed",
                "é",
            ),
            (
                &*format!(
                    "<error type='auth'><x xmlns='urn:x'/><forbidden {stanzas}/>\
                     <text {stanzas}>{}</text></error>",
                    "é".repeat(DIALBACK_TEXT_BYTES_MAX)
                ),
                ErrorType::Auth,
                "forbidden",
                &*"é".repeat(DIALBACK_TEXT_BYTES_MAX / 2),
            ),
        ] {
            let packet = parse(&format!(
                "<db:result {both} type='error'>{inside}</db:result>"
            ));
            let Ok(Body::Result(Answer::Error(trouble))) = packet.map(|packet| packet.body) else {
                panic!("no error: {inside}");
            };
            assert_eq!(trouble.type_, type_);
            assert_eq!(trouble.condition, condition);
            assert_eq!(trouble.text, text);
        }
    }

    fn answers() -> impl Strategy<Value = Answer> {
        let types = prop::sample::select(vec![
            ErrorType::Auth,
            ErrorType::Cancel,
            ErrorType::Continue,
            ErrorType::Modify,
            ErrorType::Wait,
        ]);
        let trouble = (types, "|[a-z]{1,8}(-[a-z]{1,8})?", "|[ -~é]{0,20}[!-~]");
        prop_oneof![
            Just(Answer::Valid),
            Just(Answer::Invalid),
            trouble
                .prop_filter("a text is no condition", |(_, name, _)| name != "text")
                .prop_map(|(type_, condition, text)| Answer::Error(Trouble {
                    type_,
                    condition: condition.into(),
                    text: text.into(),
                })),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            id in "[ -~é]{0,20}[!-~]", key in "[!-~]([ -~é]{0,70}[!-~])?", answer in answers(), kind in 0..4,
        ) {
            let packet = packet(match kind {
                0 => Body::Offer { key },
                1 => Body::Verify { id, key },
                2 => Body::Verified { id, answer },
                _ => Body::Result(answer),
            });
            prop_assert_eq!(parse(&written(&packet)), Ok(packet));
        }
    }
}
