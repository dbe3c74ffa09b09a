//! Addresses against the tables of RFC 7622 §3.5 and the rules behind them.

use std::collections::{BTreeMap, HashMap};

use super::*;

type Parts = (Option<&'static str>, &'static str, Option<&'static str>);

/// RFC 7622 §3.5, table 1: input, and what it is prepared to.
const LEGAL: [(&str, Parts); 15] = [
    ("juliet@example.com", (Some("juliet"), "example.com", None)),
    (
        "juliet@example.com/foo",
        (Some("juliet"), "example.com", Some("foo")),
    ),
    (
        "juliet@example.com/foo bar",
        (Some("juliet"), "example.com", Some("foo bar")),
    ),
    (
        "juliet@example.com/foo@bar",
        (Some("juliet"), "example.com", Some("foo@bar")),
    ),
    (
        "foo\\20bar@example.com",
        (Some("foo\\20bar"), "example.com", None),
    ),
    (
        "fussball@example.com",
        (Some("fussball"), "example.com", None),
    ),
    (
        "fu\u{df}ball@example.com",
        (Some("fu\u{df}ball"), "example.com", None),
    ),
    (
        "\u{3c0}@example.com",
        (Some("\u{3c0}"), "example.com", None),
    ),
    (
        "\u{3a3}@example.com/foo",
        (Some("\u{3c3}"), "example.com", Some("foo")),
    ),
    (
        "\u{3c3}@example.com/foo",
        (Some("\u{3c3}"), "example.com", Some("foo")),
    ),
    (
        "\u{3c2}@example.com/foo",
        (Some("\u{3c2}"), "example.com", Some("foo")),
    ),
    (
        "king@example.com/\u{265a}",
        (Some("king"), "example.com", Some("\u{265a}")),
    ),
    ("example.com", (None, "example.com", None)),
    ("example.com/foobar", (None, "example.com", Some("foobar"))),
    (
        "a.example.com/b@example.net",
        (None, "a.example.com", Some("b@example.net")),
    ),
];

/// What peers send beside the RFC's examples.
const ALSO_LEGAL: [(&str, Parts); 20] = [
    (
        "JuliET@Example.COM/Balcony",
        (Some("juliet"), "example.com", Some("Balcony")),
    ),
    (
        "juliet@example.com./x",
        (Some("juliet"), "example.com", Some("x")),
    ),
    ("example.com/a/b", (None, "example.com", Some("a/b"))),
    ("example.com/ ", (None, "example.com", Some(" "))),
    ("localhost", (None, "localhost", None)),
    ("127.0.0.1/x", (None, "127.0.0.1", Some("x"))),
    ("a@[::1]", (Some("a"), "[::1]", None)),
    (
        "a@[2001:DB8:0::1]/x",
        (Some("a"), "[2001:db8::1]", Some("x")),
    ),
    ("xn--bcher-kva.example", (None, "b\u{fc}cher.example", None)),
    ("XN--BCHER-KVA.example", (None, "b\u{fc}cher.example", None)),
    ("B\u{dc}CHER.example", (None, "b\u{fc}cher.example", None)),
    ("bu\u{308}cher.example", (None, "b\u{fc}cher.example", None)),
    (
        "b\u{fc}cher\u{3002}example\u{3002}",
        (None, "b\u{fc}cher.example", None),
    ),
    ("stra\u{df}e.example", (None, "stra\u{df}e.example", None)),
    (
        "\u{ff2a}\u{ff55}l@example.com",
        (Some("jul"), "example.com", None),
    ),
    (
        "cafe\u{301}@example.com",
        (Some("caf\u{e9}"), "example.com", None),
    ),
    (
        "\u{5d0}\u{5d1}@example.com",
        (Some("\u{5d0}\u{5d1}"), "example.com", None),
    ),
    // OpaqueString: other spaces become U+0020, the rest is normalized and keeps its case.
    (
        "example.com/A\u{a0}b\u{3000}E\u{301}",
        (None, "example.com", Some("A b \u{c9}")),
    ),
    // Assigned after Unicode 6.3: U+1F917, U+1F970 and a Georgian capital (U+1C90, Unicode 11).
    (
        "example.com/\u{1f917}\u{1f970}",
        (None, "example.com", Some("\u{1f917}\u{1f970}")),
    ),
    (
        "\u{1c90}@example.com",
        (Some("\u{10d0}"), "example.com", None),
    ),
];

#[test]
fn legal_addresses_are_prepared() {
    for (input, (local, domain, resource)) in LEGAL.iter().chain(&ALSO_LEGAL) {
        let jid = Jid::parse(input).unwrap_or_else(|e| panic!("{input:?}: {e}"));
        assert_eq!(
            (jid.local(), jid.domain(), jid.resource()),
            (*local, *domain, *resource)
        );
        let bare = local.map_or(domain.to_string(), |local| format!("{local}@{domain}"));
        let whole = resource.map_or(bare.clone(), |resource| format!("{bare}/{resource}"));
        assert_eq!(jid.as_str(), whole);
        assert_eq!(jid.bare_str(), bare);
        assert_eq!(jid.bare().as_str(), bare);
        assert_eq!(jid.is_full(), resource.is_some());
        assert_eq!(jid.is_domain(), local.is_none() && resource.is_none());
        assert_eq!(
            jid.full().map(|full| full.to_string()),
            resource.map(|_| whole.clone())
        );
        assert_eq!(BareJid::parse(input).is_ok(), resource.is_none());
        assert_eq!(FullJid::parse(input).is_ok(), resource.is_some());
    }
}

#[test]
fn illegal_addresses_are_refused() {
    use Part::{Domainpart, Localpart, Resourcepart};
    let disallowed = |part, character| JidError::Disallowed { part, character };
    let table = [
        // RFC 7622 §3.5, table 2, but for its example 18: see `prepare_resource`.
        ("\"juliet\"@example.com", disallowed(Localpart, '"')),
        ("foo bar@example.com", disallowed(Localpart, ' ')),
        ("@example.com/", JidError::Empty(Localpart)),
        (
            "henry\u{2163}@example.com",
            disallowed(Localpart, '\u{2163}'),
        ),
        ("\u{265a}@example.com", disallowed(Localpart, '\u{265a}')),
        ("juliet@", JidError::Empty(Domainpart)),
        ("/foobar", JidError::Empty(Domainpart)),
        // Others.
        ("", JidError::Empty(Domainpart)),
        (".", JidError::Empty(Domainpart)),
        ("@", JidError::Empty(Localpart)),
        ("@example.com", JidError::Empty(Localpart)),
        ("example.com/", JidError::Empty(Resourcepart)),
        ("a@b@example.com", JidError::NotADomain),
        ("a:b@example.com", disallowed(Localpart, ':')),
        ("a&b@example.com", disallowed(Localpart, '&')),
        ("a'b@example.com", disallowed(Localpart, '\'')),
        ("a<b@example.com", disallowed(Localpart, '<')),
        ("a>b@example.com", disallowed(Localpart, '>')),
        // Width mapping makes them '@' and '/'.
        ("a\u{ff20}b@example.com", disallowed(Localpart, '@')),
        ("a\u{ff0f}b@example.com", disallowed(Localpart, '/')),
        ("a\u{ff0f}b.example", JidError::NotADomain),
        ("a\0@example.com", disallowed(Localpart, '\0')),
        ("example.com/a\u{7f}", disallowed(Resourcepart, '\u{7f}')),
        ("example.com/a\n", disallowed(Resourcepart, '\n')),
        ("example.com/\u{ad}", disallowed(Resourcepart, '\u{ad}')),
        ("example.com/\u{e000}", disallowed(Resourcepart, '\u{e000}')),
        ("example.com/\u{ffff}", disallowed(Resourcepart, '\u{ffff}')),
        ("\u{1f970}@example.com", disallowed(Localpart, '\u{1f970}')),
        // Assigned after Unicode 6.3: with a compatibility form, and to be ignored.
        ("\u{a7f2}@example.com", disallowed(Localpart, '\u{a7f2}')),
        (
            "example.com/a\u{180f}",
            disallowed(Resourcepart, '\u{180f}'),
        ),
        ("\u{5d0}a@example.com", JidError::Direction(Localpart)),
        ("exa mple.com", JidError::NotADomain),
        ("example..com", JidError::NotADomain),
        (".example.com", JidError::NotADomain),
        ("example.com..", JidError::NotADomain),
        ("-a.example", JidError::NotADomain),
        ("a-.example", JidError::NotADomain),
        ("a_b.example", JidError::NotADomain),
        ("a%b.example", JidError::NotADomain),
        ("example.com:5222", JidError::NotADomain),
        ("xn--.example", JidError::NotADomain),
        ("xn--a.example", JidError::NotADomain),
        ("xn--example-.example", JidError::NotADomain),
        ("\u{2615}.example", disallowed(Domainpart, '\u{2615}')),
        ("[::1", JidError::NotAnAddress),
        ("[]", JidError::NotAnAddress),
        ("[::1]x", JidError::NotAnAddress),
        ("[127.0.0.1]", JidError::NotAnAddress),
        ("[fe80::1%25eth0]", JidError::NotAnAddress),
        ("[v1.x]", JidError::NotAnAddress),
        ("::1", JidError::NotADomain),
    ];
    for (input, error) in table {
        assert_eq!(Jid::parse(input).err(), Some(error), "{input:?}");
    }
}

/// RFC 7622 §3.2 to §3.4, RFC 1035 §2.3.4.
#[test]
fn the_lengths_of_parts_are_bounded() {
    use Part::{Domainpart, Localpart, Password, Resourcepart};
    let a = |n: usize| "a".repeat(n);
    assert_eq!(prepare_localpart(&a(1023)).map(|s| s.len()), Ok(1023));
    assert_eq!(
        prepare_localpart(&a(1024)),
        Err(JidError::TooLong(Localpart))
    );
    assert_eq!(prepare_resource(&a(1023)).map(|s| s.len()), Ok(1023));
    assert_eq!(
        prepare_resource(&a(1024)),
        Err(JidError::TooLong(Resourcepart))
    );
    assert_eq!(prepare_password(&a(1023)).map(|s| s.len()), Ok(1023));
    assert_eq!(prepare_password(&a(1024)), Err(JidError::TooLong(Password)));
    // Octets, after mapping: what shrinks may be longer before.
    assert_eq!(
        prepare_localpart(&"\u{e9}".repeat(511)).map(|s| s.len()),
        Ok(1022)
    );
    assert_eq!(
        prepare_localpart(&"\u{e9}".repeat(512)),
        Err(JidError::TooLong(Localpart))
    );
    assert_eq!(
        prepare_localpart(&"\u{ff41}".repeat(1023)).map(|s| s.len()),
        Ok(1023)
    );
    assert_eq!(
        prepare_localpart(&"\u{ff41}".repeat(1024)),
        Err(JidError::TooLong(Localpart))
    );
    let label = a(63);
    let domain = format!("{label}.{label}.{label}.{}", a(61));
    assert_eq!(Domain::parse(&domain).unwrap().as_str().len(), 253);
    assert_eq!(
        Domain::parse(&format!("{domain}a")),
        Err(JidError::TooLong(Domainpart))
    );
    assert_eq!(Domain::parse(&a(64)), Err(JidError::TooLong(Domainpart)));
    // UTS 46 drops soft hyphens, but not any number of them.
    let hyphens = |n: usize| format!("a{}.example", "\u{ad}".repeat(n));
    assert_eq!(Domain::parse(&hyphens(100)).unwrap(), "a.example");
    assert_eq!(
        Domain::parse(&hyphens(1600)),
        Err(JidError::TooLong(Domainpart))
    );
    // It is the A-label that counts.
    assert!(Domain::parse(&"\u{e9}".repeat(31)).is_ok());
    let long = "\u{e9}\u{4e00}".repeat(30);
    assert_eq!(Domain::parse(&long), Err(JidError::TooLong(Domainpart)));
    let full = format!("{}@{domain}/{}", a(1023), a(1023));
    assert_eq!(Jid::parse(&full).unwrap().as_str(), full);
}

/// RFC 8265 §4.3, tables 3 and 4.
#[test]
fn passwords_are_opaque_strings() {
    let legal = [
        (
            "correct horse battery staple",
            "correct horse battery staple",
        ),
        (
            "Correct Horse Battery Staple",
            "Correct Horse Battery Staple",
        ),
        ("\u{3c0}\u{df}\u{e5}", "\u{3c0}\u{df}\u{e5}"),
        ("Jack of \u{2666}s", "Jack of \u{2666}s"),
        ("foo\u{1680}bar", "foo bar"),
        ("a\u{30a}", "\u{e5}"),
        ("\u{1f970}", "\u{1f970}"),
    ];
    for (input, prepared) in legal {
        assert_eq!(prepare_password(input).as_deref(), Ok(prepared));
    }
    assert_eq!(prepare_password(""), Err(JidError::Empty(Part::Password)));
    assert_eq!(
        prepare_password("my cat is a \tby"),
        Err(JidError::PasswordCharacter)
    );
    // Nothing that a log could show tells a character.
    let error = prepare_password("se\u{7}cret").unwrap_err();
    assert!(!format!("{error}{error:?}").contains("U+0007"));
}

/// RFC 5892 Appendix A: each rule, kept and broken.
#[test]
fn contextual_rules_hold() {
    let table = [
        ("\u{915}\u{94d}\u{200c}\u{937}", true),
        ("\u{628}\u{200c}\u{628}", true),
        ("\u{628}\u{64b}\u{200c}\u{64b}\u{628}", true),
        ("a\u{200c}b", false),
        ("\u{200c}", false),
        ("\u{628}\u{200c}", false),
        ("\u{915}\u{94d}\u{200d}", true),
        ("a\u{200d}b", false),
        ("\u{200d}", false),
        ("l\u{b7}l", true),
        ("l\u{b7}a", false),
        ("\u{b7}l", false),
        ("\u{375}\u{3b1}", true),
        ("\u{375}a", false),
        ("\u{375}", false),
        ("\u{5d0}\u{5f3}", true),
        ("a\u{5f3}", false),
        ("\u{5f4}", false),
        ("\u{30ab}\u{30fb}", true),
        ("\u{30fb}\u{4e00}", true),
        ("a\u{30fb}", false),
        ("\u{660}\u{669}", true),
        ("\u{660}\u{6f0}", false),
        ("\u{6f0}\u{6f9}", true),
        ("\u{6f9}a\u{660}", false),
    ];
    for (input, allowed) in table {
        assert_eq!(prepare_resource(input).is_ok(), allowed, "{input:?}");
    }
}

/// A resourcepart of characters with context rules stays cheap; the rules are asked in one walk.
#[test]
fn long_strings_of_contextual_characters_are_prepared() {
    assert!(prepare_resource(&format!("\u{4e00}{}", "\u{30fb}".repeat(340))).is_ok());
    assert!(prepare_resource(&"\u{660}".repeat(511)).is_ok());
}

#[test]
fn domains_have_a_form_in_ascii() {
    let ascii = |s: &str| Domain::parse(s).unwrap().to_ascii();
    assert_eq!(ascii("example.org"), "example.org");
    assert_eq!(ascii("B\u{fc}cher.example"), "xn--bcher-kva.example");
    assert_eq!(ascii("xn--bcher-kva.example"), "xn--bcher-kva.example");
    assert_eq!(ascii("[::1]"), "[::1]");
    assert_eq!(ascii("127.0.0.1"), "127.0.0.1");
}

#[test]
fn derived_addresses_share_the_text() {
    let full = FullJid::parse("juliet@example.org/Balcony").unwrap();
    let shared = |text: &Text| text.shared.as_ptr();
    assert_eq!(shared(&full.bare().0), shared(&full.0));
    assert_eq!(shared(&full.to_jid().0), shared(&full.0));
    assert_eq!(shared(&full.bare().to_jid().0), shared(&full.0));
    let bare = full.bare().to_jid();
    assert_eq!((bare.resource(), bare.is_full()), (None, false));
    assert_eq!(size_of::<Jid>(), 24);
}

#[test]
fn maps_keyed_by_addresses_are_asked_with_text() {
    let bare = FullJid::parse("juliet@example.org/Balcony").unwrap().bare();
    let hashed = HashMap::from([(bare.clone(), 1)]);
    assert_eq!(hashed.get("juliet@example.org"), Some(&1));
    let ordered = BTreeMap::from([(bare, 1)]);
    assert_eq!(ordered.get("juliet@example.org"), Some(&1));
    let domains = HashMap::from([(Domain::parse("example.org").unwrap(), 1)]);
    assert_eq!(domains.get("example.org"), Some(&1));
}

#[test]
fn addresses_are_made_of_parts() {
    let domain = Domain::parse("Example.org").unwrap();
    let bare = BareJid::new(Some("Juliet"), &domain).unwrap();
    assert_eq!(bare, "juliet@example.org");
    assert_eq!(BareJid::new(None, &domain).unwrap(), "example.org");
    assert_eq!(domain.to_bare(), "example.org");
    assert!(domain.to_jid().is_domain());
    assert_eq!(bare.to_domain(), domain);
    assert_eq!(
        BareJid::new(Some(""), &domain),
        Err(JidError::Empty(Part::Localpart))
    );
    let full = bare.with_resource("A\u{a0}b").unwrap();
    assert_eq!(full, "juliet@example.org/A b");
    assert_eq!(full.resource(), "A b");
    assert_eq!(full.bare(), bare);
    assert_eq!(Jid::from(full.clone()), full.to_jid());
    assert!(bare.with_resource("").is_err());
    assert_eq!(
        domain.to_bare().with_resource("x").unwrap(),
        "example.org/x"
    );
}

#[test]
fn errors_say_what_is_wrong() {
    let said = |s: &str| Jid::parse(s).unwrap_err().to_string();
    assert_eq!(
        said("foo bar@example.com"),
        "the localpart (before the \"@\") has a character that is not allowed there: ' ' (U+0020)"
    );
    assert!(said("exa mple.org").contains("one is like \"example.org\""));
}
