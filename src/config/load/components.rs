//! `[component."name"]`, and who may read a file that holds their secrets.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::options::{self, COMPONENT_SECTIONS, Draft};
use super::super::problem::Problems;
use super::super::{ComponentSettings, Secret, Settings, suggest};
use super::{Key, Reader, Written};
use crate::jid::Domain;
use crate::limits::COMPONENT_SECRET_SHORT;

impl<'a> Reader<'a> {
    pub(super) fn components(
        &mut self,
        table: &'a DeTable<'a>,
        inherited: &Draft,
        written: &Written,
        settings: &mut Settings,
    ) {
        let mut in_order: Vec<_> = table.iter().collect();
        in_order.sort_by_key(|(key, _)| key.span().start);
        let mut names = BTreeMap::new();
        for (key, value) in in_order {
            let name = key.get_ref().as_ref();
            let component = self.component(key, value, inherited, written.clone());
            let prepared = match Domain::parse(name) {
                Ok(prepared) => prepared,
                Err(error) => {
                    let error = error.to_string();
                    let what = error.split(';').next().unwrap_or_default();
                    let text = format!(
                        "component {name:?}: {what}; write a name like \"irc.example.org\""
                    );
                    self.found.add(&key.span(), text);
                    continue;
                }
            };
            if settings.domains.contains_key(&prepared) {
                let text = format!(
                    "component {name:?} is a domain of this server as well; give it a name of its \
                     own, such as \"irc.{name}\""
                );
                self.found.add(&key.span(), text);
            }
            if let Some(other) = names.insert(prepared.clone(), name) {
                let text = format!(
                    "component {name:?} is the same as {other:?} above; leave one of the two"
                );
                self.found.add(&key.span(), text);
            }
            if let Some((mut draft, secret)) = component {
                draft.domain.name = prepared.clone();
                let component = ComponentSettings {
                    domain: Arc::new(draft.domain),
                    secret,
                    stanza_bytes_max: draft.component.stanza_bytes_max,
                };
                settings.components.insert(prepared, Arc::new(component));
            }
        }
    }

    /// None if it has no secret, or is no section at all.
    fn component(
        &mut self,
        key: &Key<'_>,
        value: &'a Spanned<DeValue<'a>>,
        inherited: &Draft,
        mut written: Written,
    ) -> Option<(Draft, Secret)> {
        let name = key.get_ref().as_ref();
        let Some(table) = value.get_ref().as_table() else {
            let text = suggest::nameless("component", name, value.get_ref());
            self.found.add(&key.span(), text);
            return None;
        };
        let mut draft = inherited.clone();
        for (key, value) in table {
            let option = key.get_ref().as_ref();
            if let Some(spec) = options::find("component", option) {
                self.option(spec, value, &mut draft, &mut written);
            } else if COMPONENT_SECTIONS.contains(&option) {
                self.section(key, value, &mut draft, &mut written);
            } else {
                let text = suggest::in_component(name, option, value.get_ref());
                self.found.add(&key.span(), text);
                written.broken = true;
            }
        }
        if !written.broken {
            self.check_key(&draft.domain, "component", &written);
            self.check_lists(&draft.domain, &written);
            self.check_dane(&draft, &written);
        }
        let Some(secret) = draft.component.secret.take() else {
            if !written.broken {
                let text = format!(
                    "component {name:?} has no secret to prove itself by; add a line secret = \
                     \"...\", with what \"openssl rand -hex 20\" gives"
                );
                self.found.add(&key.span(), text);
            }
            return None;
        };
        if secret.reveal().chars().count() < COMPONENT_SECRET_SHORT {
            let text = format!(
                "the secret of component {name:?} is short enough to be guessed; take what \
                 \"openssl rand -hex 20\" gives"
            );
            let span = written.span("component", "secret");
            self.warned.add(&span, text);
        }
        Some((draft, secret))
    }
}

/// Refuses a file with secrets that everybody on the machine can read (`The store` in lib.rs). The
/// group may: where the server runs as a user of its own, the file is often root's, and that
/// group's.
pub(super) fn check_mode(path: &Path, settings: &Settings) -> Result<(), Problems> {
    if settings.components.is_empty() {
        return Ok(());
    }
    // A file that is gone between the two has just been read all the same.
    let mode = std::fs::metadata(path).map_or(0, |file| file.permissions().mode());
    if mode & 0o007 == 0 {
        return Ok(());
    }
    let text = format!(
        "holds secrets of components and can be read or changed by all users (mode {:04o}); mend it \
         with \"chmod o= {}\"",
        mode & 0o7777,
        path.display()
    );
    Err(Problems::whole(path, text))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::load;

    const CONF: &str = "[domain.\"example.org\"]\n[component.\"irc.example.org\"]\n\
                        secret = \"0123456789abcdef0123\"\n";

    fn file(text: &str, mode: u32) -> PathBuf {
        let name = format!(
            "stanzad-conf-{}-{mode:o}-{}",
            std::process::id(),
            text.len()
        );
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// `The store` in lib.rs.
    #[test]
    fn a_file_with_secrets_is_refused_if_others_can_read_it() {
        let without = "[domain.\"example.org\"]\n";
        for (text, mode, is_refused) in [
            (CONF, 0o600, false),
            (CONF, 0o640, false),
            (CONF, 0o644, true),
            (CONF, 0o602, true),
            (without, 0o644, false),
        ] {
            let path = file(text, mode);
            let loaded = load(&path);
            std::fs::remove_file(&path).unwrap();
            match loaded {
                Ok(_) => assert!(!is_refused, "{mode:o}"),
                Err(problems) => {
                    assert!(is_refused, "{problems}");
                    assert!(problems.to_string().contains("chmod o= "), "{problems}");
                }
            }
        }
    }

    #[test]
    fn no_secret_is_shown_among_the_settings() {
        let settings = super::super::parse(CONF, Path::new("stanzad.toml")).unwrap();
        assert_eq!(settings.components.len(), 1);
        assert!(!format!("{settings:?}").contains("0123456789"));
    }
}
