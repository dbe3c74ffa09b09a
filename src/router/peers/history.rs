//! The last attempts to reach other servers, and of others to be taken for them, for
//! `stanzad explain s2s`.
//!
//! What others claim to be is hostile input: it is kept apart from what we have dialled, so that
//! nobody can push that out, and both are bounded in peers, attempts and bytes.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use crate::clock::Wall;
use crate::jid::Domain;
use crate::limits::{
    PEER_ATTEMPT_FAULTS_MAX, PEER_ATTEMPTS_MAX, PEER_HISTORIES_MAX, PEER_TEXT_CHARS_MAX,
};
use crate::log::for_people;
use crate::router::session::TlsSummary;

/// One attempt at a stream with another server, by either side, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When that was known.
    pub at: Wall,
    /// Whether we have dialled; else the other side has.
    pub is_dialled: bool,
    /// Ours.
    pub local: Domain,
    /// Theirs, or the one that they claimed.
    pub remote: Domain,
    /// Where it is; none if it was not found.
    pub address: Option<SocketAddr>,
    /// Whether TLS came first.
    pub is_direct: bool,
    /// What TLS agreed on.
    pub tls: Option<TlsSummary>,
    /// The certificate that the other side has shown.
    pub certificate: Option<ShownCertificate>,
    /// What policy said, and why.
    pub verdict: Option<String>,
    /// Whether stanzas could flow.
    pub is_success: bool,
    /// What came of it, in the other side's words if those decided.
    pub outcome: String,
}

/// What is kept of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShownCertificate {
    /// "CN=example.net".
    pub subject: String,
    /// "CN=R11, O=Let's Encrypt".
    pub issuer: String,
    /// The names that it is for.
    pub names: Vec<String>,
    /// When it ends, or the first of those above it, in seconds of the Unix epoch; none if nobody can tell.
    pub ends: Option<i64>,
    /// What is wrong with its chain, a sentence each.
    pub faults: Vec<String>,
    /// Whether it is for the other side's domain.
    pub is_for_peer: bool,
    /// Whether the chain was held against the authorities that are pinned for the peer.
    pub is_by_pinned_ca: bool,
    /// What proves the peer whatever is wrong with chain and names, in words.
    pub proven_by: Option<&'static str>,
}

/// The attempts of one shard's peers.
#[derive(Debug, Default)]
pub struct History {
    dialled: Log,
    accepted: Log,
}

#[derive(Debug, Default)]
struct Log {
    peers: HashMap<Domain, Peer>,
    /// Counts notes, so that the peer can be told of which nothing was noted for longest.
    notes: u64,
}

#[derive(Debug)]
struct Peer {
    noted: u64,
    attempts: VecDeque<Attempt>,
}

impl History {
    /// Keeps an attempt, and forgets an older one if there are too many.
    pub fn note(&mut self, attempt: Attempt) {
        match attempt.is_dialled {
            true => self.dialled.note(attempt.bounded()),
            false => self.accepted.note(attempt.bounded()),
        }
    }

    /// What is known of a peer, oldest first.
    pub fn of(&self, peer: &Domain) -> Vec<Attempt> {
        let logs = [&self.dialled, &self.accepted];
        let of_peer = logs.into_iter().filter_map(|log| log.peers.get(peer));
        let mut attempts: Vec<Attempt> = of_peer
            .flat_map(|peer| peer.attempts.iter().cloned())
            .collect();
        attempts.sort_by_key(|attempt| attempt.at);
        attempts
    }
}

impl Log {
    fn note(&mut self, attempt: Attempt) {
        self.notes += 1;
        if !self.peers.contains_key(&attempt.remote) && self.peers.len() >= PEER_HISTORIES_MAX {
            let oldest = self.peers.iter().min_by_key(|(_, peer)| peer.noted);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.peers.remove(&name);
            }
        }
        let peer = self
            .peers
            .entry(attempt.remote.clone())
            .or_insert_with(|| Peer {
                noted: 0,
                attempts: VecDeque::new(),
            });
        peer.noted = self.notes;
        if peer.attempts.len() >= PEER_ATTEMPTS_MAX {
            peer.attempts.pop_front();
        }
        peer.attempts.push_back(attempt);
    }
}

impl Attempt {
    /// Within the bounds, and without characters that control a terminal.
    fn bounded(mut self) -> Attempt {
        let bounded = |text: &str| for_people(text, PEER_TEXT_CHARS_MAX);
        self.outcome = bounded(&self.outcome);
        self.verdict = self.verdict.as_deref().map(&bounded);
        if let Some(shown) = &mut self.certificate {
            shown.subject = bounded(&shown.subject);
            shown.issuer = bounded(&shown.issuer);
            for list in [&mut shown.names, &mut shown.faults] {
                list.truncate(PEER_ATTEMPT_FAULTS_MAX);
                list.iter_mut().for_each(|text| *text = bounded(text));
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(remote: &str, is_dialled: bool, at: u64) -> Attempt {
        Attempt {
            at: Wall::from_micros(at),
            is_dialled,
            local: Domain::parse("example.org").unwrap(),
            remote: Domain::parse(remote).unwrap(),
            address: None,
            is_direct: false,
            tls: None,
            certificate: None,
            verdict: None,
            is_success: false,
            outcome: "it is not there".to_owned(),
        }
    }

    fn times(history: &History, peer: &str) -> Vec<u64> {
        let attempts = history.of(&Domain::parse(peer).unwrap());
        attempts.iter().map(|a| a.at.micros()).collect()
    }

    #[test]
    fn the_last_attempts_of_each_direction_are_kept_in_order() {
        let mut history = History::default();
        for at in 0..20 {
            history.note(attempt("example.net", at % 2 == 0, at));
        }
        let first = 20 - 2 * PEER_ATTEMPTS_MAX as u64;
        assert_eq!(
            times(&history, "example.net"),
            (first..20).collect::<Vec<_>>()
        );
        assert!(times(&history, "example.com").is_empty());
    }

    #[test]
    fn who_claims_many_names_pushes_out_no_attempt_of_ours_and_costs_bounded_memory() {
        let mut history = History::default();
        history.note(attempt("example.net", true, 1));
        for number in 0..2 * PEER_HISTORIES_MAX {
            history.note(attempt(&format!("n{number}.example"), false, 2));
        }
        assert_eq!(times(&history, "example.net"), [1]);
        assert_eq!(history.accepted.peers.len(), PEER_HISTORIES_MAX);
        // The newest are there, the oldest are not.
        let last = format!("n{}.example", 2 * PEER_HISTORIES_MAX - 1);
        assert_eq!(times(&history, &last), [2]);
        assert!(times(&history, "n0.example").is_empty());
    }

    #[test]
    fn texts_of_others_are_cut_and_cannot_control_a_terminal() {
        let mut long = attempt("example.net", false, 1);
        long.outcome = format!("\u{1b}[2J\n{}", "x".repeat(10_000));
        let mut history = History::default();
        history.note(long);
        let kept = &history.of(&Domain::parse("example.net").unwrap())[0].outcome;
        assert_eq!(kept.chars().count(), PEER_TEXT_CHARS_MAX + 1);
        assert!(!kept.contains(char::is_control), "{kept}");
    }
}
