//! What is to be said of certificates that are shown to others, as others will judge them.

use super::{Finding, Level};
use crate::net::certificate::{
    Authorities, EXPIRY_WARNING_SECONDS, Fault, FaultKind, PeerRole, Reference, ShownChain,
};

/// Where certificates are shown, and how much is asked of them.
pub struct Showing<'a> {
    /// The check that the findings belong to.
    pub check: &'static str,
    /// What they are about.
    pub about: &'a str,
    /// What each text begins with.
    pub lead: &'a str,
    /// The domain that the certificates are to be for, in A-labels.
    pub domain: &'a str,
    /// Hosts by whose names they may go as well (RFC 7673 §4.1).
    pub targets: &'a [&'a str],
    /// Who is trusted.
    pub roots: &'a Authorities,
    /// How bad it is that nobody of these vouches for them.
    pub untrusted: Level,
    /// Whether who shows them is accepted all the same, so that nothing about them is a problem.
    pub is_accepted: bool,
}

/// What is found of a chain, in DER and leaf first; the first finding describes the certificate.
pub fn findings(showing: &Showing<'_>, chain: &[Vec<u8>]) -> Vec<Finding> {
    let Showing {
        check,
        about,
        lead,
        domain,
        targets,
        roots,
        untrusted,
        is_accepted,
    } = *showing;
    let now = jiff::Timestamp::now().as_second();
    let found = |level, text: String| {
        let level = match level {
            Level::Problem if is_accepted => Level::Note,
            level => level,
        };
        Finding::new(check, level, about, text)
    };
    let shown = match ShownChain::parse(chain) {
        Ok(shown) => shown,
        Err(fault) => return vec![found(Level::Problem, format!("{lead}{fault}"))],
    };
    let reference = Reference {
        domain,
        secure_targets: targets,
    };
    let judgement = match shown.judge(roots, PeerRole::ReceivingEntity, reference, now) {
        Ok(judgement) => judgement,
        Err(error) => return vec![found(Level::Problem, format!("{lead}{error}"))],
    };
    let mut all = vec![found(
        Level::Good,
        format!(
            "{lead}certificate {}, issued by {}, valid until {}",
            shown.subject(),
            shown.issuer(),
            day(judgement.ends)
        ),
    )];
    if judgement.matched.is_none() {
        let names: Vec<String> = shown
            .identifiers()
            .iter()
            .map(ToString::to_string)
            .collect();
        let names = match names.is_empty() {
            true => "no name at all".to_owned(),
            false => names.join(", "),
        };
        let text = format!("{lead}the certificate is for {names}, and not for {domain}");
        all.push(found(Level::Problem, text));
    }
    let faults = judgement.faults.iter();
    all.extend(
        faults.map(|fault| found(level_of(fault, untrusted), told(lead, fault, chain.len()))),
    );
    let left = judgement.ends - now;
    if (0..EXPIRY_WARNING_SECONDS).contains(&left) {
        let when = match left / 86_400 {
            0 => "within a day".to_owned(),
            1 => "in 1 day".to_owned(),
            days => format!("in {days} days"),
        };
        let text = format!("{lead}the certificate, or one above it, ends {when}: renew it");
        all.push(found(Level::Warning, text));
    }
    all
}

fn level_of(fault: &Fault, untrusted: Level) -> Level {
    match fault.kind {
        FaultKind::SelfSigned | FaultKind::UnknownIssuer(_) | FaultKind::UntrustedRoot => untrusted,
        _ => Level::Problem,
    }
}

fn told(lead: &str, fault: &Fault, length: usize) -> String {
    match fault.kind {
        FaultKind::SelfSigned | FaultKind::UntrustedRoot => {
            format!("{lead}{fault}: only who was told to will trust it")
        }
        FaultKind::UnknownIssuer(_) if length == 1 => format!(
            "{lead}{fault}: the chain is incomplete, put the certificates of the authority behind it \
             (fullchain.pem), or the authority is known to nobody who was not told"
        ),
        FaultKind::UnknownIssuer(_) => {
            format!("{lead}{fault}: only who was told to will trust it")
        }
        _ => format!("{lead}{fault}"),
    }
}

/// "2026-01-31", UTC.
fn day(unix_seconds: i64) -> String {
    jiff::Timestamp::from_second(unix_seconds).map_or_else(
        |_| "a day out of range".to_owned(),
        |at| at.strftime("%Y-%m-%d").to_string(),
    )
}
