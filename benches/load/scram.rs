//! The client's side of SCRAM (RFC 5802, RFC 7677), with the costly keys kept between logins.
//!
//! Without the cache, measuring logins would measure PBKDF2 in the generator: the server stores its
//! keys and never derives them. Channel binding is not used (`n`): it costs a server next to nothing.

use openssl::error::ErrorStack;
use openssl::hash::{MessageDigest, hash};
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::PKey;
use openssl::sign::Signer;

/// A hash that SCRAM is used with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha1,
    Sha256,
    Sha512,
}

impl Hash {
    fn digest(self) -> MessageDigest {
        match self {
            Hash::Sha1 => MessageDigest::sha1(),
            Hash::Sha256 => MessageDigest::sha256(),
            Hash::Sha512 => MessageDigest::sha512(),
        }
    }
}

/// The keys of an account for one hash, salt and iteration count (RFC 5802 §3).
#[derive(Clone, Debug)]
pub struct Keys {
    hash: Hash,
    salt: Vec<u8>,
    iterations: usize,
    client_key: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl Keys {
    fn derive(hash: Hash, password: &str, salt: &[u8], iterations: usize) -> Result<Keys, String> {
        let digest = hash.digest();
        let mut salted = vec![0; digest.size()];
        pbkdf2_hmac(password.as_bytes(), salt, iterations, digest, &mut salted).map_err(broken)?;
        let client_key = hmac(hash, &salted, b"Client Key")?;
        Ok(Keys {
            hash,
            salt: salt.to_vec(),
            iterations,
            stored_key: self::hash(digest, &client_key).map_err(broken)?.to_vec(),
            server_key: hmac(hash, &salted, b"Server Key")?,
            client_key,
        })
    }

    fn is_for(&self, hash: Hash, salt: &[u8], iterations: usize) -> bool {
        self.hash == hash && self.salt == salt && self.iterations == iterations
    }
}

/// One authentication that waits for the server's challenge.
#[derive(Debug)]
pub struct Exchange {
    hash: Hash,
    first_bare: String,
    nonce: String,
}

/// An authentication that waits for the server's proof.
#[derive(Debug)]
pub struct Proven {
    server_signature: Vec<u8>,
}

impl Exchange {
    /// Begins with a nonce of printable characters; also yields the client-first-message.
    pub fn new(hash: Hash, user: &str, nonce: String) -> (Exchange, String) {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={user},r={nonce}");
        let first = format!("n,,{first_bare}");
        (
            Exchange {
                hash,
                first_bare,
                nonce,
            },
            first,
        )
    }

    /// Answers the challenge; `keys` is the account's cache.
    pub fn answer(
        self,
        challenge: &[u8],
        password: &str,
        keys: &mut Option<Keys>,
    ) -> Result<(Proven, String), String> {
        let challenge = std::str::from_utf8(challenge).map_err(|e| e.to_string())?;
        let field = |name: &str| {
            challenge
                .split(',')
                .find_map(|part| part.strip_prefix(name))
                .ok_or_else(|| format!("a challenge without {name}: {challenge}"))
        };
        let nonce = field("r=")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the server's nonce does not extend ours".into());
        }
        let salt = decode(field("s=")?)?;
        let iterations = field("i=")?
            .parse()
            .map_err(|_| "iterations are no number")?;
        if !keys
            .as_ref()
            .is_some_and(|k| k.is_for(self.hash, &salt, iterations))
        {
            *keys = Some(Keys::derive(self.hash, password, &salt, iterations)?);
        }
        let keys = keys.as_ref().expect("they were derived above");
        // `biws` is the base64 of the GS2 header `n,,`.
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{challenge},{without_proof}", self.first_bare);
        let mut proof = hmac(self.hash, &keys.stored_key, message.as_bytes())?;
        proof
            .iter_mut()
            .zip(&keys.client_key)
            .for_each(|(p, k)| *p ^= k);
        let server_signature = hmac(self.hash, &keys.server_key, message.as_bytes())?;
        let last = format!("{without_proof},p={}", encode(&proof));
        Ok((Proven { server_signature }, last))
    }
}

impl Proven {
    /// Checks the server-final-message (RFC 5802 §7).
    pub fn verify(&self, last: &[u8]) -> Result<(), String> {
        let last = std::str::from_utf8(last).map_err(|e| e.to_string())?;
        let proof = last.split(',').find_map(|part| part.strip_prefix("v="));
        match proof.map(decode) {
            Some(Ok(proof)) if proof == self.server_signature => Ok(()),
            _ => Err(format!(
                "the server did not prove that it knows the password: {last}"
            )),
        }
    }
}

/// Base64 on one line.
pub fn encode(bytes: &[u8]) -> String {
    openssl::base64::encode_block(bytes)
}

/// Decodes base64; a lone `=` is nothing (RFC 6120 §6.4.2).
pub fn decode(text: &str) -> Result<Vec<u8>, String> {
    match text.trim() {
        "" | "=" => Ok(Vec::new()),
        text => openssl::base64::decode_block(text).map_err(|_| format!("no base64: {text}")),
    }
}

fn hmac(hash: Hash, key: &[u8], message: &[u8]) -> Result<Vec<u8>, String> {
    let key = PKey::hmac(key).map_err(broken)?;
    let mut signer = Signer::new(hash.digest(), &key).map_err(broken)?;
    signer.sign_oneshot_to_vec(message).map_err(broken)
}

fn broken(error: ErrorStack) -> String {
    format!("OpenSSL: {error}")
}

/// The exchanges of RFC 5802 §5 and RFC 7677 §3, run by `load check`.
pub fn check() {
    let vectors = [
        (
            Hash::Sha1,
            "fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            "p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ),
        (
            Hash::Sha256,
            "rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ),
    ];
    for (hash, nonce, challenge, proof, last) in vectors {
        let mut keys = None;
        for _ in 0..2 {
            let (exchange, _) = Exchange::new(hash, "user", nonce.into());
            let (proven, answer) = exchange
                .answer(challenge.as_bytes(), "pencil", &mut keys)
                .expect("the challenge is well formed");
            assert!(answer.ends_with(proof), "{hash:?}: {answer}");
            proven
                .verify(last.as_bytes())
                .expect("the server's proof is right");
            assert!(proven.verify(b"v=AAAA").is_err());
        }
    }
}
