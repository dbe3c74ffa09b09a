use super::super::now_unix_seconds;
use super::super::testing::{Issued, Wish};
use super::*;
use openssl::hash::MessageDigest;
use proptest::prelude::*;

const DAY: i64 = 86_400;
const DIALLED: PeerRole = PeerRole::ReceivingEntity;
const ACCEPTED: PeerRole = PeerRole::InitiatingEntity;

/// A trusted root, an intermediate authority below it, and a root that nobody trusts.
struct World {
    root: Issued,
    middle: Issued,
    stranger: Issued,
    trusted: Authorities,
}

fn authority(name: &str) -> Wish {
    Issued::new().authority().common_name(name)
}

fn world() -> World {
    let root = authority("root").build();
    let middle = authority("middle").valid(-DAY, 300 * DAY).issue(&root);
    World {
        trusted: Authorities::of(vec![root.certificate.clone()]).unwrap(),
        middle,
        stranger: authority("stranger").build(),
        root,
    }
}

fn server() -> Wish {
    Issued::new().dns("example.org").server()
}

fn der(chain: &[&Issued]) -> Vec<Vec<u8>> {
    let each = chain.iter().map(|c| c.certificate.to_der().unwrap());
    each.collect()
}

fn shown(chain: &[&Issued]) -> ShownChain {
    ShownChain::parse(&der(chain)).unwrap()
}

fn reference(domain: &str) -> Reference<'_> {
    Reference {
        domain,
        secure_targets: &[],
    }
}

fn judge(world: &World, chain: &[&Issued], role: PeerRole, domain: &str) -> Judgement {
    let now = now_unix_seconds();
    let shown = shown(chain);
    let judgement = shown.judge(&world.trusted, role, reference(domain), now);
    assert!(ErrorStack::get().errors().is_empty());
    judgement.unwrap()
}

/// "0 expired", sorted.
fn words(faults: &[Fault]) -> Vec<String> {
    let word = |kind: &FaultKind| match kind {
        FaultKind::BadSignature => "signature",
        FaultKind::CriticalExtension => "extension",
        FaultKind::Expired(_) => "expired",
        FaultKind::KeyTooLarge => "large key",
        FaultKind::Malformed => "malformed",
        FaultKind::NameConstraint => "constraint",
        FaultKind::NotAnAuthority => "no authority",
        FaultKind::NotYetValid(_) => "early",
        FaultKind::Other(words) => words,
        FaultKind::SelfSigned => "self-signed",
        FaultKind::TooLong => "long",
        FaultKind::UnknownIssuer(_) => "unknown issuer",
        FaultKind::UntrustedRoot => "untrusted root",
        FaultKind::WeakDigest => "weak digest",
        FaultKind::WeakKey => "weak key",
        FaultKind::WrongPurpose => "purpose",
    };
    let mut words: Vec<_> = faults
        .iter()
        .map(|fault| format!("{} {}", fault.depth, word(&fault.kind)))
        .collect();
    words.sort();
    words
}

// RFC 6120 §13.7.2, RFC 5280 §6.
#[test]
fn each_state_of_a_chain_is_told_with_all_its_faults() {
    let world = world();
    let World {
        root,
        middle,
        stranger,
        ..
    } = &world;
    let by_root = |wish: Wish| wish.issue(root);
    let valid = by_root(server());
    let below = server().issue(middle);
    let foreign = server().issue(stranger);
    let old = authority("old").valid(-9 * DAY, -DAY).issue(root);
    let weak = authority("weak").rsa(1024).issue(root);
    let below_weak = server().issue(&weak);
    let below_old = server().issue(&old);
    let no_authority = by_root(server().common_name("leaf"));
    let below_leaf = server().common_name("below").issue(&no_authority);
    let liar = authority("root").build();
    let forged = server().issue(&liar);
    let net = authority("net").permitting("example.net").issue(root);
    let beyond = server().issue(&net);
    let many = Issued::new()
        .dns("example.org")
        .client()
        .rsa(1024)
        .valid(-9 * DAY, -DAY)
        .issue(&old);
    let sha1 = MessageDigest::sha1;
    let table: Vec<(&str, Vec<&Issued>, &[&str])> = vec![
        ("valid", vec![&valid], &[]),
        ("with its root", vec![&valid, root], &[]),
        ("with an intermediate", vec![&below, middle], &[]),
        (
            "with a superfluous one",
            vec![&below, stranger, middle],
            &[],
        ),
        ("without it", vec![&below], &["0 unknown issuer"]),
        ("unknown authority", vec![&foreign], &["0 unknown issuer"]),
        (
            "unknown root",
            vec![&foreign, stranger],
            &["1 untrusted root"],
        ),
        ("old intermediate", vec![&below_old, &old], &["1 expired"]),
        (
            "weak intermediate",
            vec![&below_weak, &weak],
            &["1 weak key"],
        ),
        (
            "below a leaf",
            vec![&below_leaf, &no_authority],
            &["1 no authority"],
        ),
        ("forged", vec![&forged], &["0 signature"]),
        ("beyond constraints", vec![&beyond, &net], &["0 constraint"]),
        (
            "many faults",
            vec![&many, &old],
            &["0 expired", "0 purpose", "0 weak key", "1 expired"],
        ),
    ];
    for (name, chain, faults) in table {
        let judgement = judge(&world, &chain, DIALLED, "example.org");
        assert_eq!(words(&judgement.faults), faults, "{name}");
        assert_eq!(judgement.is_proven(), faults.is_empty(), "{name}");
    }
    for (wish, fault) in [
        (server().valid(-9 * DAY, -DAY), "0 expired"),
        (server().valid(DAY, 9 * DAY), "0 early"),
        (server().rsa(1024), "0 weak key"),
        (server().digest(sha1()), "0 weak digest"),
    ] {
        let judgement = judge(&world, &[&by_root(wish)], DIALLED, "example.org");
        assert_eq!(words(&judgement.faults), [fault]);
    }
    let own = judge(&world, &[&server().build()], DIALLED, "example.org");
    assert_eq!(words(&own.faults), ["0 self-signed"]);
}

// Issue 6: "A certificate with the serverAuth purpose alone is accepted in both directions".
#[test]
fn a_purpose_for_servers_or_none_is_taken_both_ways_and_one_for_clients_from_who_dials() {
    let world = world();
    let plain = || Issued::new().dns("example.org");
    for (wish, dialled, accepted) in [
        (plain(), true, true),
        (plain().server(), true, true),
        (plain().server().client(), true, true),
        (plain().client(), false, true),
    ] {
        let issued = wish.issue(&world.root);
        for (role, proven) in [(DIALLED, dialled), (ACCEPTED, accepted)] {
            let judgement = judge(&world, &[&issued], role, "example.org");
            assert_eq!(judgement.is_proven(), proven, "{role:?} {judgement:?}");
            let faults: &[&str] = if proven { &[] } else { &["0 purpose"] };
            assert_eq!(words(&judgement.faults), faults);
        }
    }
}

// RFC 6120 §13.7.1.2, RFC 9525 §6.
#[test]
fn names_of_each_kind_are_matched_and_the_common_name_is_not() {
    let world = world();
    let plain = Issued::new;
    let dns = |name: &str| Some(Identifier::DnsId(name.to_owned()));
    let srv = |name: &str| Some(Identifier::SrvId(name.to_owned()));
    let xmpp = |name: &str| Some(Identifier::XmppAddr(name.to_owned()));
    let wild = "*.example.org";
    let wild_srv = "_xmpp-server.*.example.org";
    let ascii = "xn--bcher-kva.example";
    for (wish, domain, matched) in [
        (
            plain().dns("example.org"),
            "example.org",
            dns("example.org"),
        ),
        (
            plain().dns("EXAMPLE.org"),
            "example.org",
            dns("EXAMPLE.org"),
        ),
        (plain().dns("example.com"), "example.org", None),
        (plain().dns(wild), "chat.example.org", dns(wild)),
        (plain().dns(wild), "example.org", None),
        (plain().dns(wild), "a.chat.example.org", None),
        (plain().dns("ch*.example.org"), "chat.example.org", None),
        (plain().dns("chat.*.org"), "chat.example.org", None),
        (
            plain().srv("_xmpp-server.example.org"),
            "example.org",
            srv("_xmpp-server.example.org"),
        ),
        (plain().srv(wild_srv), "chat.example.org", srv(wild_srv)),
        (plain().srv("_xmpp-client.example.org"), "example.org", None),
        (plain().srv("_imap.example.org"), "example.org", None),
        (
            plain().xmpp("example.org"),
            "example.org",
            xmpp("example.org"),
        ),
        (plain().xmpp("juliet@example.org"), "example.org", None),
        (plain().xmpp("example.org/x"), "example.org", None),
        (plain().xmpp(wild), "chat.example.org", None),
        (plain().common_name("example.org"), "example.org", None),
        (
            plain().common_name("example.org").dns("x.org"),
            "example.org",
            None,
        ),
        (plain().dns(ascii), ascii, dns(ascii)),
        (
            plain().xmpp("bücher.example"),
            ascii,
            xmpp("bücher.example"),
        ),
        (
            plain().xmpp("Bücher.Example"),
            ascii,
            xmpp("Bücher.Example"),
        ),
        (plain().xmpp(ascii), ascii, xmpp(ascii)),
        (plain().dns("192.0.2.1"), "192.0.2.1", None),
    ] {
        let judgement = judge(&world, &[&wish.issue(&world.root)], DIALLED, domain);
        assert_eq!(judgement.matched, matched, "{domain}");
        assert!(judgement.faults.is_empty(), "{domain} {judgement:?}");
    }
}

#[test]
fn a_certificate_tells_all_its_names() {
    let wish = server()
        .srv("_xmpp-server.example.net")
        .xmpp("a\u{1b}[31m\n");
    let issued = wish.build();
    let names = shown(&[&issued]).identifiers();
    let names: Vec<_> = names.iter().map(Identifier::to_string).collect();
    assert_eq!(
        names,
        [
            "DNS-ID example.org",
            "SRV-ID _xmpp-server.example.net",
            "XmppAddr a\\u{1b}[31m\\n"
        ]
    );
}

// RFC 7673 §4.1.
#[test]
fn the_target_of_a_secure_srv_record_counts_as_a_dns_id_alone() {
    let world = world();
    let now = now_unix_seconds();
    let reference = Reference {
        domain: "example.org",
        secure_targets: &["x.example.net"],
    };
    let plain = Issued::new;
    for (wish, proven) in [
        (plain().dns("x.example.net"), true),
        (plain().dns("example.org"), true),
        (plain().xmpp("x.example.net"), false),
        (plain().srv("_xmpp-server.x.example.net"), false),
    ] {
        let shown = shown(&[&wish.issue(&world.root)]);
        let judgement = shown.judge(&world.trusted, DIALLED, reference, now);
        assert_eq!(judgement.unwrap().is_proven(), proven);
    }
}

// RFC 5280 §4.2.1.10: constraints on dNSNames say nothing of other forms.
#[test]
fn below_an_authority_with_constraints_other_names_than_dns_ids_prove_nothing() {
    let world = world();
    let net = authority("net")
        .permitting("example.net")
        .issue(&world.root);
    for wish in [
        Issued::new().dns("a.example.net").xmpp("example.org"),
        Issued::new()
            .dns("a.example.net")
            .srv("_xmpp-server.example.org"),
    ] {
        let issued = wish.issue(&net);
        let judgement = judge(&world, &[&issued, &net], DIALLED, "example.org");
        assert_eq!(judgement.matched, None);
        assert!(judgement.faults.is_empty());
        assert!(judge(&world, &[&issued, &net], DIALLED, "a.example.net").is_proven());
    }
}

#[test]
fn faults_say_which_certificate_has_them_and_since_when() {
    let world = world();
    let old = authority("old").valid(-9 * DAY, -DAY).issue(&world.root);
    let leaf = server().common_name("a\u{1b}\n").issue(&old);
    let judgement = judge(&world, &[&leaf, &old], DIALLED, "example.org");
    let [fault] = &judgement.faults[..] else {
        panic!("{judgement:?}");
    };
    let ended = unix_seconds_of(&old);
    assert_eq!(fault.kind, FaultKind::Expired(ended));
    assert_eq!(judgement.ends, ended);
    let day = jiff::Timestamp::from_second(ended).unwrap();
    let day = day.strftime("%Y-%m-%d");
    let text = fault.to_string();
    assert_eq!(
        text,
        format!("certificate 1 of the chain (CN=old) has expired on {day}")
    );
    let alone = judge(&world, &[&leaf], DIALLED, "example.org");
    assert_eq!(
        alone.faults[0].to_string(),
        "the certificate (CN=a\\u{1b}\\n) is issued by CN=old, which is neither shown nor trusted"
    );
}

fn unix_seconds_of(issued: &Issued) -> i64 {
    super::super::unix_seconds(issued.certificate.not_after()).unwrap()
}

// RFC 6120 §13.7.2.3.
#[test]
fn a_chain_ends_with_the_first_of_its_certificates() {
    let world = world();
    let leaf = server().issue(&world.middle);
    let judgement = judge(&world, &[&leaf, &world.middle], DIALLED, "example.org");
    assert!(judgement.is_proven());
    assert_eq!(judgement.ends, unix_seconds_of(&world.middle));
    assert!(judgement.ends < unix_seconds_of(&leaf));
}

#[test]
fn the_moment_that_is_passed_in_decides_on_dates() {
    let world = world();
    let issued = server().valid(-2 * DAY, DAY).issue(&world.root);
    let shown = shown(&[&issued]);
    let at = |now: i64| {
        let judgement = shown.judge(&world.trusted, DIALLED, reference("example.org"), now);
        words(&judgement.unwrap().faults)
    };
    let (begins, ends) = (now_unix_seconds() - 3600, unix_seconds_of(&issued));
    assert_eq!(at(begins), [""; 0]);
    assert_eq!(at(ends - 1), [""; 0]);
    assert_eq!(at(ends + 1), ["0 expired"]);
}

#[test]
fn a_pinned_file_trusts_an_intermediate_authority_or_one_certificate() {
    let world = world();
    let own = server().build();
    let below = server().issue(&world.middle);
    let now = now_unix_seconds();
    for (anchor, leaf) in [(&world.middle, &below), (&own, &own), (&below, &below)] {
        let pinned = Authorities::of(vec![anchor.certificate.clone()]).unwrap();
        let proven = |domain| {
            let judgement = shown(&[leaf]).judge(&pinned, DIALLED, reference(domain), now);
            judgement.unwrap().is_proven()
        };
        assert!(proven("example.org"));
        assert!(!proven("example.com"));
        let other = server().issue(&world.root);
        let judgement = shown(&[&other]).judge(&pinned, DIALLED, reference("example.org"), now);
        assert!(!judgement.unwrap().is_proven());
    }
}

#[test]
fn a_pin_is_of_the_key_and_outlives_a_renewal() {
    let issued = server().valid(-9 * DAY, -DAY).build();
    let renewed = Issued::new().key_of(&issued).build();
    let pin = shown(&[&issued]).pin().unwrap();
    let key = issued.key.public_key_to_der().unwrap();
    assert_eq!(pin, Pin(sha256(&key)));
    assert!(shown(&[&renewed]).is_pinned(&[pin]));
    assert!(!shown(&[&server().build()]).is_pinned(&[pin]));
    // An issuer's key is not the peer's.
    assert!(!shown(&[&server().build(), &issued]).is_pinned(&[pin]));
    assert_ne!(
        shown(&[&issued]).fingerprint(),
        shown(&[&renewed]).fingerprint()
    );
}

#[test]
fn pins_are_read_in_hexadecimal_and_base64() {
    let pin = Pin(sha256(b"key"));
    let text = pin.to_string();
    assert_eq!(text.len(), "sha256:".len() + 64);
    let digits = text.strip_prefix("sha256:").unwrap();
    let pairs: Vec<_> = (0..32).map(|at| &digits[2 * at..2 * at + 2]).collect();
    for text in [
        text.clone(),
        format!("sha256:{}", digits.to_uppercase()),
        format!("sha256:{}", pairs.join(":")),
        format!("sha256:{}", STANDARD.encode(pin.0)),
    ] {
        assert_eq!(text.parse(), Ok(pin), "{text}");
    }
    for text in [
        "",
        "sha256:",
        digits,
        &format!("sha1:{digits}"),
        &format!("sha256:{}", &digits[1..]),
        &format!("sha256:{}g", &digits[1..]),
        &format!("sha256:é{}", &digits[2..]),
        &format!("sha256:{}", STANDARD.encode(b"short")),
    ] {
        let error = text.parse::<Pin>().unwrap_err().to_string();
        assert!(error.contains("64 hexadecimal digits"), "{error}");
    }
}

#[test]
fn a_chain_beyond_the_bounds_or_that_cannot_be_read_is_refused() {
    let leaf = server().build().certificate.to_der().unwrap();
    let kind = |chain: &[Vec<u8>]| ShownChain::parse(chain).err().map(|f| (f.depth, f.kind));
    assert_eq!(kind(&[]), Some((0, FaultKind::Malformed)));
    assert_eq!(kind(&[b"x".to_vec()]), Some((0, FaultKind::Malformed)));
    assert_eq!(
        kind(&[leaf.clone(), b"x".to_vec()]),
        Some((1, FaultKind::Malformed))
    );
    let most = vec![leaf.clone(); limits::PEER_CERTIFICATES_MAX];
    assert_eq!(kind(&most), None);
    let more = vec![leaf.clone(); limits::PEER_CERTIFICATES_MAX + 1];
    assert_eq!(kind(&more), Some((0, FaultKind::TooLong)));
    let large = vec![leaf, vec![0; limits::PEER_CERTIFICATES_BYTES_MAX]];
    assert_eq!(kind(&large), Some((0, FaultKind::TooLong)));
    assert!(ErrorStack::get().errors().is_empty());
}

#[test]
fn keys_that_take_long_to_verify_with_are_refused_wherever_they_stand() {
    let world = world();
    for (modulus, exponent, taken) in [
        (8192, 17, true),
        (8193, 17, false),
        (3072, 64, true),
        (3072, 65, false),
    ] {
        let wish = server().rsa_public(modulus, exponent);
        let costly = wish.issue(&world.root);
        for chain in [[&costly, &world.middle], [&world.middle, &costly]] {
            let shown = ShownChain::parse(&der(&chain));
            assert_eq!(shown.is_ok(), taken, "{modulus} {exponent}");
            if let Err(fault) = shown {
                assert_eq!(fault.kind, FaultKind::KeyTooLarge);
                assert_eq!(fault.depth == 0, std::ptr::eq(chain[0], &raw const costly));
            }
        }
    }
}

// Each certificate of the longest chain is below the next, so the path has one more than were shown.
#[test]
fn the_longest_chain_that_may_be_shown_is_verified() {
    let world = world();
    let mut chain = vec![authority("0").issue(&world.root)];
    for level in 1..limits::PEER_CERTIFICATES_MAX - 1 {
        let next = authority(&level.to_string()).issue(&chain[level - 1]);
        chain.push(next);
    }
    let leaf = server().issue(&chain[limits::PEER_CERTIFICATES_MAX - 2]);
    let all: Vec<_> = std::iter::once(&leaf).chain(chain.iter().rev()).collect();
    assert_eq!(all.len(), limits::PEER_CERTIFICATES_MAX);
    let judgement = judge(&world, &all, DIALLED, "example.org");
    assert!(judgement.is_proven(), "{judgement:?}");
}

fn template() -> &'static (World, [Vec<u8>; 2]) {
    static TEMPLATE: std::sync::OnceLock<(World, [Vec<u8>; 2])> = std::sync::OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let world = world();
        let leaf = server().xmpp("example.org").issue(&world.middle);
        let chain = der(&[&leaf, &world.middle]).try_into().unwrap();
        (world, chain)
    })
}

proptest! {
    #[test]
    fn a_changed_certificate_is_never_proven(
        which in 0..2_usize,
        at in any::<proptest::sample::Index>(),
        change in 1..=u8::MAX,
    ) {
        let (world, chain) = template();
        let mut chain = chain.to_vec();
        let at = at.index(chain[which].len());
        chain[which][at] ^= change;
        if let Ok(shown) = ShownChain::parse(&chain) {
            let now = now_unix_seconds();
            let judged = shown.judge(&world.trusted, DIALLED, reference("example.org"), now);
            let judgement = judged.unwrap();
            prop_assert!(!judgement.is_proven(), "byte {at} of {which}");
            judgement.faults.iter().for_each(|fault| drop(fault.to_string()));
        }
        prop_assert!(ErrorStack::get().errors().is_empty());
    }
}
