//! What a stanza has to look like, in the words of a test or a script.
//!
//! A pattern is an element. Attributes and texts are compared exactly, the order of attributes and
//! the prefixes of namespaces do not count. A value `{word}` stands for many:
//!
//! | pattern | matches |
//! |---|---|
//! | `{any}` | anything that is not empty |
//! | `{number}` | decimal digits |
//! | `{utc}` | a time of day in UTC as XEP-0082 writes it |
//! | `{other}` | any other word: what it was the first time, and that alone from then on |
//!
//! A child `<unordered xmlns='urn:stanzad:dialog'/>` says that the children beside it come in any
//! order, and `<others/>` that there may be more besides. What RFC 6120 leaves to the server is not
//! compared unless the pattern has it: `xml:lang` of a stanza (§8.1.5), the text of an error (§8.3.2),
//! and `from` of an IQ that comes from one's own account (§8.1.2.1).

use std::collections::BTreeMap;

use stanzad::ns;
use stanzad::xml::{Attribute, Element, Node};

use super::client::text;

/// The namespace of what is no stanza but a word about one.
pub const DIALOG: &str = "urn:stanzad:dialog";

/// What the words of a dialog stand for by now.
pub type Words = BTreeMap<String, String>;

/// Whether `seen`, which the client `own` has received, is what the pattern says. `words` grows
/// only if it is.
///
/// # Errors
/// What differs.
pub fn matches(
    pattern: &Element,
    seen: &Element,
    own: &str,
    words: &mut Words,
) -> Result<(), String> {
    let mut tried = words.clone();
    let mut seen = seen.clone();
    let bare = own.split('/').next().unwrap_or(own);
    if pattern.attribute("xml:lang").is_none() {
        seen.attributes.retain(|one| !is_lang(one));
    }
    if pattern.name == "iq" && pattern.attribute("from").is_none() {
        seen.attributes
            .retain(|one| one.name != "from" || one.value != bare);
    }
    element(pattern, &seen, &mut tried)?;
    *words = tried;
    Ok(())
}

/// Matches each pattern with another stanza, in any order.
///
/// # Errors
/// The pattern that none matches, or the stanza that is left over.
pub fn matches_all(
    patterns: &[Element],
    seen: &[Element],
    own: &str,
    words: &mut Words,
) -> Result<(), String> {
    let mut left: Vec<&Element> = seen.iter().collect();
    for pattern in patterns {
        let found = left
            .iter()
            .position(|seen| matches(pattern, seen, own, words).is_ok());
        match found {
            Some(at) => drop(left.remove(at)),
            None => return Err(format!("nothing is {}", text(pattern))),
        }
    }
    match left.first() {
        Some(extra) => Err(format!("nobody expects {}", text(extra))),
        None => Ok(()),
    }
}

/// Parses a stanza written in a test. White space between elements does not count.
///
/// # Panics
/// If it is not one whole stanza.
pub fn stanza(xml: &str) -> Element {
    let document = format!("<dialog xmlns:d='{DIALOG}'>{xml}</dialog>");
    let mut parsed = super::script::parse(&document).unwrap();
    assert_eq!(parsed.children.len(), 1, "{xml}");
    parsed.children.remove(0).element
}

/// Puts the words that are known into an element that is to be sent.
///
/// # Panics
/// If a word is not known.
pub fn fill(element: &Element, words: &Words) -> Element {
    let known = |value: &String| match word(value) {
        Some(word) => words
            .get(word)
            .unwrap_or_else(|| panic!("{{{word}}} is not known"))
            .clone(),
        None => value.clone(),
    };
    map(element, &known)
}

/// The element with each text and each value of an attribute mapped.
pub fn map(element: &Element, change: &impl Fn(&String) -> String) -> Element {
    let mut changed = element.clone();
    for attribute in &mut changed.attributes {
        attribute.value = change(&attribute.value);
    }
    for node in &mut changed.nodes {
        match node {
            Node::Element(child) => *child = map(child, change),
            Node::Text(text) => *text = change(text),
        }
    }
    changed
}

fn is_lang(attribute: &Attribute) -> bool {
    attribute.name == "lang" && attribute.ns.as_deref() == Some(ns::XML)
}

fn word(value: &str) -> Option<&str> {
    value.strip_prefix('{')?.strip_suffix('}')
}

fn element(pattern: &Element, seen: &Element, words: &mut Words) -> Result<(), String> {
    let name = |element: &Element| format!("<{} xmlns='{}'>", element.name, element.ns);
    if (&pattern.name, &pattern.ns) != (&seen.name, &seen.ns) {
        return Err(format!("{} in place of {}", name(seen), name(pattern)));
    }
    let place = &pattern.name;
    for wanted in &pattern.attributes {
        let found = seen
            .attributes
            .iter()
            .find(|one| one.name == wanted.name && one.ns == wanted.ns);
        let found = found.ok_or_else(|| format!("<{place}> has no '{}'", wanted.name))?;
        value(&wanted.value, &found.value, words)
            .map_err(|why| format!("'{}' of <{place}>: {why}", wanted.name))?;
    }
    for found in &seen.attributes {
        let is_wanted = pattern
            .attributes
            .iter()
            .any(|one| one.name == found.name && one.ns == found.ns);
        if !is_wanted {
            return Err(format!("<{place}> has '{}={}'", found.name, found.value));
        }
    }
    children(pattern, seen, words)
}

fn children(pattern: &Element, seen: &Element, words: &mut Words) -> Result<(), String> {
    let place = &pattern.name;
    let is_open = pattern.find(DIALOG, "others").is_some();
    let is_unordered = is_open || pattern.find(DIALOG, "unordered").is_some();
    let wanted: Vec<&Element> = pattern.elements().filter(|one| one.ns != DIALOG).collect();
    // The text that explains an error is for people (RFC 6120 §8.3.2).
    let says_why = |one: &Element| one.is(ns::STANZA_ERROR, "text");
    let mut found: Vec<&Element> = seen.elements().collect();
    if !wanted.iter().any(|one| says_why(one)) {
        found.retain(|one| !says_why(one));
    }
    if is_unordered {
        for child in wanted {
            let at = found.iter().position(|one| {
                let mut tried = words.clone();
                let same = element(child, one, &mut tried).is_ok();
                if same {
                    *words = tried;
                }
                same
            });
            let at = at.ok_or_else(|| format!("<{place}> has no {}", text(child)))?;
            found.remove(at);
        }
        return match found.first() {
            Some(extra) if !is_open => Err(format!("<{place}> has {}", text(extra))),
            _ => Ok(()),
        };
    }
    if pattern.text() != seen.text() {
        value(&pattern.text(), &seen.text(), words)
            .map_err(|why| format!("the text of <{place}>: {why}"))?;
    }
    for (wanted, found) in wanted.iter().zip(&found) {
        element(wanted, found, words)?;
    }
    match (wanted.get(found.len()), found.get(wanted.len())) {
        (Some(missing), _) => Err(format!("<{place}> has no {}", text(missing))),
        (_, Some(extra)) => Err(format!("<{place}> has {}", text(extra))),
        (None, None) => Ok(()),
    }
}

fn value(pattern: &str, seen: &str, words: &mut Words) -> Result<(), String> {
    let fits = match word(pattern) {
        None => pattern == seen,
        Some("any") => !seen.is_empty(),
        Some("number") => !seen.is_empty() && seen.bytes().all(|byte| byte.is_ascii_digit()),
        Some("utc") => is_utc(seen),
        Some(word) => match words.get(word) {
            Some(known) => known == seen,
            None => {
                words.insert(word.to_owned(), seen.to_owned());
                !seen.is_empty()
            }
        },
    };
    if fits {
        return Ok(());
    }
    let known = word(pattern).and_then(|word| words.get(word));
    let known = known.map_or(String::new(), |known| format!(" ({known:?})"));
    Err(format!("{seen:?} in place of {pattern:?}{known}"))
}

/// XEP-0082 §3.2: `CCYY-MM-DDThh:mm:ss[.sss]Z`.
fn is_utc(text: &str) -> bool {
    let Some(text) = text.strip_suffix('Z') else {
        return false;
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let shape = "0000-00-00T00:00:00";
    let fits = |(byte, shape): (u8, u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        other => byte == other,
    };
    whole.len() == shape.len()
        && whole.bytes().zip(shape.bytes()).all(fits)
        && !fraction.is_empty()
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
}
