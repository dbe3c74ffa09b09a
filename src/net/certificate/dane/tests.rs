use super::super::now_unix_seconds;
use super::super::testing::{Issued, Wish};
use super::*;
use openssl::hash::MessageDigest;

const DAY: i64 = 86_400;

/// A root, an intermediate authority and a leaf for example.org; and a root unlike it.
struct World {
    root: Issued,
    middle: Issued,
    leaf: Issued,
    stranger: Issued,
}

fn authority(name: &str) -> Wish {
    Issued::new().authority().common_name(name)
}

fn server() -> Wish {
    Issued::new().dns("example.org").server()
}

fn world() -> World {
    let root = authority("root").build();
    let middle = authority("middle").valid(-DAY, 300 * DAY).issue(&root);
    World {
        leaf: server().issue(&middle),
        stranger: authority("stranger").build(),
        middle,
        root,
    }
}

fn record(usage: u8, selector: u8, matching: u8, of: &Issued) -> TlsaRecord {
    let whole = match selector {
        CERT => of.certificate.to_der().unwrap(),
        _ => of.key.public_key_to_der().unwrap(),
    };
    let data = match matching {
        FULL => whole,
        SHA2_256 => sha256(&whole).to_vec(),
        _ => sha512(&whole).to_vec(),
    };
    TlsaRecord {
        usage,
        selector,
        matching,
        data,
    }
}

fn judge(records: &[TlsaRecord], chain: &[&Issued], trusted: &Issued, domain: &str) -> DaneVerdict {
    let der: Vec<_> = chain
        .iter()
        .map(|c| c.certificate.to_der().unwrap())
        .collect();
    let authorities = Authorities::of(vec![trusted.certificate.clone()]).unwrap();
    let reference = Reference {
        domain,
        secure_targets: &["x.example.net"],
    };
    let verdict = DaneVerdict::of(
        records,
        &ShownChain::parse(&der).unwrap(),
        &authorities,
        PeerRole::ReceivingEntity,
        reference,
        now_unix_seconds(),
    );
    assert!(ErrorStack::get().errors().is_empty());
    verdict.unwrap()
}

fn is_match(verdict: &DaneVerdict) -> bool {
    matches!(verdict, DaneVerdict::Matched { .. })
}

/// "no match" or "unproven" for each record.
fn failures(verdict: &DaneVerdict) -> Vec<&'static str> {
    let DaneVerdict::Failed(failures) = verdict else {
        panic!("{verdict:?}");
    };
    let word = |failure: &DaneFailure| match failure {
        DaneFailure::NoMatch => "no match",
        DaneFailure::Unproven(_) => "unproven",
    };
    failures.iter().map(|(_, failure)| word(failure)).collect()
}

// RFC 6698 §2.1: every usage, selector and matching type.
#[test]
fn a_record_of_each_form_proves_its_chain_and_no_other() {
    let world = world();
    let chain = [&world.leaf, &world.middle];
    for usage in [PKIX_TA, PKIX_EE, DANE_TA, DANE_EE] {
        let is_issuer = usage == PKIX_TA || usage == DANE_TA;
        let needs_authorities = usage == PKIX_TA || usage == PKIX_EE;
        let (right, wrong) = if is_issuer {
            (&world.middle, &world.leaf)
        } else {
            (&world.leaf, &world.middle)
        };
        for selector in [CERT, SPKI] {
            for matching in [FULL, SHA2_256, SHA2_512] {
                let form = format!("{usage} {selector} {matching}");
                let good = record(usage, selector, matching, right);
                let records = [good.clone()];
                let verdict = judge(&records, &chain, &world.root, "example.org");
                let middle_ends = super::super::unix_seconds(world.middle.certificate.not_after());
                let ends = (usage != DANE_EE).then(|| middle_ends.unwrap());
                let expected = DaneVerdict::Matched { record: good, ends };
                assert_eq!(verdict, expected, "{form}");
                // Other certificates, of the chain or not, do not do.
                for of in [wrong, &world.stranger] {
                    let records = [record(usage, selector, matching, of)];
                    let verdict = judge(&records, &chain, &world.root, "example.org");
                    // A full anchor that issued nothing of the chain leaves it without an issuer.
                    let full_anchor = usage == DANE_TA && matching == FULL && selector == CERT;
                    let is_leaf = std::ptr::eq(of, &raw const world.leaf);
                    let word = if full_anchor && !is_leaf {
                        "unproven"
                    } else {
                        "no match"
                    };
                    assert_eq!(failures(&verdict), [word], "{form}");
                }
                // RFC 7671 §5.3, §5.4: PKIX usages need the authorities' word as well.
                let verdict = judge(&records, &chain, &world.stranger, "example.org");
                assert_eq!(is_match(&verdict), !needs_authorities, "{form}");
                // RFC 7673 §4.2, §9.2: names count for all but DANE-EE.
                let verdict = judge(&records, &chain, &world.root, "example.com");
                assert_eq!(is_match(&verdict), usage == DANE_EE, "{form}");
            }
        }
    }
}

// RFC 7671 §5.1.
#[test]
fn dane_ee_counts_neither_dates_nor_names_nor_issuers() {
    let world = world();
    let old = Issued::new().valid(-9 * DAY, -DAY).client().build();
    let records = [record(DANE_EE, SPKI, SHA2_256, &old)];
    assert!(is_match(&judge(
        &records,
        &[&old],
        &world.root,
        "example.org"
    )));
    for usage in [PKIX_EE, PKIX_TA, DANE_TA] {
        let records = [record(usage, SPKI, SHA2_256, &old)];
        let verdict = judge(&records, &[&old], &world.root, "example.org");
        assert!(!is_match(&verdict), "{usage}");
    }
}

// RFC 7671 §5.2: a chain to the anchor is verified, not just that the anchor was shown.
#[test]
fn dane_ta_needs_signatures_up_to_its_anchor_and_dates_and_names() {
    let world = world();
    let records = [record(DANE_TA, CERT, SHA2_256, &world.middle)];
    let liar = authority("middle").build();
    let other = authority("other").issue(&world.middle);
    for (leaf, proven) in [
        (server().issue(&world.middle), true),
        (
            Issued::new().dns("x.example.net").issue(&world.middle),
            true,
        ),
        (server().issue(&other), true),
        (server().issue(&liar), false),
        (server().issue(&world.stranger), false),
        (server().build(), false),
        (server().valid(-9 * DAY, -DAY).issue(&world.middle), false),
        (server().client().issue(&world.middle), true),
        (
            Issued::new()
                .dns("example.org")
                .client()
                .issue(&world.middle),
            false,
        ),
        (Issued::new().dns("example.com").issue(&world.middle), false),
    ] {
        let chain = [&leaf, &other, &world.middle];
        let verdict = judge(&records, &chain, &world.stranger, "example.org");
        assert_eq!(is_match(&verdict), proven, "{verdict}");
        if !proven {
            assert_eq!(failures(&verdict), ["unproven"]);
        }
    }
}

// RFC 7671 §5.2.1: constraints of the anchor are applied.
#[test]
fn the_anchor_of_dane_ta_is_held_to_its_constraints() {
    let world = world();
    for (permitted, proven) in [("example.org", true), ("example.net", false)] {
        let anchor = authority("anchor").permitting(permitted).build();
        let below = authority("below").issue(&anchor);
        let leaf = server().issue(&below);
        let records = [record(DANE_TA, CERT, SHA2_512, &anchor)];
        let chain = [&leaf, &below, &anchor];
        let verdict = judge(&records, &chain, &world.root, "example.org");
        assert_eq!(is_match(&verdict), proven, "{verdict}");
    }
}

// RFC 7671 §5.2.2, §5.2.3.
#[test]
fn an_anchor_that_is_not_shown_must_stand_in_the_record_in_full() {
    let world = world();
    for (selector, matching, proven) in [
        (CERT, FULL, true),
        (SPKI, FULL, true),
        (CERT, SHA2_256, false),
        (SPKI, SHA2_512, false),
    ] {
        let direct = server().issue(&world.root);
        for chain in [&[&world.leaf, &world.middle][..], &[&direct]] {
            let records = [record(DANE_TA, selector, matching, &world.root)];
            let verdict = judge(&records, chain, &world.stranger, "example.org");
            assert_eq!(is_match(&verdict), proven, "{verdict}");
        }
    }
    let records = [record(DANE_TA, SPKI, FULL, &world.root)];
    let old = authority("old").valid(-9 * DAY, -DAY).issue(&world.root);
    let below_old = server().issue(&old);
    let liar = authority("root").build();
    let forged = server().issue(&liar);
    for chain in [
        &[&below_old, &old][..],
        &[&forged],
        // The anchor's key signed what is shown beside the leaf, and not the leaf.
        &[&forged, &world.middle],
    ] {
        let verdict = judge(&records, chain, &world.stranger, "example.org");
        assert!(!is_match(&verdict), "{verdict}");
    }
}

#[test]
fn a_key_in_a_record_vouches_for_nothing_that_is_signed_by_a_weak_digest() {
    let world = world();
    let records = [record(DANE_TA, SPKI, FULL, &world.root)];
    let weak = server().digest(MessageDigest::sha1()).issue(&world.root);
    let verdict = judge(&records, &[&weak], &world.stranger, "example.org");
    assert_eq!(failures(&verdict), ["no match"]);
}

#[test]
fn of_several_anchors_one_in_the_chain_is_the_match() {
    let world = world();
    let other = record(DANE_TA, CERT, FULL, &world.stranger);
    let middle = record(DANE_TA, SPKI, SHA2_256, &world.middle);
    let root = record(DANE_TA, CERT, FULL, &world.root);
    let chain = [&world.leaf, &world.middle, &world.root];
    let alone = judge(
        std::slice::from_ref(&middle),
        &chain,
        &world.stranger,
        "example.org",
    );
    assert!(is_match(&alone), "{alone}");
    let records = [other.clone(), root, middle.clone()];
    let verdict = judge(&records, &chain, &world.stranger, "example.org");
    let DaneVerdict::Matched { record, .. } = verdict else {
        panic!("{verdict}");
    };
    assert_eq!(record, middle);
    let verdict = judge(&[other], &chain, &world.stranger, "example.org");
    assert_eq!(failures(&verdict), ["unproven"]);
}

#[test]
fn a_record_with_a_key_that_takes_long_to_verify_with_is_of_no_use() {
    let world = world();
    let costly = Issued::new().rsa_public(3072, 3000).issue(&world.root);
    let key = costly.certificate.public_key().unwrap();
    let certificate = costly.certificate.to_der().unwrap();
    for (selector, data) in [
        (CERT, certificate),
        (SPKI, key.public_key_to_der().unwrap()),
    ] {
        let record = TlsaRecord {
            usage: DANE_TA,
            selector,
            matching: FULL,
            data,
        };
        let verdict = judge(&[record], &[&world.leaf], &world.root, "example.org");
        assert_eq!(verdict, DaneVerdict::NoneUsable);
    }
}

// RFC 7671 §8.2: a certificate that issued nothing is no anchor.
#[test]
fn a_self_signed_leaf_is_not_its_own_anchor() {
    let world = world();
    let own = server().build();
    for (selector, matching) in [(CERT, FULL), (CERT, SHA2_256), (SPKI, SHA2_256)] {
        let records = [record(DANE_TA, selector, matching, &own)];
        for chain in [&[&own][..], &[&own, &own]] {
            let verdict = judge(&records, chain, &world.root, "example.org");
            assert_eq!(failures(&verdict), ["no match"]);
        }
    }
}

// RFC 7671 §9.
#[test]
fn of_two_digests_for_one_usage_and_selector_the_stronger_counts() {
    let world = world();
    let chain = [&world.leaf, &world.middle];
    let weak = record(DANE_EE, SPKI, SHA2_256, &world.leaf);
    let other = |usage, selector, matching| record(usage, selector, matching, &world.stranger);
    for (beside, proven) in [
        (other(DANE_EE, SPKI, SHA2_512), false),
        (other(DANE_EE, SPKI, FULL), true),
        (other(DANE_EE, SPKI, SHA2_256), true),
        (other(DANE_EE, CERT, SHA2_512), true),
        (other(PKIX_EE, SPKI, SHA2_512), true),
    ] {
        for records in [
            [weak.clone(), beside.clone()],
            [beside.clone(), weak.clone()],
        ] {
            let verdict = judge(&records, &chain, &world.root, "example.org");
            assert_eq!(is_match(&verdict), proven, "{beside:?}");
        }
    }
    // A stronger one that cannot be used is none.
    let mut broken = other(DANE_EE, SPKI, SHA2_512);
    broken.data.pop();
    let records = [weak, broken];
    assert!(is_match(&judge(
        &records,
        &chain,
        &world.root,
        "example.org"
    )));
}

// RFC 7671 §9: "unusable or malformed records".
#[test]
fn records_that_cannot_be_used_are_passed_over() {
    let world = world();
    let chain = [&world.leaf];
    let good = record(DANE_EE, SPKI, SHA2_256, &world.leaf);
    let with = |change: &dyn Fn(&mut TlsaRecord)| {
        let mut record = good.clone();
        change(&mut record);
        record
    };
    let useless = [
        with(&|r| r.usage = 4),
        with(&|r| r.usage = 255),
        with(&|r| r.selector = 2),
        with(&|r| r.selector = 255),
        with(&|r| r.matching = 3),
        with(&|r| r.matching = 255),
        with(&|r| r.matching = SHA2_512),
        with(&|r| r.matching = FULL),
        with(&|r| (r.matching, r.selector) = (FULL, CERT)),
        with(&|r| r.data.truncate(31)),
        with(&|r| r.data.push(0)),
        with(&|r| r.data.clear()),
    ];
    for record in &useless {
        let records = std::slice::from_ref(record);
        let verdict = judge(records, &chain, &world.root, "example.org");
        assert_eq!(verdict, DaneVerdict::NoneUsable, "{record:?}");
    }
    let verdict = judge(&[], &chain, &world.root, "example.org");
    assert_eq!(verdict, DaneVerdict::NoneUsable);
    let mut records = useless.to_vec();
    records.push(good);
    assert!(is_match(&judge(
        &records,
        &chain,
        &world.root,
        "example.org"
    )));
}

#[test]
fn records_beyond_the_bound_are_not_looked_at() {
    let world = world();
    let other = record(DANE_EE, SPKI, SHA2_256, &world.stranger);
    let mut records = vec![other; limits::TLSA_RECORDS_MAX];
    records.push(record(DANE_EE, SPKI, SHA2_256, &world.leaf));
    let verdict = judge(&records, &[&world.leaf], &world.root, "example.org");
    assert_eq!(failures(&verdict).len(), limits::TLSA_RECORDS_MAX);
    records.swap_remove(0);
    let verdict = judge(&records, &[&world.leaf], &world.root, "example.org");
    assert!(is_match(&verdict));
}

#[test]
fn verdicts_are_told_in_words() {
    let world = world();
    let chain = [&world.leaf, &world.middle];
    let ee = record(DANE_EE, SPKI, SHA2_256, &world.leaf);
    let told: String = ee.data[..8].iter().map(|b| format!("{b:02x}")).collect();
    let matched = judge(&[ee], &chain, &world.root, "example.org");
    assert_eq!(
        matched.to_string(),
        format!("TLSA record 3 1 1 {told}... matches")
    );
    let ta = record(DANE_TA, CERT, SHA2_256, &world.middle);
    let other = record(DANE_EE, CERT, SHA2_256, &world.middle);
    let failed = judge(&[ta, other], &chain, &world.root, "example.com").to_string();
    assert!(
        failed.starts_with("no TLSA record matches; 2 0 1 "),
        "{failed}"
    );
    assert!(
        failed.contains("but that is for another name; 3 0 1 "),
        "{failed}"
    );
    assert!(
        failed.ends_with("is for no certificate that was shown"),
        "{failed}"
    );
}
