use openssl::dh::Dh;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::ssl::{SslConnector, SslOptions};

use super::super::certificate::testing::{Issued, write};
use super::super::testing::{
    Failure, Setup, client, connect, no_wish, nothing, shake, shown, sockets,
};
use super::super::tls_stream::SocketTransport;
use super::super::transport::TlsFacts;
use super::*;

/// A client of TLS 1.2 alone with these suites.
fn old(ciphers: &'static str) -> impl FnOnce(&mut SslContextBuilder) {
    move |c| {
        c.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
        c.set_cipher_list(ciphers).unwrap();
    }
}

fn facts(setup: &Setup, rules: impl FnOnce(&mut SslContextBuilder)) -> TlsFacts {
    let (mut dialog, facts) = setup.connect(rules, no_wish).unwrap();
    dialog.chat();
    facts
}

fn fails(setup: &Setup, rules: impl FnOnce(&mut SslContextBuilder)) -> Failure {
    setup
        .connect(rules, no_wish)
        .err()
        .expect("the handshake went through")
}

fn problem(setup: &Setup) -> String {
    let problems = setup.load().expect_err("it loads");
    problems
        .iter()
        .map(TlsProblem::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Both kinds of certificates for example.org.
fn both() -> Setup {
    let rsa = Issued::new()
        .common_name("rsa")
        .dns("example.org")
        .rsa(2048);
    let rsa = rsa.digest(MessageDigest::sha384()).build();
    let ecdsa = Issued::new()
        .common_name("ecdsa")
        .dns("example.org")
        .build();
    Setup::new(&["example.org"])
        .with("example.org.rsa", &rsa)
        .with("example.org", &ecdsa)
}

/// example.org (default), example.net and *.example.com, each with a certificate called like it.
fn several() -> Setup {
    let mut setup = Setup::new(&["example.org", "example.net", "chat.example.com"]);
    for (name, file) in [
        ("example.org", "o"),
        ("example.net", "n"),
        ("*.example.com", "c"),
    ] {
        setup = setup.with(file, &Issued::new().common_name(name).dns(name).build());
    }
    setup
}

// Versions (RFC 9325 §3.1.1).

#[test]
fn versions_1_3_and_1_2_are_spoken() {
    let setup = Setup::ecdsa();
    assert_eq!(facts(&setup, nothing).version, "TLSv1.3");
    assert_eq!(facts(&setup, old("DEFAULT")).version, "TLSv1.2");
}

#[test]
fn versions_below_1_2_are_refused() {
    let failure = fails(&Setup::ecdsa(), |c| {
        c.set_security_level(0);
        c.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
        c.set_max_proto_version(Some(SslVersion::TLS1_1)).unwrap();
    });
    assert!(failure.server.unwrap().contains("unsupported protocol"));
}

#[test]
fn min_version_1_3_refuses_1_2() {
    let mut setup = Setup::ecdsa();
    setup.settings.min_version = TlsVersion::V1_3;
    assert_eq!(facts(&setup, nothing).version, "TLSv1.3");
    let failure = fails(&setup, old("DEFAULT"));
    assert!(failure.server.unwrap().contains("unsupported protocol"));
}

// Suites (RFC 9325 §4.2).

#[test]
fn every_suite_on_by_default_has_aead_and_forward_secrecy() {
    let setup = both();
    for (offered, suite) in [
        (
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ),
        (
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        ),
        (
            "ECDHE-RSA-AES128-GCM-SHA256",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        ),
        (
            "ECDHE-RSA-CHACHA20-POLY1305",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        ),
    ] {
        assert_eq!(facts(&setup, old(offered)).cipher, suite);
    }
    for refused in [
        "AES128-GCM-SHA256",
        "ECDHE-RSA-AES256-SHA384",
        "ECDHE-ECDSA-AES128-SHA",
        "AES256-SHA",
    ] {
        let failure = fails(&setup, old(refused));
        assert!(
            failure.server.unwrap().contains("no shared cipher"),
            "{refused}"
        );
    }
}

#[test]
fn ciphers_and_ciphersuites_can_be_set() {
    let mut setup = Setup::ecdsa();
    setup.settings.ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384".into();
    setup.settings.ciphersuites = "TLS_AES_128_GCM_SHA256".into();
    assert_eq!(facts(&setup, nothing).cipher, "TLS_AES_128_GCM_SHA256");
    let failure = fails(&setup, old("ECDHE-ECDSA-AES128-GCM-SHA256"));
    assert!(failure.server.unwrap().contains("no shared cipher"));
}

#[test]
fn whose_order_of_suites_counts_can_be_set() {
    let mut setup = Setup::ecdsa();
    let small_first = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384";
    assert!(facts(&setup, old(small_first)).cipher.contains("AES_256"));
    // A client without AES in hardware says so by its first suite.
    let chacha_first = "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384";
    assert!(facts(&setup, old(chacha_first)).cipher.contains("CHACHA20"));
    setup.settings.prefer_server_ciphers = false;
    assert!(facts(&setup, old(small_first)).cipher.contains("AES_128"));
}

#[test]
fn rules_that_openssl_does_not_know_are_told_by_option() {
    let mut setup = Setup::ecdsa();
    setup.settings.ciphers = "STRONG-STUFF".into();
    setup.settings.ciphersuites = "TLS_AES_512_GCM".into();
    setup.settings.groups = Some(vec!["X25519".into(), "P-1024".into()]);
    let text = problem(&setup);
    for part in [
        "tls.ciphers = \"STRONG-STUFF\"",
        "tls.ciphersuites",
        "tls.groups = \"P-1024\"",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn a_cipher_list_cannot_lower_the_strength_that_is_asked_for() {
    let mut setup = Setup::ecdsa();
    setup.settings.ciphers = "ALL:aNULL:eNULL:@SECLEVEL=0".into();
    for weak in [
        "AECDH-NULL-SHA:@SECLEVEL=0",
        "ADH-AES128-SHA:@SECLEVEL=0",
        "ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0",
    ] {
        fails(&setup, old(weak));
    }
}

// Groups.

#[test]
fn the_hybrid_group_comes_first_where_openssl_has_it() {
    let setup = Setup::ecdsa();
    let has_hybrid = SslContext::builder(SslMethod::tls())
        .is_ok_and(|mut c| c.set_groups_list("X25519MLKEM768").is_ok());
    if has_hybrid {
        let both =
            |c: &mut SslContextBuilder| c.set_groups_list("*X25519:*X25519MLKEM768").unwrap();
        assert_eq!(facts(&setup, both).group, "X25519MLKEM768");
    }
    // What `vendored` builds has it.
    assert!(has_hybrid || !cfg!(feature = "vendored"));
}

#[test]
fn the_classical_groups_are_spoken_in_both_versions() {
    // In TLS 1.2 an ECDSA certificate's curve must be among the client's groups, so RSA.
    let (setup, rsa) = (Setup::ecdsa(), Setup::rsa());
    for group in ["X25519", "P-256", "P-384"] {
        let wish = |c: &mut SslContextBuilder| c.set_groups_list(group).unwrap();
        assert_eq!(facts(&setup, wish).group, group);
        let old_wish = |c: &mut SslContextBuilder| {
            old("DEFAULT")(c);
            wish(c);
        };
        assert_eq!(facts(&rsa, old_wish).group, group);
    }
    for group in ["P-521", "X448", "ffdhe2048"] {
        fails(&setup, |c| c.set_groups_list(group).unwrap());
    }
}

#[test]
fn groups_can_be_set() {
    let mut setup = Setup::ecdsa();
    setup.settings.groups = Some(vec!["P-384".into()]);
    assert_eq!(
        facts(&setup, |c| c.set_groups_list("X25519:P-384").unwrap()).group,
        "P-384"
    );
    fails(&setup, |c| c.set_groups_list("X25519").unwrap());
    setup.settings.groups = Some(Vec::new());
    assert!(problem(&setup).contains("tls.groups is empty"));
}

// DHE (RFC 7919, RFC 9325 §4.5).

const DHE_ONLY: &str = "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384";

#[test]
fn a_client_of_dhe_alone_is_served_once_dhparam_is_set() {
    let mut setup = Setup::rsa();
    let failure = fails(&setup, old(DHE_ONLY));
    assert!(failure.server.unwrap().contains("no shared cipher"));
    for (group, bits) in [
        ("ffdhe2048", 2048),
        ("ffdhe3072", 3072),
        ("ffdhe4096", 4096),
    ] {
        setup.settings.dhparam = Some(DhParam::Named(group));
        let (mut dialog, facts) = setup.connect(old(DHE_ONLY), no_wish).unwrap();
        dialog.chat();
        assert_eq!(facts.cipher, "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384");
        assert_eq!(facts.group, group);
        assert_eq!(dialog.client.ssl().peer_tmp_key().unwrap().bits(), bits);
    }
    // Others still get ECDHE.
    assert!(
        facts(&setup, old("DEFAULT"))
            .cipher
            .starts_with("TLS_ECDHE_RSA")
    );
}

#[test]
fn parameters_from_a_file_are_negotiated_and_a_domains_own_win() {
    let mut setup = Setup::rsa();
    let named = dh_parameters::load(&DhParam::Named("ffdhe3072")).unwrap();
    let path = setup.path("dh.params");
    write(&path, 0o644, &[&named.params.params_to_pem().unwrap()]);
    setup.settings.dhparam = Some(DhParam::Named("ffdhe2048"));
    setup.settings.domains[0].dhparam = Some(DhParam::File(path));
    let (dialog, facts) = setup.connect(old(DHE_ONLY), no_wish).unwrap();
    assert_eq!(facts.group, "ffdhe3072");
    assert_eq!(dialog.client.ssl().peer_tmp_key().unwrap().bits(), 3072);
}

#[test]
fn weak_parameters_are_refused_with_the_file_and_what_to_do() {
    let mut setup = Setup::rsa();
    let path = setup.path("dh1024.params");
    write(
        &path,
        0o644,
        &[&Dh::get_1024_160().unwrap().params_to_pem().unwrap()],
    );
    setup.settings.dhparam = Some(DhParam::File(path));
    let text = problem(&setup);
    assert!(
        text.contains("dh1024.params") && text.contains("openssl dhparam -out"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    setup.settings.dhparam = Some(DhParam::File(setup.path("none")));
    assert!(problem(&setup).contains("cannot be read"));
}

#[test]
fn dhparam_with_an_ecdsa_certificate_alone_is_warned_of() {
    let mut setup = Setup::ecdsa();
    setup.settings.dhparam = Some(DhParam::Named("ffdhe2048"));
    let (_, warnings) = setup.load().unwrap();
    assert!(
        warnings
            .iter()
            .any(|warning| warning.about == Concern::DhParameters),
        "{warnings:?}"
    );
    let mut setup = both();
    setup.settings.dhparam = Some(DhParam::Named("ffdhe2048"));
    assert_eq!(setup.load().unwrap().1, []);
    assert_eq!(facts(&setup, old(DHE_ONLY)).group, "ffdhe2048");
}

// SNI (RFC 6066 §3, RFC 7590 §3.5).

#[test]
fn sni_chooses_the_certificate_whatever_to_says() {
    let contexts = several().contexts();
    for (sni, certificate) in [
        ("example.org", "example.org"),
        ("EXAMPLE.net", "example.net"),
        ("chat.example.com", "*.example.com"),
    ] {
        let (mut dialog, facts) = connect(&contexts, Some("example.org"), nothing, |ssl| {
            ssl.set_hostname(sni).unwrap()
        })
        .unwrap();
        assert_eq!(shown(&dialog), certificate);
        assert_eq!(facts.sni.as_deref(), Some(sni));
        dialog.chat();
    }
}

#[test]
fn an_unknown_or_missing_name_gets_the_certificate_of_to_or_the_default() {
    let contexts = several().contexts();
    let unknown = |ssl: &mut SslRef| ssl.set_hostname("xmpp.provider.example").unwrap();
    for (to, certificate) in [
        (Some("example.net"), "example.net"),
        (Some("unknown.example"), "example.org"),
        (None, "example.org"),
    ] {
        for rules in [nothing, |c: &mut SslContextBuilder| old("DEFAULT")(c)] {
            let (mut dialog, facts) = connect(&contexts, to, rules, unknown).unwrap();
            assert_eq!(shown(&dialog), certificate);
            assert_eq!(facts.sni.as_deref(), Some("xmpp.provider.example"));
            dialog.chat();
            let (dialog, facts) = connect(&contexts, to, rules, no_wish).unwrap();
            assert_eq!(shown(&dialog), certificate);
            assert_eq!(facts.sni, None);
        }
    }
}

#[test]
fn a_second_client_hello_keeps_the_choice() {
    let contexts = several().contexts();
    // A key share for a group that the server does not have makes it ask again.
    let rules = |c: &mut SslContextBuilder| c.set_groups_list("P-521:P-384").unwrap();
    let (dialog, facts) = connect(&contexts, None, rules, |ssl| {
        ssl.set_hostname("example.net").unwrap()
    })
    .unwrap();
    assert_eq!(
        (shown(&dialog).as_str(), facts.group.as_str()),
        ("example.net", "P-384")
    );
}

// ALPN (XEP-0368 §3, RFC 7301 §3.2).

#[test]
fn alpn_must_be_xmpp_client_if_it_is_used() {
    let contexts = several().contexts();
    let shake_with = |protocols: &'static [u8]| {
        let (accepted, dialled) = sockets();
        let peer = accepted.peer_addr().unwrap();
        let server = SocketTransport::direct_tls(accepted, peer, contexts.clone()).unwrap();
        let wishes = |ssl: &mut SslRef| {
            // After a swap of contexts too.
            ssl.set_hostname("example.net").unwrap();
            if !protocols.is_empty() {
                ssl.set_alpn_protos(protocols).unwrap();
            }
        };
        shake(server, client(dialled, nothing, wishes))
    };
    let (dialog, facts) = shake_with(b"\x08http/1.1\x0bxmpp-client").unwrap();
    assert_eq!(facts.alpn.as_deref(), Some("xmpp-client"));
    assert_eq!(
        dialog.client.ssl().selected_alpn_protocol(),
        Some(&b"xmpp-client"[..])
    );
    assert_eq!(shake_with(b"").unwrap().1.alpn, None);
    for other in [&b"\x02h2\x08http/1.1"[..], b"\x0bxmpp-server"] {
        let failure = shake_with(other).err().unwrap();
        assert!(failure.client.unwrap().contains("no application protocol"));
    }
}

// Channel binding (RFC 9266, RFC 5929 §4).

#[test]
fn the_exporter_is_the_same_on_both_sides() {
    let setup = Setup::ecdsa();
    for rules in [nothing, |c: &mut SslContextBuilder| old("DEFAULT")(c)] {
        let (dialog, facts) = setup.connect(rules, no_wish).unwrap();
        let mut theirs = [0; 32];
        let ssl = dialog.client.ssl();
        ssl.export_keying_material(&mut theirs, "EXPORTER-Channel-Binding", Some(&[]))
            .unwrap();
        assert_eq!(facts.bindings.exporter.as_deref(), Some(&theirs[..]));
    }
}

// RFC 9266 §4.2.
#[test]
fn without_extended_master_secret_there_is_no_exporter() {
    // SSL_OP_NO_EXTENDED_MASTER_SECRET, which the crate does not name.
    let rules = |c: &mut SslContextBuilder| {
        old("DEFAULT")(c);
        c.set_options(SslOptions::from_bits_retain(1));
    };
    let facts = facts(&Setup::ecdsa(), rules);
    assert_eq!(facts.bindings.exporter, None);
    assert!(facts.bindings.end_point.is_some());
}

#[test]
fn server_end_point_is_the_hash_of_the_certificate_that_was_shown() {
    let setup = both();
    for (ciphers, digest) in [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", MessageDigest::sha256()),
        ("ECDHE-RSA-AES128-GCM-SHA256", MessageDigest::sha384()),
    ] {
        let (dialog, facts) = setup.connect(old(ciphers), no_wish).unwrap();
        let shown = dialog.client.ssl().peer_certificate().unwrap();
        assert_eq!(
            facts.bindings.end_point.unwrap(),
            shown.digest(digest).unwrap().as_ref()
        );
    }
    let ed25519 = Issued::new().dns("example.org").ed25519().build();
    let setup = Setup::new(&["example.org"]).with("example.org", &ed25519);
    assert_eq!(facts(&setup, nothing).bindings.end_point, None);
}

// Certificates.

#[test]
fn each_client_gets_the_kind_of_certificate_it_can_check_with_its_own_chain() {
    let (ca, other_ca) = (
        Issued::new().authority().build(),
        Issued::new().authority().build(),
    );
    let rsa = Issued::new()
        .common_name("rsa")
        .dns("example.org")
        .rsa(2048)
        .issue(&ca);
    let ecdsa = Issued::new()
        .common_name("ecdsa")
        .dns("example.org")
        .issue(&other_ca);
    let setup = Setup::new(&["example.org"]);
    write(
        &setup.path("r.pem"),
        0o600,
        &[&rsa.pem(), &ca.pem(), &rsa.key_pem()],
    );
    write(
        &setup.path("e.pem"),
        0o600,
        &[&ecdsa.pem(), &other_ca.pem(), &ecdsa.key_pem()],
    );
    for (algorithms, name, issuer) in [
        ("RSA-PSS+SHA256", "rsa", &ca),
        ("ECDSA+SHA256", "ecdsa", &other_ca),
    ] {
        let rules = |c: &mut SslContextBuilder| c.set_sigalgs_list(algorithms).unwrap();
        let (dialog, _) = setup.connect(rules, no_wish).unwrap();
        assert_eq!(shown(&dialog), name);
        let chain = dialog.client.ssl().peer_cert_chain().unwrap();
        assert_eq!(chain.len(), 2);
        assert!(chain[1] == *issuer.certificate);
    }
}

#[test]
fn a_client_that_checks_certificates_is_content() {
    let ca = Issued::new().authority().build();
    let issued = Issued::new().dns("example.org").server().issue(&ca);
    let setup = Setup::new(&["example.org"]).with("example.org", &issued);
    let (accepted, dialled) = sockets();
    let peer = accepted.peer_addr().unwrap();
    let server = SocketTransport::direct_tls(accepted, peer, setup.contexts()).unwrap();
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector
        .cert_store_mut()
        .add_cert(ca.certificate.clone())
        .unwrap();
    let ssl = connector
        .build()
        .configure()
        .unwrap()
        .into_ssl("example.org")
        .unwrap();
    dialled.set_nonblocking(true).unwrap();
    let mut stream = openssl::ssl::SslStream::new(ssl, dialled).unwrap();
    stream.ssl().verify_mode();
    stream.connect().unwrap_err();
    shake(server, stream).unwrap().0.chat();
}

#[test]
fn a_key_of_rsa_with_1024_bits_is_refused_in_words() {
    let setup = Setup::new(&["example.org"]);
    let setup = setup.with(
        "example.org",
        &Issued::new().dns("example.org").rsa(1024).build(),
    );
    let text = problem(&setup);
    assert!(text.contains("RSA 1024 key is too weak"), "{text}");
}

#[test]
fn what_is_in_use_can_be_told() {
    let contexts = both().contexts();
    assert!(contexts.has_certificate("example.org") && !contexts.has_certificate("example.net"));
    let mut keys: Vec<_> = contexts
        .certificates()
        .iter()
        .map(|c| c.key.as_str())
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, ["ECDSA 256", "RSA 2048"]);
    assert!(
        contexts
            .certificates()
            .iter()
            .all(|c| c.covers_domain && c.names == ["example.org"])
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let mut setup = Setup::new(&["example.org", "example.net"]);
    setup.settings.ciphers = "X".into();
    setup.settings.dhparam = Some(DhParam::Named("modp1024"));
    let text = problem(&setup);
    for part in [
        "tls.ciphers",
        "modp1024",
        "domain \"example.org\": no certificate",
        "domain \"example.net\"",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_new_generation_leaves_connections_and_handshakes_of_the_old_one_alone() {
    let setup = Setup::ecdsa();
    let old_contexts = setup.contexts();
    let (mut talking, _) = connect(&old_contexts, None, nothing, no_wish).unwrap();
    let (accepted, dialled) = sockets();
    let peer = accepted.peer_addr().unwrap();
    let waiting = SocketTransport::direct_tls(accepted, peer, old_contexts.clone()).unwrap();
    let setup = setup.with(
        "example.org",
        &Issued::new().common_name("new").dns("example.org").build(),
    );
    let new_contexts = setup.contexts();
    drop(old_contexts);
    talking.chat();
    let (mut late, _) = shake(waiting, client(dialled, nothing, no_wish)).unwrap();
    assert_eq!(shown(&late), "test");
    late.chat();
    let (dialog, _) = connect(&new_contexts, None, nothing, no_wish).unwrap();
    assert_eq!(shown(&dialog), "new");
}

#[test]
fn an_established_connection_does_not_hold_its_generation() {
    let contexts = several().contexts();
    let before = Arc::strong_count(&contexts);
    let (_dialog, _) = connect(&contexts, None, nothing, no_wish).unwrap();
    assert_eq!(Arc::strong_count(&contexts), before);
}

// Renegotiation, compression, tickets, early data (RFC 9325 §3.3 to §3.5, §3.10).

#[test]
fn renegotiation_compression_tickets_and_early_data_are_off() {
    let context = with_rules(&TlsSettings::default()).unwrap();
    let off = SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION | SslOptions::NO_TICKET;
    assert!(context.options().contains(off));
    let context = context.build();
    assert_eq!((context.num_tickets(), context.max_early_data()), (0, 0));
}

#[test]
fn no_session_can_be_resumed() {
    let contexts = Setup::ecdsa().contexts();
    for rules in [nothing, |c: &mut SslContextBuilder| old("DEFAULT")(c)] {
        let (mut first, facts) = connect(&contexts, None, rules, no_wish).unwrap();
        assert!(!facts.resumed);
        // A ticket of TLS 1.3 would come with the first words.
        first.chat();
        let session = first.client.ssl().session().unwrap().to_owned();
        first.client.shutdown().unwrap();
        let resume = |ssl: &mut SslRef| {
            // SAFETY: the session is of a context with the same rules, made by the same library.
            #[expect(
                unsafe_code,
                reason = "the crate asks that the session is of this context"
            )]
            unsafe { ssl.set_session(&session) }.unwrap();
        };
        let (dialog, facts) = connect(&contexts, None, rules, resume).unwrap();
        assert!(!facts.resumed && !dialog.client.ssl().session_reused());
    }
}

// Client certificates (XEP-0178 §2).

#[test]
fn a_clients_certificate_is_recorded_only_where_it_is_asked_for() {
    let mut setup = several();
    let ca = Issued::new().authority().build();
    let own = Issued::new().xmpp("juliet@example.org").client().issue(&ca);
    let show = |c: &mut SslContextBuilder| {
        c.set_certificate(&own.certificate).unwrap();
        c.add_extra_chain_cert(ca.certificate.clone()).unwrap();
        c.set_private_key(&own.key).unwrap();
    };
    assert!(facts(&setup, show).peer_chain.is_empty());
    setup.settings.with = With::Clients {
        request_certificate: true,
    };
    let expected = [
        own.certificate.to_der().unwrap(),
        ca.certificate.to_der().unwrap(),
    ];
    assert_eq!(facts(&setup, show).peer_chain, expected);
    // After a swap of contexts, and in TLS 1.2.
    let swapped = |ssl: &mut SslRef| ssl.set_hostname("example.net").unwrap();
    let rules = |c: &mut SslContextBuilder| {
        show(c);
        old("DEFAULT")(c);
    };
    let (mut dialog, with) = setup.connect(rules, swapped).unwrap();
    assert_eq!(with.peer_chain, expected);
    dialog.chat();
    assert!(facts(&setup, nothing).peer_chain.is_empty());
}

#[test]
fn the_hash_of_sha1_signatures_is_sha256() {
    assert_eq!(
        Nid::SHA1WITHRSAENCRYPTION
            .signature_algorithms()
            .unwrap()
            .digest,
        Nid::SHA1
    );
    let certificate = Issued::new()
        .rsa(2048)
        .digest(MessageDigest::sha1())
        .build()
        .certificate;
    let expected = certificate
        .digest(MessageDigest::sha256())
        .unwrap()
        .to_vec();
    assert_eq!(
        super::super::tls_facts::end_point(&certificate).unwrap(),
        Some(expected)
    );
}

// Reloads.

#[test]
fn a_domain_whose_renewed_certificate_is_bad_keeps_the_old_one_while_others_change() {
    let setup = several();
    let (before, _) = setup.load().unwrap();
    let new = Issued::new().common_name("new").dns("example.net").build();
    let setup = setup.with("n", &new);
    write(&setup.path("o.pem"), 0o600, &[b"no certificate"]);
    assert!(setup.load().is_err(), "a start refuses it");
    let (after, warnings) = TlsContexts::load_after(&setup.settings, Some(&before)).unwrap();
    assert!(after.has_certificate("example.org"));
    let told = warnings
        .iter()
        .any(|warning| warning.domain == "example.org" && warning.text.ends_with("stays in use"));
    assert!(told, "{warnings:?}");
    let after = Arc::new(after);
    for (domain, common_name) in [("example.org", "example.org"), ("example.net", "new")] {
        let (dialog, _) = connect(&after, Some(domain), nothing, no_wish).unwrap();
        assert_eq!(shown(&dialog), common_name);
    }
    // What is kept survives a second reload too.
    let (third, _) = TlsContexts::load_after(&setup.settings, Some(&after)).unwrap();
    assert!(third.has_certificate("example.org"));
    // Contexts of different rules do not go together.
    let mut stricter = setup.settings.clone();
    stricter.min_version = TlsVersion::V1_3;
    assert!(TlsContexts::load_after(&stricter, Some(&third)).is_err());
}
