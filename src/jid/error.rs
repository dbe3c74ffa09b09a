//! Why a string is no address (RFC 7622), or no password (RFC 8265).

use std::fmt;

use super::prep::PART_BYTES_MAX;

/// A string that was to be prepared, for [`JidError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// RFC 7622 §3.3.
    Localpart,
    /// RFC 7622 §3.2.
    Domainpart,
    /// RFC 7622 §3.4.
    Resourcepart,
    /// RFC 8265 §4; not part of a JID.
    Password,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Localpart => "localpart (before the \"@\")",
            Part::Domainpart => "domainpart",
            Part::Resourcepart => "resourcepart (after the \"/\")",
            Part::Password => "password",
        })
    }
}

/// Why a string is not an address. `Display` tells people what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JidError {
    /// The part has no characters, or none that preparation keeps.
    Empty(Part),
    /// The part has more than 1023 octets, or the domain name more than the DNS allows.
    TooLong(Part),
    /// The part has a character that its profile does not allow.
    Disallowed {
        /// Where it stands.
        part: Part,
        /// As it is after width mapping.
        character: char,
    },
    /// The password has a character that OpaqueString does not allow. It is not told which.
    PasswordCharacter,
    /// Right-to-left and left-to-right characters are mixed (RFC 5893 §2).
    Direction(Part),
    /// Preparation does not come to an end (RFC 8264 §7).
    Unstable(Part),
    /// The domainpart is not a domain name of IDNA2008.
    NotADomain,
    /// The domainpart starts with "[" and is not an IPv6 address in brackets.
    NotAnAddress,
    /// A resourcepart where a bare JID belongs.
    UnexpectedResource,
    /// No resourcepart where a full JID belongs.
    MissingResource,
}

impl fmt::Display for JidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JidError::Empty(part) => write!(f, "the {part} is empty"),
            JidError::TooLong(Part::Domainpart) => f.write_str(
                "the domainpart is too long; a label has at most 63 octets, a domain 253",
            ),
            JidError::TooLong(part) => {
                write!(
                    f,
                    "the {part} is too long; it has at most {} octets",
                    PART_BYTES_MAX
                )
            }
            JidError::Disallowed { part, character } => write!(
                f,
                "the {part} has a character that is not allowed there: {character:?} (U+{:04X})",
                u32::from(*character)
            ),
            JidError::PasswordCharacter => f.write_str(
                "the password has a character that is not allowed there, \
                 such as a control character",
            ),
            JidError::Direction(part) => {
                write!(
                    f,
                    "the {part} mixes right-to-left with left-to-right characters"
                )
            }
            JidError::Unstable(part) => write!(f, "the {part} has no stable normalized form"),
            JidError::NotADomain => {
                f.write_str("the domainpart is not a domain name; one is like \"example.org\"")
            }
            JidError::NotAnAddress => f.write_str(
                "the domainpart is not an IPv6 address in brackets; one is like \"[2001:db8::1]\"",
            ),
            JidError::UnexpectedResource => {
                f.write_str("there is a resourcepart (\"/...\") where none belongs")
            }
            JidError::MissingResource => f.write_str("the resourcepart (\"/...\") is missing"),
        }
    }
}

impl std::error::Error for JidError {}
