//! What a running server takes over from a changed file.

use std::path::Path;

use super::options::{OPTIONS, Reload};
use super::{Problems, Settings, load};

/// The outcome of a reload.
#[derive(Debug)]
pub struct Reloaded {
    /// The next generation. What only a restart applies is as it was.
    pub settings: Settings,
    /// The options that differ in the file and wait for a restart, as `server.shards`.
    pub restart: Vec<String>,
}

/// Reads the file again for a server that runs with `current`. Certificates are not looked at: who
/// loads them does that before anything is changed (`Reloads` in lib.rs).
///
/// # Errors
/// Everything that is wrong with the file; `current` stays in force then.
pub fn reload(path: &Path, current: &Settings) -> Result<Reloaded, Problems> {
    load(path).map(|settings| succeed(settings, current))
}

fn succeed(mut settings: Settings, current: &Settings) -> Reloaded {
    let waits = OPTIONS.iter().filter(|spec| match spec.reload {
        Reload::Restart(same) => !same(&settings, current),
        Reload::Now | Reload::NewConnections => false,
    });
    let restart = waits.map(|spec| spec.name()).collect();
    settings.generation = current.generation.saturating_add(1);
    // These sections are fixed at start as a whole; a test holds the table to it.
    settings.server = current.server.clone();
    settings.listen = current.listen.clone();
    settings.store = current.store;
    Reloaded { settings, restart }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn read(text: &str) -> Settings {
        parse(text, Path::new("stanzad.toml")).unwrap()
    }

    #[test]
    fn what_waits_for_a_restart_is_named_and_keeps_its_value() {
        let current = Settings {
            generation: 7,
            ..read("[domain.\"example.org\"]")
        };
        let file = read(
            "[server]\nshards = 3\n[limits]\nresources_per_account_max = 2\n\
             [domain.\"example.net\"]",
        );
        let reloaded = succeed(file, &current);
        assert_eq!(reloaded.restart, ["server.shards"]);
        assert_eq!(reloaded.settings.server.shards, 0);
        assert_eq!(reloaded.settings.limits.resources_per_account_max, 2);
        assert!(reloaded.settings.domains.contains_key("example.net"));
        assert_eq!(reloaded.settings.generation, 8);
    }

    #[test]
    fn sections_are_fixed_at_start_as_a_whole_or_not_at_all() {
        for spec in OPTIONS {
            let fixed = matches!(spec.reload, Reload::Restart(_));
            let whole = ["server", "listen", "store"].contains(&spec.section);
            assert_eq!(fixed, whole, "{}", spec.name());
        }
    }
}
