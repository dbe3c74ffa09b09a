//! What holds of any string that is parsed as an address.

use precis_profiles::precis_core::profile::Profile;
use precis_profiles::precis_core::{
    DerivedPropertyValue, FreeformClass, IdentifierClass, StringClass,
};
use precis_profiles::{OpaqueString, UsernameCaseMapped};
use proptest::prelude::*;

use super::*;

/// Strings in which mappings, contexts and separators are likelier than in any string.
fn tricky() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        4 => "[a-zA-Z0-9.-]{1,4}",
        2 => "[@/.]",
        2 => "[\u{660}-\u{669}\u{6f0}-\u{6f9}\u{b7}l\u{375}\u{5d0}-\u{5f4}\u{30a1}-\u{30fb}\u{200c}\u{200d}]{1,3}",
        2 => "[\u{300}-\u{36f}\u{1100}-\u{11ff}\u{ff01}-\u{ff9f}\u{1e00}-\u{1fff}]{1,3}",
        1 => "[\u{2000}-\u{20ff}\u{2126}-\u{212b}\u{a0}\u{3000}\u{df}\u{130}\u{131}\u{3c2}]{1,2}",
        1 => "xn--[a-z0-9-]{0,5}",
        1 => "\\PC",
        1 => any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(pieces, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn parsing_what_was_parsed_changes_nothing(input in tricky()) {
        if let Ok(jid) = Jid::parse(&input) {
            let again = Jid::parse(jid.as_str());
            prop_assert_eq!(again.as_ref(), Ok(&jid));
            let again = again.unwrap();
            prop_assert_eq!(
                (again.local(), again.domain(), again.resource()),
                (jid.local(), jid.domain(), jid.resource())
            );
            prop_assert_eq!(Domain::parse(jid.domain()).unwrap(), jid.to_domain());
            // The A-labels lead back to the domain, so that certificates can be compared with it.
            let ascii = jid.to_domain().to_ascii();
            prop_assert_eq!(Domain::parse(&ascii).unwrap(), jid.to_domain());
        }
    }

    #[test]
    fn parts_prepared_twice_change_no_more(input in tricky()) {
        for prepare in [prepare_localpart, prepare_resource, prepare_password] {
            if let Ok(once) = prepare(&input) {
                prop_assert_eq!(prepare(&once), Ok(once));
            }
        }
    }

    #[test]
    fn no_text_panics(input in ".*") {
        prop_assert!(Jid::parse(&input).map_or(true, |jid| jid.as_str().len() <= 3 * 1023 + 2));
    }

    /// The walk over the table and the profiles say the same of ASCII.
    #[test]
    fn the_fast_path_agrees_with_the_profiles(input in "[ -~]{1,12}") {
        let profile = UsernameCaseMapped::new().enforce(input.as_str());
        let expected = profile.ok().filter(|s| !s.contains(['"', '&', '\'', '/', ':', '<', '>', '@']));
        let prepared = prepare_localpart(&input).ok();
        prop_assert_eq!(prepared.as_deref(), expected.as_deref());
        let expected = OpaqueString::new().enforce(input.as_str()).ok();
        let prepared = prepare_resource(&input).ok();
        prop_assert_eq!(prepared.as_deref(), expected.as_deref());
    }

    /// A domain in lower case takes the fast path; the same in upper case does not.
    #[test]
    fn the_fast_path_agrees_with_idna(input in "[a-z][a-z0-9.-]{0,12}") {
        let slow = Domain::parse(&input.to_uppercase());
        match (Domain::parse(&input), slow) {
            (Ok(fast), Ok(slow)) => prop_assert_eq!(fast, slow),
            (Err(_), Err(_)) => {}
            (fast, slow) => prop_assert!(false, "{:?} but {:?}", fast, slow),
        }
    }

    /// Where `precis-core` knows a string's code points, our string classes say what its classes say.
    #[test]
    fn string_classes_agree_with_precis_core(input in tricky()) {
        let known = |class: &dyn Fn(char) -> DerivedPropertyValue| {
            input.chars().all(|c| class(c) != DerivedPropertyValue::Unassigned)
        };
        let freeform = FreeformClass::default();
        if !input.is_empty() && known(&|c| freeform.get_value_from_char(c)) {
            let theirs = freeform.allows(&input).is_ok();
            prop_assert_eq!(prep::allows(&freeform, Part::Resourcepart, &input).is_ok(), theirs);
            let identifier = IdentifierClass::default();
            let theirs = identifier.allows(&input).is_ok();
            prop_assert_eq!(prep::allows(&identifier, Part::Localpart, &input).is_ok(), theirs);
        }
    }
}
