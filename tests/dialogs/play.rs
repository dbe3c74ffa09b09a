//! Reads a script and plays it against a running server.

use std::path::{Path, PathBuf};

use stanzad::ns;
use stanzad::xml::Element;

use crate::common::cast::Cast;
use crate::common::client::text;
use crate::common::pattern::{Words, fill, map, matches, matches_all};
use crate::common::roster::Seed;
use crate::common::script::{self, Written};
use crate::common::server::Server;

/// A script with accounts of its own, so that many can be played on one server.
pub struct Script {
    pub path: PathBuf,
    /// The accounts as the script names them and as the server does.
    accounts: Vec<(String, String)>,
    /// What the accounts' rosters have from the beginning.
    pub seeds: Vec<Seed>,
    steps: Vec<Written>,
}

impl Script {
    /// Reads a script; `number` is unlike that of any other on the server.
    ///
    /// # Errors
    /// The place and the reason why it is none.
    pub fn read(path: &Path, number: usize) -> Result<Script, String> {
        let at = |line: u64, why: String| format!("{}:{line}: {why}", path.display());
        let document = std::fs::read_to_string(path).map_err(|error| at(0, error.to_string()))?;
        let root = script::parse(&document).map_err(|why| at(0, why))?;
        if root.element.name != "dialog" || root.element.attribute("source").is_none() {
            return Err(at(root.line, "a dialog names its source".to_owned()));
        }
        let (accounts, steps): (Vec<Written>, Vec<Written>) = root
            .children
            .into_iter()
            .partition(|step| step.element.name == "account");
        let mut script = Script {
            path: path.to_owned(),
            accounts: Vec::new(),
            seeds: Vec::new(),
            steps,
        };
        for account in &accounts {
            let jid = account.element.attribute("jid");
            let jid = jid.ok_or_else(|| at(account.line, "an account has a jid".to_owned()))?;
            let (local, domain) = jid
                .split_once('@')
                .ok_or_else(|| at(account.line, format!("{jid} is no account")))?;
            let real = format!("{local}.{number}@{domain}");
            script.accounts.push((jid.to_owned(), real));
        }
        for account in &accounts {
            let jid = account.element.attribute("jid").unwrap_or_default();
            for item in &account.children {
                let item = script.real(&item.element);
                let seed = Seed::of_item(&script.real_value(jid), &item);
                script
                    .seeds
                    .push(seed.map_err(|why| at(account.line, why))?);
            }
        }
        Ok(script)
    }

    /// The accounts that the server has to have.
    pub fn accounts(&self) -> impl Iterator<Item = &str> {
        self.accounts.iter().map(|(_, real)| real.as_str())
    }

    /// Plays it to its end.
    ///
    /// # Errors
    /// The first step that goes otherwise than written: script, line, what was expected and seen.
    pub fn play(&self, server: &Server) -> Result<(), String> {
        let accounts: Vec<&str> = self.accounts().collect();
        let mut cast = Cast::new(server, &accounts);
        let mut words = Words::from([("long".to_owned(), "a".repeat(LONG))]);
        for step in &self.steps {
            // What panics below is told after the line.
            let place = format!("{}:{}", self.path.display(), step.line);
            let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                self.step(step, &mut cast, &mut words)
            }));
            match played {
                Ok(Ok(())) => {}
                Ok(Err(why)) => return Err(format!("{place}: {}", self.told(&why))),
                Err(panic) => {
                    let why = panic
                        .downcast_ref::<String>()
                        .map(String::as_str)
                        .or_else(|| panic.downcast_ref::<&str>().copied())
                        .unwrap_or("a panic");
                    return Err(format!("{place}: {}", self.told(why)));
                }
            }
        }
        cast.hush();
        for name in cast.names() {
            if let Some(extra) = cast.heard(&name).first() {
                let why = format!("at the end {name} has heard {}", text(extra));
                return Err(format!("{}: {}", self.path.display(), self.told(&why)));
            }
        }
        Ok(())
    }

    fn step(&self, step: &Written, cast: &mut Cast<'_>, words: &mut Words) -> Result<(), String> {
        let element = self.real(&step.element);
        let who = |name: &str| {
            let value = step.element.attribute(name);
            let value = value.ok_or_else(|| format!("<{}> has no '{name}'", element.name))?;
            self.client(value)
        };
        let stanzas: Vec<Element> = element.elements().cloned().collect();
        match element.name.as_str() {
            "connect" => {
                let jid = who("as")?;
                let features = cast.enter(&jid);
                if let Some(pattern) = stanzas.first() {
                    matches(pattern, &features, &jid, words).map_err(|why| {
                        format!(
                            "{why}\n  expected {}\n  seen {}",
                            text(pattern),
                            text(&features)
                        )
                    })?;
                }
                for (attribute, stanza) in [("roster", ROSTER_GET), ("presence", "<presence/>")] {
                    if element.attribute(attribute) == Some("yes") {
                        cast.send(&jid, stanza);
                        cast.forget();
                    }
                }
                Ok(())
            }
            "disconnect" => {
                let jid = who("who")?;
                match element.attribute("how") {
                    None => cast.leave(&jid),
                    Some("cut") => cast.cut(&jid),
                    Some(other) => return Err(format!("nobody disconnects by {other}")),
                }
                Ok(())
            }
            "send" => {
                let mut bytes = Vec::new();
                for stanza in &stanzas {
                    fill(stanza, words).write(&mut bytes, ns::CLIENT);
                }
                cast.send(&who("by")?, bytes);
                Ok(())
            }
            "expect" => {
                let jid = who("at")?;
                if element.attribute("order") == Some("any") {
                    return expect_all(cast, &jid, &stanzas, words);
                }
                for stanza in &stanzas {
                    expect(cast, &jid, stanza, words)?;
                }
                Ok(())
            }
            "nothing" => {
                cast.hush();
                match cast.heard(&who("at")?).first() {
                    Some(extra) => Err(format!("expected nothing\n  seen {}", text(extra))),
                    None => Ok(()),
                }
            }
            "ignore" => {
                cast.heard(&who("at")?);
                Ok(())
            }
            other => Err(format!("<{other}> is no step")),
        }
    }

    /// The full JID of `juliet/balcony`.
    fn client(&self, name: &str) -> Result<String, String> {
        let (local, resource) = name
            .split_once('/')
            .ok_or_else(|| format!("{name} is not like juliet/balcony"))?;
        let found = self.accounts.iter().find(|(jid, _)| {
            let of_account = jid.split('@').next();
            of_account == Some(local) || jid == local
        });
        let (_, real) = found.ok_or_else(|| format!("{name} has no account"))?;
        Ok(format!("{real}/{resource}"))
    }

    fn real(&self, element: &Element) -> Element {
        map(element, &|value| self.real_value(value))
    }

    fn real_value(&self, value: &str) -> String {
        let accounts = self.accounts.iter();
        accounts.fold(value.to_owned(), |value, (jid, real)| {
            value.replace(jid, real)
        })
    }

    /// With the names that the script has.
    fn told(&self, why: &str) -> String {
        let accounts = self.accounts.iter();
        accounts.fold(why.to_owned(), |why, (jid, real)| why.replace(real, jid))
    }
}

/// What a script calls `{long}`, in bytes: longer than a name or a group may be.
const LONG: usize = 4_096;

const ROSTER_GET: &str = "<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>";

fn expect(
    cast: &mut Cast<'_>,
    jid: &str,
    pattern: &Element,
    words: &mut Words,
) -> Result<(), String> {
    let Some(seen) = cast.next(jid) else {
        return Err(format!("nothing comes\n  expected {}", text(pattern)));
    };
    matches(pattern, &seen, jid, words).map_err(|why| {
        format!(
            "{why}\n  expected {}\n  seen {}",
            text(pattern),
            text(&seen)
        )
    })
}

fn expect_all(
    cast: &mut Cast<'_>,
    jid: &str,
    patterns: &[Element],
    words: &mut Words,
) -> Result<(), String> {
    let mut seen = Vec::new();
    while seen.len() < patterns.len() {
        match cast.next(jid) {
            Some(element) => seen.push(element),
            None => break,
        }
    }
    matches_all(patterns, &seen, jid, words).map_err(|why| {
        let list = |all: &[Element]| {
            let lines = all.iter().map(|one| format!("\n    {}", text(one)));
            lines.collect::<String>()
        };
        format!("{why}\n  expected{}\n  seen{}", list(patterns), list(&seen))
    })
}
