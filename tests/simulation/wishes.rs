//! Roster sets and what the store makes of them: what was acknowledged is stored, also after a crash,
//! unless something later has changed it.

use std::collections::BTreeMap;

use stanzad::jid::BareJid;
use stanzad::storage::roster::item;

use crate::servers::stored_id;
use crate::world::World;

/// Name and groups; none for a removal.
type What = Option<(Option<String>, Vec<String>)>;

/// What a client wanted of one item.
pub struct Wish {
    /// The id of its account.
    life: Option<i64>,
    pub contact: String,
    pub what: What,
    sent: u64,
    /// When the client had its result.
    done: Option<u64>,
    is_refused: bool,
}

/// All roster sets, by their numbers.
#[derive(Default)]
pub struct Wishes(BTreeMap<u64, Wish>);

impl Wish {
    pub fn new(life: Option<i64>, contact: String, what: What, sent: u64) -> Wish {
        Wish {
            life,
            contact,
            what,
            sent,
            done: None,
            is_refused: false,
        }
    }
}

impl Wishes {
    pub fn insert(&mut self, number: u64, wish: Wish) {
        self.0.insert(number, wish);
    }

    pub fn get(&self, number: u64) -> Option<&Wish> {
        self.0.get(&number)
    }

    /// The result of a wish has come.
    pub fn done(&mut self, number: u64, now: u64) {
        if let Some(wish) = self.0.get_mut(&number) {
            wish.done = Some(now);
        }
    }

    pub fn refused(&mut self, number: u64) {
        if let Some(wish) = self.0.get_mut(&number) {
            wish.is_refused = true;
        }
    }

    /// Those wishes for one item of an account that may be what is stored: whatever was sent after
    /// the result of another one and has its own result has come after that.
    fn candidates(&self, life: i64, contact: &str) -> Vec<&Wish> {
        let of_item = self
            .0
            .values()
            .filter(|wish| wish.life == Some(life) && wish.contact == contact && !wish.is_refused);
        let all: Vec<&Wish> = of_item.collect();
        let last_sent = all
            .iter()
            .filter(|wish| wish.done.is_some())
            .map(|wish| wish.sent)
            .max();
        let is_open = |wish: &&Wish| wish.done.is_none_or(|done| Some(done) > last_sent);
        all.iter().copied().filter(is_open).collect()
    }
}

impl World {
    /// What clients were told to be done is stored.
    pub fn check_wishes(&mut self) {
        let mut wrong = Vec::new();
        for account in &self.accounts.all {
            let Some(life) = account.id else {
                continue;
            };
            let mut contacts: Vec<&str> = self
                .wishes
                .0
                .values()
                .filter(|wish| wish.life == Some(life) && wish.done.is_some())
                .map(|wish| wish.contact.as_str())
                .collect();
            contacts.sort_unstable();
            contacts.dedup();
            for contact in contacts {
                let jid = BareJid::parse(contact).unwrap();
                let db = self.store(&account.jid).db();
                let stored = item(db, stored_id(life), &jid).unwrap();
                let stored = stored.filter(|item| item.state.is_listed());
                let found = stored.map(|item| (item.name, item.groups));
                let candidates = self.wishes.candidates(life, contact);
                let is_wished = |wish: &&Wish| match &wish.what {
                    Some(_) => wish.what == found,
                    // A subscription may have made a new item.
                    None => found
                        .as_ref()
                        .is_none_or(|(name, groups)| name.is_none() && groups.is_empty()),
                };
                if !candidates.iter().any(is_wished) {
                    let wished: Vec<&What> = candidates.iter().map(|wish| &wish.what).collect();
                    wrong.push(format!(
                        "{} has {contact} as {found:?}, wished were {wished:?}",
                        account.jid
                    ));
                }
            }
        }
        wrong.into_iter().for_each(|what| self.violated(what));
    }
}
