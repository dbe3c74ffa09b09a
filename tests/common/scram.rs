//! The client's side of SCRAM (RFC 5802, RFC 7677), written apart from the server's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::hash::{MessageDigest, hash};
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::PKey;
use openssl::sign::Signer;

/// How a client binds to the TLS channel.
#[derive(Clone, Debug)]
pub enum Channel {
    /// `n`: it cannot.
    Unable,
    /// `y`: it could, but believes that the server cannot.
    Unoffered,
    /// `p=`: to a channel of that type with that data.
    Bound(String, Vec<u8>),
}

/// One login by SCRAM.
pub struct Scram {
    digest: MessageDigest,
    password: String,
    gs2: String,
    channel: Channel,
    bare: String,
}

/// The proof of a login, and what the server has to answer.
pub struct Proof {
    /// client-final-message.
    pub message: String,
    /// server-final-message, if the server knows the password too.
    pub expected: String,
}

/// The digest of a mechanism's name, `SCRAM-SHA-256-PLUS` or without `-PLUS`.
pub fn digest(mechanism: &str) -> MessageDigest {
    match mechanism.trim_end_matches("-PLUS") {
        "SCRAM-SHA-1" => MessageDigest::sha1(),
        "SCRAM-SHA-256" => MessageDigest::sha256(),
        "SCRAM-SHA-512" => MessageDigest::sha512(),
        other => panic!("{other} is no SCRAM mechanism"),
    }
}

impl Scram {
    /// A login with a nonce that need not be secret here.
    pub fn new(
        mechanism: &str,
        username: &str,
        password: &str,
        authzid: Option<&str>,
        channel: Channel,
    ) -> Scram {
        let flag = match &channel {
            Channel::Unable => "n".to_owned(),
            Channel::Unoffered => "y".to_owned(),
            Channel::Bound(name, _) => format!("p={name}"),
        };
        let authzid = authzid.map_or(String::new(), |authzid| format!("a={}", escape(authzid)));
        Scram {
            digest: digest(mechanism),
            password: password.to_owned(),
            gs2: format!("{flag},{authzid},"),
            channel,
            bare: format!("n={},r=fyko+d2lbbFgONRv9qkxdawL", escape(username)),
        }
    }

    /// client-first-message.
    pub fn first(&self) -> String {
        format!("{}{}", self.gs2, self.bare)
    }

    /// Answers server-first-message.
    pub fn proof(&self, challenge: &str) -> Proof {
        let field = |name: &str| {
            let mut fields = challenge.split(',');
            let found = fields.find_map(|field| field.strip_prefix(name));
            found.unwrap_or_else(|| panic!("no {name} in {challenge}"))
        };
        let salt = STANDARD.decode(field("s=")).unwrap();
        let iterations = field("i=").parse().unwrap();
        let mut salted = vec![0; self.digest.size()];
        let password = self.password.as_bytes();
        pbkdf2_hmac(password, &salt, iterations, self.digest, &mut salted).unwrap();
        let mut bound = self.gs2.clone().into_bytes();
        if let Channel::Bound(_, data) = &self.channel {
            bound.extend_from_slice(data);
        }
        let without_proof = format!("c={},r={}", STANDARD.encode(bound), field("r="));
        let signed = format!("{},{challenge},{without_proof}", self.bare);
        let client_key = self.hmac(&salted, b"Client Key");
        let stored_key = hash(self.digest, &client_key).unwrap();
        let signature = self.hmac(&stored_key, signed.as_bytes());
        let pairs = client_key.iter().zip(&signature);
        let proof: Vec<u8> = pairs.map(|(key, signature)| key ^ signature).collect();
        let server_key = self.hmac(&salted, b"Server Key");
        let server = self.hmac(&server_key, signed.as_bytes());
        Proof {
            message: format!("{without_proof},p={}", STANDARD.encode(proof)),
            expected: format!("v={}", STANDARD.encode(server)),
        }
    }

    fn hmac(&self, key: &[u8], data: &[u8]) -> Vec<u8> {
        let key = PKey::hmac(key).unwrap();
        let mut signer = Signer::new(self.digest, &key).unwrap();
        signer.sign_oneshot_to_vec(data).unwrap()
    }
}

fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}
