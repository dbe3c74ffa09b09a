//! The client's side of SCRAM (RFC 5802), and the passwords of all simulated accounts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use openssl::hash::{MessageDigest, hash};
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use stanzad::sasl::{Credentials, Hash, Verifier};

use crate::network::EXPORTER;

/// How many passwords there are.
pub const PASSWORDS: usize = 12;
/// Far fewer than any server's, since runs shall be quick: what hashing costs is no matter here.
pub const ITERATIONS: u32 = 16;

/// The password of that number.
pub fn password(number: usize) -> String {
    format!("secret number {number}")
}

/// What the server stores of it, with salts of its own.
pub fn credentials(number: usize) -> Arc<Credentials> {
    static ALL: OnceLock<Vec<Arc<Credentials>>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let of = |number: usize| Credentials {
            scram: [Hash::Sha256, Hash::Sha1]
                .map(|hash| verifier(number, hash))
                .into(),
            bcrypt: None,
        };
        (0..PASSWORDS).map(|number| Arc::new(of(number))).collect()
    });
    Arc::clone(&all[number])
}

fn verifier(number: usize, name: Hash) -> Verifier {
    let digest = match name {
        Hash::Sha256 => MessageDigest::sha256(),
        _ => MessageDigest::sha1(),
    };
    let salt = vec![number as u8 + 1; 16];
    let salted = salted(&password(number), &salt, ITERATIONS as usize, digest);
    let client_key = hmac(digest, &salted, b"Client Key");
    Verifier {
        hash: name,
        salt,
        iterations: ITERATIONS,
        stored_key: hash(digest, &client_key).unwrap().to_vec(),
        server_key: hmac(digest, &salted, b"Server Key"),
    }
}

/// An exchange whose first message was sent.
pub struct Scram {
    digest: MessageDigest,
    gs2: &'static str,
    bare: String,
    nonce: String,
    password: String,
    server_signature: Vec<u8>,
}

impl Scram {
    /// Begins an exchange by the mechanism of that name.
    pub fn new(mechanism: &str, username: &str, password: String, nonce: String) -> Scram {
        Scram {
            digest: match mechanism.contains("256") {
                true => MessageDigest::sha256(),
                false => MessageDigest::sha1(),
            },
            gs2: match mechanism.ends_with("-PLUS") {
                true => "p=tls-exporter,,",
                false => "n,,",
            },
            bare: format!("n={username},r={nonce}"),
            nonce,
            password,
            server_signature: Vec::new(),
        }
    }

    /// The first message.
    pub fn first(&self) -> String {
        format!("{}{}", self.gs2, self.bare)
    }

    /// The answer to a challenge.
    pub fn answer(&mut self, challenge: &str) -> Result<String, String> {
        let value = |name: &str| -> Result<&str, String> {
            let mut parts = challenge.split(',');
            let found = parts.find_map(|part| part.strip_prefix(name));
            found.ok_or_else(|| format!("a challenge without {name:?}: {challenge}"))
        };
        let (nonce, salt, iterations) = (value("r=")?, value("s=")?, value("i=")?);
        if !nonce.starts_with(&self.nonce) || nonce == self.nonce {
            return Err("the server's nonce does not go on from ours".to_owned());
        }
        let salt = openssl::base64::decode_block(salt).map_err(|error| error.to_string())?;
        let iterations = iterations.parse().map_err(|_| "no iterations".to_owned())?;
        let mut binding = self.gs2.as_bytes().to_vec();
        if self.gs2.starts_with("p=") {
            binding.extend_from_slice(EXPORTER);
        }
        let binding = openssl::base64::encode_block(&binding);
        let without_proof = format!("c={binding},r={nonce}");
        let signed = format!("{},{challenge},{without_proof}", self.bare);
        let salted = salted(&self.password, &salt, iterations, self.digest);
        let client_key = hmac(self.digest, &salted, b"Client Key");
        let stored_key = hash(self.digest, &client_key).unwrap();
        let signature = hmac(self.digest, &stored_key, signed.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(&signature)
            .map(|(a, b)| a ^ b)
            .collect();
        let server_key = hmac(self.digest, &salted, b"Server Key");
        self.server_signature = hmac(self.digest, &server_key, signed.as_bytes());
        let proof = openssl::base64::encode_block(&proof);
        Ok(format!("{without_proof},p={proof}"))
    }

    /// Whether the server has proven that it knows the password, too.
    pub fn is_proven_by(&self, success: &str) -> bool {
        let signature = openssl::base64::encode_block(&self.server_signature);
        success == format!("v={signature}")
    }
}

fn hmac(digest: MessageDigest, key: &[u8], data: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(key).unwrap();
    let mut signer = Signer::new(digest, &key).unwrap();
    signer.sign_oneshot_to_vec(data).unwrap()
}

/// The salted password; kept, since all runs together log in thousands of times.
fn salted(password: &str, salt: &[u8], iterations: usize, digest: MessageDigest) -> Vec<u8> {
    type Known = Mutex<HashMap<(String, Vec<u8>, usize, usize), Vec<u8>>>;
    static KNOWN: OnceLock<Known> = OnceLock::new();
    let key = (
        password.to_owned(),
        salt.to_vec(),
        iterations,
        digest.size(),
    );
    let mut known = KNOWN.get_or_init(Known::default).lock().unwrap();
    known
        .entry(key)
        .or_insert_with(|| {
            let mut out = vec![0; digest.size()];
            pbkdf2_hmac(password.as_bytes(), salt, iterations, digest, &mut out).unwrap();
            out
        })
        .clone()
}
