//! Mechanisms of one message, PLAIN (RFC 4616), EXTERNAL (RFC 4422 Appendix A) and ANONYMOUS
//! (RFC 4505), and the base64 that XMPP puts around every SASL message (RFC 6120 §6.4).

use std::fmt;

use base64::engine::general_purpose::STANDARD;
use base64::{Engine, decoded_len_estimate};
use zeroize::Zeroizing;

use super::SaslFailure;

/// Characters of trace information that ANONYMOUS allows (RFC 4505 §2).
const TRACE_CHARS_MAX: usize = 255;

/// What an `<auth/>` or `<response/>` carries, wiped when dropped. `None`: there is none. `Some` of
/// nothing: the client sent `=`, a message of no octets (RFC 6120 §6.4.2).
///
/// # Errors
/// `IncorrectEncoding` for what is not base64 by RFC 4648 §4: another alphabet, white space, wrong
/// or missing padding, stray bits.
pub fn decode(text: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SaslFailure> {
    match text {
        "" => Ok(None),
        "=" => Ok(Some(Zeroizing::default())),
        text => match decode_wiped(text) {
            None => Err(SaslFailure::IncorrectEncoding),
            data => Ok(data),
        },
    }
}

/// The octets of a base64 text. None if it is wrong; what was decoded before the error, which may be a
/// whole password, is wiped too.
pub(super) fn decode_wiped(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut data = Zeroizing::new(vec![0; decoded_len_estimate(text.len())]);
    let length = STANDARD.decode_slice(text, &mut data).ok()?;
    data.truncate(length);
    Some(data)
}

/// The text of a `<challenge/>` or `<success/>`; `=` for data of no octets (RFC 6120 §6.4.2).
pub fn encode(data: &[u8]) -> String {
    if data.is_empty() {
        "=".to_owned()
    } else {
        STANDARD.encode(data)
    }
}

/// The message of PLAIN (RFC 4616 §2), not prepared.
pub struct Plain {
    /// Whom the client wants to act as; `None`: itself.
    pub authzid: Option<String>,
    /// Whose password it is: the localpart (RFC 6120 §6.3.7).
    pub username: String,
    /// The password, wiped when dropped.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plain")
            .field("authzid", &self.authzid)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Plain {
    /// Parses `[authzid] NUL authcid NUL passwd`. The caller wipes `data`.
    ///
    /// # Errors
    /// `MalformedRequest` if it is not UTF-8, has not just two NULs, or lacks name or password.
    pub fn parse(data: &[u8]) -> Result<Plain, SaslFailure> {
        let text = std::str::from_utf8(data).map_err(|_| SaslFailure::MalformedRequest)?;
        let mut fields = text.split('\0');
        let (Some(authzid), Some(username), Some(password), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(SaslFailure::MalformedRequest);
        };
        if username.is_empty() || password.is_empty() {
            return Err(SaslFailure::MalformedRequest);
        }
        Ok(Plain {
            authzid: (!authzid.is_empty()).then(|| authzid.to_owned()),
            username: username.to_owned(),
            password: Zeroizing::new(password.to_owned()),
        })
    }
}

/// The message of EXTERNAL: whom the client wants to act as; `None`: whom its certificate names
/// (RFC 4422 Appendix A.1, XEP-0178 §2).
///
/// # Errors
/// `MalformedRequest` if it is not UTF-8 or has a NUL.
pub fn parse_external(data: &[u8]) -> Result<Option<String>, SaslFailure> {
    let text = std::str::from_utf8(data).map_err(|_| SaslFailure::MalformedRequest)?;
    if text.contains('\0') {
        return Err(SaslFailure::MalformedRequest);
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// Checks the message of ANONYMOUS. Its trace information is dropped: XEP-0175 §2 allows no use of it
/// but tracing.
///
/// # Errors
/// `MalformedRequest` if it is not UTF-8, has a control character, or more than 255 characters
/// (RFC 4505 §2, §3, RFC 6120 §6.5.8).
pub fn check_anonymous(data: &[u8]) -> Result<(), SaslFailure> {
    let text = std::str::from_utf8(data).map_err(|_| SaslFailure::MalformedRequest)?;
    if text.chars().any(char::is_control) || text.chars().count() > TRACE_CHARS_MAX {
        return Err(SaslFailure::MalformedRequest);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 6120 §6.4.2.
    #[test]
    fn an_equals_sign_is_an_empty_response_and_nothing_is_none() {
        assert_eq!(decode(""), Ok(None));
        assert_eq!(decode("="), Ok(Some(Zeroizing::default())));
        assert_eq!(encode(b""), "=");
    }

    #[test]
    fn only_strict_base64_is_decoded() {
        let juliet = Zeroizing::new(b"\0juliet".to_vec());
        assert_eq!(decode("AGp1bGlldA=="), Ok(Some(juliet)));
        for text in [
            "==", "A", "AA", "AAA", "AA=", "AB==", "AA==AA==", "AA==\n", " AA==", "A A=", "-_==",
            "é",
        ] {
            assert_eq!(
                decode(text),
                Err(SaslFailure::IncorrectEncoding),
                "{text:?}"
            );
        }
    }

    /// RFC 6120 §6.5.2: the example's initial response.
    #[test]
    fn plain_yields_name_and_password() {
        let data = decode("AGp1bGlldAByMG0zMG15cjBtMzA=").unwrap().unwrap();
        let plain = Plain::parse(&data).unwrap();
        assert_eq!(plain.authzid, None);
        assert_eq!(plain.username, "juliet");
        assert_eq!(*plain.password, "r0m30myr0m30");
    }

    #[test]
    fn plain_yields_an_authorization_identity() {
        let plain = Plain::parse(b"juliet@example.org\0juliet\0pw").unwrap();
        assert_eq!(plain.authzid.as_deref(), Some("juliet@example.org"));
    }

    #[test]
    fn malformed_plain_is_refused() {
        let table: [&[u8]; 9] = [
            b"",
            b"juliet",
            b"\0juliet",
            b"\0juliet\0",
            b"\0\0pw",
            b"\0\0",
            b"\0juliet\0pw\0",
            b"\0juliet\0p\0w",
            b"\0juliet\0\xff",
        ];
        for data in table {
            assert_eq!(
                Plain::parse(data).unwrap_err(),
                SaslFailure::MalformedRequest,
                "{data:?}"
            );
        }
    }

    #[test]
    fn debug_of_plain_hides_the_password() {
        let plain = Plain::parse(b"\0juliet\0r0m30").unwrap();
        assert!(!format!("{plain:?}").contains("r0m30"));
    }

    #[test]
    fn external_yields_the_identity_asked_for() {
        assert_eq!(parse_external(b""), Ok(None));
        assert_eq!(
            parse_external(b"juliet@example.org"),
            Ok(Some("juliet@example.org".to_owned()))
        );
        assert_eq!(parse_external(b"a\0b"), Err(SaslFailure::MalformedRequest));
        assert_eq!(parse_external(b"\xc3"), Err(SaslFailure::MalformedRequest));
    }

    /// RFC 6120 §6.5.8.
    #[test]
    fn a_long_anonymous_token_is_malformed() {
        assert_eq!(check_anonymous(b""), Ok(()));
        assert_eq!(check_anonymous("é".repeat(255).as_bytes()), Ok(()));
        assert_eq!(
            check_anonymous(&[b'a'; 256]),
            Err(SaslFailure::MalformedRequest)
        );
        assert_eq!(check_anonymous(b"a\0"), Err(SaslFailure::MalformedRequest));
        assert_eq!(check_anonymous(b"\xff"), Err(SaslFailure::MalformedRequest));
    }

    proptest! {
        #[test]
        fn decode_gives_back_what_encode_took(data in any::<Vec<u8>>()) {
            prop_assert_eq!(decode(&encode(&data)), Ok(Some(Zeroizing::new(data))));
        }

        #[test]
        fn no_bytes_panic(data in any::<Vec<u8>>(), text in ".*") {
            let decoded = decode(&text);
            prop_assert!(decoded.is_ok() || decoded == Err(SaslFailure::IncorrectEncoding));
            prop_assert!(Plain::parse(&data).is_ok_and(|p| !p.username.is_empty()) || Plain::parse(&data).is_err());
            prop_assert_eq!(parse_external(&data).is_err(), std::str::from_utf8(&data).is_err() || data.contains(&0));
            let _ = check_anonymous(&data);
        }
    }
}
