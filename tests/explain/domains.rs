//! Explained for all domains here, or for one of them.

use std::fs;

use stanzad::ns;

use super::common::authority::Wish;
use super::common::network::{Network, address};
use super::{explain_by, run, says, until_end};

const SEVERAL: &str = "[domain.\"d.example\".s2s]\ndeny = [\"b.example\"]\n\
                       [domain.\"e.example\".s2s]\nenabled = false\n";

/// Domains with the same options and the same certificate are tried once, and told of together.
#[test]
fn all_domains_that_talk_with_other_servers_are_told_of() {
    let network = Network::new();
    let b = network.server("b.example", "");
    let domains = [
        "a.example",
        "c.example",
        "d.example",
        "e.example",
        "f.example",
    ];
    let site = network.site(&domains, address(), SEVERAL);
    let shared = network.issue(&["a.example", "c.example"]);
    for domain in ["a.example", "c.example"] {
        let ending = |ending: &str| site.path(&format!("certs/{domain}.{ending}"));
        let _ = (
            fs::remove_file(ending("crt")),
            fs::remove_file(ending("key")),
        );
    }
    shared.write(
        &site.path("certs/shared.crt"),
        &site.path("certs/shared.key"),
    );
    let told = run(&network, &site, &["explain", "s2s", "b.example"]);
    says(
        &told,
        1,
        &[
            "A try just now by a.example, c.example, f.example\n",
            "a.example, c.example, f.example talk with b.example: its certificate is valid and names",
            "d.example does not talk with b.example: b.example is on s2s.deny\n",
            "To change that: take b.example off s2s.deny\n",
        ],
    );
    assert!(!told.stdout.contains("e.example"), "{}", told.stdout);
    let words = ["explain", "s2s", "b.example", "--json"];
    let told = run(&network, &site, &words);
    let json: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    let tries = json["tries"].as_array().unwrap();
    let locals: Vec<String> = tries.iter().map(|one| one["locals"].to_string()).collect();
    assert_eq!(
        locals,
        [
            r#"["a.example","c.example"]"#,
            r#"["d.example"]"#,
            r#"["f.example"]"#
        ]
    );
    let proof = &tries[0]["dry_run"]["proof"][0];
    assert_eq!(proof["means"], "EXTERNAL");
    assert_eq!(proof["accepted"], true);
    assert_eq!(json["left_out"].as_array().map(Vec::len), Some(0));
    // One that is named is told of alone, also if it talks with nobody.
    let one = |from: &str| {
        let words = ["explain", "s2s", "b.example", "--from", from];
        run(&network, &site, &words)
    };
    says(
        &one("c.example"),
        0,
        &["\nc.example talks with b.example: "],
    );
    says(
        &one("e.example"),
        1,
        &["e.example does not talk with b.example: s2s.enabled = false"],
    );
    assert!(b.log().contains("from=c.example"), "{}", b.log());
}

/// A peer counts who connects.
#[test]
fn a_server_is_tried_eight_times_at_most() {
    let network = Network::new();
    let domains: Vec<String> = (0..12).map(|n| format!("d{n}.example")).collect();
    let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
    let site = network.site(&domains, address(), "");
    let told = run(
        &network,
        &site,
        &["explain", "s2s", "nowhere.example", "--json"],
    );
    let json: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(json["tries"].as_array().map(Vec::len), Some(8));
    assert_eq!(json["left_out"].as_array().map(Vec::len), Some(4));
    let told = run(&network, &site, &["explain", "s2s", "nowhere.example"]);
    let of_all = "d0.example, d1.example, d10.example, d11.example, d2.example and 3 more do not talk \
                  with nowhere.example: it has no address";
    let left =
        "Not tried by d6.example, d7.example, d8.example, d9.example, which would take too many";
    says(&told, 1, &[of_all, left]);
}

#[test]
fn attempts_name_the_domain_here_and_can_be_told_of_one() {
    let network = Network::new();
    let ip = address();
    let server = network.start(network.site(&["a.example", "c.example"], ip, ""));
    let wish = Wish {
        dns: &["b.example"],
        ..Wish::default()
    };
    let peer = network.stranger("b.example", wish.self_signed());
    for domain in ["a.example", "c.example"] {
        let (mut stream, _) = peer.dial_secured(&server, domain);
        stream.send(format!(
            "<db:result from='b.example' to='{domain}'>abc</db:result>"
        ));
        assert!(stream.element().is(ns::DIALBACK, "result"));
        stream.send("</stream:stream>");
        until_end(&mut stream);
    }
    let told = explain_by(&network, &server, "b.example");
    says(
        &told,
        1,
        &[
            "it dialled a.example from 127.",
            "it dialled c.example from 127.",
        ],
    );
    let words = [
        "explain",
        "s2s",
        "b.example",
        "--from",
        "c.example",
        "--json",
    ];
    let told = run(&network, &server.site, &words);
    let json: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    let attempts = json["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1, "{}", told.stdout);
    assert_eq!(attempts[0]["local"], "c.example");
}
