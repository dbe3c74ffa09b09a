//! What the control socket tells of other servers.

use std::collections::HashMap;

use crate::jid::Domain;
use crate::net::certificate::Pin;
use crate::router::peers::Receipts;
use crate::router::peers::history::Attempt;
use crate::server::accounts::stamp;
use crate::server::control::{
    AttemptInfo, Explained, KeyInfo, PairInfo, ReceiptInfo, Reply, SESSIONS_MAX, ServerStreamInfo,
    Try,
};
use crate::server::dry_run::report;
use crate::shard::{Remembered, Survey, SurveyedServer};
use crate::storage::peer_keys::{self, PeerKey};
use crate::storage::{Db, StoreError};
use crate::stream::policy::s2s::Direction;

/// Answers `stanzad s2s list`: of a prepared domain, or of all.
pub fn list(surveys: Vec<Survey>, domain: Option<&str>) -> Reply {
    let mut servers = Vec::new();
    for survey in surveys {
        let shard = survey.shard as usize;
        let infos = survey.servers.iter().map(|server| info(shard, server));
        servers.extend(infos.filter(|info| domain.is_none_or(|domain| concerns(info, domain))));
    }
    servers.sort_by(|a, b| {
        (&a.remote, &a.local, &a.direction).cmp(&(&b.remote, &b.local, &b.direction))
    });
    let left_out = servers.len().saturating_sub(SESSIONS_MAX) as u64;
    servers.truncate(SESSIONS_MAX);
    Reply::S2sList { servers, left_out }
}

fn concerns(info: &ServerStreamInfo, domain: &str) -> bool {
    let is_named = |name: &Option<String>| name.as_deref() == Some(domain);
    let mut proven = info.proven.iter();
    is_named(&info.local)
        || is_named(&info.remote)
        || proven.any(|pair| pair.local == domain || pair.remote == domain)
}

fn info(shard: usize, server: &SurveyedServer) -> ServerStreamInfo {
    let link = server.link.as_ref();
    let mut info = ServerStreamInfo {
        shard,
        local: link.map(|link| link.local.clone()),
        remote: link.map(|link| link.remote.clone()),
        state: "waiting".to_owned(),
        waiting: link.map_or(0, |link| link.waiting as u64),
        ..ServerStreamInfo::default()
    };
    let Some(stream) = &server.stream else {
        if let Some((left, reason)) = link.and_then(|link| link.resting.as_ref()) {
            info.next_try_seconds = Some(left.as_secs());
            info.reason = Some(reason.clone());
        }
        return info;
    };
    let is_dialled = stream.direction == Direction::Dialled;
    info.direction = Some(if is_dialled { "dialled" } else { "accepted" }.to_owned());
    info.both_ways = stream.goes_both_ways;
    (info.local, info.remote) = stream.claimed.clone();
    let pairs = stream.proofs.iter().map(|proof| PairInfo {
        local: proof.pair.local.as_str().to_owned(),
        remote: proof.pair.remote.as_str().to_owned(),
        peer_proven_by: proof.of_peer(stream.direction),
        key_changed: None,
        proven_by_us: proof
            .exchange
            .filter(|_| is_dialled)
            .map(|exchange| exchange.name().to_owned()),
    });
    info.proven = pairs.collect();
    info.address = Some(stream.address.to_string());
    info.direct_tls = stream.is_direct;
    let tls = stream.tls.as_ref();
    info.tls_version = tls.map(|tls| tls.version.to_owned());
    info.cipher = tls.map(|tls| tls.cipher.to_string());
    let group = tls.map(|tls| tls.group.to_string());
    info.group = group.filter(|group| !group.is_empty());
    info.receipts = stream.receipts.map(|receipts| receipts.name().to_owned());
    info.state = stream.state.to_owned();
    info.age_seconds = Some(stream.age.as_secs());
    info.idle_seconds = Some(stream.idle.as_secs());
    info
}

/// The pairs whose peers' certificates have another key than they once had, and since when.
///
/// # Errors
/// The database's.
pub fn changed_keys(
    db: &Db,
    pairs: &[(Domain, Domain)],
) -> Result<HashMap<(String, String), String>, StoreError> {
    let mut changed = HashMap::new();
    for (local, remote) in pairs {
        if let Some(known) = peer_keys::find(db, local, remote)?
            && known.previous.is_some()
        {
            let pair = (local.as_str().to_owned(), remote.as_str().to_owned());
            changed.insert(pair, stamp(known.since));
        }
    }
    Ok(changed)
}

/// Puts what [`changed_keys`] has found into an answer of [`list`].
pub fn tell_changed_keys(reply: &mut Reply, changed: &HashMap<(String, String), String>) {
    let Reply::S2sList { servers, .. } = reply else {
        return;
    };
    for pair in servers.iter_mut().flat_map(|server| &mut server.proven) {
        let domains = (pair.local.clone(), pair.remote.clone());
        pair.key_changed = changed.get(&domains).cloned();
    }
}

/// All pairs that are proven.
pub fn pairs(surveys: &[Survey]) -> Vec<(Domain, Domain)> {
    let streams = surveys
        .iter()
        .flat_map(|survey| &survey.servers)
        .filter_map(|server| server.stream.as_ref());
    let proofs = streams.flat_map(|stream| &stream.proofs);
    proofs
        .map(|proof| (proof.pair.local.clone(), proof.pair.remote.clone()))
        .collect()
}

fn key_info((local, known): &(Domain, PeerKey)) -> KeyInfo {
    KeyInfo {
        local: local.as_str().to_owned(),
        key: Pin::from(known.key).to_string(),
        since: stamp(known.since),
        seen: stamp(known.seen),
        previous: known.previous.map(|key| Pin::from(key).to_string()),
    }
}

/// The keys that the server of a remote domain has shown to local ones.
///
/// # Errors
/// The database's.
pub fn known_keys(
    db: &Db,
    locals: &[Domain],
    remote: &Domain,
) -> Result<Vec<(Domain, PeerKey)>, StoreError> {
    let mut known = Vec::new();
    for local in locals {
        let key = peer_keys::find(db, local, remote)?;
        known.extend(key.map(|key| (local.clone(), key)));
    }
    Ok(known)
}

/// Answers `stanzad explain s2s`.
pub fn explained(
    remote: &Domain,
    remembered: &Remembered,
    keys: &[(Domain, PeerKey)],
    (tries, left_out): (Vec<Try>, Vec<String>),
) -> Reply {
    Reply::Explained(Box::new(Explained {
        remote: remote.as_str().to_owned(),
        attempts: remembered.attempts.iter().map(attempt_info).collect(),
        receipts: remembered.receipts.iter().map(receipt_info).collect(),
        keys: keys.iter().map(key_info).collect(),
        tries,
        left_out,
    }))
}

fn receipt_info((local, receipts): &(Domain, Receipts)) -> ReceiptInfo {
    ReceiptInfo {
        local: local.as_str().to_owned(),
        receipts: receipts.name().to_owned(),
        text: receipts.sentence().to_owned(),
    }
}

fn attempt_info(attempt: &Attempt) -> AttemptInfo {
    let tls = attempt.tls.as_ref();
    let group = tls.map(|tls| tls.group.to_string());
    AttemptInfo {
        at: stamp(attempt.at),
        direction: match attempt.is_dialled {
            true => "dialled".to_owned(),
            false => "accepted".to_owned(),
        },
        local: attempt.local.as_str().to_owned(),
        remote: attempt.remote.as_str().to_owned(),
        address: attempt.address.map(|address| address.to_string()),
        direct_tls: attempt.is_direct,
        tls_version: tls.map(|tls| tls.version.to_owned()),
        cipher: tls.map(|tls| tls.cipher.to_string()),
        group: group.filter(|group| !group.is_empty()),
        certificate: attempt.certificate.as_ref().map(report),
        verdict: attempt.verdict.clone(),
        success: attempt.is_success,
        outcome: attempt.outcome.clone(),
    }
}
