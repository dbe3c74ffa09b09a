//! Decoys: of any form, open to nobody, and evenly spread.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::sasl::credentials::{BCRYPT_COST_MIN, ITERATIONS_MIN, work};

const SECRET: [u8; 32] = [7; 32];

fn policy(storage: Storage, hashes: &[Hash], iterations: u32) -> HashPolicy {
    HashPolicy {
        storage,
        hashes: hashes.to_vec(),
        iterations,
        bcrypt_cost: BCRYPT_COST_MIN,
    }
}

fn policies() -> Vec<HashPolicy> {
    vec![
        policy(Storage::Scram, &Hash::ALL, ITERATIONS_MIN),
        policy(Storage::Scram, &[Hash::Sha1], 5000),
        policy(Storage::Scram, &[Hash::Sha512, Hash::Sha1], 6000),
        policy(Storage::Bcrypt, &[], ITERATIONS_MIN),
    ]
}

fn derive(policy: &HashPolicy) -> Credentials {
    Credentials::derive("r0m30", policy, &|_| [1; SALT_BYTES]).unwrap()
}

fn form(hash: Hash, salt_bytes: usize) -> ScramForm {
    ScramForm {
        hash,
        salt_bytes,
        iterations: ITERATIONS_MIN,
    }
}

#[test]
fn credentials_have_the_form_of_their_policy() {
    for policy in policies() {
        assert_eq!(derive(&policy).form(), policy.form());
    }
}

/// RFC 6120 §13.11: time tells nothing either.
#[test]
fn a_decoy_costs_what_credentials_of_its_form_cost_and_opens_nothing() {
    let mut all: Vec<Credentials> = policies().iter().map(derive).collect();
    // An account from elsewhere, one with both forms, and rows that a disk has damaged.
    let mut odd = derive(&policies()[1]);
    odd.scram[0].salt.truncate(5);
    let mut both = derive(&policies()[1]);
    both.bcrypt = derive(&policies()[3]).bcrypt;
    let mut damaged = derive(&policies()[1]);
    damaged.scram[0].iterations = u32::MAX;
    let broken = Credentials {
        bcrypt: Some("$2b$04$short".to_owned()),
        ..Credentials::default()
    };
    all.extend([odd, both, damaged, broken, Credentials::default()]);
    for credentials in all {
        let decoy = credentials.form().decoy();
        assert_eq!(decoy.form(), credentials.form());
        for password in ["r0m30", "", &"x".repeat(1023)] {
            work::take();
            credentials.verify(password);
            let spent: Vec<String> = work::take();
            assert!(!decoy.verify(password));
            // A hash that cannot be read costs nothing, as none does.
            let spent = spent.into_iter().filter(|work| !work.contains("None"));
            assert_eq!(work::take(), spent.collect::<Vec<_>>(), "{credentials:?}");
        }
    }
}

#[test]
fn a_hash_that_is_missing_shows_the_policys_count() {
    let policy = policy(Storage::Scram, &Hash::ALL, 7000);
    let sha1 = derive(&policies()[1]).form();
    assert_eq!(sha1.challenge(Hash::Sha1, &policy).iterations, 5000);
    for form in [sha1, Form::default()] {
        let shown = form.challenge(Hash::Sha256, &policy);
        assert_eq!((shown.iterations, shown.salt_bytes), (7000, SALT_BYTES));
    }
}

#[test]
fn a_fake_salt_is_the_same_each_time_and_another_for_each_name() {
    let fake = |jid, hash| fake_verifier(&SECRET, jid, form(hash, SALT_BYTES));
    let one = fake("a@example.org", Hash::Sha256);
    assert_eq!(one, fake("a@example.org", Hash::Sha256));
    assert_ne!(one.salt, fake("b@example.org", Hash::Sha256).salt);
    assert_ne!(one.salt, fake("a@example.org", Hash::Sha1).salt);
    let elsewhere = fake_verifier(&[8; 32], "a@example.org", form(Hash::Sha256, SALT_BYTES));
    assert_ne!(one.salt, elsewhere.salt);
    assert_ne!(one.stored_key, one.server_key);
    for hash in Hash::ALL {
        let keys = fake("a@example.org", hash);
        assert_eq!(
            [keys.stored_key.len(), keys.server_key.len()],
            [hash.size(); 2]
        );
    }
    assert_eq!(one.salt, salt(&SECRET, "a@example.org", Hash::Sha256));
    for bytes in [0, 1, 31, 32, 33, 64, 1000] {
        let salt = fake_verifier(&SECRET, "a@example.org", form(Hash::Sha1, bytes)).salt;
        assert_eq!(salt.len(), bytes);
    }
}

fn name(number: u32) -> String {
    format!("name{number}@example.org")
}

#[test]
fn nobody_resembles_an_account_where_there_is_none() {
    assert_eq!(resembled(&SECRET, "a@example.org", 0), None);
    assert_eq!(resembled(&SECRET, "a@example.org", 1), Some(0));
}

/// What an onlooker can count must not tell the share of an account from that of another.
#[test]
fn each_account_is_resembled_by_as_many_names() {
    const NAMES: u32 = 30_000;
    for accounts in [2, 3, 10, 100] {
        let mut counts = HashMap::new();
        for number in 0..NAMES {
            let place = resembled(&SECRET, &name(number), accounts).unwrap();
            *counts.entry(place).or_insert(0_u32) += 1;
        }
        // Chi-squared with as many degrees of freedom: far above what chance yields.
        let expected = f64::from(NAMES) / accounts as f64;
        let chi: f64 = (0..accounts)
            .map(|place| f64::from(counts.get(&place).copied().unwrap_or(0)) - expected)
            .map(|off| off * off / expected)
            .sum();
        let freedom = accounts as f64 - 1.0;
        assert!(
            chi < freedom + 6.0 * (2.0 * freedom).sqrt(),
            "{accounts}: {chi}"
        );
    }
}

proptest! {
    /// One more account moves names to itself or leaves them alone.
    #[test]
    fn a_name_moves_to_a_new_account_or_stays(number: u32, accounts in 1_u64..1 << 40) {
        let name = name(number);
        let before = resembled(&SECRET, &name, accounts).unwrap();
        let after = resembled(&SECRET, &name, accounts + 1).unwrap();
        prop_assert!(before < accounts);
        prop_assert!(after == before || after == accounts);
    }

    #[test]
    fn any_number_of_accounts_and_any_name_has_a_place(name: String, accounts: u64) {
        let place = resembled(&SECRET, &name, accounts);
        prop_assert_eq!(place.is_some(), accounts > 0);
        prop_assert!(place.is_none_or(|place| place < accounts));
    }
}
