//! Wrong configuration files beside the message that each must give, and right ones beside what
//! they mean. `STANZAD_BLESS=1 cargo test --test config` writes the messages anew; read them.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use stanzad::config::options::OPTIONS;
use stanzad::config::{DhParam, LogTo, Settings, parse};
use stanzad::sasl::{Mechanism, Storage};

fn read(text: &str) -> Settings {
    parse(text, Path::new("/etc/stanzad/stanzad.toml")).unwrap_or_else(|p| panic!("{p}"))
}

fn mechanisms(text: &str) -> Vec<&'static str> {
    let settings = read(text);
    let domain = settings
        .domains
        .get("example.org")
        .expect("it is in each text");
    domain.auth.mechanisms.iter().map(|m| m.name()).collect()
}

#[test]
fn every_wrong_file_gives_all_its_messages_at_once() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    assert!(
        files.len() > 10,
        "the examples are missing from {}",
        dir.display()
    );
    for file in files {
        let name = Path::new(file.file_name().unwrap());
        let text = fs::read_to_string(&file).unwrap();
        let problems = parse(&text, name).expect_err(&format!("{name:?} is no wrong file"));
        let found = format!("{problems}\n");
        let expected = file.with_extension("expected");
        if std::env::var_os("STANZAD_BLESS").is_some() {
            fs::write(&expected, &found).unwrap();
        }
        let wanted = fs::read_to_string(&expected).unwrap();
        assert_eq!(found, wanted, "{name:?} against {expected:?}");
    }
}

#[test]
fn one_line_is_a_complete_configuration_with_the_defaults() {
    let settings = read("[domain.\"example.org\"]");
    assert_eq!(settings.domains.len(), 1);
    let without = Settings {
        domains: Default::default(),
        ..settings
    };
    assert_eq!(without, Settings::default());
}

#[test]
fn the_table_of_options_has_the_defaults_of_the_types() {
    let mut text = String::new();
    // A component has no default: it needs a secret.
    for spec in OPTIONS.iter().filter(|spec| spec.section != "component") {
        let section = match spec.section {
            "domain" => "domain.\"example.org\"",
            "s2s.peer" => "s2s.peer.\"example.net\"",
            section => section,
        };
        text += &format!("{section}.{} = {}\n", spec.key, spec.default);
    }
    assert_eq!(read(&text), read("[domain.\"example.org\"]"));
}

#[test]
fn every_option_changes_the_settings() {
    let other = [
        ("server.data", "'/srv/stanzad'"),
        ("server.shards", "256"),
        ("server.control", "'/run/other.sock'"),
        ("listen.c2s", "['127.0.0.1:5222']"),
        ("listen.c2s_tls", "[]"),
        ("listen.s2s", "['127.0.0.1:5269']"),
        ("listen.s2s_tls", "[]"),
        ("listen.component", "[]"),
        ("tls.certificates", "'/srv/certs'"),
        ("tls.min_version", "'1.3'"),
        ("tls.ciphers", "'ECDHE+AESGCM'"),
        ("tls.ciphersuites", "'TLS_AES_128_GCM_SHA256'"),
        ("tls.groups", "['P-256']"),
        ("tls.dhparam", "'ffdhe3072'"),
        ("tls.prefer_server_ciphers", "false"),
        ("tls.ca", "'ca.pem'"),
        ("c2s.require_encryption", "false"),
        ("c2s.allow_unencrypted_plain", "true"),
        ("c2s.stanza_bytes_max", "10000"),
        ("c2s.idle_seconds", "0"),
        ("c2s.ping_timeout_seconds", "3600"),
        ("c2s.resource_conflict", "'refuse'"),
        ("s2s.enabled", "false"),
        ("s2s.require_encryption", "false"),
        ("s2s.secure_auth", "false"),
        ("s2s.secure_domains", "['example.net']"),
        ("s2s.insecure_domains", "['example.net']"),
        ("s2s.dane", "true\ndns.dnssec = true"),
        ("s2s.allow", "['example.net']"),
        ("s2s.deny", "['*.example.net']"),
        ("s2s.stanza_bytes_max", "10000"),
        ("s2s.idle_seconds", "0"),
        ("s2s.message_wait_seconds", "0"),
        ("s2s.ack_timeout_seconds", "5"),
        ("s2s.peer.address", "'192.0.2.7:5269'"),
        (
            "s2s.peer.tls",
            "'direct'\ns2s.peer.'example.net'.address = '[::1]:5270'",
        ),
        ("s2s.peer.pin", "['sha256:PINNED']"),
        ("s2s.peer.ca", "'ca.pem'"),
        ("dns.servers", "['127.0.0.1:53']"),
        ("dns.dnssec", "true"),
        ("dns.trust_anchor", "'anchor.key'"),
        ("auth.mechanisms", "['PLAIN']"),
        ("auth.storage", "'bcrypt'"),
        ("auth.hashes", "['SHA-256']"),
        ("auth.iterations", "4096"),
        ("auth.bcrypt_cost", "16"),
        ("auth.anonymous", "true"),
        ("auth.client_ca", "'/etc/stanzad/ca.pem'"),
        ("contact.abuse", "['mailto:abuse@example.org']"),
        ("contact.admin", "['mailto:admin@example.org']"),
        ("contact.feedback", "['mailto:feedback@example.org']"),
        ("contact.sales", "['mailto:sales@example.org']"),
        ("contact.security", "['mailto:security@example.org']"),
        ("contact.status", "['mailto:status@example.org']"),
        ("contact.support", "['mailto:support@example.org']"),
        ("store.durability", "'normal'"),
        ("limits.connections_per_address_max", "1"),
        ("limits.new_connections_per_address_max", "0"),
        ("limits.handshakes_per_address_max", "0"),
        ("limits.bytes_per_second_max", "0"),
        ("limits.stanzas_per_second_max", "0"),
        ("limits.server_bytes_per_second_max", "0"),
        ("limits.server_stanzas_per_second_max", "0"),
        ("limits.unauthenticated_seconds_max", "600"),
        ("limits.resources_per_account_max", "1"),
        ("limits.roster_items_max", "5000"),
        ("limits.pending_requests_max", "1"),
        ("limits.login_failures_per_stream_max", "3"),
        ("limits.login_failures_per_address_max", "1"),
        ("limits.login_failures_per_account_max", "1"),
        ("limits.private_bytes_max", "1024"),
        ("limits.vcard_bytes_max", "1024"),
        ("limits.offline_messages_max", "1"),
        ("limits.offline_bytes_max", "10000"),
        ("log.level", "'debug'"),
        ("log.to", "'/var/log/stanzad.log'"),
        ("log.format", "'json'"),
        ("domain.certificate", "'c.pem'"),
        ("domain.key", "'d.pem'\ncertificate = 'd.pem'"),
        ("domain.dhparam", "'ffdhe4096'"),
        ("component.secret", "'open, the barley seed'"),
        ("component.certificate", "'c.pem'\nsecret = 'open, sesame'"),
        (
            "component.key",
            "'d.pem'\ncertificate = 'd.pem'\nsecret = 'open, sesame'",
        ),
        (
            "component.stanza_bytes_max",
            "10000\nsecret = 'open, sesame'",
        ),
    ];
    let names: Vec<String> = OPTIONS.iter().map(|spec| spec.name()).collect();
    assert_eq!(names, other.map(|(name, _)| name.to_owned()));
    let default = read("[domain.\"example.org\"]");
    const COMPONENT: &str = "[domain.\"example.org\"]\n[component.\"irc.example.org\"]\n";
    let component = read(&format!("{COMPONENT}secret = 'open, sesame'"));
    for (name, value) in other {
        let text = match name.split_once('.') {
            Some(("domain", key)) => format!("[domain.\"example.org\"]\n{key} = {value}"),
            Some(("component", key)) => format!("{COMPONENT}{key} = {value}"),
            _ => format!("{name} = {value}\n[domain.\"example.org\"]"),
        };
        let text = text.replacen("s2s.peer.", "s2s.peer.'example.net'.", 1);
        let text = text.replace("PINNED", &"07".repeat(32));
        let default = match name.starts_with("component.") {
            true => &component,
            false => &default,
        };
        assert_ne!(read(&text), *default, "{name}");
    }
}

#[test]
fn a_domain_wins_over_the_server_and_inherits_the_rest() {
    let settings = read(
        "[c2s]\nidle_seconds = 60\nping_timeout_seconds = 5\n\
         [domain.\"example.org\"]\nc2s.idle_seconds = 0\n\
         [domain.\"example.net\"]",
    );
    let org = &settings.domains.get("example.org").unwrap().c2s;
    assert_eq!((org.idle_seconds, org.ping_timeout_seconds), (0, 5));
    let net = &settings.domains.get("example.net").unwrap().c2s;
    assert_eq!((net.idle_seconds, net.ping_timeout_seconds), (60, 5));
}

/// `[s2s.peer."name"]`: what a domain says wins option by option.
#[test]
fn a_domain_knows_other_servers_as_the_server_does_and_better() {
    let pin = format!("'sha256:{}'", "07".repeat(32));
    let settings = read(&format!(
        "[s2s.peer.'Example.NET']\naddress = 'xmpp.example.net:5270'\ntls = 'direct'\n\
         [domain.'example.org'.s2s.peer.'example.net']\npin = [{pin}]\n\
         [domain.'example.com']\n[domain.'example.com'.s2s.peer.'example.net']\n\
         address = '[2001:db8::7]:5269'\ntls = 'starttls'"
    ));
    let peer = |domain: &str| {
        let domain = settings.domains.get(domain).unwrap();
        domain.s2s.peers.get("example.net").unwrap().clone()
    };
    let (org, com) = (peer("example.org"), peer("example.com"));
    let address = org.address.unwrap();
    assert_eq!(
        (address.host.as_str(), address.port),
        ("xmpp.example.net", 5270)
    );
    assert!(org.is_direct_tls && org.pins.len() == 1);
    assert_eq!(com.address.unwrap().host, "[2001:db8::7]");
    assert!(!com.is_direct_tls && com.pins.is_empty() && !settings.s2s.peers.is_empty());
}

#[test]
fn a_relative_path_counts_from_the_directory_of_the_file() {
    let settings = read(
        "[tls]\ncertificates = \"certs\"\ndhparam = \"dh.pem\"\n[log]\nto = \"./log\"\n\
         [domain.\"example.org\"]",
    );
    assert_eq!(settings.tls.certificates, Path::new("/etc/stanzad/certs"));
    let dhparam = DhParam::File(PathBuf::from("/etc/stanzad/dh.pem"));
    assert_eq!(settings.tls.dhparam, Some(dhparam));
    assert_eq!(
        settings.log.to,
        LogTo::File(PathBuf::from("/etc/stanzad/./log"))
    );
}

/// RFC 7622 §3.2: domainparts are compared after preparation.
#[test]
fn a_domain_is_kept_under_its_prepared_name() {
    let settings = read("[domain.\"EXAMPLE.org\"]");
    assert!(settings.domains.contains_key("example.org"));
}

#[test]
fn mechanisms_left_alone_follow_the_other_options() {
    let scram = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"];
    let of = |auth: &str| mechanisms(&format!("[domain.\"example.org\".auth]\n{auth}"));
    assert_eq!(of("storage = 'bcrypt'"), ["PLAIN"]);
    assert_eq!(of("hashes = ['SHA-256']"), [scram[0], scram[1], "PLAIN"]);
    assert!(of("client_ca = '/ca.pem'").contains(&"EXTERNAL"));
    assert!(of("anonymous = true").contains(&"ANONYMOUS"));
    let plain = of("");
    assert!(!plain.contains(&"EXTERNAL") && !plain.contains(&"ANONYMOUS"));
}

#[test]
fn bcrypt_storage_offers_no_scram_even_where_the_list_names_it() {
    let text = "[domain.\"example.org\".auth]\nstorage = 'bcrypt'\n\
                mechanisms = ['SCRAM-SHA-256', 'PLAIN']";
    assert_eq!(mechanisms(text), ["PLAIN"]);
    let settings = read(text);
    let storage = settings.domains.get("example.org").unwrap().auth.storage;
    assert_eq!(storage, Storage::Bcrypt);
    // Who wrote the list learns of it, once for all domains and at the later of the two options.
    let warned = |text: &str| -> Vec<(usize, String)> {
        let warnings = read(text).warnings.into_iter();
        warnings.map(|w| (w.line, w.text)).collect()
    };
    let told = warned(text);
    assert_eq!((told.len(), told[0].0), (1, 3), "{told:?}");
    assert!(
        told[0]
            .1
            .starts_with("SCRAM-SHA-256 in auth.mechanisms will not be offered"),
        "{told:?}"
    );
    let shared = "[auth]\nmechanisms = ['SCRAM-SHA-1', 'PLAIN']\nstorage = 'bcrypt'\n\
                  [domain.\"example.org\"]\n[domain.\"example.net\"]";
    assert_eq!((warned(shared).len(), warned(shared)[0].0), (1, 3));
    for right in [
        "storage = 'bcrypt'",
        "storage = 'bcrypt'\nmechanisms = ['PLAIN']",
    ] {
        assert_eq!(
            warned(&format!("[domain.\"example.org\".auth]\n{right}")),
            []
        );
    }
}

#[test]
fn a_list_of_mechanisms_keeps_its_order() {
    let text = "auth.mechanisms = ['PLAIN', 'SCRAM-SHA-1']\n[domain.\"example.org\"]";
    assert_eq!(mechanisms(text), [Mechanism::Plain.name(), "SCRAM-SHA-1"]);
}

#[test]
fn plain_in_the_clear_is_warned_of() {
    let warned = |c2s: &str| {
        let settings = read(&format!("[c2s]\n{c2s}\n[domain.\"example.org\"]"));
        settings
            .warnings
            .iter()
            .map(|w| (w.line, w.text.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(warned("require_encryption = false"), []);
    let both = warned("require_encryption = false\nallow_unencrypted_plain = true");
    assert!(
        both.len() == 1 && both[0].0 == 3 && both[0].1.contains("in the clear"),
        "{both:?}"
    );
    let idle = warned("allow_unencrypted_plain = true");
    assert!(
        idle.len() == 1 && idle[0].1.contains("no effect"),
        "{idle:?}"
    );
}

#[test]
fn a_file_that_is_missing_or_not_text_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let missing = stanzad::config::load(&dir.path().join("none.toml")).unwrap_err();
    assert!(
        missing.to_string().contains("none.toml: cannot be read"),
        "{missing}"
    );
    let latin = dir.path().join("latin.toml");
    fs::write(&latin, b"# caf\n# \xe9\n").unwrap();
    let latin = stanzad::config::load(&latin).unwrap_err();
    assert!(
        latin
            .to_string()
            .contains("latin.toml:2:3: this byte is not UTF-8"),
        "{latin}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a slip of the hand does to a file, the answer is settings, or problems with places.
    #[test]
    fn a_damaged_file_is_read_or_told_and_nothing_else(
        at in any::<prop::sample::Index>(),
        removed in 0..40usize,
        inserted in "[\\[\\]\"'=.#\n ,{}a-z0-9\u{e9}\u{0}-]{0,6}",
    ) {
        let sample = include_str!("../conf/stanzad.toml").replace("\n# ", "\n## ");
        let text: Vec<char> = sample.replace("\n#", "\n").chars().collect();
        let start = at.index(text.len());
        let end = (start + removed).min(text.len());
        let damaged: String = text[..start].iter().copied()
            .chain(inserted.chars())
            .chain(text[end..].iter().copied())
            .collect();
        if let Err(problems) = parse(&damaged, Path::new("stanzad.toml")) {
            prop_assert!(!problems.list.is_empty());
            let lines = damaged.split('\n').count();
            for problem in &problems.list {
                prop_assert!((1..=lines).contains(&problem.line), "{problem:?}");
                prop_assert!(problem.column >= 1 && !problem.text.contains('\n'), "{problem:?}");
            }
        }
    }
}
