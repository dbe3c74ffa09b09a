//! `[tls]`, and what a domain sets of it.

use openssl::ssl::{SslConnectorBuilder, SslVersion};

use super::common::authority::Wish;
use super::common::client::{Client, ssl};
use super::common::server::{PASSWORD, Server};
use super::common::site::Site;

super::cases! {
    certificates: "tls.certificates",
        ["[tls]\ncertificates = \"certs\"\n", "[tls]\ncertificates = \"more\"\n"],
        ["example.org", "example.org more.example.org"],
        certificate,
        |site| {
            for_domain(site, "more/example.org", "more.example.org");
            // The other domain needs one too, else the reload is refused.
            let other = Wish {
                dns: &["example.net"],
                ..Wish::default()
            };
            let file = |ending: &str| site.path(&format!("more/example.net.{ending}"));
            other.self_signed().write(&file("crt"), &file("key"));
        };
    min_version: "tls.min_version",
        ["[tls]\nmin_version = \"1.2\"\n", "[tls]\nmin_version = \"1.3\"\n"],
        ["TLSv1.2", "refused"],
        |server| match connect(server, |builder| of_1_2(builder, "DEFAULT")) {
            Ok(client) => client.tls().version_str().to_owned(),
            Err(_) => "refused".to_owned(),
        };
    ciphers: "tls.ciphers",
        ["[tls]\nciphers = \"ECDHE+AESGCM\"\n", "[tls]\nciphers = \"ECDHE+CHACHA20\"\n"],
        ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"],
        |server| cipher(connect(server, |builder| of_1_2(builder, "DEFAULT")));
    ciphersuites: "tls.ciphersuites",
        [
            "[tls]\nciphersuites = \"TLS_AES_128_GCM_SHA256\"\n",
            "[tls]\nciphersuites = \"TLS_CHACHA20_POLY1305_SHA256\"\n",
        ],
        ["TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"],
        |server| cipher(connect(server, |_| ()));
    groups: "tls.groups",
        ["[tls]\ngroups = [\"X25519\"]\n", "[tls]\ngroups = [\"P-384\"]\n"],
        ["X25519", "P-384"],
        group;
    dhparam: "tls.dhparam",
        ["[tls]\ndhparam = \"\"\n", "[tls]\ndhparam = \"ffdhe2048\"\n"],
        ["refused", "DHE-RSA-AES256-GCM-SHA384"],
        |server| cipher(connect(server, of_dhe)),
        with_rsa;
    prefer_server_ciphers: "tls.prefer_server_ciphers",
        ["[tls]\nprefer_server_ciphers = true\n", "[tls]\nprefer_server_ciphers = false\n"],
        ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"],
        |server| {
            let order = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384";
            cipher(connect(server, |builder| of_1_2(builder, order)))
        };
    domain_certificate: "domain.certificate",
        [
            "[domain.\"example.org\"]\ncertificate = \"\"\n",
            "[domain.\"example.org\"]\ncertificate = \"own/it.crt\"\n",
        ],
        ["example.org", "example.org own.example.org"],
        certificate,
        |site| for_domain(site, "own/it", "own.example.org");
    // A key fits one certificate, so that the two change together.
    domain_key: "domain.key",
        [
            "[domain.\"example.org\"]\ncertificate = \"\"\nkey = \"\"\n",
            "[domain.\"example.org\"]\ncertificate = \"own/it.pem\"\nkey = \"secret/it.pem\"\n",
        ],
        ["example.org", "example.org own.example.org"],
        certificate,
        |site| {
            let issued = Wish {
                dns: &["example.org", "own.example.org"],
                ..Wish::default()
            };
            let issued = issued.self_signed();
            issued.write(&site.path("own/it.pem"), &site.path("secret/it.pem"));
        };
    domain_dhparam: "domain.dhparam",
        [
            "[domain.\"example.org\"]\ndhparam = \"\"\n",
            "[domain.\"example.org\"]\ndhparam = \"ffdhe2048\"\n",
        ],
        ["refused", "DHE-RSA-AES256-GCM-SHA384"],
        |server| cipher(connect(server, of_dhe)),
        with_rsa;
}

/// Without the option there is no such key, and the reload says so.
#[test]
fn a_certificate_without_its_key_is_not_used_and_the_old_one_stays() {
    let site = super::site("");
    let wish = Wish {
        dns: &["example.org", "own.example.org"],
        ..Wish::default()
    };
    let issued = wish.self_signed();
    issued.write(&site.path("own/it.pem"), &site.path("secret/it.pem"));
    let server = Server::start_in(site);
    server.configure("[domain.\"example.org\"]\ncertificate = \"own/it.pem\"\n");
    let warnings = server.reload().warnings.join("\n");
    assert!(warnings.contains("own/it.pem"), "{warnings}");
    assert!(warnings.contains("no key"), "{warnings}");
    assert_eq!(certificate(&server), "example.org");
}

/// Such a client has no AES in hardware: it gets its wish whatever `tls.prefer_server_ciphers` says.
#[test]
fn a_client_that_puts_chacha20_first_gets_it() {
    for preferred in [true, false] {
        let conf = format!("[tls]\nprefer_server_ciphers = {preferred}\n");
        let server = Server::start(&conf);
        let order = "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384";
        let client = connect(&server, |builder| of_1_2(builder, order));
        assert_eq!(cipher(client), "ECDHE-ECDSA-CHACHA20-POLY1305");
        let suites = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384";
        let client = connect(&server, |builder| builder.set_ciphersuites(suites).unwrap());
        assert_eq!(cipher(client), "TLS_CHACHA20_POLY1305_SHA256");
    }
}

/// Puts a certificate with one more name at `path`.crt and `path`.key.
fn for_domain(site: &Site, path: &str, name: &str) {
    let wish = Wish {
        dns: &["example.org", name],
        ..Wish::default()
    };
    let file = |ending: &str| site.path(&format!("{path}.{ending}"));
    wish.self_signed().write(&file("crt"), &file("key"));
}

fn with_rsa(site: &Site) {
    let wish = Wish {
        dns: &["example.org"],
        is_rsa: true,
        ..Wish::default()
    };
    let file = |ending: &str| site.path(&format!("certs/example.org.{ending}"));
    wish.self_signed().write(&file("crt"), &file("key"));
}

fn connect(server: &Server, set: impl FnOnce(&mut SslConnectorBuilder)) -> Result<Client, String> {
    Client::try_connect_tls(server, ssl("example.org", set))
}

fn of_1_2(builder: &mut SslConnectorBuilder, ciphers: &str) {
    builder
        .set_max_proto_version(Some(SslVersion::TLS1_2))
        .unwrap();
    builder.set_cipher_list(ciphers).unwrap();
}

fn of_dhe(builder: &mut SslConnectorBuilder) {
    of_1_2(builder, "DHE-RSA-AES256-GCM-SHA384");
}

fn cipher(client: Result<Client, String>) -> String {
    match client {
        Ok(client) => client.tls().current_cipher().unwrap().name().to_owned(),
        Err(_) => "refused".to_owned(),
    }
}

/// The names in the certificate that is shown.
fn certificate(server: &Server) -> String {
    let client = connect(server, |_| ()).unwrap();
    let shown = client.tls().peer_certificate().unwrap();
    let names = shown.subject_alt_names().unwrap();
    let mut names: Vec<String> = names
        .iter()
        .filter_map(|name| name.dnsname().map(str::to_owned))
        .collect();
    names.sort();
    names.join(" ")
}

/// The group of a session, as the server tells it.
fn group(server: &Server) -> String {
    let mut client = connect(server, |_| ()).unwrap();
    client.open("example.org");
    client.scram("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
    client.open("example.org");
    let jid = client.bind(None);
    server.sessions(Some(&jid))[0].group.clone().unwrap()
}
