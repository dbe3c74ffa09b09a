//! What to write in place of a line that is no TOML. Most such lines come from a hand that is used to
//! other files, so each is read again here as that hand has meant it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::de::DeTable;

use super::super::options::{COMPONENT_SECTIONS, DOMAIN_SECTIONS, OPTIONS, PEER, SECTIONS, Spec};
use super::super::problem::{Problem, nearest, position};
use super::super::value::pick;

/// Times that a text is parsed: a parser that has lost its way skips all up to the next heading, and what
/// is wrong there is found when the line before is out of the way.
const ROUNDS_MAX: usize = 64;

/// What becomes of a line that is wrong, while more are looked for.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// The parser makes something of it, and goes on with the next.
    Leave,
    /// Without it the others mean what they were meant to.
    TakeOut,
    /// It is part of something longer, and nobody knows where that ends.
    Stop,
}

/// A text of which the parser has made what it can.
pub(super) struct Recovered {
    /// It, with blanks in place of the lines that were taken out.
    pub(super) left: String,
    /// What is wrong, one problem a line: behind its first error the rest of a line is guesswork.
    pub(super) problems: Vec<Problem>,
    /// The lines of which nobody knows what they say: those with errors, and all below a heading that is
    /// none, up to the next.
    pub(super) guessed: BTreeSet<usize>,
}

/// Finds all that is wrong with the syntax of a text.
pub(super) fn recover(text: &str) -> Recovered {
    let mut left = text.to_owned();
    let mut told: BTreeMap<usize, (usize, String)> = BTreeMap::new();
    let mut guessed = BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        let errors = errors_of(&left);
        guessed.extend(errors.keys());
        let news = errors
            .into_iter()
            .filter(|(line, _)| !told.contains_key(line));
        let mut news: Vec<_> = news.collect();
        // That a heading is also something else is the fault of another line, if one is wrong.
        let is_result = |message: &str| message.starts_with("cannot extend");
        if news.iter().any(|(_, (_, _, message))| !is_result(message)) {
            news.retain(|(_, (_, _, message))| !is_result(message));
        }
        let mut is_last = news.is_empty();
        for (line, (column, span, message)) in news {
            let written = text.lines().nth(line - 1).unwrap_or_default();
            let part = text.get(span).unwrap_or_default();
            let (message, then) = describe(written, part, &message);
            told.insert(line, (column, message));
            match then {
                Then::Leave => {}
                Then::TakeOut => {
                    // A list of which an item was taken out says something else.
                    guessed.extend(list_around(text, line));
                    take_out(&mut left, line);
                }
                Then::Stop => {
                    guessed.extend(line..=text.lines().count());
                    is_last = true;
                    break;
                }
            }
        }
        if is_last {
            break;
        }
    }
    let mut is_lost = false;
    for (number, line) in (1..).zip(text.lines()) {
        if is_heading(line) {
            is_lost = told.contains_key(&number);
        }
        if is_lost {
            guessed.insert(number);
        }
    }
    let problems = told.into_iter();
    let problems = problems.map(|(line, (column, text))| Problem { line, column, text });
    Recovered {
        left,
        problems: problems.collect(),
        guessed,
    }
}

/// The line on which the list begins that a line is an item of.
fn list_around(text: &str, line: usize) -> Option<usize> {
    let above: Vec<&str> = text.lines().take(line).collect();
    if above.last()?.contains('=') {
        return None;
    }
    let at = above.iter().rposition(|line| line.contains('='))?;
    let (_, value) = above[at].split_once('=')?;
    value.trim_start().starts_with('[').then_some(at + 1)
}

/// The first error of each line: its column, its place and what the parser says.
fn errors_of(text: &str) -> BTreeMap<usize, (usize, Range<usize>, String)> {
    let mut errors: BTreeMap<usize, (usize, Range<usize>, String)> = BTreeMap::new();
    for error in DeTable::parse_recoverable(text).1 {
        let span = error.span().unwrap_or_default();
        let (line, column) = position(text, span.start);
        if errors.get(&line).is_none_or(|(first, ..)| column < *first) {
            errors.insert(line, (column, span, error.message().replace('\n', ", ")));
        }
    }
    errors
}

fn describe(line: &str, part: &str, message: &str) -> (String, Then) {
    if message == "duplicate key" {
        let text = format!("{part} is set twice; leave one of the two");
        return (text, Then::Leave);
    }
    if let Some(advice) = advice(line, message) {
        return advice;
    }
    let text = format!("not TOML: {message}; write lines like key = value or [section]");
    let then = match is_of_list(message) {
        true => Then::Stop,
        false => Then::TakeOut,
    };
    (text, then)
}

/// Takes a line out, and leaves all others where they are. What stands below a heading stays below one.
fn take_out(text: &mut String, line: usize) {
    let starts = text.match_indices('\n').map(|(at, _)| at + 1);
    let Some(start) = [0].into_iter().chain(starts).nth(line - 1) else {
        return;
    };
    let end = text[start..]
        .find('\n')
        .map_or(text.len(), |end| start + end);
    let width = end - start;
    let blank = match width.checked_sub(2) {
        Some(inner) if inner > 5 && is_heading(&text[start..end]) => format!("[{line:0>inner$}]"),
        _ => " ".repeat(width),
    };
    text.replace_range(start..end, &blank);
}

/// Whether a line is a heading, or was meant as one.
fn is_heading(line: &str) -> bool {
    line.trim_start().starts_with('[')
}

/// Whether the parser complains of a list, whose end, or beginning, may be on another line.
fn is_of_list(message: &str) -> bool {
    [
        "unclosed array, ",
        "missing comma between array",
        "extra comma in array",
    ]
    .iter()
    .any(|lead| message.starts_with(lead))
}

/// What to write in place of a line of which the parser complains. None: nobody knows what was meant.
fn advice(line: &str, message: &str) -> Option<(String, Then)> {
    let line = line.trim();
    let says = |leads: &[&str]| leads.iter().any(|lead| message.starts_with(lead));
    if line.starts_with(';') || line.starts_with("//") {
        let text = "a remark begins with #; write one in place of what is there";
        return Some((text.to_owned(), Then::TakeOut));
    }
    let is_value = is_of_list(message) || says(&["string values", "invalid float", "invalid bool"]);
    let uncommented = line.split('#').next().unwrap_or_default().trim();
    let is_whole_heading = is_heading(line) && uncommented.ends_with(']');
    match line.split_once('=') {
        _ if is_heading(line) && !is_value => Some((heading(line)?, Then::TakeOut)),
        Some((key, value)) if is_key(key) => {
            if is_of_list(message) && is_value_of(value) {
                return Some(unclosed());
            }
            let text = match assignment(key.trim(), value) {
                None if message.starts_with("missing comma between array") => {
                    "two items of a list have no comma between them; write one".to_owned()
                }
                advice => advice?,
            };
            let count = |bracket: char| value.matches(bracket).count();
            let is_complete = count('[') == count(']') && !value.contains("\"\"\"");
            // A section that is no value stands elsewhere, perhaps, and as it should.
            let is_left = is_value && !is_of_list(message) && !SECTIONS.contains(&key.trim());
            let then = match is_complete {
                true if is_left => Then::Leave,
                true => Then::TakeOut,
                false => Then::Stop,
            };
            Some((text, then))
        }
        _ if is_of_list(message) && (is_whole_heading || line.is_empty()) => Some(unclosed()),
        // One of the lines of a list.
        None if is_value => {
            let items = items(uncommented)?;
            let text = format!("strings stand in quotes; write {}", items.join(", "));
            let then = match is_of_list(message) {
                true => Then::TakeOut,
                false => Then::Leave,
            };
            Some((text, then))
        }
        None if says(&["key with no value", "invalid unquoted key"]) => {
            Some((unassigned(line)?, Then::TakeOut))
        }
        _ => None,
    }
}

fn unclosed() -> (String, Then) {
    let text = "a list above this line has no end; write a ] there";
    (text.to_owned(), Then::Stop)
}

/// Whether a value is right by itself.
fn is_value_of(value: &str) -> bool {
    DeTable::parse_recoverable(&format!("x = {value}"))
        .1
        .is_empty()
}

/// `[domain example.org]`, `[domain."example.org"`, `[log] level = "info"`.
fn heading(line: &str) -> Option<String> {
    let inner = line.trim_start_matches('[');
    let (name, rest) = match inner.split_once(']') {
        Some((name, rest)) => (name, rest.trim_start_matches(']').trim()),
        None => (inner.split('#').next().unwrap_or_default(), ""),
    };
    let meant = meant(name).filter(|meant| meant != line)?;
    if rest.is_empty() || rest.starts_with('#') {
        return Some(format!("this is no heading of a section; write {meant}"));
    }
    Some(format!(
        "{meant} has to stand alone on its line; write what follows it on the next one"
    ))
}

/// The heading that a name was meant to be.
fn meant(name: &str) -> Option<String> {
    let name = name.trim();
    let bare = |text: &str| {
        let is_mark = |c: char| c.is_whitespace() || "\"'“”„‘’.:=".contains(c);
        text.trim_matches(is_mark).to_owned()
    };
    let is_apart = |rest: &&str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    for (lead, own) in [
        ("domain", &DOMAIN_SECTIONS[..]),
        ("component", &COMPONENT_SECTIONS[..]),
        (PEER, &[][..]),
    ] {
        let Some(rest) = name.strip_prefix(lead).filter(is_apart) else {
            continue;
        };
        let (rest, peer) = match rest.split_once(".s2s.peer") {
            Some((rest, peer)) => (rest, Some(bare(peer))),
            None => (rest, None),
        };
        let ends = own.iter().map(|section| format!(".{section}"));
        let (rest, section) = ends
            .into_iter()
            .find_map(|end| Some((rest.strip_suffix(&end)?, end)))
            .unwrap_or((rest, String::new()));
        let whose = bare(rest);
        // What is left has to be a name, or else who knows.
        if whose.is_empty() || whose.contains(['"', '\'', ' ', '[', ']']) {
            return None;
        }
        let peer = peer.map(|peer| format!(".s2s.peer.{}", quoted(&peer)));
        return Some(format!(
            "[{lead}.{}{section}{}]",
            quoted(&whose),
            peer.unwrap_or_default()
        ));
    }
    let name = bare(name);
    SECTIONS
        .contains(&name.as_str())
        .then(|| format!("[{name}]"))
}

/// `level = info` and the like.
fn assignment(key: &str, value: &str) -> Option<String> {
    let value = value.trim();
    let value = value.strip_suffix(';').unwrap_or(value).trim();
    if value.starts_with('=') {
        return Some(format!("{key} has more than one =; write {key} = ..."));
    }
    let last = key.rsplit('.').next().unwrap_or(key).trim();
    let spec = OPTIONS.iter().find(|spec| spec.key == last);
    // A secret is shown to nobody, also where its option is misspelt.
    let shown = |value: &str| match spec.filter(|spec| spec.key != "secret") {
        Some(_) => quoted(value),
        None => "\"...\"".to_owned(),
    };
    if let Some(quote) = value.chars().next().filter(|c| "\"'".contains(*c)) {
        return delimited(key, value, quote, shown);
    }
    let value = value.split('#').next().unwrap_or_default();
    let value = value.trim_matches(|c: char| c.is_whitespace() || "“”„".contains(c));
    if value.is_empty() {
        let default = spec.map_or("...", |spec| spec.default);
        return Some(format!("{key} has no value; write {key} = {default}"));
    }
    if value.starts_with('{') {
        return None;
    }
    if ["domain", "component"].contains(&key) {
        let name = quoted(value);
        return Some(format!("{key} is not one value; write [{key}.{name}]"));
    }
    if spec.is_none() && SECTIONS.contains(&key) {
        return Some(format!(
            "{key} is a section; write [{key}] once, with its options on lines below"
        ));
    }
    Some(match spec.map(Kind::of) {
        Some(Kind::Flag) => flag(key, value),
        Some(Kind::Number(default)) => {
            // What has digits alone is wrong in another way.
            value.find(|c: char| !c.is_ascii_digit() && c != '_')?;
            format!("{key} is a whole number, without a unit; write one, such as {key} = {default}")
        }
        Some(Kind::List) => {
            let inner = value.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
            // "[::]:5222" is one address.
            let items = items(inner.unwrap_or(value))?.join(", ");
            format!("{key} is a list of strings; write {key} = [{items}]")
        }
        Some(Kind::Text(choices)) if !choices.is_empty() && !choices.contains(&value) => {
            format!("{key} has no {}; {}", quoted(value), pick(value, &choices))
        }
        Some(Kind::Text(_)) | None => {
            format!("strings stand in quotes; write {key} = {}", shown(value))
        }
    })
}

/// What a value of an option looks like, as its default tells.
enum Kind {
    Flag,
    List,
    /// Its default.
    Number(&'static str),
    /// What it may be, if there are few.
    Text(Vec<&'static str>),
}

impl Kind {
    fn of(spec: &Spec) -> Kind {
        match spec.default {
            "true" | "false" => Kind::Flag,
            list if list.starts_with('[') => Kind::List,
            text if text.starts_with('"') => Kind::Text(spec.choices()),
            number => Kind::Number(number),
        }
    }
}

fn flag(key: &str, value: &str) -> String {
    let word = value.to_lowercase();
    let meant = match word.trim_matches(|c: char| "\"'“”".contains(c)) {
        "yes" | "on" | "true" => "true",
        "no" | "off" | "false" => "false",
        _ => return format!("{key} is true or false; write one of these, without quotes"),
    };
    format!("{key} is true or false; write {key} = {meant}")
}

/// Strings that were meant, in quotes; none if some have them already.
fn items(text: &str) -> Option<Vec<String>> {
    let items = text.split([',', ' ']).map(str::trim);
    let items: Vec<&str> = items.filter(|item| !item.is_empty()).collect();
    let is_clear = !items.is_empty() && !text.contains(['"', '\'']);
    is_clear.then(|| items.into_iter().map(quoted).collect())
}

/// A value whose quotes are not both there, or that something follows.
fn delimited(
    key: &str,
    value: &str,
    quote: char,
    shown: impl Fn(&str) -> String,
) -> Option<String> {
    let Some((text, rest)) = value[1..].split_once(quote) else {
        return Some(format!(
            "the value of {key} has no {quote} at its end; write it there"
        ));
    };
    if quote == '"' && text.contains('\\') {
        return Some(format!(
            "a \\ in \"...\" has a meaning of its own; write {key} = '...', where it has none"
        ));
    }
    let rest = rest.trim();
    (!rest.is_empty() && !rest.starts_with('#')).then(|| {
        let shown = shown(text);
        format!(
            "something follows the value of {key}; write {key} = {shown}, and nothing behind it"
        )
    })
}

/// A line without `=`.
fn unassigned(line: &str) -> Option<String> {
    let line = line.split('#').next().unwrap_or_default();
    let at = line.find(|c: char| c == ':' || c.is_whitespace());
    let (key, rest) = line.split_at(at.unwrap_or(line.len()));
    if !OPTIONS.iter().any(|spec| spec.key == key) {
        let near = nearest(key, OPTIONS.iter().map(|spec| spec.key))?;
        return Some(format!("there is no = in this line; write {near} = ..."));
    }
    let value = rest.trim_matches(|c: char| c == ':' || c.is_whitespace());
    let meant = match value {
        "" => None,
        value => assignment(key, value),
    };
    let write = meant
        .as_deref()
        .and_then(|advice| Some(advice.rsplit_once("; ")?.1));
    Some(match write {
        Some(write) => format!("{key} has no = before its value; {write}"),
        None => format!("{key} has no = and no value; write {key} = ..."),
    })
}

/// Whether what stands before a `=` is the name of an option: else the `=` is part of something else.
fn is_key(key: &str) -> bool {
    let key = key.trim();
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-.\"'".contains(c);
    !key.is_empty() && key.chars().all(is_part)
}

/// As TOML writes it, without the quotes that people may have put around it.
fn quoted(text: &str) -> String {
    let text = text.trim_matches(|c: char| "\"“”„".contains(c));
    match text.contains(['"', '\\']) {
        true => format!("'{text}'"),
        false => format!("\"{text}\""),
    }
}
