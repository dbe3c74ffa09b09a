//! `stanzad explain s2s`: why another server is talked with, or not.

use std::collections::BTreeMap;

use super::ctl::{Reach, accept, unexpected};
use super::{Failure, load, print, print_json, remark};
use crate::jid::Domain;
use crate::server::control::{
    AttemptInfo, CallError, CertificateReport, DryRun, Explained, KeyInfo, LookupInfo, ReceiptInfo,
    Reply, Request, TriedAddress, Try,
};
use crate::server::dry_run::domains;
use crate::server::generation::load_certificates;

/// Domains here that a line names; of more it tells the number, and JSON all of them.
const NAMES_MAX: usize = 5;

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
    let mut tries = explained.tries.iter();
    let would_talk = !explained.tries.is_empty() && tries.all(|one| one.dry_run.would_talk);
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

/// The running server knows what became of earlier attempts, tries as it is, and answers for dialback
/// keys. Without one the tries are made here.
fn explain(server: &Reach, remote: &Domain, from: Option<String>) -> Result<Explained, Failure> {
    let request = Request::ExplainS2s {
        remote: remote.as_str().to_owned(),
        local: from.clone(),
    };
    let error = match server.call(&request)? {
        Ok(reply) => {
            return match accept(Ok(reply))? {
                Reply::Explained(explained) => Ok(*explained),
                other => Err(unexpected(&other)),
            };
        }
        Err(error) => error,
    };
    let file = server.conf_file();
    match (load(file), &error) {
        (Ok(settings), _) => {
            if settings.served(remote.as_str()).is_some() {
                return Err(Failure::Usage(domains::served_here(remote)));
            }
            let chosen = domains::chosen(&settings, from.as_deref()).map_err(Failure::Usage)?;
            let loaded = load_certificates(&settings, None);
            let loaded = loaded.map_err(|problems| Failure::No(problems.join("\n")))?;
            remark(format_args!(
                "earlier attempts are not known, and the try is this command's: {error}"
            ));
            let (tries, left_out) = domains::tries(&chosen, remote, (&settings, &loaded), None);
            Ok(Explained {
                remote: remote.as_str().to_owned(),
                tries,
                left_out,
                ..Explained::default()
            })
        }
        (Err(_), CallError::Forbidden(_)) => Err(Failure::no(error)),
        (Err(failure), _) => {
            remark(&error);
            Err(failure)
        }
    }
}

fn describe(explained: &Explained) -> String {
    let remote = &explained.remote;
    let mut out = format!("{remote}\n\nLast attempts\n");
    if explained.attempts.is_empty() {
        out.push_str("  none that is known\n");
    }
    for attempt in &explained.attempts {
        describe_attempt(attempt, &mut out);
    }
    describe_receipts(&explained.receipts, &mut out);
    describe_keys(&explained.keys, &mut out);
    let outcomes = outcomes(&explained.tries);
    for (locals, tries) in &outcomes {
        // The others have gone the same way.
        let Some(first) = tries.first() else {
            continue;
        };
        out.push_str(&format!("\nA try just now by {}\n", named(locals)));
        describe_run(remote, &first.dry_run, &mut out);
        warn_of_keys(&explained.keys, tries, &mut out);
    }
    out.push('\n');
    for (locals, tries) in &outcomes {
        if let Some(first) = tries.first() {
            describe_verdict(locals, remote, &first.dry_run, &mut out);
        }
    }
    if !explained.left_out.is_empty() {
        out.push_str(&format!(
            "Not tried by {}, which would take too many tries: name one with --from\n",
            named(&explained.left_out)
        ));
    }
    out
}

fn describe_receipts(receipts: &[ReceiptInfo], out: &mut String) {
    if !receipts.is_empty() {
        out.push_str("\nWhat it says of what it is sent\n");
    }
    for ReceiptInfo { local, text, .. } in receipts {
        out.push_str(&format!("  by {local}: {text}\n"));
    }
}

/// Tries with the same outcome, with all domains that they are about.
fn outcomes(tries: &[Try]) -> Vec<(Vec<String>, Vec<&Try>)> {
    let mut all: Vec<(Vec<String>, Vec<&Try>)> = Vec::new();
    let outcome = |one: &Try| {
        let run = &one.dry_run;
        let proof: Vec<_> = run.proof.iter().map(|step| step.text.clone()).collect();
        let inbound = (run.inbound.clone(), run.inbound_remedy.clone());
        let verdict = (run.would_talk, run.verdict.clone(), run.remedy.clone());
        (verdict, proof, inbound)
    };
    for one in tries {
        let same = all.iter_mut().find(|(_, others)| {
            let other = others.first();
            other.is_some_and(|other| outcome(other) == outcome(one))
        });
        match same {
            Some((locals, others)) => {
                locals.extend(one.locals.iter().cloned());
                others.push(one);
            }
            None => all.push((one.locals.clone(), vec![one])),
        }
    }
    all
}

fn describe_verdict(locals: &[String], remote: &str, run: &DryRun, out: &mut String) {
    let verdict = match (run.would_talk, locals.len()) {
        (true, 1) => "talks with",
        (true, _) => "talk with",
        (false, 1) => "does not talk with",
        (false, _) => "do not talk with",
    };
    out.push_str(&format!(
        "{} {verdict} {remote}: {}\n",
        named(locals),
        run.verdict
    ));
    match &run.remedy {
        Some(remedy) => out.push_str(&format!("To change that: {remedy}\n")),
        None if run.would_talk => {}
        None if run.refused_by_peer => out.push_str(
            "That is for the other server to change, or for the certificate here: see \"stanzad check \
             certs\"\n",
        ),
        None => out.push_str("No single option would change that.\n"),
    }
}

/// "a.example", "a.example, b.example and 48 more".
pub fn named(domains: &[String]) -> String {
    let shown: Vec<&str> = domains.iter().take(NAMES_MAX).map(String::as_str).collect();
    let shown = shown.join(", ");
    match domains.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// One entry for each key, with the domains here that it was shown to.
fn describe_keys(known: &[KeyInfo], out: &mut String) {
    let mut by_key: BTreeMap<(&str, Option<&str>), Vec<&KeyInfo>> = BTreeMap::new();
    for one in known {
        let key = (one.key.as_str(), one.previous.as_deref());
        by_key.entry(key).or_default().push(one);
    }
    if !by_key.is_empty() {
        out.push_str("\nKey of its certificate\n");
    }
    for ((key, previous), seen) in by_key {
        let locals: Vec<String> = seen.iter().map(|one| one.local.clone()).collect();
        let since = seen.iter().map(|one| one.since.as_str()).min();
        let last = seen.iter().map(|one| one.seen.as_str()).max();
        out.push_str(&format!("  {key}\n"));
        out.push_str(&format!(
            "  seen by {} since {}, last about {}\n",
            named(&locals),
            since.unwrap_or_default(),
            last.unwrap_or_default()
        ));
        if let Some(previous) = previous {
            out.push_str(&format!("  before: {previous}\n"));
        }
    }
}

/// Says if the key just seen is another one than was last seen.
fn warn_of_keys(known: &[KeyInfo], tries: &[&Try], out: &mut String) {
    for one in tries {
        let addresses = one.dry_run.addresses.iter();
        let shown: Vec<&String> = addresses.filter_map(|tried| tried.key.as_ref()).collect();
        let mut known = known.iter().filter(|key| one.locals.contains(&key.local));
        let other = known.find_map(|known| shown.iter().find(|key| ***key != known.key));
        if let Some(other) = other {
            out.push_str(&format!(
                "  WARNING: another key than was last seen, {other}: a new certificate, or somebody \
                 else\n"
            ));
            return;
        }
    }
}

fn describe_attempt(attempt: &AttemptInfo, out: &mut String) {
    let local = &attempt.local;
    let way = match attempt.direction.as_str() {
        "dialled" => format!("{local} dialled"),
        _ => format!("it dialled {local} from"),
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

fn describe_run(remote: &str, run: &DryRun, out: &mut String) {
    for lookup in &run.lookups {
        describe_lookup(lookup, out);
    }
    if let Some(problem) = &run.dns_problem {
        out.push_str(&format!("  {problem}\n"));
    }
    for tried in &run.addresses {
        describe_address(remote, tried, out);
    }
    for step in &run.proof {
        out.push_str(&format!("  {}\n", step.text));
    }
    if let Some(inbound) = &run.inbound {
        let mut addresses = run.addresses.iter();
        let how = match addresses.any(|tried| tried.certificate.is_some()) {
            true => "with the same certificate",
            false => "without one too",
        };
        out.push_str(&format!("  a stream that it opens, {how}: {inbound}\n"));
    }
    if let Some(remedy) = run.inbound_remedy.as_ref().filter(|_| run.remedy.is_none()) {
        out.push_str(&format!("      to change that: {remedy}\n"));
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

fn describe_address(remote: &str, tried: &TriedAddress, out: &mut String) {
    out.push_str(&format!("  {} ({})", tried.address, tried.host));
    if !tried.tried {
        out.push_str(": not tried any more\n");
        return;
    }
    let parts = [&tried.tls_version, &tried.cipher, &tried.group];
    out.push_str(&format!(": {}\n", encryption(tried.direct_tls, parts)));
    if let Some(certificate) = &tried.certificate {
        describe_certificate(certificate, remote, "      ", out);
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
            "certificate {}, issued by {}{}",
            shown.subject,
            shown.issuer,
            shown.ends.as_deref().map_or(String::new(), until)
        ));
    }
    let names = match shown.names.is_empty() {
        true => "nobody".to_owned(),
        false => shown.names.join(", "),
    };
    // What proves it otherwise makes no fault of the rest.
    let (lead, end) = match &shown.proven_by {
        Some(proven_by) => ("", format!(", which does not count: {proven_by}")),
        None => ("WRONG: ", String::new()),
    };
    match shown.for_domain {
        true => line(format!("for {names}")),
        false => line(format!("{lead}for {names}, and not for {domain}{end}")),
    }
    for fault in &shown.faults {
        line(format!("{lead}{fault}{end}"));
    }
    let by = match shown.by_pinned_ca {
        true => format!(" by the ca of [s2s.peer.\"{domain}\"]"),
        false => String::new(),
    };
    if shown.faults.is_empty() {
        line(format!("its chain is valid{by}"));
    }
}

/// The day of a moment in RFC 3339.
fn until(moment: &str) -> String {
    let day = moment.split('T').next().unwrap_or_default();
    format!(", valid until {day}")
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
            attempts: vec![AttemptInfo {
                at: "2026-11-28T15:00:00Z".to_owned(),
                direction: "accepted".to_owned(),
                local: "example.org".to_owned(),
                remote: "example.net".to_owned(),
                address: Some("192.0.2.7:40000".to_owned()),
                outcome: "we refused it".to_owned(),
                verdict: Some("example.net is on s2s.deny".to_owned()),
                ..AttemptInfo::default()
            }],
            receipts: vec![ReceiptInfo {
                local: "example.org".to_owned(),
                receipts: "answers pings".to_owned(),
                text: "it answers pings".to_owned(),
            }],
            tries: vec![denied("example.org")],
            ..Explained::default()
        };
        let expected = "\
example.net

Last attempts
  2026-11-28T15:00:00Z  it dialled example.org from 192.0.2.7:40000: failed, we refused it
      no TLS
      policy: example.net is on s2s.deny

What it says of what it is sent
  by example.org: it answers pings

A try just now by example.org
  nothing was tried: its name alone decides

example.org does not talk with example.net: example.net is on s2s.deny
To change that: take example.net off s2s.deny
";
        assert_eq!(describe(&explained), expected);
    }

    fn denied(local: &str) -> Try {
        Try {
            locals: vec![local.to_owned()],
            dry_run: DryRun {
                verdict: "example.net is on s2s.deny".to_owned(),
                remedy: Some("take example.net off s2s.deny".to_owned()),
                ..DryRun::default()
            },
        }
    }

    #[test]
    fn domains_with_the_same_outcome_are_told_of_once() {
        let mut tries: Vec<Try> = (1..=7).map(|n| denied(&format!("d{n}.example"))).collect();
        let mut other = denied("other.example");
        other.dry_run.would_talk = true;
        other.dry_run.verdict = "it is who it is".to_owned();
        other.dry_run.remedy = None;
        tries.insert(3, other);
        let explained = Explained {
            remote: "example.net".to_owned(),
            tries,
            left_out: vec!["last.example".to_owned()],
            ..Explained::default()
        };
        let told = describe(&explained);
        assert_eq!(told.matches("\nA try just now by ").count(), 2, "{told}");
        let expected = "\
d1.example, d2.example, d3.example, d4.example, d5.example and 2 more do not talk with example.net: \
example.net is on s2s.deny
To change that: take example.net off s2s.deny
other.example talks with example.net: it is who it is
Not tried by last.example, which would take too many tries: name one with --from
";
        assert!(told.ends_with(expected), "{told}");
    }

    #[test]
    fn every_fault_of_a_certificate_is_a_line() {
        let shown = CertificateReport {
            subject: "CN=example.com".to_owned(),
            issuer: "CN=CA".to_owned(),
            names: vec!["DNS-ID example.com".to_owned()],
            ends: Some("2026-12-31T23:59:59Z".to_owned()),
            for_domain: false,
            faults: vec!["one".to_owned(), "two".to_owned()],
            ..CertificateReport::default()
        };
        let mut out = String::new();
        describe_certificate(&shown, "example.net", "", &mut out);
        let expected = "certificate CN=example.com, issued by CN=CA, valid until 2026-12-31\n\
                        WRONG: for DNS-ID example.com, and not for example.net\n\
                        WRONG: one\nWRONG: two\n";
        assert_eq!(out, expected);
    }
}
