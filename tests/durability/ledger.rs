//! What clients were told, and the comparison with what is there after a crash.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stanzad::ns;
use stanzad::xml::Element;

use crate::common::client::text;

/// Something that an account keeps, and that one client alone changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The name of a contact.
    Contact(String),
    /// An element of private XML, by its name.
    Private(String),
    Card,
}

/// What a thing may be after a crash. None is its absence.
#[derive(Clone, Debug, Default)]
pub struct Thing {
    told: Option<String>,
    /// Values asked for later that no answer came for, in order.
    open: VecDeque<Option<String>>,
}

impl Thing {
    pub fn ask(&mut self, value: Option<String>) {
        self.open.push_back(value);
    }

    /// The oldest change that is open was acknowledged.
    pub fn acknowledge(&mut self) {
        self.told = self.open.pop_front().expect("an answer to a request");
    }

    /// What it is once all that was asked for is done.
    pub fn latest(&self) -> Option<&str> {
        self.open.back().unwrap_or(&self.told).as_deref()
    }

    /// Whether a change is open, of which nobody can say if it was made.
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// The values that it may have, the one that was told first.
    pub fn candidates(&self) -> Vec<Option<String>> {
        let open = self.open.iter().cloned();
        [self.told.clone()].into_iter().chain(open).collect()
    }

    /// Compares it with what is there, which is the truth from now on.
    pub fn compare(&mut self, found: Option<String>) -> Result<(), String> {
        let result = match self.candidates().contains(&found) {
            true => Ok(()),
            false => Err(format!(
                "{:?} was told and is now {found:?}; asked for since: {:?}",
                self.told, self.open
            )),
        };
        self.told = found;
        self.open.clear();
        result
    }
}

/// The roster as a client knows it from a result and the pushes since.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    pub version: u64,
    /// Each item as it was written, by its JID.
    pub items: BTreeMap<String, String>,
    /// Contacts that have granted or ended a subscription: a push has to follow.
    pub owed: BTreeSet<String>,
}

impl Mirror {
    /// Takes up a whole roster.
    pub fn of(query: &Element) -> Mirror {
        let items = query.elements().map(|item| (jid(item), text(item)));
        Mirror {
            version: version(query),
            items: items.collect(),
            owed: BTreeSet::new(),
        }
    }

    /// Takes up a roster push, which has one item (RFC 6121 §2.1.6), and gives the contact.
    pub fn push(&mut self, query: &Element) -> Result<String, String> {
        let version = version(query);
        if version <= self.version {
            let before = self.version;
            return Err(format!("a push of version {version} after {before}"));
        }
        self.version = version;
        let item = query.elements().next().expect("a push has an item");
        let contact = jid(item);
        match item.attribute("subscription") {
            Some("remove") => self.items.remove(&contact),
            _ => self.items.insert(contact.clone(), text(item)),
        };
        self.owed.remove(&contact);
        Ok(contact)
    }

    /// Compares it with the roster after a crash: what has changed since this version, as the
    /// server tells it, must lead from one to the other. Gives the contacts that have changed.
    pub fn compare(
        mut self,
        whole: &Mirror,
        changes: &[Element],
        problems: &mut Vec<String>,
    ) -> BTreeSet<String> {
        let seen = self.version;
        if whole.version < seen {
            let now = whole.version;
            problems.push(format!("version {seen} was told and now it is {now}"));
        }
        let owed = std::mem::take(&mut self.owed);
        let mut changed = BTreeSet::new();
        for query in changes {
            match self.push(query) {
                Ok(contact) => changed.extend([contact]),
                Err(problem) => problems.push(problem),
            }
        }
        let jids: BTreeSet<&String> = self.items.keys().chain(whole.items.keys()).collect();
        for jid in jids {
            let (then, now) = (self.items.get(jid), whole.items.get(jid));
            if then != now {
                problems.push(format!("item {then:?} of version {seen} is now {now:?}"));
            }
        }
        for contact in owed.difference(&changed) {
            let problem = format!("{contact} has changed a subscription after version {seen}");
            problems.push(problem + ", and its item is the same");
        }
        changed
    }
}

/// What one client was told.
#[derive(Debug, Default)]
pub struct Ledger {
    pub things: BTreeMap<Key, Thing>,
    pub mirror: Mirror,
    /// Messages to an account that is offline, in order; each of the first `proven` was followed by
    /// something that its account, or its sender's own, has committed later.
    pub messages: Vec<String>,
    pub proven: usize,
    /// Bare JIDs that have asked for the account's presence.
    pub asked_by: BTreeSet<String>,
    /// To whom it has sent subscription stanzas, and whom it has removed: `remove`.
    pub signalled: BTreeSet<(String, &'static str)>,
    pub problems: Vec<String>,
}

impl Ledger {
    pub fn thing(&mut self, key: &Key) -> &mut Thing {
        self.things.entry(key.clone()).or_default()
    }

    /// Compares a thing with what is there.
    pub fn compare(&mut self, key: &Key, found: Option<String>) {
        if let Err(problem) = self.thing(key).compare(found) {
            self.problems.push(format!("{key:?}: {problem}"));
        }
    }

    /// Compares the roster with what is there. `foreign` tells who has no account here, so that
    /// nobody else can change the item.
    pub fn compare_roster(
        &mut self,
        query: &Element,
        changes: &[Element],
        foreign: impl Fn(&str) -> bool,
    ) {
        let whole = Mirror::of(query);
        let mut mirror = std::mem::take(&mut self.mirror);
        if mirror.version == 0 {
            // Of a roster that has never changed nothing was told, and no version leads on from it.
            let owed = mirror.owed.into_iter();
            let owed = owed.filter(|contact| !whole.items.contains_key(contact));
            mirror = Mirror {
                owed: owed.collect(),
                ..whole.clone()
            };
        }
        let changed = mirror.compare(&whole, changes, &mut self.problems);
        for contact in changed.iter().filter(|contact| foreign(contact)) {
            let key = Key::Contact(contact.clone());
            let is_mine = self.things.contains_key(&key);
            if is_mine && !self.thing(&key).is_open() {
                let problem = format!("{contact} has changed and nobody has asked for it");
                self.problems.push(problem);
            }
        }
        let keys: Vec<Key> = self.things.keys().cloned().collect();
        for key in keys {
            if let Key::Contact(contact) = &key {
                let item = query.elements().find(|item| jid(item) == *contact);
                let name = item.and_then(|item| item.attribute("name"));
                self.compare(&key, name.map(str::to_owned));
            }
        }
        self.mirror = whole;
    }

    /// A cycle begins: what it was told of others' wishes and of messages is settled.
    pub fn begin(&mut self) {
        self.messages.clear();
        self.proven = 0;
        self.asked_by.clear();
        self.signalled.clear();
    }
}

/// The `<query/>` of a roster result or push.
pub fn roster(iq: &Element) -> Option<&Element> {
    iq.find(ns::ROSTER, "query")
}

fn jid(item: &Element) -> String {
    item.attribute("jid").expect("an item has a JID").to_owned()
}

fn version(query: &Element) -> u64 {
    let version = query.attribute("ver").expect("a roster has a version");
    version.parse().expect("ours are numbers")
}
