//! Credentials: what is derived verifies, what is broken does not.

use super::*;

const BCRYPT_COST: u32 = BCRYPT_COST_MIN;

fn scram(hashes: &[Hash], iterations: u32) -> HashPolicy {
    HashPolicy {
        storage: Storage::Scram,
        hashes: hashes.to_vec(),
        iterations,
        bcrypt_cost: BCRYPT_COST,
    }
}

fn bcrypt(cost: u32) -> HashPolicy {
    HashPolicy {
        storage: Storage::Bcrypt,
        bcrypt_cost: cost,
        ..scram(&[], ITERATIONS_MIN)
    }
}

/// One for each hash, and one for bcrypt.
fn salt(hash: Option<Hash>) -> [u8; SALT_BYTES] {
    [hash.map_or(0, Hash::size) as u8; SALT_BYTES]
}

fn derive(password: &str, policy: &HashPolicy) -> Credentials {
    Credentials::derive(password, policy, &salt).unwrap()
}

#[test]
fn derived_credentials_verify_their_password_and_no_other() {
    let policies = [
        scram(&[Hash::Sha1], ITERATIONS_MIN),
        scram(&[Hash::Sha256], ITERATIONS_MIN),
        scram(&[Hash::Sha512], ITERATIONS_MIN),
        scram(&[Hash::Sha1, Hash::Sha512, Hash::Sha256], ITERATIONS_MIN),
        bcrypt(BCRYPT_COST),
    ];
    for policy in policies {
        let credentials = derive("r0m30 é", &policy);
        assert!(credentials.verify("r0m30 é"), "{policy:?}");
        for wrong in ["r0m30 e", "r0m30 é ", "", "R0m30 é"] {
            assert!(!credentials.verify(wrong), "{policy:?} {wrong:?}");
        }
        assert!(!credentials.wants_upgrade(&policy), "{policy:?}");
    }
}

#[test]
fn each_hash_gets_one_verifier_with_a_salt_of_its_own() {
    let hashes = [Hash::Sha256, Hash::Sha512, Hash::Sha256];
    let credentials = derive("r0m30", &scram(&hashes, ITERATIONS_MIN));
    assert_eq!(credentials.scram.len(), 2);
    assert_eq!(
        credentials.verifier(Hash::Sha256).unwrap().salt,
        salt(Some(Hash::Sha256))
    );
    assert_eq!(
        credentials.verifier(Hash::Sha512).unwrap().salt,
        salt(Some(Hash::Sha512))
    );
    assert_eq!(credentials.verifier(Hash::Sha1), None);
    assert_eq!(credentials.bcrypt, None);
}

/// RFC 7677 §3: the keys behind the example's messages.
#[test]
fn the_keys_of_rfc_7677_are_derived() {
    let salt = b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81";
    let keys = Verifier::derive("pencil", Hash::Sha256, salt.to_vec(), 4096).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    // Computed with Python's hashlib and hmac.
    assert_eq!(
        hex(&keys.stored_key),
        "586e5df283e6dceb5c3e791d8b8528ec191e664045ce971792e2e6b5bb13e2a6"
    );
    assert_eq!(
        hex(&keys.server_key),
        "c1f3cbc1c13a9d35a14c0990eed97629ea225863e566a4314ab99f3f00e5d9d5"
    );
}

#[test]
fn a_policy_out_of_bounds_is_refused() {
    let derive = |policy: &HashPolicy| Credentials::derive("r0m30", policy, &salt);
    let hashes = [Hash::Sha256];
    assert!(matches!(
        derive(&scram(&[], ITERATIONS_MIN)),
        Err(CredentialError::NoHashes)
    ));
    for iterations in [0, 1, ITERATIONS_MIN - 1, ITERATIONS_MAX + 1, u32::MAX] {
        let result = derive(&scram(&hashes, iterations));
        assert!(matches!(result, Err(CredentialError::Iterations(n)) if n == iterations));
    }
    for cost in [0, BCRYPT_COST_MIN - 1, BCRYPT_COST_MAX + 1, u32::MAX] {
        assert!(matches!(derive(&bcrypt(cost)), Err(CredentialError::Cost(n)) if n == cost));
    }
}

#[test]
fn bcrypt_refuses_a_password_that_it_would_cut() {
    let longest = "x".repeat(BCRYPT_PASSWORD_BYTES_MAX);
    let longer = "x".repeat(BCRYPT_PASSWORD_BYTES_MAX + 1);
    let credentials = derive(&longest, &bcrypt(BCRYPT_COST));
    assert!(credentials.verify(&longest));
    assert!(!credentials.verify(&longer));
    let refused = Credentials::derive(&longer, &bcrypt(BCRYPT_COST), &salt);
    assert!(matches!(refused, Err(CredentialError::PasswordTooLong)));
    assert!(derive(&longer, &scram(&[Hash::Sha256], ITERATIONS_MIN)).verify(&longer));
}

#[test]
fn hashes_from_elsewhere_verify_and_want_to_be_stored_anew() {
    // Made by crypt(3) of libxcrypt.
    let rest = "$05$abcdefghijklmnopqrstuuBALVcRajTgqIoLic.FlcEwO3nb0FN5a";
    for version in ["$2a", "$2b", "$2y"] {
        let credentials = Credentials::from_modular_crypt(&format!("{version}{rest}")).unwrap();
        assert!(credentials.verify("r0m30 é"));
        assert!(!credentials.verify("r0m30 e"));
        assert!(credentials.wants_upgrade(&scram(&[Hash::Sha256], ITERATIONS_MIN)));
        assert!(credentials.wants_upgrade(&bcrypt(6)));
        assert!(!credentials.wants_upgrade(&bcrypt(5)));
        assert_eq!(credentials.verifier(Hash::Sha256), None);
    }
}

#[test]
fn what_is_no_bcrypt_hash_is_not_imported() {
    let unknown = [
        "",
        "r0m30",
        "$1$salt$hash",
        "$6$salt$hash",
        "$2x$05$abcdefghijklmnopqrstuuBALVcRajTgqIoLic.FlcEwO3nb0FN5q",
        "$2$05$abcdefghijklmnopqrstuuBALVcRajTgqIoLic.FlcEwO3nb0FN5q",
        " $2y$05$abcdefghijklmnopqrstuuBALVcRajTgqIoLic.FlcEwO3nb0FN5q",
    ];
    for text in unknown {
        let result = Credentials::from_modular_crypt(text);
        assert!(
            matches!(result, Err(CredentialError::UnknownForm)),
            "{text:?}"
        );
    }
    let damaged = [
        "$2y$",
        "$2y$xx$abcdefghijklmnopqrstuuBALVcRajTgqIoLic.FlcEwO3nb0FN5q",
        "$2y$05$abcdefghijklmnopqrstuuBALVcRajTgqIoLic.FlcEwO3nb0FN5",
        "$2y$05$abcdefghijklmnopqrstuuBALVcRajTgqIoLic.FlcEwO3nb0FN5qq",
        "$2y$07$abcdef!hijklmnopqrstuuBALVcRajTgqIoLic.FlcEwO3nb0FN5q",
        "$2y$05$abcdefghijklmnopqrstuuBALVcRajTgqIoLic.FlcEwO3nb0FN5é",
    ];
    for text in damaged {
        let result = Credentials::from_modular_crypt(text);
        assert!(matches!(result, Err(CredentialError::Damaged)), "{text:?}");
    }
    let result = Credentials::from_modular_crypt(
        "$2y$31$abcdefghijklmnopqrstuuBALVcRajTgqIoLic.FlcEwO3nb0FN5q",
    );
    assert!(matches!(result, Err(CredentialError::Cost(31))));
}

#[test]
fn an_upgrade_is_wanted_for_what_the_policy_asks_and_the_account_lacks() {
    let have = derive("r0m30", &scram(&[Hash::Sha256], 5000));
    assert!(!have.wants_upgrade(&scram(&[Hash::Sha256], 5000)));
    assert!(!have.wants_upgrade(&scram(&[Hash::Sha256], 4096)));
    assert!(have.wants_upgrade(&scram(&[Hash::Sha256], 5001)));
    assert!(have.wants_upgrade(&scram(&[Hash::Sha256, Hash::Sha1], 5000)));
    assert!(have.wants_upgrade(&bcrypt(BCRYPT_COST)));
    assert!(Credentials::default().wants_upgrade(&bcrypt(BCRYPT_COST)));
    let have = derive("r0m30", &bcrypt(5));
    assert!(!have.wants_upgrade(&bcrypt(4)));
    assert!(have.wants_upgrade(&bcrypt(6)));
}

#[test]
fn credentials_that_cannot_be_used_verify_nothing() {
    assert!(!Credentials::default().verify(""));
    assert!(
        !Credentials {
            bcrypt: Some(String::new()),
            ..Default::default()
        }
        .verify("")
    );
    let good = derive("r0m30", &scram(&[Hash::Sha256], ITERATIONS_MIN));
    let damage: [fn(&mut Verifier); 4] = [
        |v| v.iterations = 0,
        |v| v.iterations = u32::MAX,
        |v| v.stored_key.truncate(31),
        |v| v.stored_key.clear(),
    ];
    for damage in damage {
        let mut bad = good.clone();
        damage(&mut bad.scram[0]);
        assert!(!bad.verify("r0m30"));
    }
}

#[test]
fn debug_shows_no_secrets() {
    let mut credentials = derive("r0m30", &scram(&[Hash::Sha256], ITERATIONS_MIN));
    credentials.bcrypt = derive("r0m30", &bcrypt(BCRYPT_COST)).bcrypt;
    assert_eq!(
        format!("{credentials:?}"),
        "Credentials { scram: [Verifier { hash: Sha256, iterations: 4096, .. }], \
         bcrypt: Some(\"...\") }"
    );
}
