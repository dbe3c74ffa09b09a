//! What the names of files tell: which domain a certificate is meant for, and where its key stands.

use std::path::{Path, PathBuf};

use crate::net::tls::TlsDomain;

/// Endings of a name that tell the kind of key, where both kinds stand side by side.
const KINDS: [&str; 10] = [
    ".rsa", ".ecdsa", ".ecc", ".ec", "-rsa", "-ecdsa", "_rsa", "_ecdsa", "_ecc", "-ecc",
];

/// Where a certificate's key is expected when it is not in the same file.
pub(super) fn keys_beside(certificate: &Path) -> Vec<PathBuf> {
    let mut beside = vec![certificate.with_extension("key")];
    let stem = certificate
        .file_stem()
        .and_then(|s| s.to_str())
        .unwrap_or_default();
    let number = stem
        .strip_prefix("fullchain")
        .or_else(|| stem.strip_prefix("cert"));
    if let Some(number) = number {
        beside.push(certificate.with_file_name(format!("privkey{number}.pem")));
    }
    beside
}

/// Those places, in a sentence.
pub(super) fn expected(beside: &[PathBuf]) -> String {
    let paths: Vec<_> = beside
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(" or ")
}

/// How well a file's name, or its directory's, says that it is for the domain: 2 by name, 1 by the
/// wildcard above it, 0 not at all.
pub(super) fn called(file: &Path, domain: &TlsDomain) -> u8 {
    let stem = file.file_stem().and_then(|s| s.to_str());
    let parent = file
        .parent()
        .and_then(Path::file_name)
        .and_then(|s| s.to_str());
    [stem, parent]
        .into_iter()
        .flatten()
        .map(|name| called_by(name, domain))
        .max()
        .unwrap_or(0)
}

fn called_by(name: &str, domain: &TlsDomain) -> u8 {
    let is = |name: &str| name.eq_ignore_ascii_case(&domain.ascii) || name == domain.name;
    let plain = KINDS
        .iter()
        .find_map(|kind| name.strip_suffix(kind))
        .unwrap_or(name);
    if is(name) || is(plain) {
        return 2;
    }
    // lego writes "_.example.org", others "*.example.org" or "wildcard.example.org".
    let above = domain.ascii.split_once('.').map(|(_, above)| above);
    let wildcard = ["_.", "*.", "wildcard."]
        .iter()
        .find_map(|prefix| plain.strip_prefix(prefix));
    match (above, wildcard) {
        (Some(above), Some(parent)) if parent.eq_ignore_ascii_case(above) => 1,
        _ => 0,
    }
}
