//! Whether other servers say what they have received, as operators are told.

use super::acknowledging::Receipt;
use super::pinged::Habit;
use super::{Link, Peers};
use crate::jid::Domain;
use crate::slots::Key;

/// How a server says what it has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipts {
    /// It counts (XEP-0198).
    Acknowledgements,
    /// It answers pings (XEP-0199 §4.3).
    Pings,
    /// It does neither, so that what it is sent counts as received.
    Neither,
    /// It does not count, and whether it answers pings is not known yet.
    Unknown,
}

impl Receipts {
    /// A word for tables.
    pub fn name(self) -> &'static str {
        match self {
            Receipts::Acknowledgements => "acknowledges",
            Receipts::Pings => "answers pings",
            Receipts::Neither => "neither",
            Receipts::Unknown => "not known",
        }
    }

    /// What the server does, for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Receipts::Acknowledgements => "it acknowledges what it is sent (XEP-0198)",
            Receipts::Pings => "it answers pings, which tells what it has received",
            Receipts::Neither => {
                "it neither acknowledges nor answers pings: what it is sent counts as received"
            }
            Receipts::Unknown => "it does not acknowledge, and has answered no ping yet",
        }
    }
}

impl Peers {
    /// What is known of the peer of a stream; none if it is not sent stanzas on that.
    pub fn receipts_by(&self, conn: Key) -> Option<Receipts> {
        let link = self.written_by(conn).next()?;
        Some(link.receipts(|at| at == conn))
    }

    /// What is known of the server of a remote domain, for each domain of ours that has sent something to
    /// it lately.
    pub fn receipts_of(&self, remote: &Domain) -> Vec<(Domain, Receipts)> {
        let links = self.links.iter().map(|(_, link)| link);
        let known = links.filter(|link| {
            // One that was never reached tells nothing.
            link.remote == *remote && (!link.sent.is_empty() || link.habit != Habit::default())
        });
        let mut known: Vec<(Domain, Receipts)> = known
            .map(|link| (link.local.clone(), link.receipts(|_| true)))
            .collect();
        known.sort_by(|(one, _), (other, _)| one.cmp(other));
        known
    }
}

impl Link {
    /// By what is kept of those of its streams.
    fn receipts(&self, of: impl Fn(Key) -> bool) -> Receipts {
        let mut sent = self.sent.iter().filter(|sent| of(sent.conn));
        let is_managed = sent.any(|sent| match &sent.receipt {
            Receipt::Managed(managed) => managed.is_enabled(),
            Receipt::Pinged(_) => false,
        });
        match self.habit {
            _ if is_managed => Receipts::Acknowledgements,
            Habit::Answers => Receipts::Pings,
            Habit::Silent => Receipts::Neither,
            Habit::Unknown { .. } => Receipts::Unknown,
        }
    }
}
