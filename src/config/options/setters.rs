//! Values with rules of their own.

use super::super::LogTo;
use super::super::value::{Given, Wrong};
use super::Draft;
use crate::jid::DomainList;

/// A list of domains.
pub(super) fn domains(given: &Given<'_>, into: &mut DomainList) -> Result<(), Vec<Wrong>> {
    let mut list = DomainList::default();
    let mut wrong = Vec::new();
    for (place, text) in given.strings()? {
        if let Err(error) = list.add(text) {
            let error = error.to_string();
            let what = error.split(';').next().unwrap_or_default();
            let says = format!(
                "{} has {text:?}: {what}; write a name like \"example.org\", or \"*.example.org\" \
                 for all below it",
                given.name
            );
            wrong.push((place, says));
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    *into = list;
    Ok(())
}

/// The path of a Unix socket has room for 107 bytes (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

pub(super) fn set_control(draft: &mut Draft, given: &Given<'_>) -> Result<(), Vec<Wrong>> {
    let path = given.path().map_err(|wrong| vec![wrong])?;
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_BYTES_MAX {
        return Err(vec![given.wrong(format!(
            "server.control has {length} bytes, and the path of a socket at most \
             {SOCKET_PATH_BYTES_MAX}; write a shorter one"
        ))]);
    }
    draft.whole.server.control = path;
    Ok(())
}

/// A path is told from a name by its slash.
pub(super) fn set_log_to(draft: &mut Draft, given: &Given<'_>) -> Result<(), Vec<Wrong>> {
    let one = |wrong| vec![wrong];
    draft.whole.log.to = if given.text().map_err(one)?.contains('/') {
        LogTo::File(given.path().map_err(one)?)
    } else {
        const NAMES: [&str; 3] = ["stderr", "journald", "syslog"];
        match given.choice(&NAMES) {
            Ok(0) => LogTo::Stderr,
            Ok(1) => LogTo::Journald,
            Ok(_) => LogTo::Syslog,
            Err((span, text)) => return Err(vec![(span, text + " (or the path of a file)")]),
        }
    };
    Ok(())
}

/// A list of URIs (RFC 3986 §3.1: a scheme, a colon, and what it means by the rest).
pub(super) fn uris(given: &Given<'_>, into: &mut Vec<String>) -> Result<(), Vec<Wrong>> {
    let strings = given.strings()?;
    let mut wrong = Vec::new();
    for (place, text) in &strings {
        let is_uri = text.split_once(':').is_some_and(|(scheme, rest)| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
                && !rest.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_graphic())
        });
        if !is_uri {
            let says = format!(
                "{} has {text:?}, which is no URI; write it like \"mailto:xmpp@example.org\", \
                 \"xmpp:admin@example.org\" or \"https://example.org/help\"",
                given.name
            );
            wrong.push((place.clone(), says));
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    *into = strings
        .into_iter()
        .map(|(_, text)| text.to_owned())
        .collect();
    Ok(())
}
