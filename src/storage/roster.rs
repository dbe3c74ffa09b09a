//! Rosters: contacts with subscription states, names, groups and versions (RFC 6121 §2, §3).

use rusqlite::params;

use super::accounts::malformed;
use super::{Db, StoreError};
use crate::jid::BareJid;

/// The subscription between an account and a contact, seen from the account, and what waits for an
/// answer (RFC 6121 §A.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State(u8);

impl State {
    /// No relation at all: neither in the roster nor waiting for an answer.
    pub const NONE: State = State(0);
    /// The account gets the contact's presence (`to`).
    pub const TO: State = State(1);
    /// The contact gets the account's presence (`from`).
    pub const FROM: State = State(2);
    /// The account has asked for the contact's presence (`ask='subscribe'`).
    pub const PENDING_OUT: State = State(4);
    /// The contact has asked for the account's presence and waits for an answer.
    pub const PENDING_IN: State = State(8);
    /// The contact's request is approved before it comes (RFC 6121 §3.4).
    pub const APPROVED: State = State(16);
    /// It is an item of the roster that clients see. An entity that only waits for an answer is none
    /// (RFC 6121 §3.1.3).
    pub const LISTED: State = State(32);

    const ALL: u8 = 63;

    /// The state of a column; unknown bits are dropped.
    pub const fn from_bits(bits: u8) -> State {
        State(bits & State::ALL)
    }

    /// For the column.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all bits of `other` are set.
    pub const fn has(self, other: State) -> bool {
        self.0 & other.0 == other.0
    }

    /// With the bits of `other` set too.
    #[must_use]
    pub const fn with(self, other: State) -> State {
        State(self.0 | other.0)
    }

    /// With the bits of `other` cleared.
    #[must_use]
    pub const fn without(self, other: State) -> State {
        State(self.0 & !other.0)
    }

    /// Whether clients see it as a roster item.
    pub const fn is_listed(self) -> bool {
        self.has(State::LISTED)
    }

    /// The `subscription` attribute of its roster item (RFC 6121 §2.1.2.5).
    pub const fn subscription(self) -> &'static str {
        match (self.has(State::TO), self.has(State::FROM)) {
            (true, true) => "both",
            (true, false) => "to",
            (false, true) => "from",
            (false, false) => "none",
        }
    }
}

/// The contacts of an account with their states; none of an account that does not exist.
///
/// # Errors
/// Only those of the database.
pub fn states(db: &Db, account: &BareJid) -> Result<Vec<(BareJid, State)>, StoreError> {
    let mut statement = db.connection().prepare_cached(
        "SELECT contact, state FROM roster_item
         WHERE account = (SELECT id FROM account WHERE jid = ?1) ORDER BY contact",
    )?;
    let mut rows = statement.query(params![account.as_str()])?;
    let mut contacts = Vec::new();
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        let contact = BareJid::parse(&text).map_err(|_| malformed("roster_item.contact", &text))?;
        contacts.push((contact, State::from_bits(row.get(1)?)));
    }
    Ok(contacts)
}
