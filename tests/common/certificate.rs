//! Certificates of clients, and the authority that signs them.

use openssl::asn1::{Asn1Object, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};

/// A certificate with its key.
pub struct Certificate {
    pub certificate: X509,
    pub key: PKey<Private>,
}

impl Certificate {
    /// An authority for clients' certificates.
    pub fn authority() -> Certificate {
        build(None, &[])
    }

    /// A client's certificate for these addresses (XmppAddr, RFC 6120 §13.7.1.4).
    pub fn for_client(&self, addresses: &[&str]) -> Certificate {
        build(Some(self), addresses)
    }

    /// The certificate in PEM.
    pub fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }
}

fn build(issuer: Option<&Certificate>, addresses: &[&str]) -> Certificate {
    let key = PKey::ec_gen("P-256").unwrap();
    let mut name = X509Name::builder().unwrap();
    let common_name = if issuer.is_some() {
        "client"
    } else {
        "authority"
    };
    name.append_entry_by_text("CN", common_name).unwrap();
    let name = name.build();
    let mut serial = BigNum::new().unwrap();
    serial.rand(64, MsbOption::MAYBE_ZERO, false).unwrap();
    let serial = serial.to_asn1_integer().unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&name).unwrap();
    let issuer_name = issuer.map_or(&*name, |issuer| issuer.certificate.subject_name());
    builder.set_issuer_name(issuer_name).unwrap();
    builder.set_pubkey(&key).unwrap();
    let (from, to) = (Asn1Time::days_from_now(0), Asn1Time::days_from_now(30));
    builder.set_not_before(&from.unwrap()).unwrap();
    builder.set_not_after(&to.unwrap()).unwrap();
    let mut basic = BasicConstraints::new();
    if issuer.is_none() {
        basic.critical().ca();
    }
    builder.append_extension(basic.build().unwrap()).unwrap();
    if issuer.is_some() {
        let usage = ExtendedKeyUsage::new().client_auth().build().unwrap();
        builder.append_extension(usage).unwrap();
        let mut names = SubjectAlternativeName::new();
        for address in addresses {
            let xmpp_addr = Asn1Object::from_str("1.3.6.1.5.5.7.8.5").unwrap();
            // A UTF8String in DER, shorter than 128 bytes.
            let mut der = vec![0x0c, u8::try_from(address.len()).unwrap()];
            assert!(address.len() < 128);
            der.extend_from_slice(address.as_bytes());
            names.other_name2(xmpp_addr, &der);
        }
        let names = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(names).unwrap();
    }
    let signer = issuer.map_or(&key, |issuer| &issuer.key);
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    Certificate {
        certificate: builder.build(),
        key,
    }
}
