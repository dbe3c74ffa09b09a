//! What is wrong with a configuration file, told by place.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One thing that is wrong, or, among the warnings, that has no effect or a risk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The line, from 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// The column in characters, from 1; 0 when `line` is.
    pub column: usize,
    /// What is wrong, a semicolon, what to write.
    pub text: String,
}

/// Everything that is wrong with one file, in the order of the file. Never empty as an error.
/// Displayed as one `FILE:LINE:COLUMN: what is wrong; what to write` a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file as it was named.
    pub file: PathBuf,
    /// What is wrong with it.
    pub list: Vec<Problem>,
}

impl Problems {
    /// One problem of the file as a whole.
    pub fn whole(file: &Path, text: String) -> Problems {
        Problems {
            file: file.to_owned(),
            list: vec![Problem {
                line: 0,
                column: 0,
                text,
            }],
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.file.display())?;
            if problem.line > 0 {
                write!(f, "{}:{}:", problem.line, problem.column)?;
            }
            write!(f, " {}", problem.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Collects problems of one text by byte offset.
pub(super) struct Findings<'a> {
    text: &'a str,
    list: Vec<Problem>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(text: &'a str) -> Findings<'a> {
        Findings {
            text,
            list: Vec::new(),
        }
    }

    /// Notes that the bytes of `span` have a problem.
    pub(super) fn add(&mut self, span: &Range<usize>, text: String) {
        let (line, column) = position(self.text, span.start);
        self.list.push(Problem { line, column, text });
    }

    /// All of them by place. What several domains inherit is found once for each, and told once.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.list.sort();
        self.list.dedup();
        self.list
    }
}

/// Line and column, in characters and from 1, of a byte offset.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// The candidate that `name` is most probably a misspelling of.
pub(super) fn nearest<'c>(
    name: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let name = name.to_lowercase();
    // One letter of three is much: s2s is no misspelt c2s.
    let related = |c: &str| c.len() > 3 || c.chars().next() == name.chars().next();
    let distance = |c: &str| strsim::damerau_levenshtein(&name, &c.to_lowercase());
    let mut near: Vec<(usize, &str)> = candidates
        .into_iter()
        .filter(|candidate| related(candidate))
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, c)| *distance <= (c.len().min(name.len()) / 3).max(1))
        .collect();
    near.sort();
    near.first().map(|(_, candidate)| *candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_characters_not_bytes() {
        let text = "a = 1\n\u{e9}\u{1f600} = 2\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, text.find("= 2").unwrap()), (2, 4));
        assert_eq!(position(text, text.len()), (3, 1));
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let names = ["mechanisms", "storage", "hashes"];
        assert_eq!(nearest("mechanism", names), Some("mechanisms"));
        assert_eq!(nearest("STORAGE", names), Some("storage"));
        assert_eq!(nearest("hahses", names), Some("hashes"));
        assert_eq!(nearest("pepper", names), None);
        assert_eq!(nearest("s2s", ["c2s"]), None);
        assert_eq!(nearest("c2c", ["c2s"]), Some("c2s"));
    }
}
