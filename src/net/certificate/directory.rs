//! Finding a domain's certificates: the files it names, or a directory as certbot, lego, acme.sh and
//! Prosody fill it.
//!
//! Every certificate in the directory is read, and the names in it decide: so `NAME.crt` with
//! `NAME.key`, `NAME/fullchain.pem` with `privkey.pem`, `live/NAME/...`, `NAME.pem` with both,
//! `_.example.org.crt` for a wildcard, and RSA beside ECDSA are all one rule. File names only decide
//! between several that fit, and point to a file that was meant and does not fit.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Certificate, KeyFile, Pair, now_unix_seconds, read_file};
use crate::net::tls::{TlsDomain, TlsProblem};

/// `CERTIFICATES/live/NAME/fullchain.pem` is the deepest convention.
const DEPTH_MAX: usize = 3;

/// Files looked at. A directory with more is none of certificates.
const FILES_MAX: usize = 20_000;

/// Extensions of files that hold certificates or keys.
const EXTENSIONS: [&str; 5] = ["pem", "crt", "cer", "cert", "key"];

/// What certbot keeps beside `live`: old certificates, and keys without certificates.
const SKIPPED: [&str; 6] = [
    "archive",
    "keys",
    "csr",
    "accounts",
    "renewal",
    "renewal-hooks",
];

/// Endings of a name that tell the kind of key, where both kinds stand side by side.
const KINDS: [&str; 10] = [
    ".rsa", ".ecdsa", ".ecc", ".ec", "-rsa", "-ecdsa", "_rsa", "_ecdsa", "_ecc", "-ecc",
];

/// All certificates and keys of a directory, read once.
#[derive(Default)]
pub(in crate::net) struct Directory {
    root: Option<PathBuf>,
    certificates: Vec<Certificate>,
    keys: Vec<KeyFile>,
    /// Files, or directories, that cannot be read or understood, and why.
    broken: Vec<(PathBuf, String)>,
}

impl Directory {
    /// Reads what is there. What cannot be read is told when a domain is found to need it.
    pub(in crate::net) fn scan(root: Option<&Path>) -> Directory {
        let mut directory = Directory {
            root: root.map(Path::to_owned),
            ..Directory::default()
        };
        if let Some(root) = root {
            let mut files = Vec::new();
            directory.list(root, 1, &mut files);
            // The order of a directory is chance; what is chosen must not be.
            files.sort();
            for file in files {
                directory.read(&file);
            }
        }
        directory
    }

    fn list(&mut self, at: &Path, depth: usize, files: &mut Vec<PathBuf>) {
        let entries = match fs::read_dir(at) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return,
            Err(e) => {
                return self
                    .broken
                    .push((at.to_owned(), format!("cannot be read: {e}")));
            }
        };
        for entry in entries {
            let path = match entry {
                Ok(entry) => entry.path(),
                Err(e) => {
                    return self
                        .broken
                        .push((at.to_owned(), format!("cannot be read: {e}")));
                }
            };
            let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
                continue;
            };
            if name.starts_with('.') || files.len() >= FILES_MAX {
                continue;
            }
            // Links are followed: certbot's `live` is made of them.
            if path.is_dir() {
                if depth < DEPTH_MAX && !SKIPPED.contains(&name) {
                    self.list(&path, depth + 1, files);
                }
            } else if path
                .extension()
                .is_some_and(|e| EXTENSIONS.iter().any(|known| e == *known))
            {
                files.push(path);
            }
        }
    }

    fn read(&mut self, file: &Path) {
        let (pem, mode) = match read_file(file) {
            Ok(read) => read,
            Err(e) => {
                return self
                    .broken
                    .push((file.to_owned(), format!("cannot be read: {e}")));
            }
        };
        if holds(&pem, "CERTIFICATE-----") {
            match Certificate::from_pem(file, &pem) {
                Ok(certificate) => self.certificates.push(certificate),
                Err(text) => self.broken.push((file.to_owned(), text)),
            }
        }
        if holds(&pem, "PRIVATE KEY-----") {
            match KeyFile::from_pem(file, mode, &pem) {
                Ok(key) => self.keys.push(key),
                Err(text) => self.broken.push((file.to_owned(), text)),
            }
        }
    }

    /// The pairs that a domain shows, one for each kind of key; none only if it needs none.
    pub(in crate::net) fn pairs(
        &self,
        domain: &TlsDomain,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Pair>, Vec<TlsProblem>> {
        let problem = |text: String| vec![TlsProblem::of(domain, text)];
        let now = now_unix_seconds();
        let pairs = match (&domain.certificate, &domain.key) {
            (Some(certificate), key) => {
                vec![named(certificate, key.as_deref(), domain).map_err(problem)?]
            }
            (None, Some(key)) => {
                return Err(problem(format!(
                    "key = \"{}\" is set without certificate; set both, or neither to have them \
                     found in the directory of certificates",
                    key.display()
                )));
            }
            (None, None) => self.found(domain, now).map_err(|texts| {
                texts
                    .into_iter()
                    .map(|text| TlsProblem::of(domain, text))
                    .collect::<Vec<_>>()
            })?,
        };
        if pairs.is_empty() {
            let text = self.nothing_found(domain);
            if domain.required {
                return Err(problem(text));
            }
            warnings.push(format!("domain \"{}\": {text}", domain.name));
        }
        for pair in &pairs {
            warnings.extend(
                pair.certificate
                    .warnings(&domain.name, pair.covers_domain, now),
            );
        }
        Ok(pairs)
    }

    /// Looks through what the directory has. The errors are sentences.
    fn found(&self, domain: &TlsDomain, now: i64) -> Result<Vec<Pair>, Vec<String>> {
        let covers = |c: &Certificate| c.names.cover(&domain.ascii, &domain.name);
        let mut fitting: Vec<&Certificate> =
            self.certificates.iter().filter(|c| covers(c)).collect();
        if fitting.is_empty() {
            // Nothing has the name; a file that is called by it was meant for it.
            fitting = self
                .certificates
                .iter()
                .filter(|c| called(&c.file, domain) == 2)
                .collect();
        }
        // Best first: valid, called by the domain's name, for it without a wildcard, newest, and of
        // two files with one certificate the one with the chain.
        fitting.sort_by_key(|c| {
            Reverse((
                c.is_valid_at(now),
                called(&c.file, domain),
                c.names.has_exactly(&domain.ascii),
                c.not_before,
                c.length,
            ))
        });
        let mut chosen: Vec<Pair> = Vec::new();
        let mut texts = Vec::new();
        for certificate in fitting {
            // Beside a valid one, an outdated one of another kind would only hurt who gets it.
            let outdated = chosen.first().is_some_and(|first| {
                first.certificate.is_valid_at(now) && !certificate.is_valid_at(now)
            });
            let kind = certificate.public.id();
            if outdated
                || chosen
                    .iter()
                    .any(|pair| pair.certificate.public.id() == kind)
            {
                continue;
            }
            match self.key_of(certificate) {
                Ok(key) => chosen.push(Pair {
                    covers_domain: covers(certificate),
                    certificate: certificate.clone(),
                    key: key.key.clone(),
                }),
                Err(text) => texts.push(text),
            }
        }
        for pair in &chosen {
            if let Some(key) = self.key_file(&pair.certificate) {
                key.check_mode().map_err(|text| vec![text])?;
            }
        }
        if chosen.is_empty() {
            let meant = |path: &Path| called(path, domain) > 0;
            let broken = self.broken.iter().filter(|(path, _)| meant(path));
            texts.extend(broken.map(|(path, why)| format!("{} {why}", path.display())));
            if !texts.is_empty() {
                return Err(texts);
            }
        }
        Ok(chosen)
    }

    /// The key of a certificate: in its file, else in its directory, else anywhere.
    fn key_file(&self, certificate: &Certificate) -> Option<&KeyFile> {
        let file = &certificate.file;
        let fits = self
            .keys
            .iter()
            .filter(|key| certificate.public.public_eq(&key.key));
        fits.min_by_key(|key| {
            (
                key.file != *file,
                key.file.parent() != file.parent(),
                key.mode & 0o077,
            )
        })
    }

    fn key_of(&self, certificate: &Certificate) -> Result<&KeyFile, String> {
        if let Some(key) = self.key_file(certificate) {
            return Ok(key);
        }
        let file = certificate.file.display();
        let beside = keys_beside(&certificate.file);
        if let Some((path, why)) = self.broken.iter().find(|(path, _)| beside.contains(path)) {
            return Err(format!(
                "certificate {file} has no usable key: {} {why}",
                path.display()
            ));
        }
        match self.keys.iter().find(|key| beside.contains(&key.file)) {
            Some(key) => Err(format!(
                "key {} does not belong to certificate {file}; put the key there with which the \
                 certificate was requested",
                key.file.display()
            )),
            None => Err(format!(
                "certificate {file} has no key beside it; put it into {}",
                expected(&beside)
            )),
        }
    }

    fn nothing_found(&self, domain: &TlsDomain) -> String {
        let name = &domain.ascii;
        let Some(root) = self.root.as_deref() else {
            return "has no certificate; set certificate and key for it".to_owned();
        };
        let at = root.display();
        let unreadable = self
            .broken
            .iter()
            .find(|(path, _)| path == root || path.is_dir());
        let unreadable = unreadable.map(|(path, why)| format!(" ({} {why})", path.display()));
        format!(
            "no certificate found in {at}{}; put {name}.crt and {name}.key there, or fullchain.pem and \
             privkey.pem into {at}/{name}/, or set certificate and key for the domain",
            unreadable.unwrap_or_default()
        )
    }
}

/// The pair that a domain names itself.
fn named(file: &Path, key: Option<&Path>, domain: &TlsDomain) -> Result<Pair, String> {
    let (pem, mode) = read_file(file)
        .map_err(|e| format!("certificate {} cannot be read: {e}", file.display()))?;
    let certificate = Certificate::from_pem(file, &pem)
        .map_err(|text| format!("certificate {} {text}", file.display()))?;
    let key = if let Some(path) = key {
        read_key(path)?
    } else if holds(&pem, "PRIVATE KEY-----") {
        KeyFile::from_pem(file, mode, &pem)
            .map_err(|text| format!("key {} {text}", file.display()))?
    } else {
        let beside = keys_beside(file);
        let path = beside.iter().find(|path| path.exists()).ok_or_else(|| {
            format!(
                "certificate {} has no key: set key, or put it into {}",
                file.display(),
                expected(&beside)
            )
        })?;
        read_key(path)?
    };
    if !certificate.public.public_eq(&key.key) {
        return Err(format!(
            "key {} does not belong to certificate {}; set the key with which the certificate was \
             requested",
            key.file.display(),
            file.display()
        ));
    }
    key.check_mode()?;
    let covers_domain = certificate.names.cover(&domain.ascii, &domain.name);
    Ok(Pair {
        certificate,
        key: key.key,
        covers_domain,
    })
}

fn read_key(path: &Path) -> Result<KeyFile, String> {
    let (pem, mode) =
        read_file(path).map_err(|e| format!("key {} cannot be read: {e}", path.display()))?;
    KeyFile::from_pem(path, mode, &pem).map_err(|text| format!("key {} {text}", path.display()))
}

/// Where a certificate's key is expected when it is not in the same file.
fn keys_beside(certificate: &Path) -> Vec<PathBuf> {
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

fn expected(beside: &[PathBuf]) -> String {
    let paths: Vec<_> = beside
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(" or ")
}

/// How well a file's name, or its directory's, says that it is for the domain: 2 by name, 1 by the
/// wildcard above it, 0 not at all.
fn called(file: &Path, domain: &TlsDomain) -> u8 {
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

fn holds(pem: &[u8], marker: &str) -> bool {
    pem.windows(marker.len())
        .any(|window| window == marker.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Issued, write};
    use super::*;
    use openssl::pkey::Id;

    fn domain(name: &str) -> TlsDomain {
        TlsDomain {
            name: name.to_owned(),
            ascii: name.to_owned(),
            required: true,
            ..TlsDomain::default()
        }
    }

    fn pairs(root: &Path, name: &str) -> Result<(Vec<Pair>, Vec<String>), String> {
        let mut warnings = Vec::new();
        match Directory::scan(Some(root)).pairs(&domain(name), &mut warnings) {
            Ok(pairs) => Ok((pairs, warnings)),
            Err(problems) => Err(problems
                .iter()
                .map(TlsProblem::to_string)
                .collect::<Vec<_>>()
                .join("\n")),
        }
    }

    fn files(root: &Path, name: &str) -> Vec<PathBuf> {
        let (pairs, warnings) = pairs(root, name).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        pairs
            .iter()
            .map(|p| p.certificate.file.strip_prefix(root).unwrap().to_owned())
            .collect()
    }

    fn put(root: &Path, certificate: &str, key: &str, issued: &Issued) {
        if certificate == key {
            write(
                &root.join(certificate),
                0o600,
                &[&issued.pem(), &issued.key_pem()],
            );
        } else {
            write(&root.join(certificate), 0o644, &[&issued.pem()]);
            write(&root.join(key), 0o600, &[&issued.key_pem()]);
        }
    }

    #[test]
    fn the_conventions_of_certbot_lego_acme_sh_and_prosody_are_found() {
        for (certificate, key) in [
            (
                "live/example.org/fullchain.pem",
                "live/example.org/privkey.pem",
            ),
            ("example.org/fullchain.pem", "example.org/privkey.pem"),
            ("example.org/fullchain.cer", "example.org/example.org.key"),
            ("example.org.crt", "example.org.key"),
            (
                "certificates/example.org.crt",
                "certificates/example.org.key",
            ),
            ("example.org.pem", "example.org.pem"),
            ("example.org.pem", "example.org.key"),
            ("whatever.pem", "other.key"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            put(
                dir.path(),
                certificate,
                key,
                &Issued::new().dns("example.org").build(),
            );
            put(
                dir.path(),
                "else.crt",
                "else.key",
                &Issued::new().dns("example.com").build(),
            );
            assert_eq!(
                files(dir.path(), "example.org"),
                [PathBuf::from(certificate)],
                "{key}"
            );
        }
    }

    #[test]
    fn links_of_certbot_lead_to_the_newest_certificate_and_its_archive_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let old = Issued::new()
            .dns("example.org")
            .valid(-9000, 86_400 * 60)
            .build();
        let new = Issued::new().dns("example.org").build();
        let archive = dir.path().join("archive/example.org");
        for (number, issued) in [(1, &old), (2, &new)] {
            write(
                &archive.join(format!("fullchain{number}.pem")),
                0o644,
                &[&issued.pem()],
            );
            write(
                &archive.join(format!("privkey{number}.pem")),
                0o600,
                &[&issued.key_pem()],
            );
        }
        let live = dir.path().join("live/example.org");
        fs::create_dir_all(&live).unwrap();
        for name in ["fullchain", "privkey"] {
            let target = format!("../../archive/example.org/{name}2.pem");
            std::os::unix::fs::symlink(target, live.join(format!("{name}.pem"))).unwrap();
        }
        assert_eq!(
            files(dir.path(), "example.org"),
            [PathBuf::from("live/example.org/fullchain.pem")]
        );
    }

    #[test]
    fn a_wildcard_serves_the_domains_below_it() {
        let dir = tempfile::tempdir().unwrap();
        let issued = Issued::new().dns("*.example.org").build();
        put(
            dir.path(),
            "_.example.org.crt",
            "_.example.org.key",
            &issued,
        );
        assert_eq!(
            files(dir.path(), "chat.example.org"),
            [PathBuf::from("_.example.org.crt")]
        );
        assert!(pairs(dir.path(), "example.org").is_err());
        // One of the domain's own is better.
        let own = Issued::new()
            .dns("chat.example.org")
            .valid(-9000, 86_400 * 60)
            .build();
        put(
            dir.path(),
            "chat.example.org.crt",
            "chat.example.org.key",
            &own,
        );
        assert_eq!(
            files(dir.path(), "chat.example.org"),
            [PathBuf::from("chat.example.org.crt")]
        );
    }

    #[test]
    fn rsa_and_ecdsa_stand_side_by_side() {
        let dir = tempfile::tempdir().unwrap();
        put(
            dir.path(),
            "example.org.rsa.pem",
            "example.org.rsa.pem",
            &Issued::new().dns("example.org").rsa(2048).build(),
        );
        put(
            dir.path(),
            "example.org.crt",
            "example.org.key",
            &Issued::new().dns("example.org").build(),
        );
        let (found, _) = pairs(dir.path(), "example.org").unwrap();
        let mut kinds: Vec<_> = found.iter().map(|p| p.key.id()).collect();
        kinds.sort_by_key(|kind| kind.as_raw());
        assert_eq!(kinds, [Id::RSA, Id::EC]);
    }

    #[test]
    fn the_newest_valid_one_wins_and_an_expired_one_of_another_kind_stays_out() {
        let dir = tempfile::tempdir().unwrap();
        let names = |wish: super::super::testing::Wish| wish.dns("example.org");
        put(
            dir.path(),
            "a.crt",
            "a.key",
            &names(Issued::new()).valid(-9000, 86_400 * 60).build(),
        );
        put(dir.path(), "b.crt", "b.key", &names(Issued::new()).build());
        put(
            dir.path(),
            "c.crt",
            "c.key",
            &names(Issued::new()).rsa(2048).valid(-9000, -60).build(),
        );
        assert_eq!(files(dir.path(), "example.org"), [PathBuf::from("b.crt")]);
    }

    #[test]
    fn of_two_files_with_one_certificate_the_one_with_the_chain_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Issued::new().authority().build();
        let issued = Issued::new().dns("example.org").issue(&ca);
        put(
            dir.path(),
            "example.org/cert.pem",
            "example.org/privkey.pem",
            &issued,
        );
        write(
            &dir.path().join("example.org/fullchain.pem"),
            0o644,
            &[&issued.pem(), &ca.pem()],
        );
        write(
            &dir.path().join("example.org/chain.pem"),
            0o644,
            &[&ca.pem()],
        );
        assert_eq!(
            files(dir.path(), "example.org"),
            [PathBuf::from("example.org/fullchain.pem")]
        );
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        for mode in [0o640, 0o604, 0o620] {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().canonicalize().unwrap();
            let issued = Issued::new().dns("example.org").build();
            write(&root.join("example.org.crt"), 0o644, &[&issued.pem()]);
            write(&root.join("real/secret"), mode, &[&issued.key_pem()]);
            std::os::unix::fs::symlink("real/secret", root.join("example.org.key")).unwrap();
            let text = pairs(&root, "example.org").unwrap_err();
            let command = format!("chmod 600 {}", root.join("real/secret").display());
            assert!(
                text.contains(&command) && text.contains("example.org.key"),
                "{text}"
            );
        }
    }

    #[test]
    fn the_mode_of_keys_that_are_not_used_is_nobodys_business() {
        let dir = tempfile::tempdir().unwrap();
        put(
            dir.path(),
            "example.org.crt",
            "example.org.key",
            &Issued::new().dns("example.org").build(),
        );
        write(
            &dir.path().join("other.key"),
            0o644,
            &[&Issued::new().build().key_pem()],
        );
        assert_eq!(files(dir.path(), "example.org").len(), 1);
    }

    #[test]
    fn a_key_of_another_certificate_is_told_with_both_files() {
        let dir = tempfile::tempdir().unwrap();
        write(
            &dir.path().join("example.org.crt"),
            0o644,
            &[&Issued::new().dns("example.org").build().pem()],
        );
        write(
            &dir.path().join("example.org.key"),
            0o600,
            &[&Issued::new().build().key_pem()],
        );
        let text = pairs(dir.path(), "example.org").unwrap_err();
        assert!(
            text.contains("example.org.key does not belong to certificate"),
            "{text}"
        );
    }

    #[test]
    fn a_certificate_without_key_or_a_broken_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        write(
            &dir.path().join("example.org.crt"),
            0o644,
            &[&Issued::new().dns("example.org").build().pem()],
        );
        let text = pairs(dir.path(), "example.org").unwrap_err();
        assert!(
            text.contains("has no key beside it") && text.contains("example.org.key"),
            "{text}"
        );
        write(
            &dir.path().join("example.org.crt"),
            0o644,
            &[b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"],
        );
        let text = pairs(dir.path(), "example.org").unwrap_err();
        assert!(
            text.contains("example.org.crt is not a certificate"),
            "{text}"
        );
    }

    #[test]
    fn no_certificate_at_all_says_where_to_put_one() {
        let dir = tempfile::tempdir().unwrap();
        let text = pairs(&dir.path().join("certs"), "example.org").unwrap_err();
        assert!(
            text.contains("domain \"example.org\"") && text.contains("certs/example.org/"),
            "{text}"
        );
        let mut optional = domain("example.org");
        optional.required = false;
        let mut warnings = Vec::new();
        assert!(
            Directory::scan(Some(dir.path()))
                .pairs(&optional, &mut warnings)
                .unwrap()
                .is_empty()
        );
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn a_file_called_by_the_domain_but_for_another_is_used_with_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        put(
            dir.path(),
            "example.org.crt",
            "example.org.key",
            &Issued::new().dns("example.com").build(),
        );
        let (found, warnings) = pairs(dir.path(), "example.org").unwrap();
        assert!(!found[0].covers_domain);
        assert!(
            warnings[0].contains("is not for this domain but for example.com"),
            "{warnings:?}"
        );
    }

    #[test]
    fn files_that_a_domain_names_are_used_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        put(
            dir.path(),
            "example.org.crt",
            "example.org.key",
            &Issued::new().dns("example.org").build(),
        );
        let own = Issued::new().dns("example.org").build();
        put(dir.path(), "own/a.crt", "own/b.key", &own);
        let mut domain = domain("example.org");
        domain.certificate = Some(dir.path().join("own/a.crt"));
        let directory = Directory::scan(Some(dir.path()));
        let text = directory.pairs(&domain, &mut Vec::new()).unwrap_err()[0].to_string();
        assert!(text.contains("set key") && text.contains("a.key"), "{text}");
        domain.key = Some(dir.path().join("own/b.key"));
        let found = directory.pairs(&domain, &mut Vec::new()).unwrap();
        assert_eq!(found[0].certificate.file, dir.path().join("own/a.crt"));
        domain.key = Some(dir.path().join("example.org.key"));
        let text = directory.pairs(&domain, &mut Vec::new()).unwrap_err()[0].to_string();
        assert!(text.contains("does not belong"), "{text}");
        domain.certificate = None;
        let text = directory.pairs(&domain, &mut Vec::new()).unwrap_err()[0].to_string();
        assert!(text.contains("without certificate"), "{text}");
    }
}
