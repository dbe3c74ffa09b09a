//! One value of the file, read as the type that its option wants.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeValue;

use super::problem::{nearest, position};
use super::{DH_GROUPS, DhParam, Endpoint, NamedFile};
use crate::jid::Domain;
use crate::net::certificate::Pin;

/// Something that is wrong with a value: where, and what to write.
pub(super) type Wrong = (Range<usize>, String);

/// A value as it stands in the file.
pub(super) struct Given<'a> {
    /// The option as people write about it, `auth.iterations`.
    pub(super) name: String,
    /// Its default, for examples in messages.
    pub(super) default: &'static str,
    /// The directory of the file, from which relative paths count.
    pub(super) dir: &'a Path,
    /// The file, as messages name it.
    pub(super) file: &'a Path,
    /// Its text.
    pub(super) text: &'a str,
    pub(super) value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Given<'a> {
    /// A problem with the value as a whole.
    pub(super) fn wrong(&self, text: impl Into<String>) -> Wrong {
        (self.value.span(), text.into())
    }

    fn wrong_type(&self, found: &DeValue<'_>, write: &str) -> String {
        let Given { name, .. } = self;
        let found = match found {
            DeValue::Array(_) => "a list",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Float(_) => "a number with a point",
            DeValue::Integer(_) => "a number",
            DeValue::String(_) => "a string",
            DeValue::Table(_) => "a table",
        };
        format!("{name} is {found}; write {write}")
    }

    fn key(&self) -> &str {
        self.name
            .rsplit_once('.')
            .map_or(self.name.as_str(), |s| s.1)
    }

    pub(super) fn flag(&self) -> Result<bool, Wrong> {
        let value = self.value.get_ref();
        value
            .as_bool()
            .ok_or_else(|| self.wrong(self.wrong_type(value, "true or false, without quotes")))
    }

    pub(super) fn number(&self, min: u64, max: u64) -> Result<u64, Wrong> {
        let DeValue::Integer(integer) = self.value.get_ref() else {
            let write = format!(
                "a whole number without quotes, such as {} = {}",
                self.key(),
                self.default
            );
            return Err(self.wrong(self.wrong_type(self.value.get_ref(), &write)));
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        match number.and_then(|n| u64::try_from(n).ok()) {
            Some(number) if (min..=max).contains(&number) => Ok(number),
            _ => {
                let small = number.is_some_and(|n| n < i128::from(min));
                let size = if small { "small" } else { "large" };
                Err(self.wrong(format!(
                    "{} = {integer} is too {size}; write a number from {min} to {max}",
                    self.name
                )))
            }
        }
    }

    pub(super) fn text(&self) -> Result<&'a str, Wrong> {
        let text = self.string()?;
        if text.trim().is_empty() {
            return Err(self.wrong(format!(
                "{} is empty; take the line out, or write {} = {}",
                self.name,
                self.key(),
                self.default
            )));
        }
        Ok(text)
    }

    pub(super) fn string(&self) -> Result<&'a str, Wrong> {
        let value = self.value.get_ref();
        let write = || match self.default {
            "\"\"" => format!("a string, {} = \"...\"", self.key()),
            default => format!("a string, such as {} = {default}", self.key()),
        };
        value
            .as_str()
            .ok_or_else(|| self.wrong(self.wrong_type(value, &write())))
    }

    pub(super) fn path(&self) -> Result<PathBuf, Wrong> {
        self.text().map(|text| self.dir.join(text))
    }

    /// `""` is none.
    pub(super) fn optional_path(&self) -> Result<Option<PathBuf>, Wrong> {
        let text = self.string()?;
        Ok((!text.is_empty()).then(|| self.dir.join(text)))
    }

    /// `""` is none. The file itself is not looked at.
    pub(super) fn optional_file(&self) -> Result<Option<NamedFile>, Wrong> {
        let (line, column) = position(self.text, self.value.span().start);
        Ok(self.optional_path()?.map(|path| NamedFile {
            path,
            place: format!("{}:{line}:{column}: {}", self.file.display(), self.name),
        }))
    }

    /// A host or an IP address, and a port; `""` is none.
    pub(super) fn endpoint(&self) -> Result<Option<Endpoint>, Wrong> {
        let text = self.string()?;
        if text.is_empty() {
            return Ok(None);
        }
        let parts = text.rsplit_once(':').and_then(|(host, port)| {
            let port = port.parse().ok().filter(|port: &u16| *port > 0)?;
            let host = Domain::parse(host).ok()?.to_ascii();
            // Half of an IPv6 address without brackets is no host.
            (!host.contains(':') || host.starts_with('[')).then_some(Endpoint { host, port })
        });
        parts.map(Some).ok_or_else(|| {
            self.wrong(format!(
                "{} is {text:?}, which is no address with a port; write one like \
                 \"192.0.2.7:5269\", \"[2001:db8::7]:5269\" or \"xmpp.example.net:5269\"",
                self.name
            ))
        })
    }

    /// Keys, each by its SHA-256.
    pub(super) fn pins(&self) -> Result<Vec<Pin>, Vec<Wrong>> {
        let (mut pins, mut wrong) = (Vec::new(), Vec::new());
        for (span, text) in self.strings()? {
            match text.parse() {
                Ok(pin) => pins.push(pin),
                Err(error) => wrong.push((span, format!("{}: {error}", self.name))),
            }
        }
        match wrong.is_empty() {
            true => Ok(pins),
            false => Err(wrong),
        }
    }

    /// The index of the string among `choices`.
    pub(super) fn choice(&self, choices: &[&str]) -> Result<usize, Wrong> {
        let text = self.string()?;
        let found = choices.iter().position(|choice| *choice == text);
        found.ok_or_else(|| {
            self.wrong(format!(
                "{} has no {text:?}; {}",
                self.name,
                pick(text, choices)
            ))
        })
    }

    /// `""` is none, a name of [`DH_GROUPS`] is that group, and all that looks like a path is a file.
    pub(super) fn dhparam(&self) -> Result<Option<DhParam>, Wrong> {
        let text = self.string()?;
        if text.is_empty() {
            return Ok(None);
        }
        if let Some(group) = DH_GROUPS.iter().find(|group| **group == text) {
            return Ok(Some(DhParam::Named(group)));
        }
        if text.contains(['/', '.']) {
            return Ok(Some(DhParam::File(self.dir.join(text))));
        }
        Err(self.wrong(format!(
            "dhparam has no group {text:?}; {} (or the path of a PEM file)",
            pick(text, &DH_GROUPS)
        )))
    }

    /// The strings of a list, each with its place.
    pub(super) fn strings(&self) -> Result<Vec<(Range<usize>, &'a str)>, Vec<Wrong>> {
        let value = self.value.get_ref();
        let write = || match self.default {
            "[]" => format!("a list of strings, {} = [\"...\"]", self.key()),
            default => format!("a list of strings, such as {} = {default}", self.key()),
        };
        let Some(array) = value.as_array() else {
            return Err(vec![self.wrong(self.wrong_type(value, &write()))]);
        };
        let (mut strings, mut wrong) = (Vec::new(), Vec::new());
        for item in array.iter() {
            match item.get_ref().as_str() {
                Some(text) => strings.push((item.span(), text)),
                None => {
                    let name = format!("an item of {}", self.name);
                    let given = Given { name, ..*self };
                    wrong.push((item.span(), given.wrong_type(item.get_ref(), &write())));
                }
            }
        }
        if wrong.is_empty() {
            Ok(strings)
        } else {
            Err(wrong)
        }
    }

    /// Each string of a list as one of `choices`, none of them twice.
    pub(super) fn choices<T: Copy + PartialEq>(
        &self,
        choices: &[(&'static str, T)],
    ) -> Result<Vec<T>, Vec<Wrong>> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let (mut chosen, mut wrong) = (Vec::new(), Vec::new());
        for (span, text) in self.strings()? {
            match choices.iter().find(|(name, _)| *name == text) {
                None => {
                    let hint = pick(text, &names);
                    wrong.push((span, format!("{} has no {text:?}; {hint}", self.name)));
                }
                Some((_, choice)) if chosen.contains(choice) => {
                    let text = format!("{} names {text:?} twice; write it once", self.name);
                    wrong.push((span, text));
                }
                Some((_, choice)) => chosen.push(*choice),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        if chosen.is_empty() {
            return Err(vec![self.wrong(format!(
                "{} is empty; take the line out, or write {} = {}",
                self.name,
                self.key(),
                self.default
            ))]);
        }
        Ok(chosen)
    }

    /// Addresses with ports. An empty list is fine.
    pub(super) fn addresses(&self) -> Result<Vec<(Range<usize>, SocketAddr)>, Vec<Wrong>> {
        let (mut addresses, mut wrong) = (Vec::new(), Vec::new());
        // That of the default, or a name server's.
        let port = self.default.rsplit_once(':').map_or("53", |(_, port)| {
            port.trim_end_matches(|c: char| !c.is_ascii_digit())
        });
        for (span, text) in self.strings()? {
            match text.parse::<SocketAddr>() {
                Ok(address) => addresses.push((span, address)),
                Err(_) => wrong.push((
                    span,
                    format!(
                        "{} has {text:?}, which is not an IP address with a port; \
                         write one like \"[::]:{port}\" or \"192.0.2.1:{port}\"",
                        self.name
                    ),
                )),
            }
        }
        if wrong.is_empty() {
            Ok(addresses)
        } else {
            Err(wrong)
        }
    }
}

/// `did you mean "full"?`, or else `write one of "full", "normal"`.
pub(super) fn pick(text: &str, choices: &[&str]) -> String {
    if let Some(near) = nearest(text, choices.iter().copied()) {
        return format!("did you mean {near:?}?");
    }
    let quoted: Vec<String> = choices.iter().map(|choice| format!("{choice:?}")).collect();
    format!("write one of {}", quoted.join(", "))
}
