//! SCRAM against the examples of its specifications, and against a client of our own.

use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::PKey;
use openssl::sign::Signer;

use super::*;
use crate::sasl::credentials::SALT_BYTES;
use crate::sasl::decoy::{ScramForm, fake_verifier};

pub(super) const SECRET: [u8; 32] = [7; 32];
const ITERATIONS: u32 = 4096;
pub(super) const FORM: ScramForm = ScramForm {
    hash: Hash::Sha256,
    salt_bytes: SALT_BYTES,
    iterations: ITERATIONS,
};

fn verifier(password: &str, hash: Hash, salt: &str, iterations: u32) -> Verifier {
    Verifier::derive(password, hash, STANDARD.decode(salt).unwrap(), iterations).unwrap()
}

pub(super) fn unbound() -> Bindings {
    Bindings::default()
}

pub(super) fn bound() -> Bindings {
    Bindings {
        exporter: Some(b"exporter data".to_vec()),
        end_point: Some(b"certificate".to_vec()),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// The client's side (RFC 5802 §3), written anew so that both sides cannot share a mistake.
struct Client {
    hash: Hash,
    password: &'static str,
    header: String,
    binding: Vec<u8>,
    bare: String,
}

impl Client {
    fn new(hash: Hash, password: &'static str, header: &str, binding: &[u8]) -> Client {
        Client {
            hash,
            password,
            header: header.to_owned(),
            binding: binding.to_vec(),
            bare: "n=juliet,r=clientnonce".to_owned(),
        }
    }

    fn first(&self) -> Vec<u8> {
        format!("{}{}", self.header, self.bare).into_bytes()
    }

    fn attribute<'a>(message: &'a str, name: &str) -> &'a str {
        message
            .split(',')
            .find_map(|a| a.strip_prefix(name))
            .unwrap()
    }

    /// The client-final-message and the signature that the server must answer.
    fn last(&self, server_first: &str, extensions: &str) -> (String, String) {
        let nonce = Self::attribute(server_first, "r=");
        self.last_with_nonce(server_first, nonce, extensions)
    }

    fn last_with_nonce(
        &self,
        server_first: &str,
        nonce: &str,
        extensions: &str,
    ) -> (String, String) {
        let salt = STANDARD
            .decode(Self::attribute(server_first, "s="))
            .unwrap();
        let rounds = Self::attribute(server_first, "i=").parse().unwrap();
        let mut salted = vec![0; self.hash.size()];
        let password = self.password.as_bytes();
        pbkdf2_hmac(password, &salt, rounds, self.hash.digest(), &mut salted).unwrap();
        let mac = |key: &[u8], data: &str| {
            let key = PKey::hmac(key).unwrap();
            let mut signer = Signer::new(self.hash.digest(), &key).unwrap();
            signer.update(data.as_bytes()).unwrap();
            signer.sign_to_vec().unwrap()
        };
        let client_key = mac(&salted, "Client Key");
        let stored_key = openssl::hash::hash(self.hash.digest(), &client_key).unwrap();
        let c = STANDARD.encode([self.header.as_bytes(), &self.binding].concat());
        let without_proof = format!("c={c},r={nonce}{extensions}");
        let auth_message = format!("{},{server_first},{without_proof}", self.bare);
        let signature = mac(&stored_key, &auth_message);
        let proof: Vec<u8> = client_key
            .iter()
            .zip(&signature)
            .map(|(k, s)| k ^ s)
            .collect();
        let server_signature = mac(&mac(&salted, "Server Key"), &auth_message);
        (
            format!("{without_proof},p={}", STANDARD.encode(proof)),
            format!("v={}", STANDARD.encode(server_signature)),
        )
    }
}

/// RFC 5802 §5.
#[test]
fn the_example_of_rfc_5802_succeeds() {
    let first = b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL";
    let first = ClientFirst::parse(first, Hash::Sha1, false, false, &unbound()).unwrap();
    assert_eq!(first.username, "user");
    assert_eq!(first.authzid, None);
    let keys = verifier("pencil", Hash::Sha1, "QSXCR+Q6sek8bf92", 4096);
    let (exchange, challenge) = first.challenge(&keys, true, "3rfcNHYJY1ZVvWVs7j", None);
    assert_eq!(
        text(challenge),
        "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
    );
    let answer = exchange.finish(
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    );
    assert_eq!(text(answer.unwrap()), "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=");
}

/// RFC 7677 §3.
#[test]
fn the_example_of_rfc_7677_succeeds() {
    let first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    let first = ClientFirst::parse(first, Hash::Sha256, false, false, &unbound()).unwrap();
    let keys = verifier("pencil", Hash::Sha256, "W22ZaJ0SNY7soEsUEjb6gQ==", 4096);
    let (exchange, challenge) =
        first.challenge(&keys, true, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", None);
    assert_eq!(
        text(challenge),
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let answer = exchange.finish(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
          p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    );
    assert_eq!(
        text(answer.unwrap()),
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    );
}

/// XEP-0474 §6.3: binding, hash of the offer, and an extension of the client's.
#[test]
fn the_example_of_xep_0474_succeeds() {
    let bindings = Bindings {
        exporter: Some(b"THIS IS FAKE CB DATA".to_vec()),
        end_point: None,
    };
    let first = b"p=tls-exporter,,n=user,r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6";
    let first = ClientFirst::parse(first, Hash::Sha1, true, true, &bindings).unwrap();
    let keys = verifier("pencil", Hash::Sha1, "QSXCR+Q6sek8bf92", 4096);
    let offer = downgrade_string(
        &[Mechanism::ScramSha1Plus, Mechanism::ScramSha1],
        &[Binding::TlsServerEndPoint, Binding::TlsExporter],
    );
    assert_eq!(
        offer,
        "SCRAM-SHA-1\x1eSCRAM-SHA-1-PLUS\x1ftls-exporter\x1etls-server-end-point"
    );
    let server_nonce = "a09117a6-ac50-4f2f-93f1-93799c2bddf6";
    let (exchange, challenge) = first.challenge(&keys, true, server_nonce, Some(&offer));
    assert_eq!(
        text(challenge),
        "r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6a09117a6-ac50-4f2f-93f1-93799c2bddf6,\
         s=QSXCR+Q6sek8bf92,i=4096,h=G6k/rBLDqgOhRRaCuuatSDFkJ08="
    );
    let answer = exchange.finish(
        b"c=cD10bHMtZXhwb3J0ZXIsLFRISVMgSVMgRkFLRSBDQiBEQVRB,\
          r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6a09117a6-ac50-4f2f-93f1-93799c2bddf6,\
          x=19C6532F-1CF4-4A27-A18D-DC9CEA41BBB3,p=M/SIDjT+dfcxUh89jZEypRvFxB4=",
    );
    assert_eq!(text(answer.unwrap()), "v=MQrMPvv7yv4x4Cq4W4Ih25EqS2c=");
}

/// XEP-0474 §6.1 step 3: without XEP-0440 there is no %x1F.
#[test]
fn an_offer_without_bindings_ends_with_its_mechanisms() {
    let offer = downgrade_string(&[Mechanism::ScramSha256, Mechanism::Plain], &[]);
    assert_eq!(offer, "PLAIN\x1eSCRAM-SHA-256");
}

#[test]
fn every_hash_succeeds_with_every_binding_and_without() {
    let bindings = bound();
    let cases: [(&str, &[u8], bool); 4] = [
        ("n,,", b"", false),
        ("n,a=juliet@example.org,", b"", false),
        ("p=tls-exporter,,", b"exporter data", true),
        (
            "p=tls-server-end-point,a=juliet@example.org,",
            b"certificate",
            true,
        ),
    ];
    for hash in Hash::ALL {
        let keys = verifier("r0m30", hash, "c2FsdHNhbHQ=", ITERATIONS);
        for (header, data, plus) in cases {
            let client = Client::new(hash, "r0m30", header, data);
            let first = ClientFirst::parse(&client.first(), hash, plus, true, &bindings).unwrap();
            assert_eq!(first.authzid.is_some(), header.contains("a="));
            let (exchange, challenge) = first.challenge(&keys, true, "servernonce", Some("offer"));
            let (last, signature) = client.last(&text(challenge), "");
            let answer = exchange.finish(last.as_bytes());
            assert_eq!(answer.map(text), Ok(signature), "{hash} {header}");
        }
    }
}

/// RFC 5802 §6: a client that sees no -PLUS, and none was offered.
#[test]
fn a_client_that_could_bind_may_log_in_where_nothing_binds() {
    let client = Client::new(Hash::Sha256, "r0m30", "y,,", b"");
    let keys = verifier("r0m30", Hash::Sha256, "c2FsdA==", ITERATIONS);
    let first =
        ClientFirst::parse(&client.first(), Hash::Sha256, false, false, &unbound()).unwrap();
    let (exchange, challenge) = first.challenge(&keys, true, "servernonce", None);
    let (last, _) = client.last(&text(challenge), "");
    assert!(exchange.finish(last.as_bytes()).is_ok());
}

/// RFC 5802 §6: the flag "y" where -PLUS was offered means that it was taken out of the offer.
#[test]
fn a_stripped_plus_offer_is_refused() {
    for plus in [false, true] {
        let refusal =
            ClientFirst::parse_explained(b"y,,n=juliet,r=abc", Hash::Sha256, plus, true, &bound())
                .unwrap_err();
        assert_eq!(refusal.failure, SaslFailure::NotAuthorized);
        assert!(refusal.reason.contains("changed the offer"));
    }
}

#[test]
fn a_wrong_channel_binding_is_refused() {
    let keys = verifier("r0m30", Hash::Sha256, "c2FsdA==", ITERATIONS);
    // The man in the middle has a connection of his own on either side; or the header is changed.
    let swapped: [(&str, &str, &[u8]); 5] = [
        (
            "p=tls-exporter,,",
            "p=tls-exporter,,",
            b"another connection",
        ),
        ("p=tls-exporter,,", "p=tls-exporter,,", b""),
        (
            "p=tls-exporter,,",
            "p=tls-server-end-point,,",
            b"certificate",
        ),
        (
            "p=tls-exporter,,",
            "p=tls-exporter,a=romeo,",
            b"exporter data",
        ),
        ("p=tls-exporter,,", "n,,", b""),
    ];
    for (sent, signed, data) in swapped {
        let mut client = Client::new(Hash::Sha256, "r0m30", sent, data);
        let first =
            ClientFirst::parse(&client.first(), Hash::Sha256, true, true, &bound()).unwrap();
        let (exchange, challenge) = first.challenge(&keys, true, "servernonce", None);
        client.header = signed.to_owned();
        let (last, _) = client.last(&text(challenge), "");
        let refusal = exchange.finish_explained(last.as_bytes()).unwrap_err();
        assert_eq!(refusal.failure, SaslFailure::NotAuthorized);
        assert!(
            refusal.reason.contains("channel binding"),
            "{signed} {data:?}"
        );
    }
}

#[test]
fn a_binding_that_the_connection_does_not_have_is_refused() {
    let only_end_point = Bindings {
        exporter: None,
        ..bound()
    };
    assert_eq!(only_end_point.available(), [Binding::TlsServerEndPoint]);
    for first in [
        "p=tls-exporter,,n=a,r=b",
        "p=tls-unique,,n=a,r=b",
        "p=TLS-EXPORTER,,n=a,r=b",
    ] {
        let parsed = ClientFirst::parse(first.as_bytes(), Hash::Sha1, true, true, &only_end_point);
        assert_eq!(parsed.unwrap_err(), SaslFailure::NotAuthorized, "{first}");
    }
}

#[test]
fn names_are_unescaped_and_optional_extensions_ignored() {
    let data = "n,a=r=3Do=2Cmeo,n==2Cj=3D=3D2Cé,r=b,x=y,z=a=b,h=q".as_bytes();
    let first = ClientFirst::parse(data, Hash::Sha1, false, false, &unbound()).unwrap();
    assert_eq!(first.username, ",j==2Cé");
    assert_eq!(first.authzid.as_deref(), Some("r=o,meo"));
}

/// An exchange with the keys of "r0m30", and the client-final-message that would end it well.
pub(super) fn ready(known: bool) -> (Exchange, String) {
    let client = Client::new(Hash::Sha256, "r0m30", "n,,", b"");
    let keys = verifier("r0m30", Hash::Sha256, "c2FsdA==", ITERATIONS);
    let first =
        ClientFirst::parse(&client.first(), Hash::Sha256, false, false, &unbound()).unwrap();
    let (exchange, challenge) = first.challenge(&keys, known, "servernonce", None);
    let (last, _) = client.last(&text(challenge), "");
    (exchange, last)
}

/// RFC 5802 §5.1: the extension is ignored, and signed.
#[test]
fn an_extension_in_the_final_message_is_ignored() {
    let client = Client::new(Hash::Sha512, "r0m30", "n,,", b"");
    let keys = verifier("r0m30", Hash::Sha512, "c2FsdA==", ITERATIONS);
    let first =
        ClientFirst::parse(&client.first(), Hash::Sha512, false, false, &unbound()).unwrap();
    let (exchange, challenge) = first.challenge(&keys, true, "servernonce", None);
    let (last, signature) = client.last(&text(challenge), ",x=y,Z=a=b");
    assert_eq!(exchange.finish(last.as_bytes()).map(text), Ok(signature));
}

#[test]
fn a_wrong_password_is_refused() {
    let client = Client::new(Hash::Sha256, "r0me0", "n,,", b"");
    let keys = verifier("r0m30", Hash::Sha256, "c2FsdA==", ITERATIONS);
    let first =
        ClientFirst::parse(&client.first(), Hash::Sha256, false, false, &unbound()).unwrap();
    let (exchange, challenge) = first.challenge(&keys, true, "servernonce", None);
    let (last, _) = client.last(&text(challenge), "");
    let refusal = exchange.finish_explained(last.as_bytes()).unwrap_err();
    assert_eq!(refusal, Refusal::not_authorized("the password is wrong"));
}

/// Even who has the fake keys gets nowhere, and on the wire it is the failure of a wrong password.
#[test]
fn an_unknown_user_fails_as_a_wrong_password_does() {
    let (exchange, good) = ready(false);
    let refusal = exchange.finish_explained(good.as_bytes()).unwrap_err();
    assert_eq!(refusal.failure, SaslFailure::NotAuthorized);
    assert_ne!(refusal.reason, "the password is wrong");
}

#[test]
fn a_challenge_does_not_tell_whether_the_account_exists() {
    let shape = |keys: &Verifier, known: bool| {
        let first = b"n,,n=juliet,r=clientnonce";
        let first = ClientFirst::parse(first, Hash::Sha256, false, false, &unbound()).unwrap();
        let challenge = text(first.challenge(keys, known, "servernonce", Some("offer")).1);
        let salt = Client::attribute(&challenge, "s=").to_owned();
        (
            STANDARD.decode(&salt).unwrap().len(),
            challenge.replace(&salt, ""),
        )
    };
    let real = verifier(
        "r0m30",
        Hash::Sha256,
        "MDEyMzQ1Njc4OWFiY2RlZg==",
        ITERATIONS,
    );
    let fake = fake_verifier(&SECRET, "nobody@example.org", FORM);
    assert_eq!(shape(&real, true), shape(&fake, false));
}

/// A caller's mistake, or a damaged row in the store, must not let anybody in, nor panic.
#[test]
fn keys_of_another_hash_or_length_are_refused() {
    let client = Client::new(Hash::Sha256, "r0m30", "n,,", b"");
    let other = verifier("r0m30", Hash::Sha1, "c2FsdA==", ITERATIONS);
    let good = verifier("r0m30", Hash::Sha256, "c2FsdA==", ITERATIONS);
    let short = Verifier {
        stored_key: good.stored_key[..31].to_vec(),
        ..good.clone()
    };
    let mislabelled = Verifier {
        hash: Hash::Sha1,
        ..good.clone()
    };
    for keys in [other, short, mislabelled] {
        let first = ClientFirst::parse(&client.first(), Hash::Sha256, false, false, &unbound());
        let (exchange, challenge) = first.unwrap().challenge(&keys, true, "servernonce", None);
        let (last, _) = client.last(&text(challenge), "");
        assert_eq!(
            exchange.finish(last.as_bytes()),
            Err(SaslFailure::NotAuthorized)
        );
    }
}

#[test]
fn a_recorded_final_message_does_not_fit_another_nonce() {
    let (_, recorded) = ready(true);
    let client = Client::new(Hash::Sha256, "r0m30", "n,,", b"");
    let keys = verifier("r0m30", Hash::Sha256, "c2FsdA==", ITERATIONS);
    let first =
        ClientFirst::parse(&client.first(), Hash::Sha256, false, false, &unbound()).unwrap();
    let (exchange, _) = first.challenge(&keys, true, "anothernonce", None);
    assert_eq!(
        exchange.finish(recorded.as_bytes()),
        Err(SaslFailure::NotAuthorized)
    );
}

/// RFC 5802 §5.1: also from who knows the password, so that no nonce can be the client's alone.
#[test]
fn a_proof_for_a_nonce_of_the_clients_own_is_refused() {
    let client = Client::new(Hash::Sha256, "r0m30", "n,,", b"");
    let keys = verifier("r0m30", Hash::Sha256, "c2FsdA==", ITERATIONS);
    let first = ClientFirst::parse(&client.first(), Hash::Sha256, false, false, &unbound());
    let (exchange, challenge) = first.unwrap().challenge(&keys, true, "servernonce", None);
    let challenge = text(challenge);
    let (last, _) = client.last_with_nonce(&challenge, "clientnonce", "");
    let refusal = exchange.finish_explained(last.as_bytes()).unwrap_err();
    assert_eq!(refusal.failure, SaslFailure::NotAuthorized);
    assert!(refusal.reason.contains("nonce"));
}

#[test]
fn debug_shows_no_keys() {
    let (exchange, _) = ready(true);
    assert_eq!(format!("{exchange:?}"), "Exchange { hash: Sha256, .. }");
    assert_eq!(
        format!("{:?}", bound()),
        "Bindings([TlsExporter, TlsServerEndPoint])"
    );
}
