//! Verifying a chain of certificates (RFC 5280 §6), with every fault in it and not the first alone.

use std::cell::RefCell;
use std::ffi::c_int;
use std::fmt;

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::stack::StackRef;
use openssl::x509::store::X509StoreRef;
use openssl::x509::verify::X509VerifyParamRef;
use openssl::x509::{
    X509, X509NameRef, X509PurposeId, X509Ref, X509StoreContext, X509StoreContextRef,
};
use openssl_sys as ffi;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::NameConstraints;

use super::unix_seconds;
use crate::limits;

/// Of keys and digests is asked what the handshake asks: 112 bits, so RSA of 2048 bits, and no SHA-1.
const AUTHENTICATION_LEVEL: c_int = 2;

/// Parts of a subject, and characters of each, that are told; more only hide the ones that matter.
const SUBJECT_PARTS_MAX: usize = 6;
const SUBJECT_PART_CHARS_MAX: usize = 64;

/// Something wrong with one certificate of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its place: 0 is the peer's own certificate, 1 its issuer's, and so on.
    pub depth: usize,
    /// For people: "CN=example.org, O=Example"; control characters are escaped.
    pub subject: String,
    /// What is wrong.
    pub kind: FaultKind,
}

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Its signature is not by the issuer's key.
    BadSignature,
    /// An extension that must be understood is not.
    CriticalExtension,
    /// It was valid up to this second of the Unix epoch.
    Expired(i64),
    /// To verify by its key would take too long: RSA of more than `PEER_KEY_BITS_MAX` bits, or with
    /// an exponent of more than `PEER_KEY_EXPONENT_BITS_MAX`.
    KeyTooLarge,
    /// Bytes that are no certificate, or one with fields that cannot be read.
    Malformed,
    /// It has a name that an authority above it may not certify.
    NameConstraint,
    /// It issued another, but may not, or not so many levels down.
    NotAnAuthority,
    /// It is valid from this second of the Unix epoch.
    NotYetValid(i64),
    /// A fault without a kind of its own, in OpenSSL's words.
    Other(&'static str),
    /// The peer's certificate is signed by its own key, and not trusted itself.
    SelfSigned,
    /// The chain has too many certificates or bytes.
    TooLong,
    /// Its issuer, named here, is neither shown by the peer nor trusted: an unknown authority, or
    /// an intermediate certificate that the peer does not send.
    UnknownIssuer(String),
    /// It is a root that is not trusted.
    UntrustedRoot,
    /// It is signed with a digest below 112 bits of strength, as SHA-1.
    WeakDigest,
    /// Its key is below 112 bits of strength, as RSA of 1024 bits.
    WeakKey,
    /// Its extended key usage is for other things.
    WrongPurpose,
}

/// A chain as it was built from what was shown and what is trusted.
pub(super) struct Verified {
    /// None: it is valid.
    pub(super) faults: Vec<Fault>,
    /// Leaf first, as far as it could be built; its end is trusted only if there are no faults.
    pub(super) path: Vec<X509>,
}

/// What counts of a chain that was built, whatever the domain is that it must be for.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// None: it is valid.
    pub(super) faults: Vec<Fault>,
    /// The second of the Unix epoch at which the first certificate of the path ends.
    pub(super) ends: Option<i64>,
    /// Whether an issuer may certify only some names (RFC 5280 §4.2.1.10).
    pub(super) is_constrained: bool,
}

impl Verified {
    pub(super) fn outcome(self) -> Outcome {
        let ends = self.path.iter().map(|c| unix_seconds(c.not_after()));
        Outcome {
            ends: ends.filter_map(Result::ok).min(),
            is_constrained: self.path.iter().skip(1).any(|c| has_name_constraints(c)),
            faults: self.faults,
        }
    }
}

/// What cannot be read is taken to be constrained.
fn has_name_constraints(authority: &X509Ref) -> bool {
    let der = authority.to_der().unwrap_or_default();
    Certificate::from_der(&der).map_or(true, |certificate| {
        let found = certificate
            .tbs_certificate()
            .get_extension::<NameConstraints>();
        !matches!(found, Ok(None))
    })
}

/// Builds the chain of `leaf` and judges it as of `now`, in seconds of the Unix epoch. Costs some
/// hundred microseconds of CPU.
///
/// # Errors
/// If OpenSSL has no memory.
pub(super) fn verify(
    store: &X509StoreRef,
    leaf: &X509Ref,
    others: &StackRef<X509>,
    purpose: X509PurposeId,
    now: i64,
) -> Result<Verified, ErrorStack> {
    FAULTS.with_borrow_mut(Vec::clear);
    let mut context = X509StoreContext::new()?;
    let built = context.init(store, leaf, others, |context| {
        let rules = rules(context);
        rules.set_time(now);
        rules.set_purpose(purpose)?;
        rules.set_auth_level(AUTHENTICATION_LEVEL);
        rules.set_depth(DEPTH_MAX);
        note_faults_of(context);
        let is_valid = context.verify_cert().unwrap_or(false);
        let path = context.chain().map_or_else(Vec::new, |chain| {
            chain.iter().map(ToOwned::to_owned).collect()
        });
        Ok((is_valid, context.error().error_string(), path))
    });
    // What OpenSSL leaves in the thread's queue of errors would be taken for one of the next TLS
    // stream that this thread looks at.
    drop(ErrorStack::get());
    let (is_valid, words, path) = built?;
    let mut faults = FAULTS.take();
    if !is_valid && faults.is_empty() {
        faults.push(Fault::of(leaf, 0, FaultKind::Other(words)));
    }
    Ok(Verified { faults, path })
}

/// One more than a path can have certificates above the leaf: the trusted one may not be shown.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "it is small"
)]
const DEPTH_MAX: c_int = limits::PEER_CERTIFICATES_MAX as c_int;

thread_local! {
    /// What the callback found since the verification of this thread began. It runs within it, on
    /// the same thread, and has no other way to hand on what it saw.
    static FAULTS: RefCell<Vec<Fault>> = const { RefCell::new(Vec::new()) };
}

// SAFETY: both are declared as in <openssl/x509_vfy.h>, which every OpenSSL since 1.1.0 has.
#[expect(unsafe_code, reason = "the openssl crate has no call for it")]
unsafe extern "C" {
    /// The rules of one verification (X509_STORE_CTX_get0_param(3)); not in `openssl_sys`.
    fn X509_STORE_CTX_get0_param(context: *mut ffi::X509_STORE_CTX) -> *mut ffi::X509_VERIFY_PARAM;

    /// Has a function called for each fault (X509_STORE_CTX_set_verify_cb(3)); not in `openssl_sys`.
    fn X509_STORE_CTX_set_verify_cb(
        context: *mut ffi::X509_STORE_CTX,
        callback: extern "C" fn(c_int, *mut ffi::X509_STORE_CTX) -> c_int,
    );
}

fn rules(context: &mut X509StoreContextRef) -> &mut X509VerifyParamRef {
    // SAFETY: the pointer is to a live context that `init` has prepared, which always has rules and
    // owns them; the reference borrows the context mutably for as long as it lives.
    #[expect(unsafe_code, reason = "the openssl crate has no call for it")]
    unsafe {
        X509VerifyParamRef::from_ptr_mut(X509_STORE_CTX_get0_param(context.as_ptr()))
    }
}

fn note_faults_of(context: &mut X509StoreContextRef) {
    // SAFETY: the pointer is to a live context, and the function has the type that is asked for,
    // lives as long as the program and does not unwind.
    #[expect(unsafe_code, reason = "the openssl crate has no call for it")]
    unsafe {
        X509_STORE_CTX_set_verify_cb(context.as_ptr(), note_fault);
    }
}

/// OpenSSL calls this with 0 for each fault. To answer 1 has it go on: the verdict is made from what
/// was noted, never from the result of the verification alone.
extern "C" fn note_fault(is_fine: c_int, context: *mut ffi::X509_STORE_CTX) -> c_int {
    if is_fine == 1 {
        return 1;
    }
    // SAFETY: OpenSSL calls with the context that is being verified, which lives for the call;
    // nothing else uses it meanwhile, and the reference does not outlive this function.
    #[expect(unsafe_code, reason = "the openssl crate has no call for it")]
    let context = unsafe { X509StoreContextRef::from_ptr(context) };
    let depth = usize::try_from(context.error_depth()).unwrap_or(usize::MAX);
    let error = context.error();
    let certificate = context.current_cert();
    let kind = kind_of(error.as_raw(), error.error_string(), certificate);
    let fault = Fault {
        depth,
        subject: certificate.map_or_else(String::new, |c| name_for_people(c.subject_name())),
        kind,
    };
    FAULTS.with_borrow_mut(|faults| {
        // That the leaf's signature cannot be checked without its issuer is no news, and neither is
        // that what may issue nothing is not an authority for servers.
        let follows = match error.as_raw() {
            ffi::X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE => !faults.is_empty(),
            ffi::X509_V_ERR_INVALID_PURPOSE => faults
                .iter()
                .any(|f| f.depth == fault.depth && f.kind == FaultKind::NotAnAuthority),
            _ => false,
        };
        if !follows && faults.len() < limits::PEER_FAULTS_MAX && !faults.contains(&fault) {
            faults.push(fault);
        }
    });
    1
}

impl Fault {
    pub(super) fn of(certificate: &X509Ref, depth: usize, kind: FaultKind) -> Fault {
        Fault {
            depth,
            subject: name_for_people(certificate.subject_name()),
            kind,
        }
    }
}

fn kind_of(code: c_int, words: &'static str, certificate: Option<&X509Ref>) -> FaultKind {
    let ends = || certificate.and_then(|c| unix_seconds(c.not_after()).ok());
    let begins = || certificate.and_then(|c| unix_seconds(c.not_before()).ok());
    match code {
        ffi::X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT
        | ffi::X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
        | ffi::X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE => {
            let issuer = certificate.map(|c| name_for_people(c.issuer_name()));
            FaultKind::UnknownIssuer(issuer.unwrap_or_default())
        }
        ffi::X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE
        | ffi::X509_V_ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY
        | ffi::X509_V_ERR_CERT_SIGNATURE_FAILURE => FaultKind::BadSignature,
        ffi::X509_V_ERR_CERT_NOT_YET_VALID => {
            begins().map_or(FaultKind::Malformed, FaultKind::NotYetValid)
        }
        ffi::X509_V_ERR_CERT_HAS_EXPIRED => ends().map_or(FaultKind::Malformed, FaultKind::Expired),
        ffi::X509_V_ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD
        | ffi::X509_V_ERR_ERROR_IN_CERT_NOT_AFTER_FIELD
        | ffi::X509_V_ERR_INVALID_EXTENSION => FaultKind::Malformed,
        ffi::X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT => FaultKind::SelfSigned,
        ffi::X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN | ffi::X509_V_ERR_CERT_UNTRUSTED => {
            FaultKind::UntrustedRoot
        }
        ffi::X509_V_ERR_CERT_CHAIN_TOO_LONG => FaultKind::TooLong,
        ffi::X509_V_ERR_INVALID_CA
        | ffi::X509_V_ERR_PATH_LENGTH_EXCEEDED
        | ffi::X509_V_ERR_INVALID_NON_CA
        | ffi::X509_V_ERR_KEYUSAGE_NO_CERTSIGN => FaultKind::NotAnAuthority,
        ffi::X509_V_ERR_INVALID_PURPOSE => FaultKind::WrongPurpose,
        ffi::X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION => FaultKind::CriticalExtension,
        ffi::X509_V_ERR_PERMITTED_VIOLATION..=ffi::X509_V_ERR_SUBTREE_MINMAX
        | ffi::X509_V_ERR_UNSUPPORTED_CONSTRAINT_TYPE..=ffi::X509_V_ERR_UNSUPPORTED_NAME_SYNTAX => {
            FaultKind::NameConstraint
        }
        ffi::X509_V_ERR_EE_KEY_TOO_SMALL | ffi::X509_V_ERR_CA_KEY_TOO_SMALL => FaultKind::WeakKey,
        ffi::X509_V_ERR_CA_MD_TOO_WEAK => FaultKind::WeakDigest,
        _ => FaultKind::Other(words),
    }
}

/// "CN=example.org, O=Example". A peer chose the bytes: what is no text is replaced, what controls
/// a terminal or ends a log line is escaped.
pub(super) fn name_for_people(name: &X509NameRef) -> String {
    let parts = name.entries().take(SUBJECT_PARTS_MAX).map(|entry| {
        let nid = entry.object().nid();
        let key = match nid {
            Nid::UNDEF => "?",
            _ => nid.short_name().unwrap_or("?"),
        };
        let text = String::from_utf8_lossy(entry.data().as_slice());
        let text: String = text.chars().take(SUBJECT_PART_CHARS_MAX).collect();
        format!("{key}={}", text.escape_debug())
    });
    parts.collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Fault {
    /// "certificate 1 of the chain (CN=Example CA) has expired on 2026-01-31".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.depth {
            0 => f.write_str("the certificate")?,
            depth => write!(f, "certificate {depth} of the chain")?,
        }
        if !self.subject.is_empty() {
            write!(f, " ({})", self.subject)?;
        }
        write!(f, " {}", self.kind)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultKind::BadSignature => f.write_str("has a signature that is not its issuer's"),
            FaultKind::CriticalExtension => {
                f.write_str("has a critical extension that is not understood")
            }
            FaultKind::Expired(at) => write!(f, "has expired on {}", day(*at)),
            FaultKind::KeyTooLarge => f.write_str("has a key that is too large"),
            FaultKind::Malformed => f.write_str("cannot be read"),
            FaultKind::NameConstraint => {
                f.write_str("has a name that an authority above it may not certify")
            }
            FaultKind::NotAnAuthority => f.write_str("may not issue the one below it"),
            FaultKind::NotYetValid(at) => write!(f, "is not valid before {}", day(*at)),
            FaultKind::Other(words) => write!(f, "is refused: {words}"),
            FaultKind::SelfSigned => f.write_str("is self-signed"),
            FaultKind::TooLong => f.write_str("comes with a chain that is too long"),
            FaultKind::UnknownIssuer(issuer) => {
                write!(
                    f,
                    "is issued by {issuer}, which is neither shown nor trusted"
                )
            }
            FaultKind::UntrustedRoot => f.write_str("is a root that is not trusted"),
            FaultKind::WeakDigest => f.write_str("is signed with a digest that is too weak"),
            FaultKind::WeakKey => f.write_str("has a key that is too weak"),
            FaultKind::WrongPurpose => f.write_str("is not meant for servers"),
        }
    }
}

/// "2026-01-31", UTC.
fn day(unix_seconds: i64) -> String {
    jiff::Timestamp::from_second(unix_seconds).map_or_else(
        |_| "a day out of range".to_owned(),
        |at| at.strftime("%Y-%m-%d").to_string(),
    )
}
