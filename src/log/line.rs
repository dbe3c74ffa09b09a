//! One log line from one record, such that nothing in it can look like another line or field.

use std::fmt::Write;
use std::time::SystemTime;

use ::log::kv::{self, Key, Value, VisitSource};
use ::log::{Level, Record};

use super::LogFormat;
use crate::limits::LOG_TEXT_BYTES_MAX;

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Style {
    /// `TIME level event key=value`
    Text = 0,
    /// `event key=value`, for who stamps lines itself.
    Unstamped = 1,
    /// A JSON object.
    Json = 2,
}

impl Style {
    pub(super) fn of(format: LogFormat, stamped: bool) -> Style {
        match (format, stamped) {
            (LogFormat::Text, false) => Style::Text,
            (LogFormat::Text, true) => Style::Unstamped,
            (LogFormat::Json, _) => Style::Json,
        }
    }

    pub(super) fn from_u8(style: u8) -> Style {
        match style {
            1 => Style::Unstamped,
            2 => Style::Json,
            _ => Style::Text,
        }
    }
}

/// The line without its end.
pub(super) fn format(record: &Record<'_>, style: Style, now: SystemTime) -> String {
    let mut line = String::new();
    match style {
        Style::Text => {
            line.push_str(&time(now));
            line.push(' ');
            line.push_str(level(record.level()));
            line.push(' ');
            text(record, &mut line);
        }
        Style::Unstamped => text(record, &mut line),
        Style::Json => line = json(record, now),
    }
    line
}

/// RFC 3339 in UTC with milliseconds.
fn time(now: SystemTime) -> String {
    // A clock set before or after all calendars is no reason to fail.
    let now = jiff::Timestamp::try_from(now).unwrap_or_default();
    format!("{now:.3}")
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn text(record: &Record<'_>, line: &mut String) {
    let mut event = Capped::default();
    // Capped never fails, and a Display that fails has written what it could.
    let _ = event.write_fmt(*record.args());
    for c in event.finish().chars() {
        push(line, c, false);
    }
    // The visitor never fails.
    let _ = record.key_values().visit(&mut TextFields(line));
}

/// Writes ` key=value` for each field.
struct TextFields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for TextFields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let mut capped = Capped::default();
        // As above.
        let _ = write!(capped, "{value}");
        let value = capped.finish();
        let bare = |c: char| !c.is_whitespace() && !matches!(c, '"' | '=' | '\\') && !is_unsafe(c);
        self.0.push(' ');
        self.0.push_str(key.as_str());
        self.0.push('=');
        if !value.is_empty() && value.chars().all(bare) {
            self.0.push_str(&value);
        } else {
            self.0.push('"');
            for c in value.chars() {
                push(self.0, c, true);
            }
            self.0.push('"');
        }
        Ok(())
    }
}

/// Appends a character so that it cannot end the line, drive a terminal, or turn the direction of
/// what follows; in quotes, neither end the quotes.
fn push(line: &mut String, c: char, quoted: bool) {
    if is_unsafe(c) || (quoted && matches!(c, '"' | '\\')) {
        line.extend(match c {
            '"' | '\\' | '\n' | '\r' | '\t' => c.escape_default().collect::<Vec<_>>(),
            c => c.escape_unicode().collect(),
        });
    } else {
        line.push(c);
    }
}

/// Control characters, line and paragraph separators, and the marks that turn the direction of
/// writing (Unicode Standard Annex 9 §2).
pub(super) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}')
}

fn json(record: &Record<'_>, now: SystemTime) -> String {
    let mut object = serde_json::Map::new();
    let mut fields = JsonFields(&mut object);
    // The visitor never fails.
    let _ = record.key_values().visit(&mut fields);
    let mut event = Capped::default();
    // As in `text`.
    let _ = event.write_fmt(*record.args());
    // After the fields, so that none of them can take these names.
    object.insert("time".to_owned(), time(now).into());
    object.insert("level".to_owned(), level(record.level()).into());
    object.insert("event".to_owned(), event.finish().into());
    // JSON itself wants only the controls below U+0020 escaped.
    let mut line = String::new();
    for c in serde_json::Value::Object(object).to_string().chars() {
        if is_unsafe(c) {
            line += &format!("\\u{:04x}", u32::from(c));
        } else {
            line.push(c);
        }
    }
    line
}

struct JsonFields<'a>(&'a mut serde_json::Map<String, serde_json::Value>);

impl<'kvs> VisitSource<'kvs> for JsonFields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let typed = if let Some(number) = value.to_u64() {
            number.into()
        } else if let Some(number) = value.to_i64() {
            number.into()
        } else if let Some(flag) = value.to_bool() {
            flag.into()
        } else {
            let mut capped = Capped::default();
            // As in `text`.
            let _ = write!(capped, "{value}");
            capped.finish().into()
        };
        self.0.insert(key.as_str().to_owned(), typed);
        Ok(())
    }
}

/// Text up to [`LOG_TEXT_BYTES_MAX`]; the rest is left out before it costs memory.
#[derive(Default)]
struct Capped {
    text: String,
    cut: bool,
}

impl Capped {
    fn finish(mut self) -> String {
        if self.cut {
            self.text.push('\u{2026}');
        }
        self.text
    }
}

impl Write for Capped {
    fn write_str(&mut self, more: &str) -> std::fmt::Result {
        let room = LOG_TEXT_BYTES_MAX.saturating_sub(self.text.len());
        if self.cut {
            return Ok(());
        }
        let ends = more.char_indices().map(|(start, c)| start + c.len_utf8());
        let fits = ends.take_while(|end| *end <= room).last().unwrap_or(0);
        self.text.push_str(more.get(..fits).unwrap_or_default());
        self.cut = fits < more.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn record(event: &str, fields: &[(&str, &str)], style: Style) -> String {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_557_069_123);
        format(
            &Record::builder()
                .level(Level::Info)
                .args(format_args!("{event}"))
                .key_values(&fields)
                .build(),
            style,
            at,
        )
    }

    #[test]
    fn a_text_line_has_time_level_event_and_fields() {
        let fields = [("stream", "7"), ("jid", "juliet@example.org")];
        assert_eq!(
            record("login failed", &fields, Style::Text),
            "2026-11-24T21:51:09.123Z info login failed stream=7 jid=juliet@example.org"
        );
        assert_eq!(
            record("login failed", &fields[..1], Style::Unstamped),
            "login failed stream=7"
        );
    }

    #[test]
    fn a_json_line_has_typed_fields_and_reserved_names_win() {
        let at = SystemTime::UNIX_EPOCH;
        let line = format(
            &Record::builder()
                .level(Level::Warn)
                .args(format_args!("slow"))
                .key_values(&[
                    ("count", Value::from(3)),
                    ("late", Value::from(true)),
                    ("level", Value::from("forged")),
                ])
                .build(),
            Style::Json,
            at,
        );
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            parsed,
            serde_json::json!({"time": "1970-01-01T00:00:00.000Z", "level": "warn",
                "event": "slow", "count": 3, "late": true})
        );
    }

    #[test]
    fn a_value_with_spaces_or_quotes_stays_one_value() {
        let fields = [("from", "x jid=admin@example.org \"\\"), ("empty", "")];
        assert_eq!(
            record("seen", &fields, Style::Unstamped),
            r#"seen from="x jid=admin@example.org \"\\" empty="""#
        );
    }

    #[test]
    fn control_characters_and_direction_marks_are_escaped() {
        let line = record("a\nb\u{1b}[2J", &[("n", "c\r\u{202e}d")], Style::Unstamped);
        assert_eq!(line, r#"a\nb\u{1b}[2J n="c\r\u{202e}d""#);
    }

    #[test]
    fn a_long_value_is_cut() {
        let long = "\u{e9}".repeat(LOG_TEXT_BYTES_MAX);
        let line = record("e", &[("v", &long)], Style::Unstamped);
        assert!(line.ends_with('\u{2026}'));
        assert!(line.len() < LOG_TEXT_BYTES_MAX + 10, "{}", line.len());
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_peer_can_make_a_second_line_or_field(event in ".*", value in any::<String>()) {
            for style in [Style::Text, Style::Unstamped, Style::Json] {
                let line = record(&event, &[("jid", &value)], style);
                prop_assert!(!line.chars().any(|c| c.is_control()), "{line:?}");
                if style == Style::Json {
                    let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
                    if value.len() <= LOG_TEXT_BYTES_MAX {
                        prop_assert_eq!(parsed["jid"].as_str(), Some(value.as_str()));
                    }
                    prop_assert_eq!(parsed.as_object().unwrap().len(), 4);
                }
            }
            let line = record("e", &[("jid", &value)], Style::Unstamped);
            let quoted = line.strip_prefix("e jid=").unwrap();
            if let Some(inner) = quoted.strip_prefix('"').and_then(|q| q.strip_suffix('"')) {
                let mut escaped = false;
                for c in inner.chars() {
                    prop_assert!(escaped || c != '"', "{line:?} closes its quotes early");
                    escaped = c == '\\' && !escaped;
                }
            } else {
                prop_assert!(!quoted.contains([' ', '"', '=']), "{line:?}");
            }
        }
    }
}
