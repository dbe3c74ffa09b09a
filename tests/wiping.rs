//! No secret of a login stays in memory that is given back, whatever comes of its message: it could be
//! read long after, from a core or another's buffer. This program's allocator looks into each block that
//! it takes back.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::hash::{MessageDigest, hash};
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use stanzad::sasl::scram::{Bindings, ClientFirst};
use stanzad::sasl::simple::{Plain, decode};
use stanzad::sasl::{Hash, SaslFailure, Verifier};

const SECRET: &str = "r0m30myr0m30r0m30myr0m30";

struct Watching;

#[global_allocator]
static ALLOCATOR: Watching = Watching;

thread_local! {
    /// What is looked for, and in how many blocks it was.
    static SOUGHT: Cell<Option<&'static [u8]>> = const { Cell::new(None) };
    static FOUND: Cell<usize> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator is made of it")]
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // So that all of a block can be read. What grows is allocated anew, which the trait does.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(sought) = SOUGHT.get() {
            let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
            if bytes.windows(sought.len()).any(|window| window == sought) {
                FOUND.set(FOUND.get() + 1);
            }
        }
        unsafe { System.dealloc(block, layout) }
    }
}

/// In how many blocks the secret was that this has given back.
fn left_behind(secret: &'static [u8], work: impl FnOnce()) -> usize {
    FOUND.set(0);
    SOUGHT.set(Some(secret));
    work();
    SOUGHT.set(None);
    FOUND.get()
}

/// Without this the others could not fail.
#[test]
fn what_is_not_wiped_is_found() {
    let left = left_behind(SECRET.as_bytes(), || {
        let mut copy = String::from(SECRET);
        copy.push_str("and more, so that it moves");
    });
    assert_eq!(left, 2);
}

/// RFC 4616 §2, RFC 6120 §6.5.5, §6.5.8: a message that is right, one that ends in what is no base64, and
/// those that PLAIN does not know.
#[test]
fn a_password_is_wiped_however_its_message_ends() {
    let message = |tail: &[u8]| {
        let mut message = format!("\0juliet\0{SECRET}").into_bytes();
        message.extend_from_slice(tail);
        STANDARD.encode(message)
    };
    let right = message(b"");
    let malformed = Some(SaslFailure::MalformedRequest);
    let not_base64 = Some(SaslFailure::IncorrectEncoding);
    for (text, failure) in [
        (right.clone(), None),
        (format!("{right}!"), not_base64),
        (format!("{right}A"), not_base64),
        (format!("{right}===="), not_base64),
        (message(b"\0"), malformed),
        (message(b"\xff"), malformed),
    ] {
        let left = left_behind(SECRET.as_bytes(), || {
            let outcome = decode(&text).and_then(|data| Plain::parse(&data.unwrap()));
            assert_eq!(outcome.err(), failure, "{text}");
        });
        assert_eq!(left, 0, "{text}");
    }
}

fn mac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(key).unwrap();
    let mut signer = Signer::new(MessageDigest::sha1(), &key).unwrap();
    signer.update(data).unwrap();
    signer.sign_to_vec().unwrap()
}

/// RFC 5802 §5, §9: who has the client's key can log in.
#[test]
fn the_key_that_a_proof_shows_is_wiped() {
    let salt = STANDARD.decode("QSXCR+Q6sek8bf92").unwrap();
    let mut salted = [0; 20];
    pbkdf2_hmac(b"pencil", &salt, 4096, MessageDigest::sha1(), &mut salted).unwrap();
    let client_key: &'static [u8] = mac(&salted, b"Client Key").leak();
    let verifier = Verifier {
        hash: Hash::Sha1,
        salt,
        iterations: 4096,
        stored_key: hash(MessageDigest::sha1(), client_key).unwrap().to_vec(),
        server_key: mac(&salted, b"Server Key"),
    };
    const PROOF: &str = "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=";
    let proof: &'static [u8] = STANDARD.decode(PROOF).unwrap().leak();
    let last = "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=";
    for secret in [client_key, proof] {
        for (tail, is_right) in [("", true), ("!", false)] {
            let first = b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL";
            let bindings = Bindings::default();
            let first = ClientFirst::parse(first, Hash::Sha1, false, false, &bindings).unwrap();
            let (exchange, _) = first.challenge(&verifier, true, "3rfcNHYJY1ZVvWVs7j", None);
            let last = format!("{last}{PROOF}{tail}");
            let left = left_behind(secret, || {
                assert_eq!(exchange.finish(last.as_bytes()).is_ok(), is_right);
            });
            assert_eq!(left, 0, "{last}");
        }
    }
}
