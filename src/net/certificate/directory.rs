//! Finding a domain's certificates: the files it names, or a directory as certbot, lego, acme.sh and
//! Prosody fill it.
//!
//! Every certificate in the directory is read, and the names in it decide: so `NAME.crt` with
//! `NAME.key`, `NAME/fullchain.pem` with `privkey.pem`, `live/NAME/...`, `NAME.pem` with both,
//! `_.example.org.crt` for a wildcard, and RSA beside ECDSA are all one rule. File names only decide
//! between several that fit, and point to a file that was meant and does not fit.

mod naming;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use self::naming::{called, expected, keys_beside};
use super::{Certificate, KeyFile, Pair, now_unix_seconds, read_file};
use crate::net::tls::{Concern, TlsDomain, TlsProblem, TlsWarning};

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
        warnings: &mut Vec<TlsWarning>,
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
            warnings.push(TlsWarning::of(domain, Concern::Absence, text));
        }
        for pair in &pairs {
            let texts = pair.certificate.warnings(pair.covers_domain, now);
            let about = |text| TlsWarning::of(domain, Concern::Certificate, text);
            warnings.extend(texts.into_iter().map(about));
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
                    key_file: key.file.clone(),
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
        let unreadable = match unreadable {
            Some((path, why)) => format!(" ({} {why})", path.display()),
            None if !root.exists() => " (there is no such directory)".to_owned(),
            None => String::new(),
        };
        format!(
            "no certificate found in {at}{unreadable}; put {name}.crt and {name}.key there, or \
             fullchain.pem and privkey.pem into {at}/{name}/, or set certificate and key for the domain"
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
        key_file: key.file,
        covers_domain,
    })
}

fn read_key(path: &Path) -> Result<KeyFile, String> {
    let (pem, mode) =
        read_file(path).map_err(|e| format!("key {} cannot be read: {e}", path.display()))?;
    KeyFile::from_pem(path, mode, &pem).map_err(|text| format!("key {} {text}", path.display()))
}

fn holds(pem: &[u8], marker: &str) -> bool {
    pem.windows(marker.len())
        .any(|window| window == marker.as_bytes())
}
