//! Server Dialback (XEP-0220 1.1.1) in its three roles, without a stream to speak on.
//!
//! [`Secret`] makes and checks keys (XEP-0185), [`Packet`] is what is said, and a [`Ledger`] holds, for
//! one stream, who has asked what, so that nobody answers what was asked of others. Whether a peer needs
//! dialback is `policy::s2s`'s to say.

mod ledger;
mod packet;

pub use ledger::{Action, Checked, Ledger, NotHere, Ruling, Unreached};
pub use packet::{Answer, Body, Packet, Trouble};

use ring::hmac;

use crate::jid::Domain;
use crate::stanza::Condition;
use crate::stream::hex;

/// A local and a remote domain, between which stanzas are to flow. Which one is the sender domain and
/// which the target domain of XEP-0220 §1.3 is told by who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// Ours.
    pub local: Domain,
    /// The peer's.
    pub remote: Domain,
}

/// The secret of an authoritative server, of which dialback keys are made (XEP-0185 §2). All that can
/// be checked about a key is made anew from the request, so none is kept.
pub struct Secret(hmac::Key);

impl Secret {
    /// The secret as configured or drawn. It is used as the hexadecimal form of its SHA-256.
    pub fn new(secret: &[u8]) -> Secret {
        let hashed = hex(&openssl::sha::sha256(secret));
        Secret(hmac::Key::new(hmac::HMAC_SHA256, hashed.as_bytes()))
    }

    /// The key by which the originating server shows to the receiving server, on the stream to which
    /// the latter gave this id, that it belongs to us.
    pub fn key(&self, receiving: &Domain, originating: &Domain, stream_id: &str) -> String {
        let data = format!("{receiving} {originating} {stream_id}");
        hex(hmac::sign(&self.0, data.as_bytes()).as_ref())
    }

    /// Whether a key is ours for these domains and this stream. How long it takes does not tell how
    /// much of a wrong key is right.
    pub fn made(&self, key: &str, receiving: &Domain, originating: &Domain, id: &str) -> bool {
        let expected = self.key(receiving, originating, id);
        key.len() == expected.len() && openssl::memcmp::eq(key.as_bytes(), expected.as_bytes())
    }

    /// What the authoritative server answers to a request for verification (XEP-0220 §2.2.2); the
    /// pair's local domain is the one that the key is about.
    pub fn answer(&self, pair: Pair, id: String, key: &str, serves: bool) -> Packet {
        let answer = if !serves {
            Answer::Error(Trouble::new(
                Condition::ItemNotFound,
                "This server does not serve that domain",
            ))
        } else if self.made(key, &pair.remote, &pair.local, &id) {
            Answer::Valid
        } else {
            Answer::Invalid
        };
        Packet::to_peer(pair, Body::Verified { id, answer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    /// XEP-0185 §3, XEP-0220 §2.1.1 and §2.2.2.
    #[test]
    fn keys_are_those_of_the_examples() {
        for (secret, receiving, originating, id, key) in [
            (
                "s3cr3tf0rd14lb4ck",
                "xmpp.example.com",
                "example.org",
                "D60000229F",
                "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643",
            ),
            (
                "s3cr3tf0rd14lb4ck",
                "montague.example",
                "capulet.example",
                "D60000229F",
                "b4835385f37fe2895af6c196b59097b16862406db80559900d96bf6fa7d23df3",
            ),
            (
                "d14lb4ck43v3r",
                "capulet.example",
                "montague.example",
                "417GAF25",
                "225cc5aa6a071133249d25fef42ae516fc7a86c523aa1c6980a7f73e784c972d",
            ),
        ] {
            let secret = Secret::new(secret.as_bytes());
            assert_eq!(
                secret.key(&domain(receiving), &domain(originating), id),
                key
            );
            assert!(secret.made(key, &domain(receiving), &domain(originating), id));
        }
    }

    #[test]
    fn a_key_is_good_for_one_pair_and_stream_and_secret() {
        let (a, b) = (domain("a.example"), domain("b.example"));
        let secret = Secret::new(b"secret");
        let key = secret.key(&a, &b, "1");
        assert!(secret.made(&key, &a, &b, "1"));
        assert!(!secret.made(&key, &b, &a, "1"));
        assert!(!secret.made(&key, &a, &b, "2"));
        assert!(!secret.made(&key, &a, &domain("c.example"), "1"));
        assert!(!Secret::new(b"other").made(&key, &a, &b, "1"));
        for wrong in ["", &key[1..], &format!("{key}0"), &key.to_uppercase()] {
            assert!(!secret.made(wrong, &a, &b, "1"), "{wrong}");
        }
    }

    /// XEP-0220 §2.2.2.
    #[test]
    fn the_authoritative_server_answers_for_its_domains() {
        let secret = Secret::new(b"secret");
        let pair = || Pair {
            local: domain("montague.example"),
            remote: domain("capulet.example"),
        };
        let key = secret.key(&pair().remote, &pair().local, "417GAF25");
        let answer = |key: &str, serves| {
            let packet = secret.answer(pair(), "417GAF25".to_owned(), key, serves);
            assert_eq!(packet.from, pair().local);
            assert_eq!(packet.to, pair().remote);
            match packet.body {
                Body::Verified { id, answer } if id == "417GAF25" => answer,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(answer(&key, true), Answer::Valid);
        assert_eq!(answer("abc", true), Answer::Invalid);
        let Answer::Error(trouble) = answer(&key, false) else {
            panic!("answered for a domain that is not served");
        };
        assert_eq!(trouble.condition, "item-not-found");
    }
}
