//! Whether so much was said that a stanza may come back as `resource-constraint`: the error tells which bound
//! it has met, and what was said by clients alone must come near to that.

use stanzad::limits::{INBOX_STANZAS_MAX, PEER_QUEUE_STANZAS_MAX};
use stanzad::ns;
use stanzad::xml::Element;

use crate::ledger::{Message, Request};
use crate::world::World;

/// How long stanzas may wait for an account, in milliseconds: behind reads that fail, each tried again.
const WAITING_MILLIS: u64 = 30_000;

impl World {
    /// Whether a client may be told that its stanza comes back for want of room.
    pub fn may_be_too_much(&self, error: &Element) -> bool {
        let from = error.attribute("from").unwrap_or_default();
        let text = text(error);
        if text.contains("stored or looked up") {
            self.trouble_at.is_some()
        } else if text.contains("wait for this account") {
            self.is_crowded(from.split('/').next().unwrap_or_default())
        } else if text.contains("server") {
            self.are_links_crowded()
        } else {
            false
        }
    }

    /// Whether more may have waited for an account than has place in its inbox, or behind its stored
    /// messages. The other half may be what servers say, and presence.
    fn is_crowded(&self, account: &str) -> bool {
        let is_its = |to: &str| to.split('/').next() == Some(account);
        let since = self.now.saturating_sub(WAITING_MILLIS);
        let messages = self.ledger.messages.values();
        let messages = messages.filter(|it: &&Message| it.sent_at >= since && is_its(&it.to));
        let requests = self.ledger.requests.values();
        let requests = requests.filter(|it: &&Request| it.sent_at >= since && is_its(&it.to));
        self.ledger.flooded.iter().any(|jid| is_its(jid))
            || messages.count() + requests.count() >= INBOX_STANZAS_MAX / 2
    }

    /// Whether so much was said between the servers that a sender may have had as much waiting as was left
    /// to others.
    fn are_links_crowded(&self) -> bool {
        let messages = self.ledger.messages.values();
        let between = messages.filter(|it| self.is_between(&it.from, &it.to));
        self.is_federated()
            && (!self.ledger.flooded.is_empty() || between.count() >= PEER_QUEUE_STANZAS_MAX / 4)
    }
}

/// The text of a stanza error (RFC 6120 §8.3.2).
fn text(stanza: &Element) -> String {
    let error = stanza.find(ns::CLIENT, "error");
    let text = error.and_then(|error| error.find(ns::STANZA_ERROR, "text"));
    text.map_or(String::new(), Element::text)
}
