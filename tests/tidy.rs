//! Rules about the source that a machine can check (`Where things are` in lib.rs): imports go down
//! the layers, each larger outside crate has the importers it may have, and nothing is left
//! unfinished.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The folders and files of `src/` by layer. A module imports from its own layer and those below.
const LAYERS: &[(&str, u8)] = &[
    ("ns", 0),
    ("limits", 0),
    ("clock", 0),
    ("post", 0),
    ("log", 0),
    ("slots", 0),
    ("turns", 0),
    ("xml", 1),
    ("jid", 1),
    ("stanza", 1),
    ("sasl", 1),
    ("net", 2),
    ("storage", 2),
    ("config", 2),
    ("dns", 2),
    ("workers", 2),
    ("router", 3),
    ("stream", 4),
    ("features", 4),
    ("shard", 5),
    ("server", 6),
    ("cli", 7),
    ("main", 7),
];

/// Modules of one layer that know nothing of each other.
const STRANGERS: &[(&str, &str)] = &[("stream", "features"), ("features", "stream")];

/// Outside crates, as they are named in paths, and the modules that may import them.
const IMPORTERS: &[(&str, &[&str])] = &[
    ("mio::", &["shard"]),
    ("socket2::", &["net", "shard", "server"]),
    ("openssl::ssl", &["net"]),
    ("openssl::x509", &["net"]),
    ("openssl_sys::", &["net"]),
    ("foreign_types::", &["net"]),
    ("x509_cert::", &["net"]),
    ("rusqlite::", &["storage"]),
    ("toml::", &["config"]),
    ("tokio::", &["dns"]),
    ("trust_dns_resolver::", &["dns"]),
    ("strsim::", &["config"]),
    ("::xml::", &["xml"]),
    ("precis_profiles::", &["jid"]),
    ("idna::", &["jid"]),
    ("bcrypt::", &["sasl"]),
    ("clap::", &["cli"]),
    ("rpassword::", &["cli"]),
    ("signal_hook::", &["server"]),
    ("sd_notify::", &["server"]),
    ("syslog::", &["log"]),
    ("slab::", &["slots"]),
];

/// The longest file, tests not counted. Longer ones hold two subjects.
const LINES_MAX: usize = 700;

struct Source {
    path: PathBuf,
    /// The folder or file under `src/`.
    module: String,
    /// The lines that are no tests.
    lines: Vec<String>,
}

impl Source {
    /// The code of a line: without the comment that it is or ends with.
    fn code(line: &str) -> &str {
        let line = line.split(" // ").next().unwrap_or(line);
        if line.trim_start().starts_with("//") {
            ""
        } else {
            line
        }
    }

    /// The code as one text, so that paths may be broken over lines.
    fn text(&self) -> String {
        let code = self.lines.iter().map(|line| Source::code(line));
        code.collect::<Vec<_>>().join("\n")
    }
}

fn files(under: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_string_lossy();
    let in_tests = path.iter().any(|part| part == "tests" || part == "testing");
    in_tests || name.ends_with("tests") || name == "testing"
}

/// The files under `src/` that are no tests, cut where their tests begin.
fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut paths = Vec::new();
    files(&src, &mut paths);
    paths.sort();
    paths.retain(|path| !is_test_file(path.strip_prefix(&src).unwrap()));
    assert!(paths.len() > 50, "the source was found");
    let source = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let all: Vec<&str> = text.lines().collect();
        let is_start = |at: usize| {
            all[at] == "#[cfg(test)]"
                && all[at + 1..]
                    .iter()
                    .find(|line| !line.starts_with("#["))
                    .is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
        };
        let end = (0..all.len()).find(|&at| is_start(at)).unwrap_or(all.len());
        let first = path.strip_prefix(&src).unwrap().iter().next().unwrap();
        Source {
            module: first.to_string_lossy().trim_end_matches(".rs").to_owned(),
            lines: all[..end].iter().map(|line| (*line).to_owned()).collect(),
            path,
        }
    };
    paths.into_iter().map(source).collect()
}

fn layer(module: &str) -> u8 {
    let found = LAYERS.iter().find(|(name, _)| *name == module);
    found
        .unwrap_or_else(|| panic!("src/{module} has no layer: name it in LAYERS"))
        .1
}

/// The first parts of all paths that begin with `crate::`, also in `use crate::{a, b::c}`.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, start) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == '$') {
            continue;
        }
        let rest = &code[at + start.len()..];
        match rest.strip_prefix('{') {
            None => found.push(identifier(rest)),
            Some(group) => found.extend(group_members(group)),
        }
    }
    found
}

fn identifier(text: &str) -> String {
    let is_part = |c: &char| c.is_alphanumeric() || *c == '_';
    text.trim_start().chars().take_while(is_part).collect()
}

fn group_members(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut members) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                members.push(identifier(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.push(identifier(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    members.retain(|member| !member.is_empty());
    members
}

fn none(problems: &str) {
    assert!(problems.is_empty(), "\n{problems}");
}

#[test]
fn imports_are_found_in_every_form() {
    let code =
        "use crate::jid;\nuse crate::{xml::{A, B}, net::C, self_like};\nlet x = crate::ns::TLS;";
    assert_eq!(imports(code), ["jid", "xml", "net", "self_like", "ns"]);
    assert!(imports("othercrate::x $crate::y").is_empty());
}

/// `Where things are` in lib.rs.
#[test]
fn imports_go_down_the_layers() {
    let mut problems = String::new();
    for source in sources().iter().filter(|source| source.module != "lib") {
        let own = layer(&source.module);
        for import in imports(&source.text()) {
            let Some((_, other)) = LAYERS.iter().find(|(name, _)| *name == import) else {
                // A macro of the crate's root, or a type of it: there are none.
                writeln!(
                    problems,
                    "{}: crate::{import} has no layer",
                    source.path.display()
                )
                .unwrap();
                continue;
            };
            let strangers = STRANGERS.contains(&(source.module.as_str(), import.as_str()));
            if *other > own || strangers {
                writeln!(
                    problems,
                    "{}: {} (layer {own}) imports {import} (layer {other})",
                    source.path.display(),
                    source.module
                )
                .unwrap();
            }
        }
    }
    none(&problems);
}

/// `Where things are` in lib.rs: what one folder hides, no other can come to depend on.
#[test]
fn outside_crates_have_the_importers_they_may_have() {
    let mut problems = String::new();
    for source in sources() {
        let code = source.text();
        for (name, importers) in IMPORTERS {
            let is_used = code.match_indices(name).any(|(at, _)| {
                let before = code[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
            });
            if is_used && !importers.contains(&source.module.as_str()) {
                writeln!(problems, "{}: imports {name}", source.path.display()).unwrap();
            }
        }
    }
    none(&problems);
}

#[test]
fn nothing_is_left_unfinished() {
    // Put together here, so that this file keeps the rule itself.
    let words = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["to", "do!("],
        ["unimplem", "ented!("],
        ["db", "g!("],
    ]
    .map(|parts| parts.concat());
    let mut paths = Vec::new();
    for folder in ["src", "tests", "benches"] {
        let folder = root().join(folder);
        if folder.exists() {
            files(&folder, &mut paths);
        }
    }
    let mut problems = String::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            for word in words.iter().filter(|word| line.contains(*word)) {
                writeln!(problems, "{}:{number}: {word}", path.display()).unwrap();
            }
        }
    }
    none(&problems);
}

/// The headings of the crate's documentation.
fn headings() -> Vec<String> {
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let heading = |line: &str| Some(line.strip_prefix("//! # ")?.to_owned());
    map.lines().filter_map(heading).collect()
}

/// A reason that only we can look up explains nothing to others: what a comment cites is a public
/// document, or a section of the crate's documentation that is there.
#[test]
fn comments_cite_what_a_reader_has() {
    let headings = headings();
    assert!(headings.len() > 10, "the headings were found");
    // Put together here, so that this file keeps the rule itself.
    let papers = [["DES", "IGN §"], ["FAC", "TS §"], ["STY", "LE.md"]].map(|parts| parts.concat());
    let end = ["` in", " lib.rs"].concat();
    let mut paths = vec![root().join("benches/load/compare.sh")];
    for folder in ["src", "tests", "benches"] {
        files(&root().join(folder), &mut paths);
    }
    let (mut problems, mut cites) = (String::new(), 0);
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let mut problem = |what: &str| {
                writeln!(problems, "{}:{number}: {what}", path.display()).unwrap();
            };
            for paper in papers.iter().filter(|paper| line.contains(*paper)) {
                problem(paper);
            }
            for (at, _) in line.match_indices(&end) {
                let name = line[..at].rsplit('`').next().unwrap();
                cites += 1;
                if !headings.iter().any(|heading| heading == name) {
                    problem(&format!("no section \"{name}\" in lib.rs"));
                }
            }
        }
    }
    assert!(cites > 50, "the cites were found");
    none(&problems);
}

#[test]
fn lines_of_the_changelog_fit_a_terminal() {
    let text = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let mut problems = String::new();
    for (number, line) in (1..).zip(text.lines()) {
        let columns = line.chars().count();
        if columns > 100 {
            writeln!(problems, "CHANGELOG.md:{number}: {columns} columns").unwrap();
        }
    }
    none(&problems);
}

#[test]
fn files_have_one_subject() {
    let mut problems = String::new();
    for source in sources() {
        let lines = source.lines.len();
        if lines > LINES_MAX {
            writeln!(
                problems,
                "{}: {lines} lines without tests",
                source.path.display()
            )
            .unwrap();
        }
        if !source
            .lines
            .first()
            .is_some_and(|line| line.starts_with("//! "))
            && source.module != "main"
        {
            writeln!(
                problems,
                "{}: does not say what it is for",
                source.path.display()
            )
            .unwrap();
        }
    }
    none(&problems);
}

/// Outside of tests nothing panics but where an invariant that is told forbids it.
#[test]
fn unwrap_is_for_tests_and_expect_states_an_invariant() {
    let mut problems = String::new();
    for source in sources() {
        for (at, line) in source.lines.iter().enumerate() {
            let code = Source::code(line);
            let place = || format!("{}:{}", source.path.display(), at + 1);
            if code.contains(".unwrap()") {
                writeln!(problems, "{}: unwrap", place()).unwrap();
            }
            for (start, found) in code.match_indices(".expect(") {
                // The sentence may stand on the next line.
                let next = source.lines.get(at + 1).map_or("", String::as_str);
                let rest = format!("{} {next}", &code[start + found.len()..]);
                let sentence = rest.split('"').nth(1).unwrap_or("");
                if sentence.split_whitespace().count() < 3 {
                    writeln!(problems, "{}: expect without an invariant", place()).unwrap();
                }
            }
        }
    }
    none(&problems);
}

#[test]
fn every_unsafe_block_proves_its_safety() {
    let mut problems = String::new();
    for source in sources() {
        for (at, line) in source.lines.iter().enumerate() {
            let code = Source::code(line);
            let is_unsafe = ["unsafe {", "unsafe fn ", "unsafe impl ", "unsafe extern "]
                .iter()
                .any(|form| code.contains(form));
            let above = source.lines[..at].iter().rev();
            let proof = above
                .take_while(|line| {
                    let line = line.trim_start();
                    line.starts_with("//")
                        || line.starts_with("#[")
                        || !line.ends_with([';', '{', '}'])
                })
                .any(|line| line.contains("SAFETY: "));
            if is_unsafe && !proof {
                writeln!(problems, "{}:{}: unsafe", source.path.display(), at + 1).unwrap();
            }
        }
    }
    none(&problems);
}
