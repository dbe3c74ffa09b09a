//! The elements of stream management, read and written (XEP-0198 §3 to §6).

use std::borrow::Cow;

use crate::limits::MANAGEMENT_ID_BYTES_MAX;
use crate::ns;
use crate::stanza::{Condition, StreamCondition, StreamError};
use crate::xml::{Element, Top};

/// An element of stream management, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nonza {
    /// `<enable/>`
    Enable {
        /// Whether the stream is to be resumable.
        resume: bool,
        /// For how long the initiating entity would like that, in seconds.
        seconds_max: Option<u32>,
    },
    /// `<enabled/>`
    Enabled {
        /// The SM-ID.
        id: Option<String>,
        /// Whether the stream can be resumed.
        resume: bool,
        /// For how long the receiving entity would like that, in seconds.
        seconds_max: Option<u32>,
        /// Where to reconnect to.
        location: Option<String>,
    },
    /// `<r/>`
    Request,
    /// `<a/>`
    Ack {
        /// How many stanzas are handled.
        h: u32,
    },
    /// `<resume/>`
    Resume {
        /// How many stanzas are handled.
        h: u32,
        /// The SM-ID of the former stream.
        previous: String,
    },
    /// `<resumed/>`
    Resumed {
        /// How many stanzas are handled.
        h: u32,
        /// The SM-ID of the former stream.
        previous: String,
    },
    /// `<failed/>`
    Failed {
        /// How many stanzas were handled before the former stream was given up.
        h: Option<u32>,
        /// The name of a stanza error's condition; empty if there was none.
        condition: Cow<'static, str>,
    },
}

/// What is to be done about an element that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Answer `<failed/>`: the stream goes on (XEP-0198 §6).
    Fail(Condition),
    /// End the stream.
    End(StreamError),
}

impl Nonza {
    /// `<failed/>` with a condition.
    pub fn failed(condition: &Condition) -> Nonza {
        Nonza::Failed {
            h: None,
            condition: Cow::Borrowed(condition.as_str()),
        }
    }

    /// Reads a top-level element in the namespace of stream management. A `max` that is no number is
    /// taken for none: it is a wish only.
    ///
    /// # Errors
    /// [`Malformed`]: a request that can be failed is; what cannot be understood otherwise, so that
    /// counting goes wrong, is `invalid-xml` (RFC 6120 §4.9.3.11); another element is
    /// `unsupported-stanza-type` (§4.9.3.24).
    pub fn parse(top: &Top) -> Result<Nonza, Malformed> {
        let text = |name| top.attribute(name).map(str::to_owned);
        let h = || top.attribute("h").and_then(unsigned);
        let bad_request = || Malformed::Fail(Condition::BadRequest);
        let seconds_max = || {
            top.attribute("max")
                .and_then(unsigned)
                .filter(|max| *max > 0)
        };
        if top.ns != ns::STREAM_MANAGEMENT {
            return Err(unknown());
        }
        let nonza = match top.name.as_str() {
            "enable" => Nonza::Enable {
                resume: boolean(top.attribute("resume")).ok_or_else(bad_request)?,
                seconds_max: seconds_max(),
            },
            "enabled" => {
                let id = text("id").filter(|id| id.len() <= MANAGEMENT_ID_BYTES_MAX);
                let resume = boolean(top.attribute("resume")).ok_or_else(invalid)?;
                Nonza::Enabled {
                    resume: resume && id.is_some(),
                    id,
                    seconds_max: seconds_max(),
                    location: text("location"),
                }
            }
            "r" => Nonza::Request,
            "a" => Nonza::Ack {
                h: h().ok_or_else(invalid)?,
            },
            "resume" => Nonza::Resume {
                h: h().ok_or_else(bad_request)?,
                previous: text("previd").ok_or_else(bad_request)?,
            },
            "resumed" => Nonza::Resumed {
                h: h().ok_or_else(invalid)?,
                previous: text("previd").ok_or_else(invalid)?,
            },
            "failed" => {
                let element = top.to_element();
                let mut children = element.elements();
                let condition = children.find(|child| child.ns == ns::STANZA_ERROR);
                Nonza::Failed {
                    h: h(),
                    condition: condition
                        .map_or(Cow::Borrowed(""), |child| Cow::Owned(child.name.clone())),
                }
            }
            _ => return Err(unknown()),
        };
        Ok(nonza)
    }

    /// Appends the element.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.to_element().write(out, "");
    }

    fn to_element(&self) -> Element {
        let new = |name: &str| Element::new(ns::STREAM_MANAGEMENT, name);
        let with = |element: Element, name, value: Option<String>| match value {
            Some(value) => element.attr(name, value),
            None => element,
        };
        let resumable = |resume: bool| resume.then(|| "true".to_owned());
        let number = |number: Option<u32>| number.map(|number| number.to_string());
        match self {
            Nonza::Enable {
                resume,
                seconds_max,
            } => {
                let element = with(new("enable"), "resume", resumable(*resume));
                with(element, "max", number(*seconds_max))
            }
            Nonza::Enabled {
                id,
                resume,
                seconds_max,
                location,
            } => {
                let element = with(new("enabled"), "id", id.clone());
                let element = with(element, "resume", resumable(*resume));
                let element = with(element, "max", number(*seconds_max));
                with(element, "location", location.clone())
            }
            Nonza::Request => new("r"),
            Nonza::Ack { h } => new("a").attr("h", h.to_string()),
            Nonza::Resume { h, previous } | Nonza::Resumed { h, previous } => {
                let is_request = matches!(self, Nonza::Resume { .. });
                new(if is_request { "resume" } else { "resumed" })
                    .attr("h", h.to_string())
                    .attr("previd", previous.as_str())
            }
            Nonza::Failed { h, condition } => {
                let element = with(new("failed"), "h", number(*h));
                if condition.is_empty() {
                    element
                } else {
                    element.child(Element::new(ns::STANZA_ERROR, condition.as_ref()))
                }
            }
        }
    }
}

/// `xs:unsignedInt` (XML Schema Part 2 §3.4.22).
fn unsigned(value: &str) -> Option<u32> {
    let value = value.trim_ascii();
    let digits = value.strip_prefix('+').unwrap_or(value);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// `xs:boolean`, false if it is left out.
fn boolean(value: Option<&str>) -> Option<bool> {
    match value.map(str::trim_ascii) {
        None | Some("false" | "0") => Some(false),
        Some("true" | "1") => Some(true),
        Some(_) => None,
    }
}

fn invalid() -> Malformed {
    Malformed::End(StreamError::new(
        StreamCondition::InvalidXml,
        "This element of stream management lacks what it needs",
    ))
}

fn unknown() -> Malformed {
    Malformed::End(StreamError::new(
        StreamCondition::UnsupportedStanzaType,
        "Stream management has no such element",
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::xml::{Bounds, Item, Parser};

    /// A parsed child of a stream.
    fn top(text: &str) -> Box<Top> {
        let mut parser = Parser::new(Bounds::of(1 << 20));
        let header = "<stream:stream xmlns='jabber:client' version='1.0' \
                      xmlns:stream='http://etherx.jabber.org/streams'>";
        parser.feed(header.as_bytes());
        parser.feed(text.as_bytes());
        parser.next().unwrap();
        match parser.next() {
            Ok(Some(Item::Top(top))) => top,
            other => panic!("{other:?}"),
        }
    }

    fn parse(inside: &str) -> Result<Nonza, Malformed> {
        let (name, rest) = inside.split_at(inside.find([' ', '/', '>']).unwrap());
        Nonza::parse(&top(&format!("<{name} xmlns='urn:xmpp:sm:3'{rest}")))
    }

    fn written(nonza: &Nonza) -> String {
        let mut out = Vec::new();
        nonza.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn enable(resume: bool, seconds_max: Option<u32>) -> Nonza {
        Nonza::Enable {
            resume,
            seconds_max,
        }
    }

    /// XEP-0198 §3 to §6, in the order of its examples.
    #[test]
    fn the_examples_are_read_and_written() {
        let enabled = |id: Option<&str>, resume, location: Option<&str>| Nonza::Enabled {
            id: id.map(str::to_owned),
            resume,
            seconds_max: None,
            location: location.map(str::to_owned),
        };
        let failed = "<failed xmlns='urn:xmpp:sm:3'>\
                      <unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";
        for (text, nonza) in [
            ("<enable xmlns='urn:xmpp:sm:3'/>", enable(false, None)),
            (
                "<enabled xmlns='urn:xmpp:sm:3' id='some-long-sm-id' resume='true'/>",
                enabled(Some("some-long-sm-id"), true, None),
            ),
            (failed, Nonza::failed(&Condition::UnexpectedRequest)),
            ("<r xmlns='urn:xmpp:sm:3'/>", Nonza::Request),
            ("<a xmlns='urn:xmpp:sm:3' h='1'/>", Nonza::Ack { h: 1 }),
            (
                "<enable xmlns='urn:xmpp:sm:3' resume='true'/>",
                enable(true, None),
            ),
            (
                "<enabled xmlns='urn:xmpp:sm:3' id='x' resume='true' \
                 location='[2001:41D0:1:A49b::1]:9222'/>",
                enabled(Some("x"), true, Some("[2001:41D0:1:A49b::1]:9222")),
            ),
            (
                "<resume xmlns='urn:xmpp:sm:3' h='4294967295' previd='x'/>",
                Nonza::Resume {
                    h: u32::MAX,
                    previous: "x".to_owned(),
                },
            ),
            (
                "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='x'/>",
                Nonza::Resumed {
                    h: 0,
                    previous: "x".to_owned(),
                },
            ),
            (
                "<failed xmlns='urn:xmpp:sm:3' h='7'>\
                 <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>",
                Nonza::Failed {
                    h: Some(7),
                    condition: "item-not-found".into(),
                },
            ),
            (
                "<failed xmlns='urn:xmpp:sm:3'/>",
                Nonza::Failed {
                    h: None,
                    condition: "".into(),
                },
            ),
        ] {
            assert_eq!(Nonza::parse(&top(text)), Ok(nonza.clone()), "{text}");
            assert_eq!(written(&nonza), text);
        }
    }

    /// XEP-0198 §3, note; XML Schema Part 2.
    #[test]
    fn values_are_those_of_xml_schema() {
        for (text, expected) in [
            ("enable resume='1'/>", enable(true, None)),
            ("enable resume=' true '/>", enable(true, None)),
            ("enable resume='0'/>", enable(false, None)),
            ("enable resume='false'/>", enable(false, None)),
            ("enable max='60'/>", enable(false, Some(60))),
            ("enable max='0'/>", enable(false, None)),
            ("enable max='99999999999'/>", enable(false, None)),
            ("a h=' +007 '/>", Nonza::Ack { h: 7 }),
            ("a h='4294967295'/>", Nonza::Ack { h: u32::MAX }),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    /// XEP-0198 §5: an id beyond 4,000 bytes is none, and without one there is nothing to resume.
    #[test]
    fn what_cannot_be_resumed_is_not_resumable() {
        let resumable = |nonza| matches!(nonza, Ok(Nonza::Enabled { resume: true, .. }));
        assert!(!resumable(parse("enabled resume='true'/>")));
        let id = "x".repeat(MANAGEMENT_ID_BYTES_MAX);
        assert!(resumable(parse(&format!(
            "enabled resume='true' id='{id}'/>"
        ))));
        assert!(!resumable(parse(&format!(
            "enabled resume='true' id='{id}x'/>"
        ))));
    }

    #[test]
    fn a_malformed_request_fails_and_other_elements_end_the_stream() {
        let bad_request = Malformed::Fail(Condition::BadRequest);
        for text in [
            "enable resume='yes'/>",
            "resume previd='x'/>",
            "resume h='1'/>",
            "resume h='-1' previd='x'/>",
        ] {
            assert_eq!(parse(text), Err(bad_request.clone()), "{text}");
        }
        for text in [
            "a/>",
            "a h=''/>",
            "a h='+'/>",
            "a h='x'/>",
            "a h='-0'/>",
            "a h='1.0'/>",
            "a h='4294967296'/>",
            "enabled resume='no'/>",
            "resumed h='1'/>",
            "resumed previd='x'/>",
        ] {
            assert_eq!(parse(text), Err(invalid()), "{text}");
        }
        assert_eq!(parse("sm/>"), Err(unknown()));
        assert_eq!(Nonza::parse(&top("<r/>")), Err(unknown()));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            h: u32, text in "[ -~é]{0,30}", some: bool, resume: bool, max in 1..u32::MAX,
            condition in "|[a-z]{1,20}", kind in 0..6,
        ) {
            let seconds_max = some.then_some(max);
            let nonza = match kind {
                0 => Nonza::Enable { resume, seconds_max },
                1 => Nonza::Enabled {
                    id: some.then(|| text.clone()),
                    resume: resume && some,
                    seconds_max,
                    location: resume.then_some(text),
                },
                2 => Nonza::Ack { h },
                3 => Nonza::Resume { h, previous: text },
                4 => Nonza::Resumed { h, previous: text },
                _ => Nonza::Failed { h: some.then_some(h), condition: condition.into() },
            };
            prop_assert_eq!(Nonza::parse(&top(&written(&nonza))), Ok(nonza));
        }
    }
}
