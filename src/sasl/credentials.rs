//! What is stored of a password: SCRAM verifiers (RFC 5802 §3) or a bcrypt hash.
//!
//! Passwords given here are prepared already (`jid::prepare_password`). [`Credentials::derive`] and
//! [`Credentials::verify`] are costly on purpose and belong on a worker thread.

use std::fmt;
use std::str::FromStr;

use bcrypt::{BcryptError, HashParts, Version};
use openssl::error::ErrorStack;
use openssl::pkcs5::pbkdf2_hmac;
use zeroize::Zeroizing;

use super::Hash;

/// The least iteration count that is derived (RFC 5802 §5.1, RFC 7677 §4).
pub const ITERATIONS_MIN: u32 = 4096;
/// The greatest: about two seconds of a core, which a client spends at each login too.
pub const ITERATIONS_MAX: u32 = 10_000_000;
/// bcrypt's cost, the logarithm of its rounds, from what the algorithm allows ...
pub const BCRYPT_COST_MIN: u32 = 4;
/// ... to some seconds of a core for one login.
pub const BCRYPT_COST_MAX: u32 = 16;
/// Octets of a password that bcrypt can hash without losing its end or its closing NUL.
pub const BCRYPT_PASSWORD_BYTES_MAX: usize = 71;
/// Octets of a salt: 128 bits, so that no two accounts of the world share one.
pub const SALT_BYTES: usize = 16;

/// Which of an account's verifiers a password is checked against: strong first, and SHA-256 before
/// SHA-512, which takes twice the time (`Measured` in lib.rs) and proves no more.
const VERIFY_ORDER: [Hash; 3] = [Hash::Sha256, Hash::Sha512, Hash::Sha1];

/// The keys of one hash of the SCRAM family: enough to check a proof, not to make one.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    /// The hash of all of them.
    pub hash: Hash,
    /// As sent to the client.
    pub salt: Vec<u8>,
    /// PBKDF2 rounds.
    pub iterations: u32,
    /// `StoredKey` of RFC 5802 §3.
    pub stored_key: Vec<u8>,
    /// `ServerKey` of RFC 5802 §3.
    pub server_key: Vec<u8>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("hash", &self.hash)
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// Derives the keys (RFC 5802 §3). Costly.
    pub(crate) fn derive(
        password: &str,
        hash: Hash,
        salt: Vec<u8>,
        iterations: u32,
    ) -> Result<Verifier, CredentialError> {
        let salted = salted_password(password, hash, &salt, iterations)?;
        let client_key = Zeroizing::new(hash.hmac(&salted, b"Client Key"));
        let stored_key = hash.of(&client_key);
        let server_key = hash.hmac(&salted, b"Server Key");
        Ok(Verifier {
            hash,
            salt,
            iterations,
            stored_key,
            server_key,
        })
    }

    /// Whether this is the password. Costly.
    fn verify(&self, password: &str) -> Result<bool, CredentialError> {
        let salted = salted_password(password, self.hash, &self.salt, self.iterations)?;
        let client_key = Zeroizing::new(self.hash.hmac(&salted, b"Client Key"));
        let stored_key = Zeroizing::new(self.hash.of(&client_key));
        Ok(stored_key.len() == self.stored_key.len()
            && openssl::memcmp::eq(&stored_key, &self.stored_key))
    }
}

/// `Hi()` of RFC 5802 §2.2, which is PBKDF2 with HMAC.
fn salted_password(
    password: &str,
    hash: Hash,
    salt: &[u8],
    iterations: u32,
) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    if iterations == 0 || iterations > ITERATIONS_MAX {
        return Err(CredentialError::Iterations(iterations));
    }
    #[cfg(test)]
    work::note(format!("{} x {iterations}, {}", hash.name(), salt.len()));
    // Lossless: `u32` fits wherever sockets poll.
    let rounds = iterations as usize;
    let mut salted = Zeroizing::new(vec![0; hash.size()]);
    pbkdf2_hmac(
        password.as_bytes(),
        salt,
        rounds,
        hash.digest(),
        &mut salted,
    )?;
    Ok(salted)
}

/// What form credentials are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// SCRAM verifiers, one for each hash of the policy.
    Scram,
    /// One bcrypt hash; logins go through PLAIN.
    Bcrypt,
}

/// How a domain wants credentials to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashPolicy {
    /// The form.
    pub storage: Storage,
    /// For SCRAM: which hashes, side by side.
    pub hashes: Vec<Hash>,
    /// For SCRAM: PBKDF2 rounds, [`ITERATIONS_MIN`] to [`ITERATIONS_MAX`].
    pub iterations: u32,
    /// For bcrypt: the logarithm of its rounds, [`BCRYPT_COST_MIN`] to [`BCRYPT_COST_MAX`].
    pub bcrypt_cost: u32,
}

/// What is stored of an account's password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// At most one for each hash.
    pub scram: Vec<Verifier>,
    /// In modular crypt form, `$2b$...`.
    pub bcrypt: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("scram", &self.scram)
            .field("bcrypt", &self.bcrypt.as_ref().map(|_| "..."))
            .finish()
    }
}

/// Why no credentials could be made. `Display` tells people what to do.
#[derive(Debug)]
pub enum CredentialError {
    /// The policy asks for SCRAM and names no hash.
    NoHashes,
    /// The iteration count is out of bounds.
    Iterations(u32),
    /// The bcrypt cost is out of bounds.
    Cost(u32),
    /// bcrypt cannot take all of the password.
    PasswordTooLong,
    /// What was to be imported is in no form that this server knows.
    UnknownForm,
    /// What was to be imported looks like bcrypt and is broken.
    Damaged,
    /// OpenSSL could not do it: no memory, or a hash that this build does not allow.
    Crypto(ErrorStack),
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CredentialError::NoHashes => f.write_str(
                "no hash is set for SCRAM; set auth.hashes, for example to [\"SHA-256\"]",
            ),
            CredentialError::Iterations(n) => write!(
                f,
                "{n} iterations are out of bounds; take {ITERATIONS_MIN} to {ITERATIONS_MAX}"
            ),
            CredentialError::Cost(n) => write!(
                f,
                "bcrypt cost {n} is out of bounds; take {BCRYPT_COST_MIN} to {BCRYPT_COST_MAX}"
            ),
            CredentialError::PasswordTooLong => write!(
                f,
                "the password is too long for bcrypt, which takes {BCRYPT_PASSWORD_BYTES_MAX} bytes; \
                 choose a shorter one, or auth.storage = \"scram\""
            ),
            CredentialError::UnknownForm => f.write_str(
                "this is no password hash that can be imported; one starts with $2a$, $2b$ or $2y$",
            ),
            CredentialError::Damaged => {
                f.write_str("this bcrypt hash is damaged; one has 60 characters in three parts")
            }
            CredentialError::Crypto(e) => write!(f, "OpenSSL cannot hash the password: {e}"),
        }
    }
}

impl std::error::Error for CredentialError {}

impl From<ErrorStack> for CredentialError {
    fn from(e: ErrorStack) -> CredentialError {
        CredentialError::Crypto(e)
    }
}

impl Credentials {
    /// Derives what is stored of a prepared password. Costly. `salt` yields the salt of the verifier
    /// for a hash (a server's is [`super::decoy::salt`]); with none, fresh random bytes for bcrypt,
    /// which nobody is shown.
    ///
    /// # Errors
    /// A policy out of bounds; for bcrypt, a password of more than 71 bytes.
    pub fn derive(
        password: &str,
        policy: &HashPolicy,
        salt: &dyn Fn(Option<Hash>) -> [u8; SALT_BYTES],
    ) -> Result<Credentials, CredentialError> {
        match policy.storage {
            Storage::Scram => {
                if policy.hashes.is_empty() {
                    return Err(CredentialError::NoHashes);
                }
                if policy.iterations < ITERATIONS_MIN {
                    return Err(CredentialError::Iterations(policy.iterations));
                }
                let mut credentials = Credentials::default();
                for &hash in &policy.hashes {
                    if credentials.verifier(hash).is_none() {
                        let salt = salt(Some(hash)).to_vec();
                        let verifier = Verifier::derive(password, hash, salt, policy.iterations)?;
                        credentials.scram.push(verifier);
                    }
                }
                Ok(credentials)
            }
            Storage::Bcrypt => {
                if !(BCRYPT_COST_MIN..=BCRYPT_COST_MAX).contains(&policy.bcrypt_cost) {
                    return Err(CredentialError::Cost(policy.bcrypt_cost));
                }
                let parts =
                    bcrypt::non_truncating_hash_with_salt(password, policy.bcrypt_cost, salt(None))
                        .map_err(|e| match e {
                            BcryptError::Truncation(_) => CredentialError::PasswordTooLong,
                            _ => CredentialError::Damaged,
                        })?;
                let bcrypt = Some(parts.format_for_version(Version::TwoB));
                Ok(Credentials {
                    scram: Vec::new(),
                    bcrypt,
                })
            }
        }
    }

    /// Whether this prepared password is the account's. Costly. Verifiers that cannot be used
    /// (damaged in the store) and passwords that bcrypt would cut fail as a wrong password does.
    pub fn verify(&self, password: &str) -> bool {
        if let Some(verifier) = VERIFY_ORDER.iter().find_map(|hash| self.verifier(*hash)) {
            return verifier.verify(password).unwrap_or(false);
        }
        match &self.bcrypt {
            Some(hash) => {
                let outcome = bcrypt::non_truncating_verify(password, hash);
                #[cfg(test)]
                work::note(format!("bcrypt {:?}, {}", cost_of(hash), outcome.is_ok()));
                outcome.unwrap_or(false)
            }
            None => false,
        }
    }

    /// Whether a login that shows the password should store it anew: a hash is missing, a count or
    /// cost is below the policy's, or the form is another.
    ///
    /// [`Credentials::derive`] can still refuse (bcrypt and a long password); then the old ones stay.
    pub fn wants_upgrade(&self, policy: &HashPolicy) -> bool {
        match policy.storage {
            Storage::Scram => {
                self.bcrypt.is_some()
                    || policy.hashes.iter().any(|hash| {
                        self.verifier(*hash)
                            .is_none_or(|v| v.iterations < policy.iterations)
                    })
            }
            Storage::Bcrypt => {
                !self.scram.is_empty()
                    || self
                        .bcrypt_cost()
                        .is_none_or(|cost| cost < policy.bcrypt_cost)
            }
        }
    }

    /// The verifier of a hash, if there is one.
    pub fn verifier(&self, hash: Hash) -> Option<&Verifier> {
        self.scram.iter().find(|verifier| verifier.hash == hash)
    }

    /// Takes over a hash from elsewhere in modular crypt form: bcrypt's `$2a$`, `$2b$`, `$2y$`,
    /// which are one algorithm for text without NUL. `$2x$` marks hashes of an implementation that
    /// was broken for characters above 127, and is refused.
    ///
    /// # Errors
    /// `UnknownForm`, `Damaged`, or `Cost` for more rounds than a worker could do at each login.
    pub fn from_modular_crypt(text: &str) -> Result<Credentials, CredentialError> {
        if !["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            return Err(CredentialError::UnknownForm);
        }
        let cost = cost_of(text).ok_or(CredentialError::Damaged)?;
        if !(BCRYPT_COST_MIN..=BCRYPT_COST_MAX).contains(&cost) {
            return Err(CredentialError::Cost(cost));
        }
        Ok(Credentials {
            scram: Vec::new(),
            bcrypt: Some(text.to_owned()),
        })
    }

    /// The cost of the bcrypt hash, if there is one that can be used.
    pub(super) fn bcrypt_cost(&self) -> Option<u32> {
        self.bcrypt.as_deref().and_then(cost_of)
    }
}

fn cost_of(hash: &str) -> Option<u32> {
    HashParts::from_str(hash).ok().map(|parts| parts.get_cost())
}

/// What this thread has computed, for tests that compare costs without a clock.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::RefCell;

    thread_local!(static DONE: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) });

    /// One costly computation, and whether it came to its end.
    pub(super) fn note(what: String) {
        DONE.with_borrow_mut(|done| done.push(what));
    }

    /// All since the last call.
    pub fn take() -> Vec<String> {
        DONE.take()
    }
}

#[cfg(test)]
mod tests;
