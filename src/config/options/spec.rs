//! What an option is: its name, its type, where its value is kept, and what a reload does with it.

use std::path::PathBuf;

use super::super::value::{Given, Wrong};
use super::super::{DomainSettings, NamedFile, S2s, S2sPeer, Secret, Settings};

/// One option of the file.
#[derive(Clone, Copy)]
pub struct Spec {
    /// One of [`SECTIONS`](super::SECTIONS).
    pub section: &'static str,
    /// Its name in the section.
    pub key: &'static str,
    /// Its default as it is written in TOML; `""` and `[]` say that nothing is set.
    pub default: &'static str,
    /// What a reload does with a change.
    pub reload: Reload,
    pub(in crate::config) form: Form,
}

/// What a reload does with a changed option.
#[derive(Clone, Copy)]
pub enum Reload {
    /// It holds at once.
    Now,
    /// It holds for connections accepted from then on.
    NewConnections,
    /// It holds from the next start; the function tells whether two settings agree on it.
    Restart(fn(&Settings, &Settings) -> bool),
}

/// What the file sets, while it is read: `domain` is at first what all domains inherit, then each
/// domain in turn.
#[derive(Clone)]
pub(in crate::config) struct Draft {
    pub(in crate::config) whole: Settings,
    pub(in crate::config) domain: DomainSettings,
    pub(in crate::config) component: ComponentDraft,
    /// One other server, for the options of `[s2s.peer."name"]`.
    pub(in crate::config) peer: S2sPeer,
}

/// What a component sets of its own.
#[derive(Clone)]
pub(in crate::config) struct ComponentDraft {
    pub(in crate::config) secret: Option<Secret>,
    pub(in crate::config) stanza_bytes_max: usize,
}

impl Default for ComponentDraft {
    fn default() -> ComponentDraft {
        ComponentDraft {
            secret: None,
            stanza_bytes_max: S2s::default().stanza_bytes_max,
        }
    }
}

/// A string that is allowed, and what it sets.
type Named = (&'static str, fn(&mut Draft));

/// The type of an option's value, and where it is kept.
#[derive(Clone, Copy)]
pub(in crate::config) enum Form {
    Flag(fn(&mut Draft) -> &mut bool),
    Number(u64, u64, fn(&mut Draft, u64)),
    Text(fn(&mut Draft) -> &mut String),
    Path(fn(&mut Draft) -> &mut PathBuf),
    OptionalPath(fn(&mut Draft) -> &mut Option<PathBuf>),
    OptionalFile(fn(&mut Draft) -> &mut Option<NamedFile>),
    Choice(&'static [Named]),
    Other(fn(&mut Draft, &Given<'_>) -> Result<(), Vec<Wrong>>),
}

impl Spec {
    /// The option as people write about it, `auth.iterations`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    /// The smallest and the largest value of a number.
    pub fn bounds(&self) -> Option<(u64, u64)> {
        match self.form {
            Form::Number(min, max, _) => Some((min, max)),
            _ => None,
        }
    }

    /// The strings that are allowed, where they are few and fixed.
    pub fn choices(&self) -> Vec<&'static str> {
        match self.form {
            Form::Choice(choices) => choices.iter().map(|(name, _)| *name).collect(),
            _ => Vec::new(),
        }
    }

    /// Reads a value into the draft.
    pub(in crate::config) fn set(
        &self,
        draft: &mut Draft,
        given: &Given<'_>,
    ) -> Result<(), Vec<Wrong>> {
        let one = |wrong| vec![wrong];
        match &self.form {
            Form::Flag(of) => *of(draft) = given.flag().map_err(one)?,
            Form::Number(min, max, set) => set(draft, given.number(*min, *max).map_err(one)?),
            Form::Text(of) => *of(draft) = given.text().map_err(one)?.to_owned(),
            Form::Path(of) => *of(draft) = given.path().map_err(one)?,
            Form::OptionalPath(of) => *of(draft) = given.optional_path().map_err(one)?,
            Form::OptionalFile(of) => *of(draft) = given.optional_file().map_err(one)?,
            Form::Choice(choices) => {
                let chosen = given.choice(&self.choices()).map_err(one)?;
                (choices[chosen].1)(draft);
            }
            Form::Other(set) => set(draft, given)?,
        }
        Ok(())
    }
}

/// An option, for the table.
pub(super) const fn spec(
    section: &'static str,
    key: &'static str,
    default: &'static str,
    reload: Reload,
    form: Form,
) -> Spec {
    Spec {
        section,
        key,
        default,
        reload,
        form,
    }
}
