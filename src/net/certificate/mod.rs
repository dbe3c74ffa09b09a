//! Certificates and their keys: reading them, the names they are for, and one for the demo.

mod authorities;
mod chain;
mod client;
mod dane;
mod directory;
mod evidence;
mod names;
mod peer;
mod presented;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use openssl::asn1::{Asn1Integer, Asn1Time, Asn1TimeRef};
use openssl::bn::{BigNum, MsbOption};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, PKeyRef, Private, Public};
use openssl::ssl::SslContextBuilder;
use openssl::x509::extension::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
};
use openssl::x509::{X509, X509Name};
use zeroize::Zeroizing;

pub use authorities::Authorities;
pub use chain::{Fault, FaultKind};
pub use client::{CaStore, CertificateError, client_identities};
pub use dane::{DaneFailure, DaneVerdict, has_usable};
pub(super) use directory::Directory;
pub use evidence::{Evidence, Proof, Sought, TlsaEvidence, Vouched};
pub use names::Identifier;
use names::Names;
pub use peer::{Judgement, PeerRole, Pin, PinError, Reference, ShownChain};
pub use presented::PresentedChain;

/// No chain of certificates or key is as large; what is has been put there by mistake.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// From here on a certificate's end is warned of: certbot and lego, that renew 30 days before, have
/// failed for nine days, and three weeks are left to mend that.
pub const EXPIRY_WARNING_SECONDS: i64 = 21 * 24 * 3600;

/// What is told of a certificate in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The domain for which it was chosen.
    pub domain: String,
    /// Its file, as found.
    pub file: PathBuf,
    /// The file of its key.
    pub key_file: PathBuf,
    /// "RSA 2048", "ECDSA 256", "Ed25519".
    pub key: String,
    /// The DNS names it is for.
    pub names: Vec<String>,
    /// Whether it is for `domain`.
    pub covers_domain: bool,
    /// Who issued it, as the issuer's common name.
    pub issuer: String,
    /// Seconds since the Unix epoch from which it is valid.
    pub not_before: i64,
    /// Seconds since the Unix epoch up to which it is valid.
    pub not_after: i64,
}

/// The leaf of a PEM file with certificates.
#[derive(Clone)]
struct Certificate {
    file: PathBuf,
    leaf: X509,
    /// Certificates in the file, the leaf counted.
    length: usize,
    names: Names,
    not_before: i64,
    not_after: i64,
    public: PKey<Public>,
}

/// A certificate and the key that belongs to it.
pub(super) struct Pair {
    certificate: Certificate,
    key: PKey<Private>,
    key_file: PathBuf,
    covers_domain: bool,
}

impl Certificate {
    /// Takes the first certificate of a file as the leaf. The error is a sentence without the file.
    fn from_pem(file: &Path, pem: &[u8]) -> Result<Certificate, String> {
        let chain =
            X509::stack_from_pem(pem).map_err(|e| format!("is not a certificate in PEM: {e}"))?;
        let length = chain.len();
        let Some(leaf) = chain.into_iter().next() else {
            return Err("holds no certificate in PEM (\"-----BEGIN CERTIFICATE-----\")".to_owned());
        };
        let unreadable =
            |e: ErrorStack| format!("holds a certificate that OpenSSL cannot read: {e}");
        Ok(Certificate {
            file: file.to_owned(),
            length,
            names: Names::of(&leaf).map_err(unreadable)?,
            not_before: unix_seconds(leaf.not_before()).map_err(unreadable)?,
            not_after: unix_seconds(leaf.not_after()).map_err(unreadable)?,
            public: leaf.public_key().map_err(unreadable)?,
            leaf,
        })
    }

    fn is_valid_at(&self, unix_seconds: i64) -> bool {
        (self.not_before..=self.not_after).contains(&unix_seconds)
    }

    /// What people should know about a certificate that is taken into use.
    fn warnings(&self, covers_domain: bool, now: i64) -> Vec<String> {
        let file = self.file.display();
        let mut warnings = Vec::new();
        let mut warn = |text: String| warnings.push(format!("certificate {file} {text}"));
        if !covers_domain {
            let names = self.names.for_people();
            warn(format!(
                "is not for this domain but for {names}: clients will refuse it"
            ));
        }
        if now < self.not_before {
            warn(format!(
                "is not valid before {}: clients will refuse it until then",
                self.leaf.not_before()
            ));
        } else if now > self.not_after {
            warn(format!(
                "has expired on {}: clients will refuse it; renew it",
                self.leaf.not_after()
            ));
        } else if self.not_after - now < EXPIRY_WARNING_SECONDS {
            warn(format!(
                "expires soon, on {}: renew it",
                self.leaf.not_after()
            ));
        }
        warnings
    }
}

impl Pair {
    pub(super) fn signs_with_rsa(&self) -> bool {
        self.key.id() == Id::RSA
    }

    /// Adds it to a context, beside those with keys of other kinds. The error is a sentence.
    pub(super) fn install(&self, context: &mut SslContextBuilder) -> Result<(), String> {
        let file = &self.certificate.file;
        // By file, for the crate has no way to give each certificate a chain of its own. Should a
        // renewal have come in between, the key does not fit and all stays as it was.
        context
            .set_certificate_chain_file(file)
            .and_then(|()| context.set_private_key(&self.key))
            .map_err(|e| {
                let text = e.to_string();
                if text.contains("key too small") {
                    format!(
                        "certificate {}: its {} key is too weak, 2048 bits of RSA or 224 of ECDSA are \
                         the least (RFC 9325 §4.5); get a new one",
                        file.display(),
                        key_for_people(&self.key)
                    )
                } else {
                    format!("certificate {} cannot be used: {text}", file.display())
                }
            })
    }

    pub(super) fn info(&self, domain: &str) -> CertificateInfo {
        let certificate = &self.certificate;
        let issuer = certificate.leaf.issuer_name();
        let common_name = issuer.entries_by_nid(Nid::COMMONNAME).next();
        CertificateInfo {
            domain: domain.to_owned(),
            file: certificate.file.clone(),
            key_file: self.key_file.clone(),
            key: key_for_people(&self.key),
            names: certificate.names.dns().to_vec(),
            covers_domain: self.covers_domain,
            issuer: common_name
                .and_then(|name| name.data().to_string().ok())
                .unwrap_or_default(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
        }
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("file", &self.certificate.file)
            .finish_non_exhaustive()
    }
}

/// A key with where it was found and who may read it.
struct KeyFile {
    file: PathBuf,
    /// Permission bits of the file itself, links resolved.
    mode: u32,
    key: PKey<Private>,
}

impl KeyFile {
    /// Reads a private key. The error is a sentence without the file.
    fn from_pem(file: &Path, mode: u32, pem: &[u8]) -> Result<KeyFile, String> {
        // Without a callback OpenSSL would ask for a passphrase on the terminal.
        let mut encrypted = false;
        let key = PKey::private_key_from_pem_callback(pem, |_| {
            encrypted = true;
            Ok(0)
        });
        match key {
            Ok(key) => Ok(KeyFile {
                file: file.to_owned(),
                mode,
                key,
            }),
            Err(_) if encrypted => Err(format!(
                "is encrypted with a passphrase, which a server cannot ask for; write a plain one \
                 with \"openssl pkey -in {} -out NEW\"",
                file.display()
            )),
            Err(e) => Err(format!(
                "holds no private key in PEM that OpenSSL can read: {e}"
            )),
        }
    }

    /// Refuses a key that others can read or replace, with the command that mends it.
    fn check_mode(&self) -> Result<(), String> {
        if self.mode & 0o077 == 0 {
            return Ok(());
        }
        // What needs the chmod is what a link leads to.
        let real = self
            .file
            .canonicalize()
            .unwrap_or_else(|_| self.file.clone());
        Err(format!(
            "key {} can be read by other users (mode {:04o}); mend it with \"chmod 600 {}\"",
            self.file.display(),
            self.mode & 0o7777,
            real.display()
        ))
    }
}

/// The certificates of a PEM file in DER, as a handshake shows them: leaf first.
///
/// # Errors
/// It cannot be read, or holds none; in words.
pub fn read_chain(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let file = path.display();
    let (pem, _mode) =
        read_file(path).map_err(|e| format!("certificate {file} cannot be read: {e}"))?;
    let chain = X509::stack_from_pem(&pem).and_then(|chain| {
        let ders = chain.iter().map(|certificate| certificate.to_der());
        ders.collect::<Result<Vec<_>, _>>()
    });
    chain.map_err(|e| format!("certificate {file} cannot be read: {e}"))
}

/// A file's bytes and permission bits, both of what was really opened.
fn read_file(path: &Path) -> io::Result<(Zeroizing<Vec<u8>>, u32)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a file"));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "is too large for a certificate or key",
        ));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        usize::try_from(metadata.len()).unwrap_or(0) + 1,
    ));
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok((bytes, metadata.mode()))
}

fn unix_seconds(time: &Asn1TimeRef) -> Result<i64, ErrorStack> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    Ok(i64::from(since.days) * 86_400 + i64::from(since.secs))
}

/// "RSA 2048", "ECDSA 256", "Ed25519".
fn key_for_people(key: &PKeyRef<Private>) -> String {
    match key.id() {
        Id::RSA => format!("RSA {}", key.bits()),
        Id::EC => format!("ECDSA {}", key.bits()),
        Id::ED25519 => "Ed25519".to_owned(),
        Id::ED448 => "Ed448".to_owned(),
        _ => format!("{}-bit", key.bits()),
    }
}

/// Makes a certificate for `names` (A-labels or IP addresses) that only who is told to will trust,
/// and its key: ECDSA P-256, valid from an hour ago for a year. Both in PEM; for the demo.
///
/// # Errors
/// If OpenSSL refuses a name, or has no memory or chance.
pub fn self_signed(names: &[&str]) -> Result<(String, String), ErrorStack> {
    let key = PKey::ec_gen("P-256")?;
    let mut serial = BigNum::new()?;
    // RFC 5280 §4.1.2.2: positive, and at most 20 octets.
    serial.rand(159, MsbOption::MAYBE_ZERO, false)?;
    let mut subject = X509Name::builder()?;
    // X.520 ends a common name at 64 characters; what counts are the alternative names.
    let first = names
        .first()
        .copied()
        .filter(|n| n.len() <= 64)
        .unwrap_or("stanzad");
    subject.append_entry_by_nid(Nid::COMMONNAME, first)?;
    let subject = subject.build();
    let mut alternatives = SubjectAlternativeName::new();
    for name in names {
        if name.parse::<std::net::IpAddr>().is_ok() {
            alternatives.ip(name);
        } else {
            alternatives.dns(name);
        }
    }
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    let serial = Asn1Integer::from_bn(&serial)?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(&subject)?;
    builder.set_issuer_name(&subject)?;
    builder.set_pubkey(&key)?;
    let (from, until) = validity(-3600, 365 * 86_400)?;
    builder.set_not_before(&from)?;
    builder.set_not_after(&until)?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
    builder.append_extension(ExtendedKeyUsage::new().server_auth().build()?)?;
    let extension = alternatives.build(&builder.x509v3_context(None, None))?;
    builder.append_extension(extension)?;
    builder.sign(&key, MessageDigest::sha256())?;
    let pem = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((
        pem(builder.build().to_pem()?),
        pem(key.private_key_to_pem_pkcs8()?),
    ))
}

/// Two moments, in seconds from now.
fn validity(from: i64, until: i64) -> Result<(Asn1Time, Asn1Time), ErrorStack> {
    let now = now_unix_seconds();
    Ok((
        Asn1Time::from_unix(now + from)?,
        Asn1Time::from_unix(now + until)?,
    ))
}

fn now_unix_seconds() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(super) mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_signed_certificate_is_for_its_names_and_fits_its_key() {
        let (pem, key) = self_signed(&["example.org", "127.0.0.1"]).unwrap();
        let certificate = Certificate::from_pem(Path::new("x"), pem.as_bytes()).unwrap();
        let key = KeyFile::from_pem(Path::new("x"), 0o600, key.as_bytes()).unwrap();
        assert!(certificate.names.cover("example.org", "example.org"));
        assert!(certificate.public.public_eq(&key.key));
        let days = (certificate.not_after - now_unix_seconds()) / 86_400;
        assert!((364..=365).contains(&days), "{days}");
        assert!(certificate.warnings(true, now_unix_seconds()).is_empty());
    }

    #[test]
    fn a_self_signed_certificate_can_be_trusted_by_who_is_told_to() {
        let (pem, _) = self_signed(&["example.org"]).unwrap();
        let leaf = X509::from_pem(pem.as_bytes()).unwrap();
        let mut store = openssl::x509::store::X509StoreBuilder::new().unwrap();
        store.add_cert(leaf.clone()).unwrap();
        let chain = openssl::stack::Stack::new().unwrap();
        let mut context = openssl::x509::X509StoreContext::new().unwrap();
        assert!(
            context
                .init(&store.build(), &leaf, &chain, |c| c.verify_cert())
                .unwrap()
        );
    }

    #[test]
    fn dates_of_a_certificate_are_warned_of() {
        let (pem, _) = self_signed(&["example.org"]).unwrap();
        let certificate = Certificate::from_pem(Path::new("/c/x.pem"), pem.as_bytes()).unwrap();
        for (at, word) in [
            (certificate.not_before - 1, "is not valid before"),
            (certificate.not_after + 1, "has expired on"),
            (certificate.not_after - 20 * 86_400, "expires soon"),
        ] {
            let warnings = certificate.warnings(true, at);
            assert_eq!(warnings.len(), 1);
            assert!(
                warnings[0].contains(word) && warnings[0].contains("/c/x.pem"),
                "{}",
                warnings[0]
            );
        }
    }

    #[test]
    fn an_encrypted_key_is_refused_without_asking_for_a_passphrase() {
        let key = PKey::ec_gen("P-256").unwrap();
        let pem = key
            .private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_128_cbc(), b"secret")
            .unwrap();
        let text = KeyFile::from_pem(Path::new("/c/x.key"), 0o600, &pem)
            .err()
            .unwrap();
        assert!(
            text.contains("passphrase") && text.contains("openssl pkey -in /c/x.key"),
            "{text}"
        );
    }
}
