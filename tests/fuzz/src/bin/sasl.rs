//! SASL on the server's side: nobody is let in whom an independent computation would not let in,
//! and what a message says is read as it stands there.
//!
//! An input has three lines: a letter for the set-up, the client-first-message, the
//! client-final-message. In the last, `%N` stands for the right nonce, `%C` for the right channel
//! binding, `%P` for the right proof and `%W` for that of another password: a fuzzer finds no proof
//! by itself, and what happens near a right one is what counts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::sha::{sha1, sha256, sha512};
use stanzad::sasl::scram::{Bindings, ClientFirst};
use stanzad::sasl::simple::{self, Plain};
use stanzad::sasl::{Credentials, Hash, Verifier};
use stanzad_fuzz::run;

const PASSWORD: &str = "r0m30myr0m30";
const SALT: &[u8] = b"sixteen octets s";
const SERVER_NONCE: &str = "3rfcNHYJY1ZVvWVs7j";
const EXPORTER: &[u8] = b"exported keying material of 32 by";
const END_POINT: &[u8] = b"hash of a certificate";

/// The three keys of one hash (RFC 5802 §3).
struct Keys {
    client: Vec<u8>,
    other_client: Vec<u8>,
    verifier: Verifier,
}

fn main() {
    let keys = Hash::ALL.map(Keys::new);
    run(|input| {
        let mut lines = input.splitn(3, |byte| *byte == b'\n');
        let mut next = || lines.next().unwrap_or_default();
        let (setup, first, last) = (next(), next(), next());
        let setup = setup.first().copied().unwrap_or_default();
        scram(&keys[usize::from(setup) % 3], setup / 3, first, last);
        for message in [first, last, input] {
            single(&keys[1].verifier, message);
        }
    });
}

/// One exchange. The bits of the set-up: `-PLUS` chosen, `-PLUS` offered, account known.
fn scram(keys: &Keys, setup: u8, first: &[u8], last: &[u8]) {
    let hash = keys.verifier.hash;
    let (plus, offered, known) = (setup & 1 != 0, setup & 2 != 0, setup & 4 == 0);
    let bindings = match offered {
        true => Bindings {
            exporter: Some(EXPORTER.to_vec()),
            end_point: Some(END_POINT.to_vec()),
        },
        false => Bindings::default(),
    };
    let Ok(parsed) = ClientFirst::parse(first, hash, plus, offered, &bindings) else {
        return;
    };
    let first = std::str::from_utf8(first).expect("what is taken is UTF-8");
    let gs2 = Gs2::of(first);
    assert_eq!(parsed.username, gs2.username, "another user");
    assert_eq!(
        parsed.authzid, gs2.authzid,
        "another authorization identity"
    );
    let (exchange, server_first) = parsed.challenge(&keys.verifier, known, SERVER_NONCE, None);
    let server_first = String::from_utf8(server_first).expect("our own text");
    let nonce = format!("{}{SERVER_NONCE}", gs2.nonce);
    assert!(server_first.starts_with(&format!("r={nonce},s=")));

    let binding = STANDARD.encode(gs2.channel_binding());
    let before_proof = format!("{},{server_first},", gs2.bare);
    let last = filled_in(keys, &before_proof, last, &nonce, &binding);
    let accepted = exchange.finish(&last);
    let is_proven = is_right(keys, &before_proof, &last, &nonce, &binding)
        && known
        && gs2.is_bound_as_offered(plus, offered);
    match accepted {
        Ok(signature) => {
            assert!(is_proven, "accepted without a proof");
            let without = without_proof(&last).expect("it was accepted");
            let message = format!("{before_proof}{without}");
            let right = hmac(hash, &keys.verifier.server_key, message.as_bytes());
            let right = format!("v={}", STANDARD.encode(right));
            assert_eq!(signature, right.as_bytes(), "another server signature");
        }
        // Extensions that are not understood may be refused beside a right proof.
        Err(_) => assert!(
            !is_proven || without_proof(&last).is_some_and(|text| text.split(',').count() > 2),
            "refused with a right proof"
        ),
    }
}

/// What a client-first-message says, found in another way than the server's.
struct Gs2<'a> {
    flag: &'a str,
    header: &'a str,
    authzid: Option<String>,
    bare: &'a str,
    username: String,
    nonce: &'a str,
}

impl Gs2<'_> {
    fn of(first: &str) -> Gs2<'_> {
        let commas: Vec<usize> = first.match_indices(',').map(|(at, _)| at).collect();
        let bare = &first[commas[1] + 1..];
        let plain = |name: &str| name.replace("=2C", ",").replace("=3D", "=");
        let authzid = &first[commas[0] + 1..commas[1]];
        let mut attributes = bare.split(',');
        Gs2 {
            flag: &first[..commas[0]],
            header: &first[..=commas[1]],
            authzid: (!authzid.is_empty()).then(|| plain(&authzid["a=".len()..])),
            bare,
            username: plain(&attributes.next().unwrap_or_default()["n=".len()..]),
            nonce: &attributes.next().unwrap_or_default()["r=".len()..],
        }
    }

    fn channel_binding(&self) -> Vec<u8> {
        let data = match self.flag {
            "p=tls-exporter" => EXPORTER,
            "p=tls-server-end-point" => END_POINT,
            _ => b"",
        };
        [self.header.as_bytes(), data].concat()
    }

    /// RFC 5802 §6: a bound exchange has `-PLUS`, and `y` says that none was offered.
    fn is_bound_as_offered(&self, plus: bool, offered: bool) -> bool {
        match self.flag {
            "n" => !plus,
            "y" => !plus && !offered,
            "p=tls-exporter" | "p=tls-server-end-point" => plus && offered,
            _ => false,
        }
    }
}

fn filled_in(keys: &Keys, before: &str, last: &[u8], nonce: &str, binding: &str) -> Vec<u8> {
    let Ok(last) = std::str::from_utf8(last) else {
        return last.to_vec();
    };
    let last = last.replace("%N", nonce).replace("%C", binding);
    let Some((without, _)) = last.rsplit_once(",p=") else {
        return last.into_bytes();
    };
    let message = format!("{before}{without}");
    let right = STANDARD.encode(proof(keys, &keys.client, &message));
    let wrong = STANDARD.encode(proof(keys, &keys.other_client, &message));
    last.replace("%P", &right)
        .replace("%W", &wrong)
        .into_bytes()
}

fn without_proof(last: &[u8]) -> Option<&str> {
    let last = std::str::from_utf8(last).ok()?;
    last.rfind(",p=").map(|at| &last[..at])
}

/// Whether the message ends with the proof of the password for all that was said, on this channel.
fn is_right(keys: &Keys, before: &str, last: &[u8], nonce: &str, binding: &str) -> bool {
    let Some(without) = without_proof(last) else {
        return false;
    };
    let message = format!("{before}{without}");
    let right = STANDARD.encode(proof(keys, &keys.client, &message));
    last == format!("{without},p={right}").as_bytes()
        && (without == format!("c={binding},r={nonce}")
            || without.starts_with(&format!("c={binding},r={nonce},")))
}

/// `ClientProof` of RFC 5802 §3.
fn proof(keys: &Keys, client: &[u8], message: &str) -> Vec<u8> {
    let hash = keys.verifier.hash;
    let signature = hmac(hash, &keys.verifier.stored_key, message.as_bytes());
    client.iter().zip(signature).map(|(a, b)| a ^ b).collect()
}

impl Keys {
    /// Of one round, so that thousands of passwords a second can be tried.
    fn new(hash: Hash) -> Keys {
        let client = |password: &str| {
            let salted = hmac(hash, password.as_bytes(), &[SALT, &[0, 0, 0, 1]].concat());
            (
                hmac(hash, &salted, b"Client Key"),
                hmac(hash, &salted, b"Server Key"),
            )
        };
        let (key, server_key) = client(PASSWORD);
        Keys {
            verifier: Verifier {
                hash,
                salt: SALT.to_vec(),
                iterations: 1,
                stored_key: digest(hash, &key),
                server_key,
            },
            client: key,
            other_client: client("another password").0,
        }
    }
}

fn digest(hash: Hash, data: &[u8]) -> Vec<u8> {
    match hash {
        Hash::Sha1 => sha1(data).to_vec(),
        Hash::Sha256 => sha256(data).to_vec(),
        Hash::Sha512 => sha512(data).to_vec(),
    }
}

/// RFC 2104 for keys that are no longer than a block, as all here are.
fn hmac(hash: Hash, key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut block = vec![0; if hash == Hash::Sha512 { 128 } else { 64 }];
    block[..key.len()].copy_from_slice(key);
    let padded = |pad: u8| block.iter().map(|byte| byte ^ pad).collect::<Vec<_>>();
    let inner = digest(hash, &[&padded(0x36), data].concat());
    digest(hash, &[padded(0x5c), inner].concat())
}

/// The mechanisms of one message, and base64.
fn single(verifier: &Verifier, message: &[u8]) {
    if let Ok(plain) = Plain::parse(message) {
        let authzid = plain.authzid.as_deref().unwrap_or_default();
        let again = format!("{authzid}\0{}\0{}", plain.username, *plain.password);
        assert_eq!(again.as_bytes(), message, "PLAIN is read as something else");
        let credentials = Credentials {
            scram: vec![verifier.clone()],
            bcrypt: None,
        };
        let is_accepted = credentials.verify(&plain.password);
        assert_eq!(is_accepted, *plain.password == PASSWORD, "PLAIN");
    }
    if let Ok(authzid) = simple::parse_external(message) {
        assert_eq!(authzid.unwrap_or_default().as_bytes(), message, "EXTERNAL");
    }
    if simple::check_anonymous(message).is_ok() {
        assert!(message.len() <= 4 * 255, "a long token of ANONYMOUS");
    }
    if let Ok(text) = std::str::from_utf8(message)
        && let Ok(decoded) = simple::decode(text)
    {
        let again = decoded
            .map(|data| simple::encode(&data))
            .unwrap_or_default();
        assert_eq!(again, text, "two texts in base64 for one message");
    }
}
