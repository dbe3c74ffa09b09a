//! From a file to [`Settings`], or to everything that is wrong with it at once.

mod components;
mod peers;
mod syntax;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use self::syntax::Recovered;
use super::options::{self, DOMAIN_SECTIONS, Draft, PEER, SECTIONS, Spec};
use super::problem::{Findings, Problem, Problems, position};
use super::value::Given;
use super::{Auth, DomainSettings, S2sPeer, Server, Settings, suggest};
use crate::jid::Domain;
use crate::sasl::{Mechanism, Storage};

/// Reads and checks a configuration file, and who may read it.
///
/// # Errors
/// Everything that is wrong with the file; nothing of it may be used then.
pub fn load(path: &Path) -> Result<Settings, Problems> {
    let settings = parse(&text_of(path)?, path)?;
    components::check_mode(path, &settings)?;
    Ok(settings)
}

/// What a command needs to reach a running server: `[server]`, as far as the file can be read, with
/// defaults for what it does not tell; and what is wrong with the file, if anything is.
pub fn locate(path: &Path) -> (Server, Option<Problems>) {
    let text = match text_of(path) {
        Ok(text) => text,
        Err(problems) => return (Server::default(), Some(problems)),
    };
    let (settings, list) = read(&text, path);
    let file = path.to_owned();
    let problems = (!list.is_empty()).then_some(Problems { file, list });
    (settings.server, problems)
}

fn text_of(path: &Path) -> Result<String, Problems> {
    let bytes = std::fs::read(path).map_err(|error| {
        let text = format!(
            "cannot be read ({error}); the one line [domain.\"example.org\"] makes a complete file"
        );
        Problems::whole(path, text)
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        let (line, column) = position(&before, valid);
        let text = "this byte is not UTF-8; save the file as UTF-8".to_owned();
        Problems {
            file: path.to_owned(),
            list: vec![Problem { line, column, text }],
        }
    })
}

/// Checks the text of a configuration file. `path` names it in messages, and relative paths in it
/// count from its directory.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, path: &Path) -> Result<Settings, Problems> {
    let (settings, list) = read(text, path);
    if list.is_empty() {
        return Ok(settings);
    }
    let file = path.to_owned();
    Err(Problems { file, list })
}

/// What could be read, and what is wrong.
fn read(text: &str, path: &Path) -> (Settings, Vec<Problem>) {
    let dir = path.parent().unwrap_or(Path::new(""));
    let Recovered {
        left,
        problems: syntax,
        guessed,
    } = syntax::recover(text);
    let (table, _) = DeTable::parse_recoverable(&left);
    let mut reader = Reader {
        dir,
        file: path,
        text: &left,
        is_whole: syntax.is_empty(),
        found: Findings::new(&left),
        warned: Findings::new(&left),
    };
    let mut settings = reader.file(table.get_ref());
    let mut problems = reader.found.finish();
    // What the parser made up to go on behind an error is not the operator's mistake.
    problems.retain(|problem| !guessed.contains(&problem.line));
    problems.extend(syntax);
    problems.sort();
    problems.dedup();
    settings.warnings = reader.warned.finish();
    (settings, problems)
}

/// What stands in the file for the whole server and, in a copy, for one domain.
#[derive(Clone, Default)]
struct Written {
    /// Where the value of an option is, by section and key.
    at: HashMap<(&'static str, &'static str), Range<usize>>,
    /// A value or a name was wrong: what looks like a contradiction may be none.
    broken: bool,
}

impl Written {
    fn has(&self, section: &'static str, key: &'static str) -> bool {
        self.at.contains_key(&(section, key))
    }

    fn span(&self, section: &'static str, key: &'static str) -> Range<usize> {
        self.at.get(&(section, key)).cloned().unwrap_or_default()
    }
}

struct Reader<'a> {
    dir: &'a Path,
    file: &'a Path,
    text: &'a str,
    /// The syntax is right, so that what is missing was not lost in an error.
    is_whole: bool,
    found: Findings<'a>,
    warned: Findings<'a>,
}

type Key<'a> = Spanned<std::borrow::Cow<'a, str>>;

impl<'a> Reader<'a> {
    fn file(&mut self, table: &'a DeTable<'a>) -> Settings {
        let nameless = Domain::parse("localhost").expect("localhost is a domain name");
        let mut draft = Draft {
            whole: Settings::default(),
            domain: DomainSettings::new(nameless),
            component: Default::default(),
            peer: S2sPeer::default(),
        };
        let mut written = Written {
            broken: !self.is_whole,
            ..Written::default()
        };
        let (mut domains, mut components) = (None, None);
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            if name == "domain" {
                domains = Some((key, value));
            } else if name == "component" {
                components = Some((key, value));
            } else if SECTIONS.contains(&name) && name != PEER {
                self.section(key, value, &mut draft, &mut written);
            } else {
                self.found
                    .add(&key.span(), suggest::at_top(name, value.get_ref()));
            }
        }
        if !written.broken {
            self.check_addresses(&draft.whole, &written);
            self.warn_of_anchor(&draft.whole, &written);
        }
        let mut settings = draft.whole.clone();
        settings.s2s = draft.domain.s2s.clone();
        let mut missing = domains.is_none();
        if let Some((key, value)) = domains {
            if let Some(table) = value.get_ref().as_table() {
                missing = table.is_empty();
                self.domains(table, &draft, &written, &mut settings);
            } else {
                let text = suggest::valued("domain", value.get_ref());
                self.found.add(&key.span(), text);
            }
        }
        if let Some((key, value)) = components {
            if let Some(table) = value.get_ref().as_table() {
                self.components(table, &draft, &written, &mut settings);
            } else {
                let text = suggest::valued("component", value.get_ref());
                self.found.add(&key.span(), text);
            }
        }
        if missing && self.is_whole {
            let text = "there is no domain to serve; add a line [domain.\"example.org\"] with the \
                        name of yours";
            self.found.add(&(0..0), text.to_owned());
        }
        settings
    }

    /// `[name]` at top level, or `[domain."x".name]`.
    fn section(
        &mut self,
        key: &Key<'_>,
        value: &'a Spanned<DeValue<'a>>,
        draft: &mut Draft,
        written: &mut Written,
    ) {
        let name = key.get_ref().as_ref();
        let Some(table) = value.get_ref().as_table() else {
            let text = format!(
                "{name} is a section; write [{name}] once, with its options on lines below"
            );
            self.found.add(&key.span(), text);
            written.broken = true;
            return;
        };
        for (key, value) in table {
            if name == "s2s" && key.get_ref() == "peer" {
                self.peers(key, value, draft, written);
            } else if let Some(spec) = options::find(name, key.get_ref()) {
                self.option(spec, value, draft, written);
            } else {
                self.found
                    .add(&key.span(), suggest::in_section(name, key.get_ref()));
                written.broken = true;
            }
        }
    }

    fn option(
        &mut self,
        spec: &'static Spec,
        value: &'a Spanned<DeValue<'a>>,
        draft: &mut Draft,
        written: &mut Written,
    ) {
        let name = match spec.section {
            "domain" => spec.key.to_owned(),
            _ => spec.name(),
        };
        self.named_option(spec, name, value, draft, written);
    }

    fn named_option(
        &mut self,
        spec: &'static Spec,
        name: String,
        value: &'a Spanned<DeValue<'a>>,
        draft: &mut Draft,
        written: &mut Written,
    ) {
        let given = Given {
            name,
            default: spec.default,
            dir: self.dir,
            file: self.file,
            text: self.text,
            value,
        };
        written.at.insert((spec.section, spec.key), value.span());
        if let Err(wrong) = spec.set(draft, &given) {
            written.broken = true;
            for (span, text) in wrong {
                self.found.add(&span, text);
            }
        }
    }

    fn domains(
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
            let mut draft = inherited.clone();
            self.domain(key, value, &mut draft, written.clone());
            let name = key.get_ref().as_ref();
            let prepared = match Domain::parse(name) {
                Ok(prepared) => prepared,
                Err(error) => {
                    // Some of these errors bring an example of their own.
                    let error = error.to_string();
                    let what = error.split(';').next().unwrap_or_default();
                    let text =
                        format!("domain {name:?}: {what}; write a name like \"example.org\"");
                    self.found.add(&key.span(), text);
                    continue;
                }
            };
            if let Some(other) = names.insert(prepared.clone(), name) {
                let text =
                    format!("domain {name:?} is the same as {other:?} above; leave one of the two");
                self.found.add(&key.span(), text);
            }
            draft.domain.name = prepared.clone();
            settings.domains.insert(prepared, Arc::new(draft.domain));
        }
    }

    fn domain(
        &mut self,
        key: &Key<'_>,
        value: &'a Spanned<DeValue<'a>>,
        draft: &mut Draft,
        mut written: Written,
    ) {
        let name = key.get_ref().as_ref();
        let Some(table) = value.get_ref().as_table() else {
            let text = suggest::nameless("domain", name, value.get_ref());
            self.found.add(&key.span(), text);
            return;
        };
        for (key, value) in table {
            let option = key.get_ref().as_ref();
            if let Some(spec) = options::find("domain", option) {
                self.option(spec, value, draft, &mut written);
            } else if DOMAIN_SECTIONS.contains(&option) {
                self.section(key, value, draft, &mut written);
            } else if let ("tls", Some(tls)) = (option, value.get_ref().as_table()) {
                for key in tls.keys() {
                    let text = suggest::tls_in_domain(name, key.get_ref());
                    self.found.add(&key.span(), text);
                    written.broken = true;
                }
            } else {
                let text = suggest::in_domain(name, option, value.get_ref());
                self.found.add(&key.span(), text);
                written.broken = true;
            }
        }
        if !written.broken {
            self.check_key(&draft.domain, "domain", &written);
            self.settle_mechanisms(&mut draft.domain.auth, &written);
            self.check_lists(&draft.domain, &written);
            self.check_dane(draft, &written);
            self.warn_of_plain(&draft.domain, &written);
        }
    }

    /// Two listening sockets cannot share an address.
    fn check_addresses(&mut self, settings: &Settings, written: &Written) {
        let lists = [
            ("c2s", &settings.listen.c2s),
            ("c2s_tls", &settings.listen.c2s_tls),
            ("s2s", &settings.listen.s2s),
            ("s2s_tls", &settings.listen.s2s_tls),
            ("component", &settings.listen.component),
        ];
        let exposed = settings.listen.component.iter();
        for address in exposed.filter(|address| !address.ip().is_loopback()) {
            let text = format!(
                "listen.component has \"{address}\": nothing encrypts what is said with a component; \
                 only a network that is yours alone may lie between"
            );
            self.warned.add(&written.span("listen", "component"), text);
        }
        let mut seen: Vec<(&'static str, SocketAddr)> = Vec::new();
        for (key, list) in lists {
            for address in list {
                if let Some((other_key, other)) = seen.iter().find(|(_, s)| overlap(*s, *address)) {
                    let at = if written.has("listen", key) {
                        key
                    } else {
                        other_key
                    };
                    let covers = if other == address {
                        "is"
                    } else {
                        "overlaps with"
                    };
                    let text = format!(
                        "listen.{key} has \"{address}\", which {covers} \"{other}\" of \
                         listen.{other_key}; give each its own port"
                    );
                    self.found.add(&written.span("listen", at), text);
                }
                seen.push((key, *address));
            }
        }
    }

    /// A domain cannot be on both lists.
    fn check_lists(&mut self, domain: &DomainSettings, written: &Written) {
        let s2s = &domain.s2s;
        for entry in s2s.secure_domains.shared(&s2s.insecure_domains) {
            let text = format!(
                "{entry:?} is in s2s.secure_domains and in s2s.insecure_domains; take it out of one"
            );
            let secure = written.span("s2s", "secure_domains");
            let insecure = written.span("s2s", "insecure_domains");
            let later = if secure.start > insecure.start {
                secure
            } else {
                insecure
            };
            self.found.add(&later, text);
        }
    }

    /// Without DNSSEC nobody vouches for TLSA records.
    fn check_dane(&mut self, draft: &Draft, written: &Written) {
        if draft.domain.s2s.dane && !draft.whole.dns.dnssec {
            let text = "s2s.dane = true needs answers that are proven; write dnssec = true below \
                        [dns], or s2s.dane = false";
            self.found
                .add(&written.span("s2s", "dane"), text.to_owned());
        }
    }

    fn check_key(&mut self, domain: &DomainSettings, section: &'static str, written: &Written) {
        if domain.key.is_some() && domain.certificate.is_none() {
            let text = "key is set without certificate; add certificate = \"...\" below it";
            self.found
                .add(&written.span(section, "key"), text.to_owned());
        }
    }

    /// Makes the list of mechanisms what may really be offered: a list that was written is the law
    /// and must fit the other options; one that was not follows them.
    fn settle_mechanisms(&mut self, auth: &mut Auth, written: &Written) {
        if !written.has("auth", "mechanisms") {
            auth.mechanisms = Mechanism::ALL
                .into_iter()
                .filter(|m| fits(*m, auth))
                .collect();
            return;
        }
        let listed = |mechanism| auth.mechanisms.contains(&mechanism);
        let any_scram = auth.mechanisms.iter().any(|m| m.scram().is_some());
        // Told where the later of the two options stands: what a domain sets against what it
        // inherits is told in the domain.
        let later = |key| {
            let (list, other) = (
                written.span("auth", "mechanisms"),
                written.span("auth", key),
            );
            if list.start > other.start {
                list
            } else {
                other
            }
        };
        let mut contradict = |key, text: &str| self.found.add(&later(key), text.to_owned());
        if listed(Mechanism::External) && auth.client_ca.is_none() {
            contradict(
                "client_ca",
                "EXTERNAL needs auth.client_ca; write client_ca = \"/etc/stanzad/client-ca.pem\", \
                 or take EXTERNAL out",
            );
        }
        if !listed(Mechanism::External) && auth.client_ca.is_some() {
            contradict(
                "client_ca",
                "client_ca has no effect while auth.mechanisms leaves EXTERNAL out; add \
                 \"EXTERNAL\" there, or write client_ca = \"\"",
            );
        }
        if listed(Mechanism::Anonymous) && !auth.anonymous {
            contradict(
                "anonymous",
                "ANONYMOUS lets in anybody, and needs anonymous = true; write that, or take \
                 ANONYMOUS out",
            );
        }
        if !listed(Mechanism::Anonymous) && auth.anonymous {
            contradict(
                "anonymous",
                "anonymous = true has no effect while auth.mechanisms leaves ANONYMOUS out; add \
                 \"ANONYMOUS\" there, or write anonymous = false",
            );
        }
        if auth.storage == Storage::Bcrypt && any_scram && !listed(Mechanism::Plain) {
            contradict(
                "storage",
                "storage = \"bcrypt\" can be checked through PLAIN only, which auth.mechanisms \
                 leaves out; add \"PLAIN\" there, or write storage = \"scram\"",
            );
        } else if auth.storage == Storage::Bcrypt && any_scram {
            let scram = auth.mechanisms.iter().filter(|m| m.scram().is_some());
            let names: Vec<&str> = scram.map(|m| m.name()).collect();
            let text = format!(
                "{} in auth.mechanisms will not be offered: what storage = \"bcrypt\" keeps of a \
                 password is of no use to SCRAM; take SCRAM out, or write storage = \"scram\"",
                names.join(", ")
            );
            self.warned.add(&later("storage"), text);
        }
        if auth.storage == Storage::Scram {
            let scram = auth
                .mechanisms
                .iter()
                .filter_map(|m| Some((m, m.scram()?.0)));
            for (mechanism, hash) in scram.filter(|(_, hash)| !auth.hashes.contains(hash)) {
                contradict(
                    "hashes",
                    &format!(
                        "{} needs {:?} among auth.hashes; add it there, or take the mechanism out",
                        mechanism.name(),
                        hash.name()
                    ),
                );
            }
        }
        let auth_now = auth.clone();
        auth.mechanisms.retain(|m| fits(*m, &auth_now));
    }

    fn warn_of_anchor(&mut self, settings: &Settings, written: &Written) {
        if settings.dns.trust_anchor.is_some() && !settings.dns.dnssec {
            let text = "dns.trust_anchor has no effect while dns.dnssec is false";
            self.warned
                .add(&written.span("dns", "trust_anchor"), text.to_owned());
        }
    }

    fn warn_of_plain(&mut self, domain: &DomainSettings, written: &Written) {
        let c2s = &domain.c2s;
        if !c2s.allow_unencrypted_plain {
            return;
        }
        let text = if c2s.require_encryption {
            "allow_unencrypted_plain has no effect while c2s.require_encryption is true"
        } else if domain.auth.mechanisms.contains(&Mechanism::Plain) {
            "passwords may cross the network in the clear; anybody on the way can read them"
        } else {
            "allow_unencrypted_plain has no effect while auth.mechanisms leaves PLAIN out"
        };
        let span = written.span("c2s", "allow_unencrypted_plain");
        self.warned.add(&span, text.to_owned());
    }
}

/// Whether the other options leave a mechanism a chance to succeed.
fn fits(mechanism: Mechanism, auth: &Auth) -> bool {
    match mechanism {
        Mechanism::Plain => true,
        Mechanism::External => auth.client_ca.is_some(),
        Mechanism::Anonymous => auth.anonymous,
        scram => scram
            .scram()
            .is_some_and(|(hash, _)| auth.storage == Storage::Scram && auth.hashes.contains(&hash)),
    }
}

/// Whether one of two listening sockets takes what the other is bound to. `[::]` takes all, also
/// IPv4; port 0 is a free port each time.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |a: IpAddr, b: IpAddr| match a {
        IpAddr::V6(a) => a.is_unspecified(),
        IpAddr::V4(a) => a.is_unspecified() && b.is_ipv4(),
    };
    let (x, y) = (a.ip(), b.ip());
    a.port() == b.port() && a.port() != 0 && (x == y || covers(x, y) || covers(y, x))
}
