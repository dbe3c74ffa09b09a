//! Texts that others have written, as they are shown to people who read no log: on a terminal, or in what
//! is sent back.

use super::line::is_unsafe;

/// A text of somebody else's, cut to so many characters, without any that ends a line, drives a terminal
/// or turns the direction of writing.
pub fn for_people(text: &str, chars_max: usize) -> String {
    let chars = text.chars().take(chars_max);
    let mut shown: String = chars.map(|c| if is_unsafe(c) { ' ' } else { c }).collect();
    if text.chars().nth(chars_max).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_and_cannot_control_a_terminal() {
        assert_eq!(for_people("a\u{1b}[2J\n\u{9b}\u{202e}b", 99), "a [2J   b");
        assert_eq!(for_people("häßlich", 7), "häßlich");
        assert_eq!(for_people("häßlich", 3), "häß…");
    }
}
