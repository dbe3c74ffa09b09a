//! When accounts were last here, kept back for a moment. Nobody is promised that it is stored, and a
//! commit for each session that ends would cost more than all else that is read and written for it: it
//! also makes the readers forget what they know of the database.

use std::collections::BTreeMap;

use crate::clock::{Mono, Wall};
use crate::jid::BareJid;
use crate::limits::{LAST_SEEN_DELAY, LAST_SEEN_WAITING_MAX};
use crate::storage::Row;

/// What is to be stored by and by, or with the next rows or changes.
#[derive(Debug, Default)]
pub(crate) struct LastSeen {
    accounts: BTreeMap<BareJid, Wall>,
    /// Since when the first of them waits.
    since: Mono,
}

impl LastSeen {
    /// Remembers that an account's session ended at `at`.
    pub(crate) fn note(&mut self, account: BareJid, at: Wall, now: Mono) {
        if self.accounts.is_empty() {
            self.since = now;
        }
        self.accounts.insert(account, at);
    }

    /// When it is to be stored; none if there is nothing.
    pub(crate) fn due(&self) -> Option<Mono> {
        match self.accounts.len() {
            0 => None,
            LAST_SEEN_WAITING_MAX.. => Some(self.since),
            _ => Some(self.since + LAST_SEEN_DELAY),
        }
    }

    /// The rows, in an order that does not hang on chance.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Row> + use<> {
        let accounts = std::mem::take(&mut self.accounts).into_iter();
        accounts.map(|(account, at)| Row::LastSeen { account, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jid(number: usize) -> BareJid {
        BareJid::parse(&format!("user{number}@example.org")).unwrap()
    }

    #[test]
    fn one_row_an_account_is_stored_after_the_delay_of_the_first() {
        let (first, later) = (Mono::from_millis(500), Mono::from_millis(900));
        let mut seen = LastSeen::default();
        assert_eq!(seen.due(), None);
        seen.note(jid(0), Wall::from_micros(1), first);
        seen.note(jid(1), Wall::from_micros(2), later);
        seen.note(jid(0), Wall::from_micros(3), later);
        assert_eq!(seen.due(), Some(first + LAST_SEEN_DELAY));
        let row = |number, at| Row::LastSeen {
            account: jid(number),
            at: Wall::from_micros(at),
        };
        assert_eq!(seen.take().collect::<Vec<_>>(), [row(0, 3), row(1, 2)]);
        assert_eq!(seen.due(), None);
    }

    #[test]
    fn many_do_not_wait() {
        let now = Mono::from_millis(500);
        let mut seen = LastSeen::default();
        for number in 0..LAST_SEEN_WAITING_MAX {
            seen.note(jid(number), Wall::from_micros(1), now);
        }
        assert_eq!(seen.due(), Some(now));
    }
}
