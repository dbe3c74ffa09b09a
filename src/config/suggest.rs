//! What to write instead of a name that is no option.

use toml::de::DeValue;

use super::options::{COMPONENT_SECTIONS, DOMAIN_SECTIONS, OPTIONS, PEER, SECTIONS, keys};
use super::problem::nearest;

/// A name at top level that is no section.
pub(super) fn at_top(name: &str) -> String {
    if let Some(spec) = OPTIONS.iter().find(|spec| spec.key == name) {
        return format!(
            "{name} stands outside of a section; move it below {}",
            head(spec.section)
        );
    }
    if name.contains('.') {
        return format!("unknown section {name:?}; a domain is written [domain.{name:?}]");
    }
    if let Some(near) = nearest(name, SECTIONS) {
        return format!("unknown section {name:?}; did you mean {}?", head(near));
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
    if let (None, Some(table), false) = (near, value.as_table(), name.contains('.')) {
        // [domain.example.org] is a domain "example" with a section "org".
        let mut whole = format!("{name}.{key}");
        let mut inner = table;
        while let Some((label, DeValue::Table(next))) =
            inner.iter().next().map(|(k, v)| (k.get_ref(), v.get_ref()))
            && !DOMAIN_SECTIONS.contains(&label.as_ref())
        {
            whole = format!("{whole}.{label}");
            inner = next;
        }
        return format!(
            "domain {name:?} has no section {key:?}; put the name of a domain in quotes: \
             [domain.{whole:?}]"
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
    if let (None, Some(_), false) = (near, value.as_table(), name.contains('.')) {
        return format!(
            "component {name:?} has no section {key:?}; put its name in quotes: \
             [component.\"{name}.{key}\"]"
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
    if value.is_table() && !name.contains('.') {
        let whole = format!("{name}.{key}");
        return format!("put the name of another server in quotes: [s2s.peer.{whole:?}]");
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

/// A section as it is written.
fn head(section: &str) -> String {
    match section {
        "domain" => "[domain.\"example.org\"]".to_owned(),
        "component" => "[component.\"irc.example.org\"]".to_owned(),
        PEER => "[s2s.peer.\"example.net\"]".to_owned(),
        section => format!("[{section}]"),
    }
}
