//! Who fills what the links of a shard hold. Each sender of this server has a share of it, so that one
//! who writes to ever more names, or to servers that are not there, leaves room for others.
//!
//! A sender is an account, with what its sessions send and the server sends for it, or a component, or a
//! domain itself. What strangers can make one of these answer counts apart from what it says, so that
//! nobody is silenced by being asked.
//!
//! Nobody takes more than a part of what is still free ([`PEER_SHARE_WAITING`]): who is alone gets an eighth
//! of the whole, and of many each gets less, but together they never get all of it.

use std::collections::HashMap;

use super::link::Waiting;
use super::{Held, Link, Peers, Way};
use crate::limits::{
    PEER_HELD_BYTES_MAX, PEER_HELD_STANZAS_MAX, PEER_LINKS_MAX, PEER_SHARE_SENT, PEER_SHARE_WAITING,
};
use crate::router::Router;
use crate::slots::Key;
use crate::stanza::{Condition, Kind, Stanza, StanzaError, Type};

/// Who sends to other servers: a number that stands for a name, the same on all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sender(u64);

impl Sender {
    /// Its number.
    pub fn number(self) -> u64 {
        self.0
    }

    #[cfg(test)]
    pub(super) fn numbered(number: u64) -> Sender {
        Sender(number)
    }
}

/// What somebody has of what all share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    /// What waits, or was sent and is not acknowledged.
    held: Held,
    /// Links that are needed, and count as its own.
    links: usize,
}

/// What all have together, and everybody who has anything.
#[derive(Debug, Default)]
pub(super) struct Shares {
    all: Share,
    by_sender: HashMap<Sender, Share>,
}

/// Why a stanza may not wait for another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooMuch {
    /// Its sender has as much waiting as it may.
    OfSender,
    /// Its sender has as many links as it may.
    LinksOfSender,
    /// Its sender has as much in that link's queue as it may.
    OfSenderThere,
    /// As much waits for that server as may.
    There,
    /// All links together hold as much as they may.
    Everywhere,
    /// There are as many links as may be.
    Links,
}

impl TooMuch {
    /// What its sender is told (RFC 6120 §8.3.3.18).
    pub fn to_error(self) -> StanzaError {
        let text = match self {
            TooMuch::OfSender => "Too much of what you sent waits for other servers",
            TooMuch::LinksOfSender => "You are writing to too many other servers",
            TooMuch::OfSenderThere => "Too much of what you sent waits for that server",
            TooMuch::There => "Too many stanzas wait for that server",
            TooMuch::Everywhere => "Too many stanzas wait for other servers",
            TooMuch::Links => "This server talks to too many others",
        };
        StanzaError::new(Condition::ResourceConstraint).text(format!("{text}; try again later"))
    }
}

impl Shares {
    /// Changes what a sender has, and what all have.
    fn change(&mut self, sender: Sender, change: impl Fn(&mut Share)) {
        change(&mut self.all);
        let share = self.by_sender.entry(sender).or_default();
        change(share);
        if *share == Share::default() {
            self.by_sender.remove(&sender);
        }
    }

    /// A stanza of a sender is on a link from now on, until [`Shares::give_back`].
    pub fn take(&mut self, sender: Sender, bytes: usize) {
        self.change(sender, |share| {
            share.held.stanzas += 1;
            share.held.bytes += bytes;
        });
    }

    /// The way of a stanza by a link has ended.
    pub fn give_back(&mut self, waiting: &Waiting) {
        self.change(waiting.sender, |share| {
            share.held.stanzas = share.held.stanzas.saturating_sub(1);
            share.held.bytes = share.held.bytes.saturating_sub(waiting.bytes);
        });
    }

    fn of(&self, sender: Sender) -> Share {
        self.by_sender.get(&sender).copied().unwrap_or_default()
    }

    /// Whether a sender may have one stanza more on links, if a part of what is free is its own.
    fn has_room(&self, sender: Sender, bytes: usize, part: usize) -> bool {
        let (own, all) = (self.of(sender).held, self.all.held);
        let stanzas_free = PEER_HELD_STANZAS_MAX.saturating_sub(all.stanzas);
        let bytes_free = PEER_HELD_BYTES_MAX.saturating_sub(all.bytes.saturating_add(bytes));
        own.stanzas < stanzas_free / part && own.bytes.saturating_add(bytes) <= bytes_free / part
    }

    fn may_wait(&self, sender: Sender, bytes: usize) -> Result<(), TooMuch> {
        if self.has_room(sender, bytes, PEER_SHARE_WAITING) {
            return Ok(());
        }
        // Who has nothing there is not to blame.
        Err(match self.of(sender).held.stanzas {
            0 => TooMuch::Everywhere,
            _ => TooMuch::OfSender,
        })
    }

    /// Whether one more stanza may be sent where it will be acknowledged.
    pub fn may_send(&self, sender: Sender, bytes: usize) -> bool {
        self.has_room(sender, bytes, PEER_SHARE_SENT)
    }

    fn linked(&mut self, sender: Sender) {
        self.change(sender, |share| share.links += 1);
    }

    fn unlinked(&mut self, sender: Sender) {
        self.change(sender, |share| share.links = share.links.saturating_sub(1));
    }

    /// Whether one more link may be needed for a sender.
    fn may_link(&self, sender: Sender) -> Result<(), TooMuch> {
        let (own, free) = (
            self.of(sender).links,
            PEER_LINKS_MAX.saturating_sub(self.all.links),
        );
        match own < free / PEER_SHARE_WAITING {
            true => Ok(()),
            false if own == 0 => Err(TooMuch::Links),
            false => Err(TooMuch::LinksOfSender),
        }
    }
}

impl Router {
    /// Whose share a stanza counts to.
    pub(super) fn sender_of(&self, stanza: &Stanza) -> Sender {
        let name = stanza.from.as_ref().map_or("", |from| {
            match self.settings.components.contains_key(from.domain()) {
                true => from.domain(),
                false => from.bare_str(),
            }
        });
        let number = self.placement.number_of(name);
        Sender(match is_drawn_out(stanza) {
            true => self.placement.chance(number),
            false => number,
        })
    }

    /// Whose share counts what is done because other servers want to prove themselves.
    pub fn strangers(&self) -> Sender {
        Sender(self.placement.number_of(""))
    }
}

/// Whether strangers may have drawn a stanza out of its sender: it is what is answered to requests, to
/// what cannot be delivered, to probes and to subscriptions (RFC 6121 §4.3.2, §3.1.3).
fn is_drawn_out(stanza: &Stanza) -> bool {
    match stanza.type_ {
        Type::Error | Type::Result => true,
        Type::Unavailable | Type::Unsubscribed => stanza.kind == Kind::Presence,
        _ => false,
    }
}

impl Peers {
    /// Whether what all senders have is what all links have.
    pub(super) fn is_counted(&self) -> bool {
        self.shares.all.held == self.held
            && self.shares.all.links == self.links.len() - self.spares.len()
    }

    /// Whether a stanza may wait in the queue of a link, or in that of one that is still to be made.
    pub(super) fn may_wait(
        &self,
        key: Option<Key>,
        sender: Sender,
        bytes: usize,
    ) -> Result<(), TooMuch> {
        self.shares.may_wait(sender, bytes)?;
        if let Some(link) = key.and_then(|key| self.links.get(key)) {
            link.queue.may_wait(sender, bytes)?;
        }
        self.may_need(key, sender)
    }

    /// Whether a link may be made, or needed again, for a sender.
    pub(super) fn may_need(&self, key: Option<Key>, sender: Sender) -> Result<(), TooMuch> {
        let link = key.and_then(|key| self.links.get(key));
        match link {
            Some(link) if link.spare.is_none() => Ok(()),
            _ => self.shares.may_link(sender),
        }
    }

    /// The sender to whom a link counts.
    pub fn sender(&self, key: Key) -> Option<Sender> {
        Some(self.links.get(key)?.sender)
    }

    /// A sender uses a link too. It counts to that of its senders who has the fewest, so that a link that
    /// many need is not held against the one who needed it first. True if that is another one now.
    pub(super) fn used_by(&mut self, key: Key, sender: Sender) -> bool {
        let Some(link) = self.links.get_mut(key) else {
            return false;
        };
        let before = link.sender;
        if before == sender {
            return false;
        }
        if link.spare.is_none() {
            // One that has just this one is spared the second look, which is what most have.
            let has = self.shares.of(before).links;
            if has < 2 || has < self.shares.of(sender).links + 2 {
                return false;
            }
            self.shares.unlinked(before);
            self.shares.linked(sender);
        }
        link.sender = sender;
        true
    }

    /// Takes note of whether a link is needed, after it has changed: it has something to send, or a
    /// stream, or is getting one.
    pub(super) fn note(&mut self, key: Key) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        let is_spare = link.queue.is_empty()
            && link.sent.is_empty()
            && matches!(link.way, Way::Idle | Way::Resting(..));
        match (link.spare, is_spare) {
            (None, true) => {
                self.spares_noted += 1;
                link.spare = Some(self.spares_noted);
                self.spares.insert(self.spares_noted, key);
                self.shares.unlinked(link.sender);
            }
            (Some(noted), false) => {
                link.spare = None;
                self.spares.remove(&noted);
                self.shares.linked(link.sender);
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// A link was made, and is needed until something else is noted.
    pub(super) fn note_new(&mut self, key: Key) {
        if let Some(link) = self.links.get(key) {
            self.shares.linked(link.sender);
            self.note(key);
        }
    }

    /// A link was forgotten.
    pub(super) fn note_end(&mut self, link: &Link) {
        match link.spare {
            Some(noted) => {
                self.spares.remove(&noted);
            }
            None => self.shares.unlinked(link.sender),
        }
    }

    /// The link that has not been needed for longest.
    pub(super) fn first_spare(&self) -> Option<Key> {
        self.spares.first_key_value().map(|(_, key)| *key)
    }
}

#[cfg(test)]
mod tests;
