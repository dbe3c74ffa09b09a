use super::super::testing::{Issued, write};
use super::*;
use openssl::pkey::Id;
use tempfile::TempDir;

fn domain(name: &str) -> TlsDomain {
    TlsDomain {
        name: name.to_owned(),
        ascii: name.to_owned(),
        required: true,
        ..TlsDomain::default()
    }
}

fn pairs(root: &Path, name: &str) -> Result<(Vec<Pair>, Vec<TlsWarning>), String> {
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

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The file that is taken for a domain, if no more than one is.
fn only_file(dir: &TempDir, name: &str) -> String {
    let [file] = &files(dir.path(), name)[..] else {
        panic!("one file");
    };
    file.to_str().unwrap().to_owned()
}

fn issued_for(name: &str) -> Issued {
    Issued::new().dns(name).build()
}

/// One that is valid too, and older.
fn older_for(name: &str) -> Issued {
    Issued::new().dns(name).valid(-9000, 86_400 * 60).build()
}

/// Puts a certificate and its key beside each other, as files of one name.
fn put_beside(dir: &TempDir, name: &str, issued: &Issued) {
    let [certificate, key] = ["crt", "key"].map(|ending| format!("{name}.{ending}"));
    put(dir.path(), &certificate, &key, issued);
}

fn put_certificate(dir: &TempDir, file: &str, issued: &Issued) {
    write(&dir.path().join(file), 0o644, &[&issued.pem()]);
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
        let dir = folder();
        put(dir.path(), certificate, key, &issued_for("example.org"));
        put_beside(&dir, "else", &issued_for("example.com"));
        assert_eq!(
            files(dir.path(), "example.org"),
            [PathBuf::from(certificate)],
            "{key}"
        );
    }
}

#[test]
fn links_of_certbot_lead_to_the_newest_certificate_and_its_archive_is_left_alone() {
    let dir = folder();
    let old = older_for("example.org");
    let new = issued_for("example.org");
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
        only_file(&dir, "example.org"),
        "live/example.org/fullchain.pem"
    );
}

#[test]
fn a_wildcard_serves_the_domains_below_it() {
    let dir = folder();
    let issued = issued_for("*.example.org");
    put_beside(&dir, "_.example.org", &issued);
    assert_eq!(only_file(&dir, "chat.example.org"), "_.example.org.crt");
    assert!(pairs(dir.path(), "example.org").is_err());
    // One of the domain's own is better.
    let own = older_for("chat.example.org");
    put_beside(&dir, "chat.example.org", &own);
    assert_eq!(only_file(&dir, "chat.example.org"), "chat.example.org.crt");
}

#[test]
fn rsa_and_ecdsa_stand_side_by_side() {
    let dir = folder();
    put(
        dir.path(),
        "example.org.rsa.pem",
        "example.org.rsa.pem",
        &Issued::new().dns("example.org").rsa(2048).build(),
    );
    put_beside(&dir, "example.org", &issued_for("example.org"));
    let (found, _) = pairs(dir.path(), "example.org").unwrap();
    let mut kinds: Vec<_> = found.iter().map(|p| p.key.id()).collect();
    kinds.sort_by_key(|kind| kind.as_raw());
    assert_eq!(kinds, [Id::RSA, Id::EC]);
}

#[test]
fn the_newest_valid_one_wins_and_an_expired_one_of_another_kind_stays_out() {
    let dir = folder();
    put_beside(&dir, "a", &older_for("example.org"));
    put_beside(&dir, "b", &issued_for("example.org"));
    put_beside(
        &dir,
        "c",
        &Issued::new()
            .dns("example.org")
            .rsa(2048)
            .valid(-9000, -60)
            .build(),
    );
    assert_eq!(only_file(&dir, "example.org"), "b.crt");
}

#[test]
fn of_two_files_with_one_certificate_the_one_with_the_chain_is_taken() {
    let dir = folder();
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
    put_certificate(&dir, "example.org/chain.pem", &ca);
    assert_eq!(only_file(&dir, "example.org"), "example.org/fullchain.pem");
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    for mode in [0o640, 0o604, 0o620] {
        let dir = folder();
        let root = dir.path().canonicalize().unwrap();
        let issued = issued_for("example.org");
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
    let dir = folder();
    put_beside(&dir, "example.org", &issued_for("example.org"));
    write(
        &dir.path().join("other.key"),
        0o644,
        &[&Issued::new().build().key_pem()],
    );
    assert_eq!(files(dir.path(), "example.org").len(), 1);
}

#[test]
fn a_key_of_another_certificate_is_told_with_both_files() {
    let dir = folder();
    put_certificate(&dir, "example.org.crt", &issued_for("example.org"));
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
    let dir = folder();
    put_certificate(&dir, "example.org.crt", &issued_for("example.org"));
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
    let dir = folder();
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
    let dir = folder();
    put_beside(&dir, "example.org", &issued_for("example.com"));
    let (found, warnings) = pairs(dir.path(), "example.org").unwrap();
    assert!(!found[0].covers_domain);
    assert!(
        warnings[0]
            .text
            .contains("is not for this domain but for example.com"),
        "{warnings:?}"
    );
}

#[test]
fn files_that_a_domain_names_are_used_and_nothing_else() {
    let dir = folder();
    put_beside(&dir, "example.org", &issued_for("example.org"));
    let own = issued_for("example.org");
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
