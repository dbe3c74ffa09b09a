//! Certificates made for tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString};
use openssl::bn::{BigNum, MsbOption};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private, Public};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Extension, X509Name};

/// A certificate with its key.
pub(in crate::net) struct Issued {
    pub certificate: X509,
    pub key: PKey<Private>,
}

/// What to put into a certificate.
pub(in crate::net) struct Wish {
    common_name: String,
    dns: Vec<String>,
    /// Object identifier and DER of a UTF8String or IA5String.
    other: Vec<(&'static str, Vec<u8>)>,
    authority: bool,
    usage: Option<ExtendedKeyUsage>,
    valid: (i64, i64),
    key: PKey<Private>,
    digest: MessageDigest,
    constraints: Option<Vec<u8>>,
    /// Stands there instead of the key's own.
    public: Option<PKey<Public>>,
}

impl Issued {
    #[expect(
        clippy::new_ret_no_self,
        reason = "a wish is turned into what is issued by `build`"
    )]
    pub(in crate::net) fn new() -> Wish {
        Wish {
            common_name: "test".to_owned(),
            dns: Vec::new(),
            other: Vec::new(),
            authority: false,
            usage: None,
            valid: (-3600, 365 * 86_400),
            key: PKey::ec_gen("P-256").unwrap(),
            digest: MessageDigest::sha256(),
            constraints: None,
            public: None,
        }
    }

    pub(in crate::net) fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }

    pub(in crate::net) fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().unwrap()
    }
}

impl Wish {
    pub(in crate::net) fn common_name(mut self, name: &str) -> Wish {
        self.common_name = name.to_owned();
        self
    }

    pub(in crate::net) fn dns(mut self, name: &str) -> Wish {
        self.dns.push(name.to_owned());
        self
    }

    pub(in crate::net) fn xmpp(mut self, address: &str) -> Wish {
        self.other
            .push(("1.3.6.1.5.5.7.8.5", string(0x0c, address)));
        self
    }

    pub(in crate::net) fn srv(mut self, name: &str) -> Wish {
        self.other.push(("1.3.6.1.5.5.7.8.7", string(0x16, name)));
        self
    }

    /// An SRV-ID or XmppAddr with any DER for its value.
    pub(in crate::net) fn other(mut self, srv: bool, der: Vec<u8>) -> Wish {
        let id = if srv {
            "1.3.6.1.5.5.7.8.7"
        } else {
            "1.3.6.1.5.5.7.8.5"
        };
        self.other.push((id, der));
        self
    }

    /// The DER of a nameConstraints that permits this domain and those below it.
    pub(in crate::net) fn permitting(mut self, dns: &str) -> Wish {
        // NameConstraints, permittedSubtrees [0], GeneralSubtree, dNSName [2] (RFC 5280 §4.2.1.10).
        let name = tagged(0x82, dns.as_bytes());
        let subtrees = tagged(0xa0, &tagged(0x30, &name));
        self.constraints = Some(tagged(0x30, &subtrees));
        self
    }

    pub(in crate::net) fn authority(mut self) -> Wish {
        self.authority = true;
        "authority".clone_into(&mut self.common_name);
        self
    }

    pub(in crate::net) fn client(mut self) -> Wish {
        self.usage
            .get_or_insert_with(ExtendedKeyUsage::new)
            .client_auth();
        self
    }

    pub(in crate::net) fn server(mut self) -> Wish {
        self.usage
            .get_or_insert_with(ExtendedKeyUsage::new)
            .server_auth();
        self
    }

    pub(in crate::net) fn valid(mut self, from: i64, until: i64) -> Wish {
        self.valid = (from, until);
        self
    }

    pub(in crate::net) fn rsa(mut self, bits: u32) -> Wish {
        self.key = PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
        self
    }

    pub(in crate::net) fn ed25519(mut self) -> Wish {
        self.key = PKey::generate_ed25519().unwrap();
        self.digest = MessageDigest::null();
        self
    }

    /// A public key of RSA with so many bits in modulus and exponent. It has no private one.
    pub(in crate::net) fn rsa_public(mut self, modulus_bits: i32, exponent_bits: i32) -> Wish {
        let number = |bits| {
            let mut number = BigNum::new().unwrap();
            number.rand(bits, MsbOption::ONE, true).unwrap();
            number
        };
        let rsa = Rsa::from_public_components(number(modulus_bits), number(exponent_bits));
        self.public = Some(PKey::from_rsa(rsa.unwrap()).unwrap());
        self
    }

    pub(in crate::net) fn key_of(mut self, other: &Issued) -> Wish {
        self.key = other.key.clone();
        self
    }

    pub(in crate::net) fn digest(mut self, digest: MessageDigest) -> Wish {
        self.digest = digest;
        self
    }

    /// Signed by itself.
    pub(in crate::net) fn build(self) -> Issued {
        self.finish(None)
    }

    pub(in crate::net) fn issue(self, by: &Issued) -> Issued {
        self.finish(Some(by))
    }

    /// None if OpenSSL refuses the names.
    pub(in crate::net) fn try_build(self) -> Option<Issued> {
        self.names()?;
        Some(self.finish(None))
    }

    /// The extension with the alternative names, if OpenSSL takes them.
    fn names(&self) -> Option<X509Extension> {
        let mut names = SubjectAlternativeName::new();
        self.dns.iter().for_each(|name| {
            names.dns(name);
        });
        for (oid, der) in &self.other {
            names.other_name2(Asn1Object::from_str(oid).unwrap(), der);
        }
        let builder = X509::builder().unwrap();
        let context = builder.x509v3_context(None, None);
        names.build(&context).ok()
    }

    fn finish(self, issuer: Option<&Issued>) -> Issued {
        let mut subject = X509Name::builder().unwrap();
        subject
            .append_entry_by_nid(Nid::COMMONNAME, &self.common_name)
            .unwrap();
        let subject = subject.build();
        let mut serial = BigNum::new().unwrap();
        serial.rand(64, MsbOption::MAYBE_ZERO, false).unwrap();
        let serial = Asn1Integer::from_bn(&serial).unwrap();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&serial).unwrap();
        builder.set_subject_name(&subject).unwrap();
        let issuer_name = issuer.map_or(&*subject, |i| i.certificate.subject_name());
        builder.set_issuer_name(issuer_name).unwrap();
        match &self.public {
            Some(public) => builder.set_pubkey(public).unwrap(),
            None => builder.set_pubkey(&self.key).unwrap(),
        }
        let (from, until) = super::validity(self.valid.0, self.valid.1).unwrap();
        builder.set_not_before(&from).unwrap();
        builder.set_not_after(&until).unwrap();
        let mut basic = BasicConstraints::new();
        basic.critical();
        if self.authority {
            basic.ca();
        }
        builder.append_extension(basic.build().unwrap()).unwrap();
        if let Some(usage) = &self.usage {
            builder.append_extension(usage.build().unwrap()).unwrap();
        }
        if !self.dns.is_empty() || !self.other.is_empty() {
            builder.append_extension(self.names().unwrap()).unwrap();
        }
        if let Some(der) = &self.constraints {
            let id = Asn1Object::from_str("2.5.29.30").unwrap();
            let der = Asn1OctetString::new_from_bytes(der).unwrap();
            let extension = X509Extension::new_from_der(&id, true, &der).unwrap();
            builder.append_extension(extension).unwrap();
        }
        let signer = issuer.map_or(&self.key, |i| &i.key);
        builder.sign(signer, self.digest).unwrap();
        Issued {
            certificate: builder.build(),
            key: self.key,
        }
    }
}

fn string(tag: u8, text: &str) -> Vec<u8> {
    tagged(tag, text.as_bytes())
}

/// A DER element of less than 128 bytes.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag, u8::try_from(content.len()).unwrap()];
    assert!(content.len() < 128);
    der.extend_from_slice(content);
    der
}

/// Writes a file with a mode, and the directories above it.
pub(in crate::net) fn write(path: &Path, mode: u32, parts: &[&[u8]]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, parts.concat()).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
