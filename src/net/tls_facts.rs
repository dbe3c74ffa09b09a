//! What a finished handshake agreed on: version, suite, group, and the channel bindings.

use std::ffi::{c_int, c_long};

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::Id;
use openssl::ssl::{NameType, SslRef, SslStream, SslVersion};
use openssl::x509::X509Ref;

use super::transport::TlsFacts;
use crate::sasl::scram::Bindings;

/// RFC 9266 §2.
const EXPORTER_LABEL: &str = "EXPORTER-Channel-Binding";
const EXPORTER_BYTES: usize = 32;

/// `SSL_CTRL_GET_NEGOTIATED_GROUP` of OpenSSL 3.0 and newer, which the crate does not name.
const CTRL_GET_NEGOTIATED_GROUP: c_int = 134;

/// Set by OpenSSL on a group that has no NID; the low 16 bits are the number in TLS.
const GROUP_WITHOUT_NID: c_long = 0x0100_0000;

/// Collects the facts of an established connection. `dh_label` names the parameters that DHE uses.
///
/// # Errors
/// Those of the exporter.
pub(super) fn collect(ssl: &SslRef, dh_label: Option<&str>) -> Result<TlsFacts, ErrorStack> {
    let cipher = ssl.current_cipher();
    let name = cipher.map_or("", |c| c.standard_name().unwrap_or(c.name()));
    Ok(TlsFacts {
        version: ssl.version_str(),
        cipher: name.to_owned(),
        group: if name.starts_with("TLS_DHE_") {
            dh_label.unwrap_or("DH").to_owned()
        } else {
            group(ssl)
        },
        sni: ssl.servername(NameType::HOST_NAME).map(str::to_owned),
        alpn: ssl
            .selected_alpn_protocol()
            .map(|p| String::from_utf8_lossy(p).into_owned()),
        bindings: Bindings {
            exporter: exporter(ssl)?,
            end_point: ssl.certificate().map(end_point).transpose()?.flatten(),
        },
        peer_chain: peer_chain(ssl)?,
        resumed: ssl.session_reused(),
    })
}

/// `tls-exporter`: only where master secrets are unique, which is TLS 1.3, and TLS 1.2 with the
/// extended master secret (RFC 9266 §2, §4.2). Renegotiation is never on.
fn exporter(ssl: &SslRef) -> Result<Option<Vec<u8>>, ErrorStack> {
    if ssl.version2() != Some(SslVersion::TLS1_3) && ssl.extms_support() != Some(true) {
        return Ok(None);
    }
    let mut out = vec![0; EXPORTER_BYTES];
    ssl.export_keying_material(&mut out, EXPORTER_LABEL, Some(&[]))?;
    Ok(Some(out))
}

/// `tls-server-end-point`: the certificate's hash by the hash of its own signature, SHA-256 for MD5
/// and SHA-1; undefined for signatures without one hash, as Ed25519 (RFC 5929 §4.1). RSA-PSS names
/// its hash in parameters that OpenSSL's table of signatures does not know: undefined here too.
pub(super) fn end_point(certificate: &X509Ref) -> Result<Option<Vec<u8>>, ErrorStack> {
    let signature = certificate.signature_algorithm().object().nid();
    let digest = match signature.signature_algorithms().map(|a| a.digest) {
        Some(Nid::MD5 | Nid::SHA1 | Nid::MD5_SHA1) => Some(MessageDigest::sha256()),
        Some(nid) if nid != Nid::UNDEF => MessageDigest::from_nid(nid),
        _ => None,
    };
    digest
        .map(|d| certificate.digest(d).map(|hash| hash.to_vec()))
        .transpose()
}

/// The peer's certificates in DER, leaf first.
fn peer_chain(ssl: &SslRef) -> Result<Vec<Vec<u8>>, ErrorStack> {
    let Some(leaf) = ssl.peer_certificate() else {
        return Ok(Vec::new());
    };
    let mut chain = vec![leaf.to_der()?];
    // Only where we have accepted does OpenSSL leave the leaf out of the chain.
    let leaves = usize::from(!ssl.is_server());
    for certificate in ssl.peer_cert_chain().into_iter().flatten().skip(leaves) {
        chain.push(certificate.to_der()?);
    }
    Ok(chain)
}

// SAFETY: the declaration is that of openssl/evp.h.
#[expect(unsafe_code, reason = "the openssl crate has no call for it")]
unsafe extern "C" {
    /// Sets the type of a key and frees what it held (EVP_PKEY_set_type(3)); not in `openssl_sys`.
    fn EVP_PKEY_set_type(key: *mut openssl_sys::EVP_PKEY, nid: c_int) -> c_int;
}

/// Frees the client's half of a hybrid key exchange. OpenSSL keeps it for as long as the
/// connection lives, only to show it, and an expanded ML-KEM key takes 6.3 KiB: a fifth of what an
/// idle connection costs.
pub(super) fn drop_key_share<S>(stream: &mut SslStream<S>, facts: &TlsFacts) {
    if !facts.group.contains("MLKEM") {
        return;
    }
    let Ok(key) = stream.ssl().peer_tmp_key() else {
        return;
    };
    // SAFETY: `key` is a live `EVP_PKEY`, of which we hold a counted reference, so it stays valid
    // over the call; the call frees what is in the key, never the key. The only other reference is
    // the connection's, to which `&mut` gives us the sole access. After the handshake libssl uses
    // it only to hand it out (SSL_get_peer_tmp_key) and to free it, and a key without content is
    // valid for both; there is no second key exchange, since renegotiation is off.
    #[expect(unsafe_code, reason = "the openssl crate has no call for it")]
    let result = unsafe { EVP_PKEY_set_type(key.as_ptr(), Id::X25519.as_raw()) };
    debug_assert_eq!(
        result, 1,
        "X25519 is a type of key in every OpenSSL with hybrid groups"
    );
}

/// The name of the ECDHE or hybrid group, empty if OpenSSL does not tell.
fn group(ssl: &SslRef) -> String {
    // SAFETY: `ssl` is a live `SSL`, for the borrow guarantees it. This control reads one number
    // from it; it takes no argument and keeps no pointer. A library that does not know it gives 0.
    #[expect(unsafe_code, reason = "the openssl crate has no call for it")]
    let id = unsafe {
        openssl_sys::SSL_ctrl(
            ssl.as_ptr(),
            CTRL_GET_NEGOTIATED_GROUP,
            0,
            std::ptr::null_mut(),
        )
    };
    if id & GROUP_WITHOUT_NID != 0 {
        return match id & 0xffff {
            // The numbers of IANA's "TLS Supported Groups".
            0x11eb => "SecP256r1MLKEM768".to_owned(),
            0x11ec => "X25519MLKEM768".to_owned(),
            0x11ed => "SecP384r1MLKEM1024".to_owned(),
            other => format!("group {other:#06x}"),
        };
    }
    let nid = i32::try_from(id).map_or(Nid::UNDEF, Nid::from_raw);
    match nid {
        Nid::UNDEF => String::new(),
        // OpenSSL's short names are its own; these are the ones of the configuration.
        Nid::X9_62_PRIME256V1 => "P-256".to_owned(),
        Nid::SECP384R1 => "P-384".to_owned(),
        Nid::SECP521R1 => "P-521".to_owned(),
        other => other.short_name().unwrap_or_default().to_owned(),
    }
}
