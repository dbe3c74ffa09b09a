//! Certificates as a test wants them: of servers, of authorities, of clients with XMPP addresses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::asn1::{Asn1Object, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::SslConnectorBuilder;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};

/// `id-on-xmppAddr` (RFC 6120 §13.7.1.4).
const XMPP_ADDR: &str = "1.3.6.1.5.5.7.8.5";

/// A certificate and its key.
pub struct Issued {
    pub certificate: X509,
    pub key: PKey<Private>,
}

/// What a certificate says.
#[derive(Default)]
pub struct Wish<'a> {
    pub dns: &'a [&'a str],
    pub xmpp: &'a [&'a str],
    /// What alone it may be used for, in the words of OpenSSL; everything if there are none.
    pub purposes: &'a [&'a str],
    pub is_authority: bool,
    pub is_rsa: bool,
    /// From and up to when it is valid, in seconds from now; today and 30 days if it is not set.
    pub valid: Option<(i64, i64)>,
    /// For the signature, by the key of the issuer; SHA-256 if it is not set.
    pub digest: Option<MessageDigest>,
}

impl Wish<'_> {
    /// Signs it with its own key.
    pub fn self_signed(&self) -> Issued {
        self.issue(None)
    }

    /// Has an authority sign it.
    pub fn by(&self, authority: &Issued) -> Issued {
        self.issue(Some(authority))
    }

    fn issue(&self, issuer: Option<&Issued>) -> Issued {
        let key = if self.is_rsa {
            PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
        } else {
            PKey::ec_gen("P-256").unwrap()
        };
        let common_name = if self.is_authority {
            "authority"
        } else {
            "leaf"
        };
        let mut subject = X509Name::builder().unwrap();
        subject.append_entry_by_text("CN", common_name).unwrap();
        let subject = subject.build();
        let mut serial = BigNum::new().unwrap();
        serial.rand(159, MsbOption::MAYBE_ZERO, false).unwrap();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        let serial = serial.to_asn1_integer().unwrap();
        builder.set_serial_number(&serial).unwrap();
        builder.set_subject_name(&subject).unwrap();
        let issuer_name = issuer.map_or(&*subject, |by| by.certificate.subject_name());
        builder.set_issuer_name(issuer_name).unwrap();
        builder.set_pubkey(&key).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let (from, to) = self.valid.unwrap_or((0, 30 * 86_400));
        let at = |seconds| Asn1Time::from_unix(now.as_secs() as i64 + seconds).unwrap();
        builder.set_not_before(&at(from)).unwrap();
        builder.set_not_after(&at(to)).unwrap();
        let mut basic = BasicConstraints::new();
        basic.critical();
        if self.is_authority {
            basic.ca();
        }
        builder.append_extension(basic.build().unwrap()).unwrap();
        if !self.purposes.is_empty() {
            let mut usage = ExtendedKeyUsage::new();
            for purpose in self.purposes {
                usage.other(purpose);
            }
            builder.append_extension(usage.build().unwrap()).unwrap();
        }
        if !self.dns.is_empty() || !self.xmpp.is_empty() {
            let mut names = SubjectAlternativeName::new();
            for name in self.dns {
                names.dns(name);
            }
            for address in self.xmpp {
                names.other_name2(
                    Asn1Object::from_str(XMPP_ADDR).unwrap(),
                    &utf8_string(address),
                );
            }
            let names = names.build(&builder.x509v3_context(None, None)).unwrap();
            builder.append_extension(names).unwrap();
        }
        let signer = issuer.map_or(&key, |by| &by.key);
        let digest = self.digest.unwrap_or_else(MessageDigest::sha256);
        builder.sign(signer, digest).unwrap();
        Issued {
            certificate: builder.build(),
            key,
        }
    }
}

impl Issued {
    /// Writes certificate and key to files that only their owner can read.
    pub fn write(&self, certificate: &Path, key: &Path) {
        write_private(certificate, &self.certificate.to_pem().unwrap());
        write_private(key, &self.key.private_key_to_pem_pkcs8().unwrap());
    }

    /// Has a client show it.
    pub fn show(&self, builder: &mut SslConnectorBuilder) {
        builder.set_certificate(&self.certificate).unwrap();
        builder.set_private_key(&self.key).unwrap();
    }
}

/// Writes a file that only its owner can read, and the directories above it.
pub fn write_private(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// DER of a short UTF8String.
fn utf8_string(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 128);
    [&[0x0c, length], text.as_bytes()].concat()
}
