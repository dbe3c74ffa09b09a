//! What a client's certificate proves: the XMPP addresses in it, if a trusted issuer signed it.

use std::fmt;
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509PurposeId, X509StoreContext};

use super::authorities::read_authorities;
use super::names::Names;

/// The authorities whose client certificates a domain accepts.
pub struct CaStore {
    store: X509Store,
}

/// Why a client's certificates prove nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateError {
    /// The client showed none.
    Missing,
    /// A certificate cannot be read.
    Malformed,
    /// The chain does not lead to an authority of the domain, or is out of date, or not meant for
    /// clients; OpenSSL's words.
    Untrusted(String),
    /// It is trusted, but holds no XMPP address (XEP-0178 §2 case 3).
    NoXmppAddress,
}

impl CaStore {
    /// Reads the authorities' certificates from a PEM file. What stands there is trusted, be it a
    /// root or not, for certificates of clients. The error is a sentence for people.
    ///
    /// # Errors
    /// If the file cannot be read, or holds no certificate.
    pub fn load(path: &Path) -> Result<CaStore, String> {
        let authorities = read_authorities(path, "client_ca")?;
        CaStore::new(authorities).map_err(|e| format!("client_ca file {}: {e}", path.display()))
    }

    fn new(authorities: Vec<X509>) -> Result<CaStore, ErrorStack> {
        let mut builder = X509StoreBuilder::new()?;
        for authority in authorities {
            builder.add_cert(authority)?;
        }
        let mut rules = X509VerifyParam::new()?;
        // The same strength that is asked of keys in the handshake.
        rules.set_auth_level(2);
        rules.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        rules.set_purpose(X509PurposeId::SSL_CLIENT)?;
        builder.set_param(&rules)?;
        Ok(CaStore {
            store: builder.build(),
        })
    }
}

impl fmt::Debug for CaStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaStore").finish_non_exhaustive()
    }
}

/// The XMPP addresses (`id-on-xmppAddr`) that the chain, in DER and leaf first, proves by the
/// authorities of a domain (XEP-0178 §2). As they stand in the certificate: the caller parses them
/// as JIDs. Never empty. Costs some hundred microseconds of CPU.
///
/// # Errors
/// By what is missing; the client learns only `not-authorized`.
pub fn client_identities(chain: &[Vec<u8>], ca: &CaStore) -> Result<Vec<String>, CertificateError> {
    let identities = identities(chain, ca);
    // What OpenSSL leaves in the thread's queue of errors would be taken for one of the next TLS
    // stream that this thread looks at, which would be closed for it.
    drop(ErrorStack::get());
    identities
}

fn identities(chain: &[Vec<u8>], ca: &CaStore) -> Result<Vec<String>, CertificateError> {
    let (leaf_der, others) = chain.split_first().ok_or(CertificateError::Missing)?;
    let malformed = |_: ErrorStack| CertificateError::Malformed;
    let leaf = X509::from_der(leaf_der).map_err(malformed)?;
    let mut untrusted = Stack::new().map_err(malformed)?;
    for der in others {
        untrusted
            .push(X509::from_der(der).map_err(malformed)?)
            .map_err(malformed)?;
    }
    let mut context = X509StoreContext::new().map_err(malformed)?;
    let verdict = context
        .init(&ca.store, &leaf, &untrusted, |c| {
            Ok((c.verify_cert()?, c.error()))
        })
        .map_err(malformed)?;
    match verdict {
        (true, _) => {}
        (false, error) => return Err(CertificateError::Untrusted(error.error_string().to_owned())),
    }
    let addresses = Names::from_der(leaf_der).xmpp_addresses();
    if addresses.is_empty() {
        Err(CertificateError::NoXmppAddress)
    } else {
        Ok(addresses)
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateError::Missing => f.write_str("the client showed no certificate"),
            CertificateError::Malformed => f.write_str("the client's certificate cannot be read"),
            CertificateError::Untrusted(why) => {
                write!(f, "the client's certificate is not trusted: {why}")
            }
            CertificateError::NoXmppAddress => {
                f.write_str("the client's certificate holds no XMPP address (id-on-xmppAddr)")
            }
        }
    }
}

impl std::error::Error for CertificateError {}

#[cfg(test)]
mod tests {
    use super::super::testing::Issued;
    use super::*;

    fn der(issued: &Issued) -> Vec<u8> {
        issued.certificate.to_der().unwrap()
    }

    fn authority() -> (Issued, CaStore) {
        let ca = Issued::new().authority().build();
        let store = CaStore::new(vec![ca.certificate.clone()]).unwrap();
        (ca, store)
    }

    // XEP-0178 §2.
    #[test]
    fn a_trusted_certificate_proves_all_its_xmpp_addresses() {
        let (ca, store) = authority();
        let client = Issued::new()
            .xmpp("juliet@example.org")
            .xmpp("j@example.net")
            .client()
            .issue(&ca);
        let proven = client_identities(&[der(&client)], &store).unwrap();
        assert_eq!(proven, ["juliet@example.org", "j@example.net"]);
    }

    #[test]
    fn an_intermediate_authority_sent_along_is_used() {
        let (ca, store) = authority();
        let middle = Issued::new().authority().common_name("middle").issue(&ca);
        let client = Issued::new()
            .xmpp("juliet@example.org")
            .client()
            .issue(&middle);
        assert!(client_identities(&[der(&client), der(&middle)], &store).is_ok());
        let alone = client_identities(&[der(&client)], &store);
        assert!(
            matches!(alone, Err(CertificateError::Untrusted(_))),
            "{alone:?}"
        );
    }

    #[test]
    fn what_another_authority_or_nobody_signed_proves_nothing() {
        let (_, store) = authority();
        let (stranger, _) = authority();
        let own = Issued::new().xmpp("juliet@example.org").client().build();
        let foreign = Issued::new()
            .xmpp("juliet@example.org")
            .client()
            .issue(&stranger);
        for client in [own, foreign] {
            let result = client_identities(&[der(&client)], &store);
            assert!(
                matches!(result, Err(CertificateError::Untrusted(_))),
                "{result:?}"
            );
        }
    }

    /// They would be taken for errors of the next TLS stream that the thread looks at.
    #[test]
    fn a_refused_chain_leaves_no_errors_in_openssls_queue() {
        let (_, store) = authority();
        let (liar, _) = authority();
        let forged = Issued::new()
            .xmpp("juliet@example.org")
            .client()
            .issue(&liar);
        assert!(client_identities(&[der(&forged)], &store).is_err());
        assert!(ErrorStack::get().errors().is_empty());
        assert!(client_identities(&[b"x".to_vec()], &store).is_err());
        assert!(ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn an_expired_or_server_only_certificate_proves_nothing() {
        let (ca, store) = authority();
        let expired = Issued::new()
            .xmpp("juliet@example.org")
            .client()
            .valid(-7200, -3600)
            .issue(&ca);
        let server = Issued::new().xmpp("juliet@example.org").server().issue(&ca);
        for client in [expired, server] {
            let result = client_identities(&[der(&client)], &store);
            assert!(
                matches!(result, Err(CertificateError::Untrusted(_))),
                "{result:?}"
            );
        }
    }

    #[test]
    fn a_certificate_without_an_address_or_no_certificate_says_so() {
        let (ca, store) = authority();
        let client = Issued::new().dns("example.org").client().issue(&ca);
        assert_eq!(
            client_identities(&[der(&client)], &store),
            Err(CertificateError::NoXmppAddress)
        );
        assert_eq!(
            client_identities(&[], &store),
            Err(CertificateError::Missing)
        );
        assert_eq!(
            client_identities(&[b"x".to_vec()], &store),
            Err(CertificateError::Malformed)
        );
    }
}
