//! Passwords from people and scripts: asked for twice on a terminal, else one line of input.

use std::io::{self, BufRead, IsTerminal};

use zeroize::Zeroizing;

use super::Failure;
use crate::server::control::Password;

/// Bytes of a line that is read as a password. A password has at most 1,023 bytes (RFC 4616 §2
/// leaves it open; this is what a prepared one may have), and what is longer is refused with words.
const LINE_BYTES_MAX: usize = 4096;

/// Gets a new password for `jid`, not prepared or judged yet.
pub fn read_new(jid: &str) -> Result<Password, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return read_line(stdin.lock());
    }
    let ask = |prompt: String| {
        rpassword::prompt_password(prompt)
            .map(Password::new)
            .map_err(|error| Failure::no(format_args!("cannot ask for the password: {error}")))
    };
    let first = ask(format!("New password for {jid}: "))?;
    let second = ask("The same again: ".to_string())?;
    if first.reveal() != second.reveal() {
        return Err(Failure::no("the two passwords differ; nothing was changed"));
    }
    Ok(first)
}

/// The first line of `input`, without its end. What follows is ignored.
fn read_line(input: impl BufRead) -> Result<Password, Failure> {
    // Never grown, as that would leave copies behind.
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX + 1));
    input
        .take(LINE_BYTES_MAX as u64 + 1)
        .read_until(b'\n', &mut line)
        .map_err(|error| Failure::no(format_args!("cannot read the password: {error}")))?;
    if line.len() > LINE_BYTES_MAX {
        return Err(Failure::no(format_args!(
            "the first line of standard input is longer than {LINE_BYTES_MAX} bytes; \
             is it the password?"
        )));
    }
    let text = line.strip_suffix(b"\n").unwrap_or(&line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    match std::str::from_utf8(text) {
        Ok(text) => Ok(Password::new(text.to_string())),
        Err(_) => Err(Failure::no(
            "the password is not UTF-8, the only encoding that XMPP knows",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> Result<String, String> {
        match read_line(input) {
            Ok(password) => Ok(password.reveal().to_string()),
            Err(Failure::No(text)) => Err(text),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_password_is_the_first_line_without_its_end() {
        assert_eq!(read(b"r0m30\n").unwrap(), "r0m30");
        assert_eq!(read(b"r0m30\r\nmore\n").unwrap(), "r0m30");
        assert_eq!(read(b"no newline").unwrap(), "no newline");
        assert_eq!(read(b"").unwrap(), "", "judged later, with words");
    }

    #[test]
    fn spaces_belong_to_a_password() {
        assert_eq!(read(b" with spaces \n").unwrap(), " with spaces ");
    }

    #[test]
    fn an_endless_line_is_refused() {
        assert!(
            read(&[b'x'; LINE_BYTES_MAX + 1])
                .unwrap_err()
                .contains("longer than")
        );
        assert!(read(&[b'x'; LINE_BYTES_MAX]).is_ok());
    }

    #[test]
    fn latin_1_is_refused_with_the_reason() {
        assert!(read(b"caf\xe9\n").unwrap_err().contains("UTF-8"));
    }
}
