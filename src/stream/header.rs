//! Stream headers (RFC 6120 §4.7): what a client's must say, and how ours answers.

use std::sync::Arc;

use crate::config::{DomainSettings, Settings};
use crate::jid::{Domain, Jid};
use crate::limits::DIALBACK_ID_BYTES_MAX;
use crate::ns;
use crate::stanza::{StreamCondition, StreamError};
use crate::xml::Header;
use crate::xml::{attribute, escape_attribute};

/// A client's stream header that was accepted.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The local domain that it is for.
    pub domain: Arc<DomainSettings>,
    /// Who the client says it is, not proven. Goes back as `to`.
    pub from: Option<Jid>,
    /// The default language of its stanzas.
    pub lang: Option<Box<str>>,
}

/// Checks a client's stream header. `expected` is the domain of an earlier header on the same
/// connection, which may be chosen again only by TLS (RFC 6120 §4.3.3).
///
/// # Errors
/// The stream error that answers it.
pub fn check(
    header: &Header,
    settings: &Settings,
    expected: Option<&DomainSettings>,
) -> Result<Opened, StreamError> {
    header.check(ns::CLIENT)?;
    // RFC 6120 §4.7.5: no version means 0.9, which knows neither features nor SASL.
    if major(header).is_none_or(|major| major < 1) {
        return Err(StreamError::new(
            StreamCondition::UnsupportedVersion,
            "This server speaks XMPP 1.0",
        ));
    }
    let domain = find_domain(header.to.as_deref(), settings)?;
    if expected.is_some_and(|expected| expected.name != domain.name) {
        return Err(StreamError::new(
            StreamCondition::HostUnknown,
            "The stream was opened for another domain before",
        ));
    }
    let from = match header.from.as_deref() {
        None => None,
        Some(from) => Some(Jid::parse(from).map_err(|_| {
            StreamError::new(
                StreamCondition::ImproperAddressing,
                "The 'from' of the stream is no address",
            )
        })?),
    };
    Ok(Opened {
        domain,
        from,
        lang: header
            .lang
            .as_deref()
            .filter(|lang| is_lang(lang))
            .map(Into::into),
    })
}

/// The major version (RFC 6120 §4.7.5).
fn major(header: &Header) -> Option<u32> {
    let (major, minor) = header.version.as_deref()?.split_once('.')?;
    let is_minor = !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit());
    is_minor.then(|| major.parse().ok()).flatten()
}

/// Who answers a header that is refused: the domain that it is for, if that is one of ours; and whom.
pub fn answerer(header: &Header, settings: &Settings) -> Option<(Domain, Option<Jid>)> {
    let domain = find_domain(header.to.as_deref(), settings).ok()?;
    let from = header.from.as_deref();
    let to = from.and_then(|from| Jid::parse(from).ok());
    Some((domain.name.clone(), to))
}

/// RFC 6120 §4.9.1.3, §4.9.3.6, §4.9.3.7.
fn find_domain(to: Option<&str>, settings: &Settings) -> Result<Arc<DomainSettings>, StreamError> {
    let Some(to) = to else {
        return Err(StreamError::new(
            StreamCondition::HostUnknown,
            "The stream has no 'to': name the domain that you want",
        ));
    };
    let name = Domain::parse(to).map_err(|_| {
        StreamError::new(
            StreamCondition::ImproperAddressing,
            "The 'to' of the stream is no domain",
        )
    })?;
    settings.domains.get(&name).cloned().ok_or_else(|| {
        StreamError::new(
            StreamCondition::HostUnknown,
            "This server does not serve that domain",
        )
    })
}

/// A language tag of reasonable length: it is repeated on every stanza (RFC 6120 §4.7.4).
fn is_lang(lang: &str) -> bool {
    !lang.is_empty()
        && lang.len() <= 64
        && lang
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Writes our header. `domain` is what the client asked for, where we serve it, else any of ours
/// (RFC 6120 §4.9.1.3).
pub fn write(out: &mut Vec<u8>, domain: &str, id: &str, to: Option<&Jid>) {
    out.extend_from_slice(b"<?xml version='1.0'?><stream:stream from='");
    escape_attribute(out, domain);
    out.extend_from_slice(b"' id='");
    out.extend_from_slice(id.as_bytes());
    if let Some(to) = to {
        out.extend_from_slice(b"' to='");
        // RFC 6120 §4.7.2: the bare JID of the client's `from`.
        escape_attribute(out, to.bare_str());
    }
    out.extend_from_slice(
        b"' version='1.0' xml:lang='en' xmlns='jabber:client' \
          xmlns:stream='http://etherx.jabber.org/streams'>",
    );
}

/// What a header between servers tells (RFC 6120 §4.7), beside what must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOpened {
    /// The domain of ours that it is for; none in an answer without `to`.
    pub to: Option<Domain>,
    /// The domain that the peer says it is, not proven.
    pub from: Option<Domain>,
    /// The stream's id, which only an answer has.
    pub id: Option<String>,
    /// Whether features follow: who tells no version, or 0.9, knows none (§4.7.5).
    pub has_features: bool,
}

/// Checks the header of another server, whichever of us has opened the stream.
///
/// # Errors
/// The stream error that answers it: `invalid-namespace` and the like, `improper-addressing` for an
/// address that is no domain (RFC 6120 §4.9.3.7).
pub fn check_server(header: &Header) -> Result<ServerOpened, StreamError> {
    header.check(ns::SERVER)?;
    let domain = |address: Option<&str>| {
        let parsed = address.map(Domain::parse).transpose();
        parsed.map_err(|_| {
            StreamError::new(
                StreamCondition::ImproperAddressing,
                "An address of the stream is no domain",
            )
        })
    };
    Ok(ServerOpened {
        to: domain(header.to.as_deref())?,
        from: domain(header.from.as_deref())?,
        id: header
            .id
            .clone()
            .filter(|id| id.len() <= DIALBACK_ID_BYTES_MAX),
        has_features: major(header).is_some_and(|major| major >= 1),
    })
}

/// Writes our header to another server: `id` is there when we answer (RFC 6120 §4.7.3). The dialback
/// namespace tells that we know it (XEP-0220 §2.1).
pub fn write_server(out: &mut Vec<u8>, from: Option<&str>, to: Option<&str>, id: Option<&str>) {
    out.extend_from_slice(
        b"<?xml version='1.0'?><stream:stream xmlns='jabber:server' \
          xmlns:db='jabber:server:dialback' xmlns:stream='http://etherx.jabber.org/streams' \
          version='1.0' xml:lang='en'",
    );
    for (name, value) in [("from", from), ("to", to), ("id", id)] {
        if let Some(value) = value {
            attribute(out, name, value);
        }
    }
    out.push(b'>');
}

/// Writes our header to a component (XEP-0114 §3): `from` is the component's own name, as it has asked
/// for it.
pub fn write_component(out: &mut Vec<u8>, from: Option<&str>, id: &str) {
    out.extend_from_slice(
        b"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
          xmlns:stream='http://etherx.jabber.org/streams'",
    );
    for (name, value) in [("from", from), ("id", Some(id))] {
        if let Some(value) = value {
            attribute(out, name, value);
        }
    }
    out.push(b'>');
}

/// The end of the stream (RFC 6120 §4.4).
pub const CLOSE: &[u8] = b"</stream:stream>";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::testing::{HEADER, header, open};

    fn condition(text: &str) -> Option<StreamCondition> {
        let checked = check(&header(text), &open(), None);
        checked.err().map(|error| error.condition)
    }

    /// RFC 6120 §4.7.2, §4.7.5, §4.8.2, §4.9.3.
    #[test]
    fn each_mistake_in_a_header_has_its_condition() {
        let with = |from: &str, to: &str| condition(&HEADER.replace(from, to));
        assert_eq!(condition(HEADER), None);
        let to = |to: &str| with("to='example.org'", &format!("to='{to}'"));
        assert_eq!(to("EXAMPLE.org"), None);
        assert_eq!(to("example.net"), Some(StreamCondition::HostUnknown));
        assert_eq!(to(""), Some(StreamCondition::ImproperAddressing));
        assert_eq!(
            to("juliet@example.org"),
            Some(StreamCondition::ImproperAddressing)
        );
        assert_eq!(
            with("to='example.org'", ""),
            Some(StreamCondition::HostUnknown)
        );
        let version = |version: &str| {
            with(
                "to='example.org' version='1.0'",
                &format!("to='example.org' {version}"),
            )
        };
        assert_eq!(version("version='1.1'"), None);
        assert_eq!(version("version='12.0'"), None);
        for wrong in [
            "",
            "version='0.9'",
            "version='1'",
            "version='1.'",
            "version='a.0'",
        ] {
            assert_eq!(
                version(wrong),
                Some(StreamCondition::UnsupportedVersion),
                "{wrong}"
            );
        }
        let from = |from: &str| with(" to=", &format!(" from='{from}' to="));
        assert_eq!(from("juliet@example.org/balcony"), None);
        assert_eq!(from("@"), Some(StreamCondition::ImproperAddressing));
        assert_eq!(
            with("jabber:client", "jabber:server"),
            Some(StreamCondition::InvalidNamespace)
        );
    }

    #[test]
    fn a_language_that_is_none_is_left_out() {
        for (lang, expected) in [("de-CH", Some("de-CH")), ("", None), ("d e", None)] {
            let text = HEADER.replace(" to=", &format!(" xml:lang='{lang}' to="));
            let opened = check(&header(&text), &open(), None).unwrap();
            assert_eq!(opened.lang.as_deref(), expected);
        }
        let long = HEADER.replace(" to=", &format!(" xml:lang='{}' to=", "a".repeat(65)));
        assert_eq!(check(&header(&long), &open(), None).unwrap().lang, None);
    }

    /// RFC 6120 §4.7.2: the bare JID goes back.
    #[test]
    fn our_header_is_well_formed_and_gives_the_bare_jid_back() {
        let mut out = Vec::new();
        let to = Jid::parse("juliet@example.org/it's").unwrap();
        write(&mut out, "example.org", "17", Some(&to));
        let read = header(std::str::from_utf8(&out).unwrap());
        assert_eq!(read.to.as_deref(), Some("juliet@example.org"));
        assert_eq!(read.from.as_deref(), Some("example.org"));
        assert_eq!(
            (read.id.as_deref(), read.version.as_deref()),
            (Some("17"), Some("1.0"))
        );
    }
}
