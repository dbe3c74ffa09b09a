//! Keeps the sample, the manual and the table of options in step: each option stands in the sample
//! once at its default, and in the manual once with its default, bounds, choices and what a reload
//! does. Pages are linted where mandoc is installed, as it is in CI (`tests/interop/run`).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use stanzad::config::options::{OPTIONS, Reload, SECTIONS, Spec};
use stanzad::config::{Settings, parse};

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn section_of(head: &str) -> String {
    // \& keeps mandoc from taking the bracket for the end of a sentence.
    let name = head
        .trim_start_matches('[')
        .trim_end_matches("\\&")
        .trim_end_matches(']');
    match name.starts_with("s2s.peer.") {
        true => "s2s.peer".to_owned(),
        false => name.split('.').next().unwrap().to_owned(),
    }
}

#[test]
fn the_sample_has_each_option_once_at_its_default_and_in_order() {
    let (mut section, mut found) = (String::new(), Vec::new());
    for line in file("conf/stanzad.toml").lines() {
        // That of a component is a comment, since none is there by default.
        if line.starts_with('[') || line.starts_with("#[") {
            section = section_of(line.trim_start_matches('#'));
        } else if let Some(option) = line.strip_prefix('#').filter(|l| !l.starts_with(' ')) {
            let (key, value) = option.split_once(" = ").unwrap_or_else(|| panic!("{line}"));
            found.push((section.clone(), key.to_owned(), value.to_owned()));
        }
    }
    // The sample begins with what everybody must write, the domain.
    let wanted = |spec: &Spec| {
        (
            spec.section.to_owned(),
            spec.key.to_owned(),
            spec.default.to_owned(),
        )
    };
    let (domain, rest): (Vec<_>, Vec<_>) = OPTIONS.iter().partition(|s| s.section == "domain");
    let wanted: Vec<_> = domain.into_iter().chain(rest).map(wanted).collect();
    assert_eq!(found, wanted);
}

#[test]
fn each_option_in_the_sample_is_under_one_line_of_comment() {
    let sample = file("conf/stanzad.toml");
    let lines: Vec<&str> = sample.lines().collect();
    for pair in lines.windows(2) {
        let is_option = |l: &str| l.starts_with('#') && !l.starts_with("# ");
        if is_option(pair[1]) {
            assert!(
                pair[0].starts_with("# "),
                "{} has no comment above it",
                pair[1]
            );
        }
    }
}

#[test]
fn the_sample_is_a_configuration_as_it_is_and_with_everything_uncommented() {
    let read = |text: &str| -> Settings {
        parse(text, Path::new("/etc/stanzad/stanzad.toml")).unwrap_or_else(|p| panic!("{p}"))
    };
    let sample = file("conf/stanzad.toml");
    let line = |l: &str| match l.strip_prefix('#').filter(|l| !l.starts_with(' ')) {
        Some(option) => format!("{option}\n"),
        None => format!("{l}\n"),
    };
    // A component needs a secret, which has no default.
    let (sample, component) = sample.split_once("#[component.").unwrap();
    assert_eq!(component.matches("\n[").count(), 0, "it comes last");
    let uncommented: String = sample.lines().map(line).collect();
    assert_eq!(read(sample), read("[domain.\"example.org\"]"));
    assert_eq!(read(&uncommented), read(sample));
}

/// The items of the manual: section, key, and the text with its lines joined.
fn manual() -> Vec<(String, String, String)> {
    let (mut section, mut items) = (String::new(), Vec::new());
    // A backslash at the end goes on with the next line (roff(7)).
    for line in file("man/stanzad.toml.5").replace("\\\n", "").lines() {
        if let Some(head) = line.strip_prefix(".Ss ") {
            section = section_of(head.trim_matches('"'));
        } else if line.starts_with(".Sh ") {
            section.clear();
        } else if section.is_empty() {
            continue;
        } else if let Some(item) = line.strip_prefix(".It Ic ") {
            let key = item.split(' ').next().unwrap().to_owned();
            items.push((section.clone(), key, String::new()));
        } else if let Some((_, _, text)) = items.last_mut() {
            text.push(' ');
            text.push_str(line);
        }
    }
    items
}

#[test]
fn the_manual_has_each_option_once_and_in_order() {
    let found: Vec<_> = manual()
        .into_iter()
        .map(|(s, key, _)| format!("{s}.{key}"))
        .collect();
    let wanted: Vec<_> = OPTIONS.iter().map(Spec::name).collect();
    assert_eq!(found, wanted);
}

#[test]
fn the_manual_tells_default_bounds_choices_and_reload_as_they_are() {
    for (spec, (_, _, text)) in OPTIONS.iter().zip(manual()) {
        let name = spec.name();
        let once = |line: &str| {
            let count = text.matches(line).count();
            assert_eq!(count, 1, "{name} has {line:?} {count} times: {text}");
        };
        let default = match spec.default {
            "\"\"" => "Default: \"\", which is none.".to_owned(),
            "[]" if spec.name() == "tls.groups" => {
                "Default: [], which is the order told above.".to_owned()
            }
            "[]" => "Default: [], which is none.".to_owned(),
            default => format!("Default: {default}."),
        };
        once(&default);
        if let Some((min, max)) = spec.bounds() {
            once(&format!("Bounds: {min} to {max}."));
        }
        for choice in spec.choices() {
            let quoted = format!("\"{choice}\"");
            assert!(text.contains(&quoted), "{name} lacks {quoted}");
        }
        let reload = match spec.reload {
            Reload::Now => "Reload: holds at once.",
            Reload::NewConnections => "Reload: holds for new connections.",
            Reload::Restart(_) => "Reload: needs a restart.",
        };
        once(reload);
    }
}

#[test]
fn the_manual_names_every_section() {
    let named: BTreeSet<String> = file("man/stanzad.toml.5")
        .lines()
        .filter_map(|line| {
            line.strip_prefix(".Ss ")
                .map(|h| section_of(h.trim_matches('"')))
        })
        .collect();
    assert_eq!(named, SECTIONS.map(str::to_owned).into());
}

#[test]
fn the_manual_of_the_daemon_names_every_command() {
    let page = file("man/stanzad.8");
    for command in [
        "run",
        "demo",
        "check config",
        "check certs",
        "check dns",
        "check ports",
        "check tls",
        "account add",
        "account passwd",
        "account delete",
        "account list",
        "account disable",
        "account enable",
        "status",
        "sessions Oo",
        "sessions end",
        "explain s2s",
        "s2s list",
        "reload",
        "stop",
    ] {
        let item = format!(".It Cm {command}");
        let named = page
            .lines()
            .filter(|l| l == &item || l.starts_with(&format!("{item} ")));
        assert_eq!(named.count(), 1, "{command}");
    }
}

#[test]
fn pages_have_no_lint() {
    for page in [
        "man/stanzad.8",
        "man/stanzad.toml.5",
        "man/stanzad-security.7",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let Ok(lint) = Command::new("mandoc")
            .args(["-T", "lint"])
            .arg(path)
            .output()
        else {
            // `cargo test` needs no other program; CI installs it.
            return;
        };
        let found = String::from_utf8_lossy(&lint.stdout);
        // Whether other pages are installed says nothing about this one.
        let own = found
            .lines()
            .filter(|line| !line.contains("referenced manual not found"));
        assert_eq!(own.collect::<Vec<_>>(), [""; 0]);
    }
}
