//! Preparation and enforcement of the parts of a JID, and of passwords (RFC 7622, RFC 8264, RFC 8265).
//!
//! The mappings (width, case, normalization, direction) are `precis-profiles`', domain names are
//! `idna`'s. Two things are done here. `precis-core` knows the code points of Unicode 6.3 only, so
//! that it refuses every emoji since 2013; code points that it calls unassigned are judged by the
//! algorithm of RFC 8264 §8 over newer tables (`newer_code_point`). And its context rules copy the
//! whole string for each character they look at; ours (`context_allows`) are linear.
//!
//! Each function borrows its input when that was prepared already. Text in ASCII that needs no
//! mapping takes one walk over a table of 128 classes.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use icu_properties::props::{
    CanonicalCombiningClass, DefaultIgnorableCodePoint, GeneralCategory, JoiningType, Script,
};
use icu_properties::{CodePointMapData, CodePointSetData};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use precis_profiles::precis_core::profile::Rules;
use precis_profiles::precis_core::{
    DerivedPropertyValue, FreeformClass, IdentifierClass, StringClass,
};
use precis_profiles::{Nickname, OpaqueString, UsernameCaseMapped};

use super::{JidError, Part};

/// Octets that a part of a JID may have once it is prepared (RFC 7622 §3.2, §3.3, §3.4).
pub const PART_BYTES_MAX: usize = 1023;

/// Octets that a part may have before it is prepared. No mapping takes less than a third of the
/// octets that went in (full width to ASCII, Hangul jamo to syllables), so nothing legal is lost,
/// and a peer cannot have a whole stanza of text normalized.
const RAW_BYTES_MAX: usize = 3 * PART_BYTES_MAX;

/// Octets of a domain name on the wire (RFC 1035 §2.3.4), which RFC 7622 §3.2 leaves in force.
const DOMAIN_NAME_BYTES_MAX: usize = 253;
/// Octets of one label (RFC 1035 §2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// RFC 8264 §7 allows three more applications of the rules before a string is called unstable.
const REAPPLICATIONS_MAX: usize = 3;

const LOCAL: u8 = 1;
const DOMAIN: u8 = 2;
const OPAQUE: u8 = 4;

/// Which parts an ASCII character passes through unchanged.
static CLASSES: [u8; 128] = classes();

const fn classes() -> [u8; 128] {
    let mut table = [0; 128];
    let mut byte = 0x20;
    while byte < 0x7f {
        let c = byte as u8;
        let mut class = OPAQUE;
        if byte > 0x20 && !c.is_ascii_uppercase() && !is_excluded(c as char) {
            class |= LOCAL;
        }
        if c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.' {
            class |= DOMAIN;
        }
        table[byte] = class;
        byte += 1;
    }
    table
}

/// The characters that XMPP takes out of the UsernameCaseMapped profile (RFC 7622 §3.3.1).
const fn is_excluded(c: char) -> bool {
    matches!(c, '"' | '&' | '\'' | '/' | ':' | '<' | '>' | '@')
}

fn passes(s: &str, class: u8) -> bool {
    s.bytes()
        .all(|b| CLASSES.get(usize::from(b)).is_some_and(|c| c & class != 0))
}

/// A localpart, prepared (RFC 7622 §3.3): UsernameCaseMapped without `"&'/:<>@`, 1 to 1023 octets.
///
/// # Errors
/// [`JidError`], with [`Part::Localpart`].
pub fn prepare_localpart(s: &str) -> Result<String, JidError> {
    localpart(s).map(Cow::into_owned)
}

/// A resourcepart, prepared (RFC 7622 §3.4): OpaqueString, 1 to 1023 octets. Case is kept.
///
/// A space at either end is kept too. RFC 7622 §3.5 calls its example 18, `juliet@example.com/ foo`,
/// illegal, but neither its §3.4 nor OpaqueString has a rule that would make it so.
///
/// # Errors
/// [`JidError`], with [`Part::Resourcepart`].
pub fn prepare_resource(s: &str) -> Result<String, JidError> {
    resourcepart(s).map(Cow::into_owned)
}

/// A password, prepared (OpaqueString, RFC 8265 §4.2), 1 to 1023 octets.
///
/// # Errors
/// [`JidError`], with [`Part::Password`]; no error tells a character of the password.
pub fn prepare_password(s: &str) -> Result<String, JidError> {
    opaque(Part::Password, s).map(Cow::into_owned)
}

pub(super) fn localpart(s: &str) -> Result<Cow<'_, str>, JidError> {
    let part = Part::Localpart;
    check_raw(part, s)?;
    let prepared = if passes(s, LOCAL) {
        Cow::Borrowed(s)
    } else {
        let prepared = stable(part, s, username_case_mapped)?;
        // After the mapping: U+FF20 becomes '@'.
        if let Some(c) = prepared.chars().find(|c| is_excluded(*c)) {
            return Err(disallowed(part, c));
        }
        prepared
    };
    check_prepared(part, prepared)
}

pub(super) fn resourcepart(s: &str) -> Result<Cow<'_, str>, JidError> {
    opaque(Part::Resourcepart, s)
}

fn opaque(part: Part, s: &str) -> Result<Cow<'_, str>, JidError> {
    check_raw(part, s)?;
    let prepared = if passes(s, OPAQUE) {
        Cow::Borrowed(s)
    } else {
        stable(part, s, opaque_string)?
    };
    check_prepared(part, prepared)
}

/// A domainpart (RFC 7622 §3.2): a domain name in U-labels, an IPv4 address, or an IPv6 address in
/// brackets; without the final dot.
pub(super) fn domainpart(s: &str) -> Result<Cow<'_, str>, JidError> {
    let part = Part::Domainpart;
    // UTS 46 §4 takes these four for label separators; it is the last one that must go (§3.2).
    let s = s
        .strip_suffix(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}'])
        .unwrap_or(s);
    check_raw(part, s)?;
    if let Some(rest) = s.strip_prefix('[') {
        return ipv6_literal(s, rest);
    }
    if passes(s, DOMAIN) && !s.contains("xn--") {
        check_labels(s)?;
        return Ok(Cow::Borrowed(s));
    }
    let prepared = stable(part, s, internationalized_domain)?;
    let ascii = to_a_labels(&prepared).ok_or(JidError::NotADomain)?;
    check_labels(&ascii)?;
    check_prepared(part, prepared)
}

/// The domain name in A-labels, as the DNS and certificates have it; `None` where IDNA refuses it.
pub(super) fn to_a_labels(domain: &str) -> Option<String> {
    Uts46::new()
        .to_ascii(
            domain.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::CheckFirstLast,
            DnsLength::Ignore,
        )
        .ok()
        .map(Cow::into_owned)
}

fn ipv6_literal<'a>(s: &'a str, rest: &str) -> Result<Cow<'a, str>, JidError> {
    let address: Ipv6Addr = rest
        .strip_suffix(']')
        .and_then(|inner| inner.parse().ok())
        .ok_or(JidError::NotAnAddress)?;
    // One spelling for one address (RFC 5952), so that comparing strings compares addresses.
    let canonical = format!("[{address}]");
    Ok(if canonical == s {
        Cow::Borrowed(s)
    } else {
        Cow::Owned(canonical)
    })
}

/// Length and hyphens of a domain name in ASCII (RFC 1123 §2.1, RFC 1035 §2.3.4).
fn check_labels(domain: &str) -> Result<(), JidError> {
    if domain.len() > DOMAIN_NAME_BYTES_MAX {
        return Err(JidError::TooLong(Part::Domainpart));
    }
    for label in domain.split('.') {
        if label.is_empty() || label.starts_with('-') || label.ends_with('-') {
            return Err(JidError::NotADomain);
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err(JidError::TooLong(Part::Domainpart));
        }
    }
    Ok(())
}

fn check_raw(part: Part, s: &str) -> Result<(), JidError> {
    match s.len() {
        0 => Err(JidError::Empty(part)),
        n if n > RAW_BYTES_MAX => Err(JidError::TooLong(part)),
        _ => Ok(()),
    }
}

fn check_prepared(part: Part, s: Cow<'_, str>) -> Result<Cow<'_, str>, JidError> {
    match s.len() {
        0 => Err(JidError::Empty(part)),
        n if n > PART_BYTES_MAX => Err(JidError::TooLong(part)),
        _ => Ok(s),
    }
}

fn disallowed(part: Part, character: char) -> JidError {
    match part {
        Part::Password => JidError::PasswordCharacter,
        _ => JidError::Disallowed { part, character },
    }
}

/// Applies the rules until they change nothing (RFC 8264 §7), so that preparing what has been
/// prepared is always the identity.
fn stable<'a>(
    part: Part,
    s: &'a str,
    rules: fn(Part, &str) -> Result<Option<String>, JidError>,
) -> Result<Cow<'a, str>, JidError> {
    let mut current = Cow::Borrowed(s);
    for _ in 0..=REAPPLICATIONS_MAX {
        match rules(part, &current)? {
            Some(changed) => current = Cow::Owned(changed),
            None => return Ok(current),
        }
    }
    Err(JidError::Unstable(part))
}

/// RFC 8265 §3.3.2 and §3.3.3. `None`: nothing changed.
fn username_case_mapped(part: Part, s: &str) -> Result<Option<String>, JidError> {
    let profile = UsernameCaseMapped::new();
    let unexpected = |_| JidError::Unstable(part);
    let mapped = profile.width_mapping_rule(s).map_err(unexpected)?;
    allows(&IdentifierClass::default(), part, &mapped)?;
    let mapped = profile.case_mapping_rule(mapped).map_err(unexpected)?;
    let mapped = profile.normalization_rule(mapped).map_err(unexpected)?;
    let mapped = profile
        .directionality_rule(mapped)
        .map_err(|_| JidError::Direction(part))?;
    Ok((mapped != s).then(|| mapped.into_owned()))
}

/// RFC 8265 §4.2.1 and §4.2.2. `None`: nothing changed.
fn opaque_string(part: Part, s: &str) -> Result<Option<String>, JidError> {
    let profile = OpaqueString::new();
    let unexpected = |_| JidError::Unstable(part);
    allows(&FreeformClass::default(), part, s)?;
    let mapped = profile.additional_mapping_rule(s).map_err(unexpected)?;
    let mapped = profile.normalization_rule(mapped).map_err(unexpected)?;
    Ok((mapped != s).then(|| mapped.into_owned()))
}

/// RFC 7622 §3.2.1 and §3.2.2. `None`: nothing changed.
fn internationalized_domain(part: Part, s: &str) -> Result<Option<String>, JidError> {
    let (mapped, result) =
        Uts46::new().to_unicode(s.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast);
    result.map_err(|_| JidError::NotADomain)?;
    // UTS 46 lets symbols through that IDNA2008 disallows (RFC 5891 §4.2.2). What it has mapped is
    // stable, and of stable code points the IdentifierClass holds those that RFC 5892 §3 calls
    // PVALID, with the same context rules.
    for label in mapped.split('.').filter(|label| !label.is_ascii()) {
        allows(&IdentifierClass::default(), part, label)?;
    }
    Ok((mapped != s).then(|| mapped.into_owned()))
}

/// Whether every code point belongs to the string class (RFC 8264 §4).
pub(super) fn allows(class: &impl StringClass, part: Part, s: &str) -> Result<(), JidError> {
    let mut seen = Seen::default();
    for (index, c) in s.char_indices() {
        let value = match class.get_value_from_char(c) {
            DerivedPropertyValue::Unassigned => newer_code_point(class, c),
            value => value,
        };
        let allowed = match value {
            DerivedPropertyValue::PValid | DerivedPropertyValue::SpecClassPval => true,
            DerivedPropertyValue::ContextJ | DerivedPropertyValue::ContextO => {
                context_allows(s, index, c, &mut seen)
            }
            DerivedPropertyValue::SpecClassDis
            | DerivedPropertyValue::Disallowed
            | DerivedPropertyValue::Unassigned => false,
        };
        if !allowed {
            return Err(disallowed(part, c));
        }
    }
    Ok(())
}

/// The derived property (RFC 8264 §8) of a code point assigned after Unicode 6.3.
///
/// The steps that are missing here (exceptions, backward compatibility, ASCII, join controls, old
/// Hangul jamo, controls) name older code points only.
fn newer_code_point(class: &impl StringClass, c: char) -> DerivedPropertyValue {
    use DerivedPropertyValue::{Disallowed, PValid, Unassigned};
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    if category == GeneralCategory::Unassigned {
        return Unassigned;
    }
    if CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c) {
        return Disallowed;
    }
    // What the class says of an older member of the same group (RFC 8264 §4.2, §4.3): a symbol
    // stands for all that the FreeformClass alone takes.
    let freeform_only = class.get_value_from_char('\u{2665}');
    let mut buffer = [0; 4];
    let text: &str = c.encode_utf8(&mut buffer);
    // The Nickname profile's normalization is NFKC (RFC 8266 §2.1), what HasCompat asks for (§9.17).
    let has_compatibility_form = Nickname::new()
        .normalization_rule(text)
        .map_or(true, |normalized| normalized != text);
    if has_compatibility_form {
        return freeform_only;
    }
    match category {
        GeneralCategory::LowercaseLetter
        | GeneralCategory::UppercaseLetter
        | GeneralCategory::OtherLetter
        | GeneralCategory::DecimalNumber
        | GeneralCategory::ModifierLetter
        | GeneralCategory::NonspacingMark
        | GeneralCategory::SpacingMark => PValid,
        GeneralCategory::TitlecaseLetter
        | GeneralCategory::LetterNumber
        | GeneralCategory::OtherNumber
        | GeneralCategory::EnclosingMark
        | GeneralCategory::SpaceSeparator
        | GeneralCategory::MathSymbol
        | GeneralCategory::CurrencySymbol
        | GeneralCategory::ModifierSymbol
        | GeneralCategory::OtherSymbol
        | GeneralCategory::ConnectorPunctuation
        | GeneralCategory::DashPunctuation
        | GeneralCategory::OpenPunctuation
        | GeneralCategory::ClosePunctuation
        | GeneralCategory::InitialPunctuation
        | GeneralCategory::FinalPunctuation
        | GeneralCategory::OtherPunctuation => freeform_only,
        _ => Disallowed,
    }
}

/// Answers of the rules that look at the whole string, so that each is asked once.
#[derive(Default)]
struct Seen {
    katakana_middle_dot: Option<bool>,
    arabic_indic_digit: Option<bool>,
    extended_arabic_indic_digit: Option<bool>,
}

/// The contextual rules of RFC 5892 Appendix A for `c`, which stands at byte `index` of `s`.
fn context_allows(s: &str, index: usize, c: char, seen: &mut Seen) -> bool {
    let (before, rest) = s.split_at_checked(index).unwrap_or((s, ""));
    let after = rest.strip_prefix(c).unwrap_or("");
    let previous = before.chars().next_back();
    let next = after.chars().next();
    let script = |c: char| CodePointMapData::<Script>::new().get(c);
    match c {
        // A.1: ZERO WIDTH NON-JOINER
        '\u{200c}' => previous.is_some_and(is_virama) || joins(before, after),
        // A.2: ZERO WIDTH JOINER
        '\u{200d}' => previous.is_some_and(is_virama),
        // A.3: MIDDLE DOT
        '\u{b7}' => previous == Some('l') && next == Some('l'),
        // A.4: GREEK LOWER NUMERAL SIGN
        '\u{375}' => next.is_some_and(|c| script(c) == Script::Greek),
        // A.5, A.6: HEBREW PUNCTUATION GERESH and GERSHAYIM
        '\u{5f3}' | '\u{5f4}' => previous.is_some_and(|c| script(c) == Script::Hebrew),
        // A.7: KATAKANA MIDDLE DOT
        '\u{30fb}' => *seen.katakana_middle_dot.get_or_insert_with(|| {
            s.chars()
                .any(|c| matches!(script(c), Script::Hiragana | Script::Katakana | Script::Han))
        }),
        // A.8: ARABIC-INDIC DIGITS
        '\u{660}'..='\u{669}' => *seen
            .arabic_indic_digit
            .get_or_insert_with(|| !s.contains(|c| matches!(c, '\u{6f0}'..='\u{6f9}'))),
        // A.9: EXTENDED ARABIC-INDIC DIGITS
        '\u{6f0}'..='\u{6f9}' => *seen
            .extended_arabic_indic_digit
            .get_or_insert_with(|| !s.contains(|c| matches!(c, '\u{660}'..='\u{669}'))),
        _ => false,
    }
}

fn is_virama(c: char) -> bool {
    CodePointMapData::<CanonicalCombiningClass>::new().get(c) == CanonicalCombiningClass::Virama
}

/// Whether a cursive connection is broken here (RFC 5892 Appendix A.1):
/// `(L|D) T* ZWNJ T* (R|D)`. The runs of T end at the next ZWNJ, so the walk over a string is linear.
fn joins(before: &str, after: &str) -> bool {
    let joining = |c: char| CodePointMapData::<JoiningType>::new().get(c);
    let mut left = before
        .chars()
        .rev()
        .map(joining)
        .skip_while(|t| *t == JoiningType::Transparent);
    let mut right = after
        .chars()
        .map(joining)
        .skip_while(|t| *t == JoiningType::Transparent);
    matches!(
        left.next(),
        Some(JoiningType::LeftJoining | JoiningType::DualJoining)
    ) && matches!(
        right.next(),
        Some(JoiningType::RightJoining | JoiningType::DualJoining)
    )
}
