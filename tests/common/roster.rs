//! Rosters as a test wants them, written into the store before the server starts.

use rusqlite::{Connection, params};
use stanzad::ns;
use stanzad::storage::roster::State;
use stanzad::xml::Element;

use super::site::Site;

/// The file of the store in the data directory.
pub const DATABASE: &str = "stanzad.sqlite";

const NEXT_VERSION: &str = "
    INSERT INTO roster (account, version, forgotten)
    SELECT id, 1, 0 FROM account WHERE jid = ?1
    ON CONFLICT (account) DO UPDATE SET version = version + 1
    RETURNING version";

const ITEM: &str = "
    INSERT INTO roster_item (account, contact, state, version, name, groups, request)
    SELECT id, ?2, ?3, ?4, ?5, ?6, ?7 FROM account WHERE jid = ?1";

/// One contact in one account's roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Whose roster it is in.
    pub account: String,
    pub contact: String,
    pub name: String,
    pub groups: Vec<String>,
    /// The contact sees the account's presence: `from` or `both`.
    pub from: bool,
    /// The account sees the contact's presence: `to` or `both`.
    pub to: bool,
    /// The account has asked for the contact's presence ("Pending Out").
    pub ask: bool,
    /// The contact has asked for the account's presence ("Pending In").
    pub pending: bool,
    pub approved: bool,
    /// Whether there is an item at all: a request alone makes none (RFC 6121 §3.1.3).
    pub listed: bool,
}

impl Seed {
    /// A contact without subscriptions, groups or a name.
    pub fn new(account: &str, contact: &str) -> Seed {
        Seed {
            account: account.to_owned(),
            contact: contact.to_owned(),
            name: String::new(),
            groups: Vec::new(),
            from: false,
            to: false,
            ask: false,
            pending: false,
            approved: false,
            listed: true,
        }
    }

    fn state(&self) -> State {
        [
            (self.from, State::FROM),
            (self.to, State::TO),
            (self.ask, State::PENDING_OUT),
            (self.pending, State::PENDING_IN),
            (self.approved, State::APPROVED),
            (self.listed, State::LISTED),
        ]
        .into_iter()
        .filter(|(is_set, _)| *is_set)
        .fold(State::NONE, |state, (_, bit)| state.with(bit))
    }

    /// What a roster item says (RFC 6121 §2.1.2).
    ///
    /// # Errors
    /// It is no item that a roster can have.
    pub fn of_item(account: &str, item: &Element) -> Result<Seed, String> {
        let contact = item.attribute("jid").ok_or("an item has a jid")?;
        let mut seed = Seed::new(account, contact);
        seed.name = item.attribute("name").unwrap_or_default().to_owned();
        (seed.from, seed.to) = match item.attribute("subscription").unwrap_or("none") {
            "none" => (false, false),
            "to" => (false, true),
            "from" => (true, false),
            "both" => (true, true),
            other => return Err(format!("{other} is no subscription")),
        };
        seed.ask = item.attribute("ask") == Some("subscribe");
        seed.approved = item.attribute("approved") == Some("true");
        let groups = item
            .elements()
            .filter(|child| child.is(ns::CLIENT, "group"));
        seed.groups = groups.map(Element::text).collect();
        Ok(seed)
    }
}

/// Writes contacts into the store of a site while no server runs; the accounts exist.
pub fn sow<'a>(site: &Site, seeds: impl Iterator<Item = &'a Seed>) {
    let path = site.path("data").join(DATABASE);
    let mut connection = Connection::open(path).unwrap();
    let transaction = connection.transaction().unwrap();
    for seed in seeds {
        let groups = serde_json::to_string(&seed.groups).unwrap();
        let name = Some(&seed.name).filter(|name| !name.is_empty());
        let request = seed.pending.then(|| {
            let (from, to) = (&seed.contact, &seed.account);
            format!("<presence from='{from}' to='{to}' type='subscribe'/>").into_bytes()
        });
        let version = transaction
            .query_row(NEXT_VERSION, [&seed.account], |row| row.get::<_, i64>(0))
            .unwrap_or_else(|error| panic!("{}: {error}", seed.account));
        transaction
            .execute(
                ITEM,
                params![
                    seed.account,
                    seed.contact,
                    seed.state().bits(),
                    version,
                    name,
                    groups,
                    request
                ],
            )
            .unwrap();
    }
    transaction.commit().unwrap();
}
