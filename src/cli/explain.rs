//! `stanzad explain s2s`: why another server is talked with, or not.

use std::sync::Arc;

use super::ctl::{Reach, accept, unexpected};
use super::{Failure, load, print, print_json, remark};
use crate::config::{DomainSettings, Settings};
use crate::jid::Domain;
use crate::server::control::{
    AttemptInfo, CertificateReport, DryRun, Explained, KeyInfo, LookupInfo, Reply, Request,
    TriedAddress,
};
use crate::server::dry_run::Trier;
use crate::server::federation;
use crate::server::generation::load_certificates;

/// `stanzad explain s2s`
pub fn s2s(server: &Reach, remote: &str, from: Option<String>, json: bool) -> Result<(), Failure> {
    let usage = |given: &str, why: &dyn std::fmt::Display| {
        Failure::Usage(format!("\"{given}\" names no domain: {why}"))
    };
    let domain = Domain::parse(remote).map_err(|why| usage(remote, &why))?;
    if let Some(from) = &from {
        Domain::parse(from).map_err(|why| usage(from, &why))?;
    }
    let explained = explain(server, &domain, from)?;
    let would_talk = explained.dry_run.as_ref().is_some_and(|run| run.would_talk);
    if json {
        print_json(&explained)?;
    } else {
        print(&describe(&explained))?;
    }
    match would_talk {
        true => Ok(()),
        false => Err(Failure::Said),
    }
}

/// The dry run is made here if this user can read what it takes, else by the server; what became of
/// earlier attempts is known to the server alone.
fn explain(server: &Reach, remote: &Domain, from: Option<String>) -> Result<Explained, Failure> {
    let own = match load(server.conf_file()) {
        Ok(settings) => Some(prepare(settings, from.as_deref())?),
        Err(_) => None,
    };
    let dry_run = own.as_ref().and_then(|(settings, local)| {
        let loaded = load_certificates(settings, None).ok()?;
        let trier = Trier {
            settings,
            loaded: &loaded,
            local,
        };
        Some(trier.run(remote))
    });
    let local = own
        .as_ref()
        .map(|(_, local)| local.name.as_str().to_owned());
    let request = Request::ExplainS2s {
        remote: remote.as_str().to_owned(),
        local: from.or_else(|| local.clone()),
        dry_run: dry_run.is_none(),
    };
    match (accept(server.call(&request)?), dry_run, local) {
        (Ok(Reply::Explained(explained)), None, _) => Ok(*explained),
        (Ok(Reply::Explained(explained)), Some(run), Some(local)) => Ok(Explained {
            dry_run: Some(run),
            local,
            ..*explained
        }),
        (Ok(other), ..) => Err(unexpected(&other)),
        (Err(failure), Some(run), Some(local)) => {
            if let Failure::No(why) = failure {
                remark(format_args!("earlier attempts are not known: {why}"));
            }
            Ok(Explained {
                remote: remote.as_str().to_owned(),
                local,
                attempts: Vec::new(),
                known_key: None,
                dry_run: Some(run),
            })
        }
        (Err(failure), ..) => Err(failure),
    }
}

/// The configuration, and the domain in whose name it is tried: the one that is named, or the first
/// that talks to other servers.
fn prepare(
    settings: Settings,
    from: Option<&str>,
) -> Result<(Arc<Settings>, Arc<DomainSettings>), Failure> {
    let local = federation::pick(&settings, from).map_err(Failure::Usage)?;
    Ok((Arc::new(settings), local))
}

fn describe(explained: &Explained) -> String {
    let Explained {
        remote,
        local,
        attempts,
        known_key,
        dry_run,
    } = explained;
    let mut out = format!("{remote}, as {local} sees it\n");
    out.push_str("\nLast attempts\n");
    if attempts.is_empty() {
        out.push_str("  none that is known\n");
    }
    for attempt in attempts {
        describe_attempt(attempt, &mut out);
    }
    if let Some(known) = known_key {
        describe_key(known, &mut out);
    }
    if let Some(run) = dry_run {
        out.push_str("\nA try just now\n");
        describe_run(run, &mut out);
        let mut keys = run.addresses.iter().filter_map(|tried| tried.key.as_ref());
        if let Some(known) = known_key
            && let Some(other) = keys.find(|key| **key != known.key)
        {
            out.push_str(&format!(
                "  WARNING: another key than was last seen, {other}: a new certificate, or somebody \
                 else\n"
            ));
        }
        if let Some(inbound) = &run.inbound {
            out.push_str(&format!(
                "  a stream that it opens, with the same certificate: {inbound}\n"
            ));
        }
        out.push('\n');
        let verdict = match run.would_talk {
            true => "talks with",
            false => "does not talk with",
        };
        out.push_str(&format!("{local} {verdict} {remote}: {}\n", run.verdict));
        match &run.remedy {
            Some(remedy) => out.push_str(&format!("To change that: {remedy}\n")),
            None if run.would_talk => {}
            None => out.push_str("No single option would change that.\n"),
        }
    }
    out
}

fn describe_key(known: &KeyInfo, out: &mut String) {
    let KeyInfo {
        key, since, seen, ..
    } = known;
    out.push_str(&format!("\nKey of its certificate\n  {key}\n"));
    out.push_str(&format!("  seen since {since}, last about {seen}\n"));
    if let Some(previous) = &known.previous {
        out.push_str(&format!("  before: {previous}\n"));
    }
}

fn describe_attempt(attempt: &AttemptInfo, out: &mut String) {
    let way = match attempt.direction.as_str() {
        "dialled" => "dialled",
        _ => "it dialled us, from",
    };
    let address = attempt.address.as_deref().unwrap_or("no address");
    let result = if attempt.success { "worked" } else { "failed" };
    out.push_str(&format!(
        "  {}  {way} {address}: {result}, {}\n",
        attempt.at, attempt.outcome
    ));
    let parts = [&attempt.tls_version, &attempt.cipher, &attempt.group];
    out.push_str(&format!(
        "      {}\n",
        encryption(attempt.direct_tls, parts)
    ));
    if let Some(certificate) = &attempt.certificate {
        describe_certificate(certificate, &attempt.remote, "      ", out);
    }
    if let Some(verdict) = &attempt.verdict {
        out.push_str(&format!("      policy: {verdict}\n"));
    }
}

fn describe_run(run: &DryRun, out: &mut String) {
    for lookup in &run.lookups {
        describe_lookup(lookup, out);
    }
    if let Some(problem) = &run.dns_problem {
        out.push_str(&format!("  {problem}\n"));
    }
    for tried in &run.addresses {
        describe_address(tried, out);
    }
    if run.lookups.is_empty() && run.addresses.is_empty() && run.dns_problem.is_none() {
        out.push_str("  nothing was tried: its name alone decides\n");
    }
}

fn describe_lookup(lookup: &LookupInfo, out: &mut String) {
    let head = format!("  DNS {} {}: ", lookup.name, lookup.rtype);
    if let Some(failure) = &lookup.failure {
        out.push_str(&format!("{head}{failure}\n"));
    }
    let proof = if lookup.secure { " (DNSSEC)" } else { "" };
    for record in &lookup.records {
        out.push_str(&format!("{head}{record}{proof}\n"));
    }
}

fn describe_address(tried: &TriedAddress, out: &mut String) {
    out.push_str(&format!("  {} ({})", tried.address, tried.host));
    if !tried.tried {
        out.push_str(": not tried any more\n");
        return;
    }
    let parts = [&tried.tls_version, &tried.cipher, &tried.group];
    out.push_str(&format!(": {}\n", encryption(tried.direct_tls, parts)));
    if let Some(certificate) = &tried.certificate {
        describe_certificate(certificate, "the domain", "      ", out);
    }
    if let Some(dane) = &tried.dane {
        out.push_str(&format!("      DANE: {dane}\n"));
    }
    if !tried.offers.is_empty() {
        out.push_str(&format!("      offers {}\n", tried.offers.join(", ")));
    }
    if let Some(stopped) = &tried.stopped {
        out.push_str(&format!("      {stopped}\n"));
    }
    if let Some(verdict) = &tried.verdict {
        out.push_str(&format!("      policy: {verdict}\n"));
    }
}

fn describe_certificate(shown: &CertificateReport, domain: &str, indent: &str, out: &mut String) {
    let mut line = |text: String| out.push_str(&format!("{indent}{text}\n"));
    if !shown.subject.is_empty() || !shown.issuer.is_empty() {
        line(format!(
            "certificate {}, issued by {}",
            shown.subject, shown.issuer
        ));
    }
    let names = match shown.names.is_empty() {
        true => "nobody".to_owned(),
        false => shown.names.join(", "),
    };
    match shown.for_domain {
        true => line(format!("for {names}")),
        false => line(format!("WRONG: for {names}, and not for {domain}")),
    }
    for fault in &shown.faults {
        line(format!("WRONG: {fault}"));
    }
    if shown.faults.is_empty() {
        line("its chain is valid".to_owned());
    }
}

fn encryption(is_direct: bool, parts: [&Option<String>; 3]) -> String {
    let agreed: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    match (agreed.is_empty(), is_direct) {
        (true, true) => "direct TLS, not agreed on".to_owned(),
        (true, false) => "no TLS".to_owned(),
        (false, true) => format!("direct TLS, {}", agreed.join(" ")),
        (false, false) => format!("STARTTLS, {}", agreed.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_ends_with_the_verdict_and_the_one_option() {
        let explained = Explained {
            remote: "example.net".to_owned(),
            local: "example.org".to_owned(),
            attempts: vec![AttemptInfo {
                at: "2026-11-28T15:00:00Z".to_owned(),
                direction: "accepted".to_owned(),
                remote: "example.net".to_owned(),
                address: Some("192.0.2.7:40000".to_owned()),
                outcome: "we refused it".to_owned(),
                verdict: Some("example.net is on s2s.deny".to_owned()),
                ..AttemptInfo::default()
            }],
            known_key: None,
            dry_run: Some(DryRun {
                verdict: "example.net is on s2s.deny".to_owned(),
                remedy: Some("take example.net off s2s.deny".to_owned()),
                ..DryRun::default()
            }),
        };
        let expected = "\
example.net, as example.org sees it

Last attempts
  2026-11-28T15:00:00Z  it dialled us, from 192.0.2.7:40000: failed, we refused it
      no TLS
      policy: example.net is on s2s.deny

A try just now
  nothing was tried: its name alone decides

example.org does not talk with example.net: example.net is on s2s.deny
To change that: take example.net off s2s.deny
";
        assert_eq!(describe(&explained), expected);
    }

    #[test]
    fn every_fault_of_a_certificate_is_a_line() {
        let shown = CertificateReport {
            subject: "CN=example.com".to_owned(),
            issuer: "CN=CA".to_owned(),
            names: vec!["DNS-ID example.com".to_owned()],
            for_domain: false,
            faults: vec!["one".to_owned(), "two".to_owned()],
        };
        let mut out = String::new();
        describe_certificate(&shown, "example.net", "", &mut out);
        let expected = "certificate CN=example.com, issued by CN=CA\n\
                        WRONG: for DNS-ID example.com, and not for example.net\n\
                        WRONG: one\nWRONG: two\n";
        assert_eq!(out, expected);
    }
}
