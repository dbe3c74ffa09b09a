//! What to write instead of a name that is no option.

use toml::de::{DeTable, DeValue};

use super::options::{COMPONENT_SECTIONS, DOMAIN_SECTIONS, OPTIONS, PEER, SECTIONS, find, keys};
use super::problem::nearest;
use crate::jid::Domain;

/// A name at top level that is no section.
pub(super) fn at_top(name: &str, value: &DeValue<'_>) -> String {
    if let Some(spec) = OPTIONS.iter().find(|spec| spec.key == name) {
        return format!(
            "{name} stands outside of a section; move it below {}",
            head(spec.section)
        );
    }
    for section in ["domain", "component", PEER] {
        let rest = name.strip_prefix(section);
        if let Some(rest) = rest.and_then(|rest| rest.strip_prefix('.')) {
            return format!(
                "unknown section {name:?}; put nothing but the name in quotes: [{section}.{rest:?}]"
            );
        }
    }
    if name.contains('.') {
        return format!("unknown section {name:?}; a domain is written [domain.{name:?}]");
    }
    if let Some(near) = nearest(name, SECTIONS) {
        return format!("unknown section {name:?}; did you mean {}?", head(near));
    }
    // [example.org] is a section "example" with one "org" in it.
    if let Some(names) = dotted(name, value, &DOMAIN_SECTIONS).filter(|names| names[0] != name) {
        return format!(
            "unknown section {name:?}; a domain is written {}",
            heads("domain", &names)
        );
    }
    let sections = SECTIONS.map(head).join(", ");
    format!("unknown section {name:?}; take it out, there are {sections}")
}

/// A key in a known section that is none of its options.
pub(super) fn in_section(section: &str, key: &str) -> String {
    let unknown = format!("unknown option {section}.{key}");
    if let Some(near) = nearest(key, keys(section)) {
        return format!("{unknown}; did you mean {near}?");
    }
    if let Some(spec) = OPTIONS.iter().find(|spec| spec.key == key) {
        return format!("{unknown}; {key} belongs below {}", head(spec.section));
    }
    let keys: Vec<_> = keys(section).collect();
    format!(
        "{unknown}; take it out, [{section}] has {}",
        keys.join(", ")
    )
}

/// A key in `[domain."name"]` that is neither an option nor a section there.
pub(super) fn in_domain(name: &str, key: &str, value: &DeValue<'_>) -> String {
    if SECTIONS.contains(&key) && key != "domain" {
        return format!("[{key}] holds for the whole server; move it out of domain {name:?}");
    }
    let near = nearest(key, keys("domain").chain(DOMAIN_SECTIONS));
    if DOMAIN_SECTIONS.contains(&name) && find(name, key).is_some() {
        return format!(
            "domain.{name} names no domain; write [domain.\"example.org\".{name}], or [{name}] for \
             all of them"
        );
    }
    if let Some(names) = quoteless(name, key, value, near, &DOMAIN_SECTIONS) {
        return format!(
            "domain {name:?} has no section {key:?}; put the name of a domain in quotes: {}",
            heads("domain", &names)
        );
    }
    let unknown = format!("domain {name:?} has no option {key}");
    if let Some(near) = near {
        return format!("{unknown}; did you mean {near}?");
    }
    match OPTIONS.iter().find(|spec| spec.key == key) {
        Some(spec) if DOMAIN_SECTIONS.contains(&spec.section) => {
            format!(
                "{unknown}; it belongs below [domain.{name:?}.{}]",
                spec.section
            )
        }
        Some(spec) if spec.section == "tls" => tls_in_domain(name, key),
        Some(spec) if spec.section == PEER => {
            format!("{unknown}; it belongs below [domain.{name:?}.s2s.peer.\"example.net\"]")
        }
        Some(spec) => {
            let section = spec.section;
            format!("{section}.{key} holds for the whole server; move it below [{section}]")
        }
        None => {
            let keys: Vec<_> = keys("domain").collect();
            format!(
                "{unknown}; take it out, a domain has {}, and the sections {}",
                keys.join(", "),
                DOMAIN_SECTIONS.join(", ")
            )
        }
    }
}

/// A key in `[component."name"]` that is neither an option nor a section there.
pub(super) fn in_component(name: &str, key: &str, value: &DeValue<'_>) -> String {
    let near = nearest(key, keys("component").chain(COMPONENT_SECTIONS));
    if let Some(names) = quoteless(name, key, value, near, &COMPONENT_SECTIONS) {
        return format!(
            "component {name:?} has no section {key:?}; put its name in quotes: {}",
            heads("component", &names)
        );
    }
    let unknown = format!("component {name:?} has no option {key}");
    if let Some(near) = near {
        return format!("{unknown}; did you mean {near}?");
    }
    let keys: Vec<_> = keys("component").collect();
    format!(
        "{unknown}; take it out, a component has {}, and the section {}",
        keys.join(", "),
        COMPONENT_SECTIONS.join(", ")
    )
}

/// A key in `[s2s.peer."name"]` that is no option there.
pub(super) fn in_peer(name: &str, key: &str, value: &DeValue<'_>) -> String {
    if let Some(names) = quoteless(name, key, value, None, &[]) {
        return format!(
            "put the name of another server in quotes: {}",
            heads(PEER, &names)
        );
    }
    let unknown = format!("s2s.peer.{name:?} has no option {key}");
    if let Some(near) = nearest(key, keys(PEER)) {
        return format!("{unknown}; did you mean {near}?");
    }
    let keys: Vec<_> = keys(PEER).collect();
    format!("{unknown}; take it out, there are {}", keys.join(", "))
}

/// A key of `[domain."name".tls]`. A context that is swapped in by SNI takes certificate, key and DH
/// parameters along, and nothing else (tried): versions and ciphers cannot differ by domain.
pub(super) fn tls_in_domain(name: &str, key: &str) -> String {
    if keys("domain").any(|own| own == key) {
        return format!(
            "{key} of a domain is no part of a tls section; write it right below [domain.{name:?}]"
        );
    }
    if keys("tls").any(|known| known == key) {
        return format!(
            "tls.{key} holds for the whole server; move it below [tls] (of TLS a domain sets only \
             certificate, key and dhparam)"
        );
    }
    in_section("tls", key)
}

/// `[domain]` or `[component]` with an option in it, or a name that is none.
pub(super) fn nameless(section: &str, key: &str, value: &DeValue<'_>) -> String {
    if find(section, key).is_some() {
        return format!(
            "{section}.{key} is about no {section}; write it below {}",
            head(section)
        );
    }
    // Other servers' conf files have name = "example.org".
    let named = value.as_str().filter(|name| name.contains('.'));
    let name = match named.filter(|name| Domain::parse(name).is_ok() && !key.contains('.')) {
        Some(name) => name,
        None => key,
    };
    format!(
        "{section} {name:?} is a section; write [{section}.{name:?}] once, with its options on lines \
         below"
    )
}

/// `domain`, `component` or `s2s.peer` as a value, where sections are expected.
pub(super) fn valued(section: &str, value: &DeValue<'_>) -> String {
    let names: Vec<String> = match value {
        DeValue::String(name) => vec![name.to_string()],
        DeValue::Array(names) => {
            let names = names.iter().filter_map(|name| name.get_ref().as_str());
            names.map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    let are_names = names.iter().all(|name| Domain::parse(name).is_ok());
    let write = match !names.is_empty() && are_names {
        true => heads(section, &names),
        false => head(section),
    };
    format!("{section} is not one value; write {write}")
}

/// The names that were meant, if `[domain.irc.example.org]` was written in place of
/// `[domain."irc.example.org"]`: `name` is their first label and `key` the next. `ends` are sections, and
/// no labels; `near` is what `key` may be a misspelling of.
fn quoteless(
    name: &str,
    key: &str,
    value: &DeValue<'_>,
    near: Option<&str>,
    ends: &[&str],
) -> Option<Vec<String>> {
    if near.is_some() || name.contains('.') {
        return None;
    }
    dotted(&format!("{name}.{key}"), value, ends)
}

/// All names that begin with `lead` and go on in tables; none if `value` is no table.
fn dotted(lead: &str, value: &DeValue<'_>, ends: &[&str]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    collect(lead.to_owned(), value.as_table()?, ends, &mut names);
    Some(names)
}

fn collect(lead: String, table: &DeTable<'_>, ends: &[&str], names: &mut Vec<String>) {
    let mut is_last = true;
    for (label, value) in table {
        let label = label.get_ref().as_ref();
        if let (Some(inner), false) = (value.get_ref().as_table(), ends.contains(&label)) {
            is_last = false;
            collect(format!("{lead}.{label}"), inner, ends, names);
        }
    }
    if is_last {
        names.push(lead);
    }
}

fn heads(section: &str, names: &[String]) -> String {
    let heads = names.iter().map(|name| format!("[{section}.{name:?}]"));
    heads.collect::<Vec<_>>().join(", ")
}

/// A section as it is written.
fn head(section: &str) -> String {
    match section {
        "domain" => "[domain.\"example.org\"]".to_owned(),
        "component" => "[component.\"irc.example.org\"]".to_owned(),
        PEER => "[s2s.peer.\"example.net\"]".to_owned(),
        section => format!("[{section}]"),
    }
}
