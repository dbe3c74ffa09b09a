//! The authorities whose word on another server's certificate counts: the machine's, or a file's.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use openssl::error::ErrorStack;
use openssl::x509::X509;
use openssl::x509::store::{X509Store, X509StoreBuilder, X509StoreRef};
use openssl::x509::verify::X509VerifyFlags;

use super::read_file;

/// Where systems keep the roots that they trust, as one PEM file: Debian, Ubuntu, Arch and Gentoo;
/// Fedora and RHEL; openSUSE; Alpine and the BSDs. A vendored OpenSSL knows none of them.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The environment variable by which OpenSSL's programs are told another bundle.
const BUNDLE_VARIABLE: &str = "SSL_CERT_FILE";

/// Trusted issuers of servers' certificates. Shared by all shards; it does not change.
pub struct Authorities {
    store: X509Store,
    id: u64,
}

impl Authorities {
    /// The roots that this machine trusts: the file in `SSL_CERT_FILE`, else the system's bundle,
    /// else what OpenSSL was built to look at. The whole bundle is read here, so that a shard that
    /// verifies touches no file.
    ///
    /// # Errors
    /// If the file of the variable, or the bundle, cannot be used; a sentence for people.
    pub fn system() -> Result<Authorities, String> {
        let named = env::var_os(BUNDLE_VARIABLE);
        match bundle(named.as_deref(), BUNDLES) {
            Some(path) => {
                let roots = read_authorities(path, "system's CA")?;
                // An intermediate in there is trusted only with its root, as everywhere else.
                Authorities::build(roots, X509VerifyFlags::empty())
                    .map_err(|e| format!("system's CA file {}: {e}", path.display()))
            }
            None => X509StoreBuilder::new()
                .and_then(|mut builder| {
                    builder.set_default_paths()?;
                    Ok(Authorities::new(builder.build()))
                })
                .map_err(|e| format!("the system's CA certificates cannot be used: {e}")),
        }
    }

    /// Reads a PEM file that the conf file names in `option`. What stands there is trusted, be it a
    /// root, an intermediate authority or one server's own certificate.
    ///
    /// # Errors
    /// If the file cannot be read, or holds no certificate; a sentence for people.
    pub fn load(path: &Path, option: &str) -> Result<Authorities, String> {
        Authorities::of(read_authorities(path, option)?)
            .map_err(|e| format!("{option} file {}: {e}", path.display()))
    }

    /// Trusts just these, roots or not.
    ///
    /// # Errors
    /// If OpenSSL has no memory.
    pub(super) fn of(anchors: Vec<X509>) -> Result<Authorities, ErrorStack> {
        Authorities::build(anchors, X509VerifyFlags::PARTIAL_CHAIN)
    }

    fn build(anchors: Vec<X509>, flags: X509VerifyFlags) -> Result<Authorities, ErrorStack> {
        let mut builder = X509StoreBuilder::new()?;
        for anchor in anchors {
            builder.add_cert(anchor)?;
        }
        builder.set_flags(flags)?;
        Ok(Authorities::new(builder.build()))
    }

    fn new(store: X509Store) -> Authorities {
        static MADE: AtomicU64 = AtomicU64::new(0);
        Authorities {
            store,
            id: MADE.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// What no others have, not even those that were read from the same file another time.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn store(&self) -> &X509StoreRef {
        &self.store
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").finish_non_exhaustive()
    }
}

/// The one that is named, there or not; else the first that is there.
fn bundle<'a>(named: Option<&'a OsStr>, known: &'a [&'a str]) -> Option<&'a Path> {
    let mut known = known.iter().map(Path::new);
    named
        .map(Path::new)
        .or_else(|| known.find(|path| path.exists()))
}

/// The certificates of a PEM file; never none. The error is a sentence that begins with `option`.
pub(super) fn read_authorities(path: &Path, option: &str) -> Result<Vec<X509>, String> {
    let file = path.display();
    let (pem, _mode) =
        read_file(path).map_err(|e| format!("{option} file {file} cannot be read: {e}"))?;
    let authorities = X509::stack_from_pem(&pem)
        .map_err(|e| format!("{option} file {file} is not certificates in PEM: {e}"))?;
    if authorities.is_empty() {
        return Err(format!(
            "{option} file {file} holds no certificate in PEM (\"-----BEGIN CERTIFICATE-----\")"
        ));
    }
    Ok(authorities)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Issued, write};
    use super::*;

    #[test]
    fn a_file_without_certificates_is_told_with_its_option() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let missing = Authorities::load(&path, "tls.ca").unwrap_err();
        assert!(missing.starts_with("tls.ca file /") && missing.contains("cannot be read"));
        write(&path, 0o644, &[b"nothing"]);
        let empty = Authorities::load(&path, "tls.ca").unwrap_err();
        assert!(empty.contains("holds no certificate"), "{empty}");
    }

    #[test]
    fn the_bundle_is_the_named_one_or_the_first_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("ca.pem");
        write(&there, 0o644, &[b""]);
        let there = there.to_str().unwrap();
        let missing = "/nonexistent/ca.pem";
        let known = [missing, there];
        assert_eq!(bundle(None, &known), Some(Path::new(there)));
        assert_eq!(bundle(None, &[missing]), None);
        // Not another in its place: who names a file means no other.
        let named = OsStr::new(missing);
        assert_eq!(bundle(Some(named), &known), Some(Path::new(missing)));
    }

    #[test]
    fn the_machines_roots_can_be_used() {
        Authorities::system().unwrap();
    }

    #[test]
    fn all_certificates_of_a_file_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let (one, two) = (Issued::new().build(), Issued::new().build());
        write(&path, 0o644, &[&one.pem(), &two.pem()]);
        let authorities = Authorities::load(&path, "tls.ca").unwrap();
        assert_eq!(authorities.store.all_certificates().len(), 2);
    }
}
