//! What a login shows of a name without an account: the form of an account's credentials, and keys
//! that no password fits.
//!
//! The form (which hashes, how many iterations, how long a salt, which bcrypt cost) differs between
//! the accounts of a domain whose policy has changed. If all unknown names had one form, any other
//! would tell that its name is an account. So an unknown name [resembles](resembled) an account of
//! its domain, and everything that a client sees or can measure of it is made from that account's
//! form, by the same code that serves accounts.

use zeroize::Zeroizing;

use super::Hash;
use super::credentials::{Credentials, HashPolicy, SALT_BYTES, Storage, Verifier};

/// All that a login can show of credentials to somebody who does not know the password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// At most one for each hash.
    pub scram: Vec<ScramForm>,
    /// Of the bcrypt hash, if there is one that can be used.
    pub bcrypt_cost: Option<u32>,
}

/// What a challenge shows of a verifier (RFC 5802 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScramForm {
    /// The hash.
    pub hash: Hash,
    /// Octets of its salt.
    pub salt_bytes: usize,
    /// PBKDF2 rounds.
    pub iterations: u32,
}

impl Form {
    /// What a challenge for a hash shows. A hash that is missing has what the policy gives to new
    /// verifiers, so that an account without it and a name that resembles one are alike.
    pub fn challenge(&self, hash: Hash, policy: &HashPolicy) -> ScramForm {
        let own = self.scram.iter().find(|form| form.hash == hash);
        own.copied().unwrap_or(ScramForm {
            hash,
            salt_bytes: SALT_BYTES,
            iterations: policy.iterations,
        })
    }

    /// Credentials of this form that no password fits: comparing one with them costs what it costs
    /// with an account's.
    pub fn decoy(&self) -> Credentials {
        let scram = self.scram.iter().map(|form| Verifier {
            hash: form.hash,
            salt: vec![0; form.salt_bytes],
            iterations: form.iterations,
            stored_key: vec![0; form.hash.size()],
            server_key: vec![0; form.hash.size()],
        });
        // A salt of 16 octets and a hash of 23, in bcrypt's base64, whose zero is the dot.
        let bcrypt = |cost: u32| format!("$2b${cost:02}${}", ".".repeat(22 + 31));
        Credentials {
            scram: scram.collect(),
            bcrypt: self.bcrypt_cost.map(bcrypt),
        }
    }
}

impl Credentials {
    /// What a login can show of them.
    pub fn form(&self) -> Form {
        let scram = self.scram.iter().map(|verifier| ScramForm {
            hash: verifier.hash,
            salt_bytes: verifier.salt.len(),
            iterations: verifier.iterations,
        });
        Form {
            scram: scram.collect(),
            bcrypt_cost: self.bcrypt_cost(),
        }
    }
}

impl HashPolicy {
    /// The form of credentials that follow the policy.
    pub fn form(&self) -> Form {
        let scram = |hash: &Hash| ScramForm {
            hash: *hash,
            salt_bytes: SALT_BYTES,
            iterations: self.iterations,
        };
        match self.storage {
            Storage::Scram => Form {
                scram: self.hashes.iter().map(scram).collect(),
                bcrypt_cost: None,
            },
            Storage::Bcrypt => Form {
                scram: Vec::new(),
                bcrypt_cost: Some(self.bcrypt_cost),
            },
        }
    }
}

/// The salt of a name for a hash, with an account or without: it does not show when the account is
/// made, gets another password or is deleted. `secret` is the server's, so that nobody can foresee
/// it, and no two servers have the same for one name (RFC 5802 §9).
///
/// The price: who has stolen the database twice, before and after a change of password, need not
/// hash anew the guesses whose results he has kept.
pub fn salt(secret: &[u8; 32], bare_jid: &str, hash: Hash) -> [u8; SALT_BYTES] {
    let mut salt = [0; SALT_BYTES];
    salt.copy_from_slice(&salt_of(secret, bare_jid, hash, SALT_BYTES));
    salt
}

/// A salt of that many octets; one of another length is another altogether, as it is when an account
/// from elsewhere gets its first verifier that is made here.
fn salt_of(secret: &[u8; 32], bare_jid: &str, hash: Hash, bytes: usize) -> Vec<u8> {
    let purpose = format!("salt {bytes}");
    stretch(secret, [&purpose, hash.name(), bare_jid], bytes)
}

/// A verifier for a name without one. No password fits it, and its salt is that which an account of
/// the name would have. `secret` is the server's.
pub fn fake_verifier(secret: &[u8; 32], bare_jid: &str, form: ScramForm) -> Verifier {
    let keyed = |purpose, bytes| stretch(secret, [purpose, form.hash.name(), bare_jid], bytes);
    Verifier {
        hash: form.hash,
        salt: salt_of(secret, bare_jid, form.hash, form.salt_bytes),
        iterations: form.iterations,
        stored_key: keyed("stored key", form.hash.size()),
        server_key: keyed("server key", form.hash.size()),
    }
}

/// Which of a domain's accounts, numbered from 0, an unknown name resembles; none if there are no
/// accounts. `secret` is the server's.
///
/// Each account is resembled by as many names as any other, whatever their number, so that the
/// names show each form as often as the accounts have it. An account that is added at the end takes
/// its share evenly from all others, and no name moves between those: with `n` accounts, `1/n` of
/// the names ever change by one account's coming or going at the end. (Of the names at place `b`
/// since there were `b + 1` accounts, `(b + 1) / n` are still there when there are `n`; so the place
/// after `b` is `(b + 1) / r` for an `r` evenly out of 0 to 1.) Takes about `ln n` steps.
pub fn resembled(secret: &[u8; 32], bare_jid: &str, accounts: u64) -> Option<u64> {
    const DRAW_BYTES: usize = 8;
    let last = accounts.checked_sub(1)?;
    let mut place = 0;
    for step in 0_u64.. {
        let step = step.to_string();
        let drawn = stretch(secret, ["place", &step, bare_jid], DRAW_BYTES);
        let drawn = drawn
            .iter()
            .fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
        // `r` is `(drawn + 1) / 2^64`; the place grows by 1 or more with each step.
        let next = ((u128::from(place) + 1) << 64) / (drawn + 1);
        match u64::try_from(next) {
            Ok(next) if next <= last => place = next,
            _ => break,
        }
    }
    Some(place)
}

/// As many bytes as wanted that nobody can foresee without the secret: a keyed hash by prefix.
/// Nobody can extend it, as of each hash of 64 octets 32 are shown at most.
fn stretch(secret: &[u8; 32], fields: [&str; 3], bytes: usize) -> Vec<u8> {
    const SHOWN: usize = 32;
    let mut all = Vec::with_capacity(bytes.next_multiple_of(SHOWN));
    for block in 0_u64.. {
        if all.len() >= bytes {
            break;
        }
        // Of its full size at once: what grows leaves copies of the secret behind.
        let size = fields.iter().map(|field| 1 + field.len()).sum::<usize>();
        let mut input = Zeroizing::new(Vec::with_capacity(secret.len() + size_of::<u64>() + size));
        input.extend_from_slice(secret);
        input.extend_from_slice(&block.to_be_bytes());
        for field in fields {
            input.push(0);
            input.extend_from_slice(field.as_bytes());
        }
        let hashed = Zeroizing::new(Hash::Sha512.of(&input));
        all.extend(hashed.iter().take(SHOWN));
    }
    all.truncate(bytes);
    all
}

#[cfg(test)]
mod tests;
