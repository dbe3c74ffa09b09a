//! The roster of an account as its shard keeps it: contacts and their subscription states, packed.
//! Names and groups are read from the store for a roster get (`Features` in lib.rs). And roster
//! items on the wire, and the pushes that tell clients of them.

use crate::jid::{BareJid, FullJid};
use crate::limits::ROSTER_JID_BYTES_MAX;
use crate::ns;
use crate::router::Router;
use crate::slots::Key;
use crate::stanza::{Condition, ErrorType, StanzaError};
use crate::stanza::{Kind, Stanza, Type};
use crate::storage::roster::{Item, State};
use crate::xml::{Element, Payload};

/// Contacts in the order of their JIDs. Pending requests of entities that are not in the roster are
/// kept too: their [`State::is_listed`] is false.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// All JIDs, one after another: 50 contacts cost one allocation, not 50.
    names: String,
    contacts: Vec<Contact>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Contact {
    start: u32,
    len: u16,
    state: State,
}

impl Roster {
    /// A roster of these contacts, in any order.
    pub fn new(contacts: &[(BareJid, State)]) -> Roster {
        let mut sorted: Vec<_> = contacts.iter().collect();
        sorted.sort_unstable_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        let mut roster = Roster {
            names: String::with_capacity(sorted.iter().map(|(jid, _)| jid.as_str().len()).sum()),
            contacts: Vec::with_capacity(sorted.len()),
        };
        for (jid, state) in sorted {
            roster.insert(roster.contacts.len(), jid.as_str(), *state);
        }
        roster
    }

    /// How many contacts it has, pending requests included.
    pub fn len(&self) -> usize {
        self.contacts.len()
    }

    /// How many of them clients see, and the bytes of their JIDs.
    pub fn listed(&self) -> (usize, usize) {
        let listed = self.contacts.iter().filter(|c| c.state.is_listed());
        listed.fold((0, 0), |(count, bytes), contact| {
            (count + 1, bytes + usize::from(contact.len))
        })
    }

    /// Whether no item may be added any more (`limits.roster_items_max`).
    pub fn is_full(&self, items_max: usize) -> bool {
        let (items, bytes) = self.listed();
        items >= items_max || bytes >= ROSTER_JID_BYTES_MAX
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.contacts.is_empty()
    }

    /// The state of a contact, by its bare JID; [`State::NONE`] if it is not there.
    pub fn state(&self, jid: &str) -> State {
        match self.find(jid) {
            Ok(index) => self.contacts[index].state,
            Err(_) => State::NONE,
        }
    }

    /// Sets a contact's state; [`State::NONE`] removes it.
    pub fn set(&mut self, jid: &BareJid, state: State) {
        match self.find(jid.as_str()) {
            Ok(index) if state == State::NONE => {
                self.contacts.remove(index);
                // The name stays behind until names of the dead outweigh the others.
                let used: usize = self.contacts.iter().map(|c| usize::from(c.len)).sum();
                if self.names.len() > 2 * used + 256 {
                    self.repack();
                }
            }
            Ok(index) => self.contacts[index].state = state,
            Err(_) if state == State::NONE => {}
            Err(index) => self.insert(index, jid.as_str(), state),
        }
    }

    /// At most `max` contacts after a JID (all of them after ""), in order.
    pub fn after<'a>(
        &'a self,
        jid: &str,
        max: usize,
    ) -> impl Iterator<Item = (&'a str, State)> + use<'a> {
        let start = match self.find(jid) {
            Ok(index) => index + 1,
            Err(index) => index,
        };
        self.contacts[start..]
            .iter()
            .take(max)
            .map(|contact| (self.name(contact), contact.state))
    }

    /// All contacts, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, State)> {
        self.after("", usize::MAX)
    }

    fn name(&self, contact: &Contact) -> &str {
        let start = contact.start as usize;
        &self.names[start..start + usize::from(contact.len)]
    }

    fn find(&self, jid: &str) -> Result<usize, usize> {
        self.contacts
            .binary_search_by(|contact| self.name(contact).cmp(jid))
    }

    fn insert(&mut self, index: usize, jid: &str, state: State) {
        // A bare JID has at most 2,047 bytes, and a roster is bounded far below 4 GiB of them.
        let (Ok(start), Ok(len)) = (u32::try_from(self.names.len()), u16::try_from(jid.len()))
        else {
            debug_assert!(false, "a roster of 4 GiB");
            return;
        };
        self.names.push_str(jid);
        self.contacts.insert(index, Contact { start, len, state });
    }

    fn repack(&mut self) {
        let mut names = String::new();
        for index in 0..self.contacts.len() {
            let contact = self.contacts[index];
            let start = names.len();
            names.push_str(self.name(&contact));
            // The new names are no longer than the old ones, which fit.
            self.contacts[index].start = start as u32;
            debug_assert!(u32::try_from(start).is_ok());
            // The old names are still read for the contacts that follow.
        }
        self.names = names;
    }
}

impl Router {
    /// Tells the account's interested resources of an item that was changed or removed
    /// (RFC 6121 §2.1.6). To be called in the continuation of the change, so that pushes come in the
    /// order of commits (§2.6.3).
    pub fn push_roster(&mut self, account: Key, item: &Item) {
        let sessions = self.sessions_where(account, |session| session.is_interested);
        if sessions.is_empty() {
            return;
        }
        let payload = push_payload(item);
        for key in sessions {
            let to = self.sessions.get(key).map(|session| session.jid.clone());
            if let Some(to) = to {
                self.write(key, &push(&to, item.version, payload.clone()));
            }
        }
    }
}

/// What a user gets who wants more contacts than `limits.roster_items_max` allows. RFC 6121 §2.3.3 names
/// no condition for it; the operator's limit is a policy (RFC 6120 §8.3.3.12), and XEP-0060 §6.1.3.9
/// has the like.
pub fn full() -> StanzaError {
    StanzaError::new(Condition::PolicyViolation)
        .with_type(ErrorType::Wait)
        .text("Your roster is full; remove a contact first")
}

/// `<query/>` of a roster result or push, without items yet (RFC 6121 §2.1.1).
pub fn query(version: u64) -> Element {
    Element::new(ns::ROSTER, "query").attr("ver", version.to_string())
}

/// The children of a roster push.
pub fn push_payload(item: &Item) -> Payload {
    Payload::from_elements(&[query(item.version).child(item_element(item))])
}

/// A roster push. It has no `from`, as in the RFC's examples: it comes from the account itself. The
/// result or error that a client may answer it with tells nothing (RFC 6121 §2.1.6).
pub fn push(to: &FullJid, version: u64, payload: Payload) -> Stanza {
    let mut push = Stanza::new(Kind::Iq, Type::Set, payload);
    push.to = Some(to.to_jid());
    push.id = Some(format!("roster-{version}").into());
    push
}

/// `<item/>` as clients see it (RFC 6121 §2.1.2).
pub fn item_element(item: &Item) -> Element {
    let element = Element::new(ns::ROSTER, "item").attr("jid", item.contact.as_str());
    if !item.state.is_listed() {
        return element.attr("subscription", "remove");
    }
    let mut element = element.attr("subscription", item.state.subscription());
    if item.state.has(State::PENDING_OUT) {
        element = element.attr("ask", "subscribe");
    }
    if item.state.has(State::APPROVED) {
        element = element.attr("approved", "true");
    }
    if let Some(name) = &item.name {
        element = element.attr("name", name);
    }
    for group in &item.groups {
        element = element.child(Element::new(ns::ROSTER, "group").with_text(group));
    }
    element
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::router::testing::Site;

    /// RFC 6121 §2.1.6, §2.2: to interested resources, from the account itself, with the version.
    #[test]
    fn a_push_goes_to_interested_resources_alone() {
        let mut site = Site::new(&[]);
        let balcony = site.bind("juliet@example.org", "balcony", Some(0));
        let phone = site.bind("juliet@example.org", "phone", None);
        let nurse = site.bind("nurse@example.org", "kitchen", Some(0));
        for seat in [phone, nurse] {
            let session = site.router.sessions.get_mut(seat.session);
            session.unwrap().is_interested = true;
        }
        let item = Item {
            contact: BareJid::parse("romeo@example.net").unwrap(),
            state: State::LISTED.with(State::FROM).with(State::PENDING_OUT),
            name: Some("Romeo & co".to_owned()),
            groups: vec!["Lovers".to_owned(), "<3".to_owned()],
            version: 7,
        };
        let account = site.router.accounts.find("juliet@example.org").unwrap();
        site.router.push_roster(account, &item);
        assert_eq!(
            site.take(phone),
            "<iq to='juliet@example.org/phone' id='roster-7' type='set'>\
             <query xmlns='jabber:iq:roster' ver='7'>\
             <item jid='romeo@example.net' subscription='from' ask='subscribe' \
             name='Romeo &amp; co'><group>Lovers</group><group>&lt;3</group></item></query></iq>"
        );
        assert_eq!((site.take(balcony), site.take(nurse)), Default::default());
        let gone = Item {
            state: State::NONE,
            version: 8,
            ..item
        };
        site.router.push_roster(account, &gone);
        let push = site.take(phone);
        assert!(
            push.contains("<item jid='romeo@example.net' subscription='remove'/>"),
            "{push}"
        );
    }

    fn jid(n: u8) -> BareJid {
        BareJid::parse(&format!(
            "user{n}@{}.example",
            "x".repeat(usize::from(n % 7) * 9 + 1)
        ))
        .unwrap()
    }

    proptest! {
        /// It is a sorted map, whatever is set and removed.
        #[test]
        fn a_packed_roster_is_a_map(steps in prop::collection::vec((1..40u8, 0..32u8), 0..400)) {
            let mut roster = Roster::default();
            let mut model = BTreeMap::new();
            for (n, bits) in steps {
                let state = State::from_bits(bits);
                roster.set(&jid(n), state);
                if state == State::NONE {
                    model.remove(jid(n).as_str());
                } else {
                    model.insert(jid(n).as_str().to_owned(), state);
                }
            }
            let all: Vec<_> = roster.iter().map(|(jid, state)| (jid.to_owned(), state)).collect();
            let expected: Vec<_> = model.clone().into_iter().collect();
            prop_assert_eq!(&all, &expected);
            for n in 0..40 {
                let state = model.get(jid(n).as_str()).copied().unwrap_or(State::NONE);
                prop_assert_eq!(roster.state(jid(n).as_str()), state);
            }
            let contacts: Vec<_> = all
                .iter()
                .map(|(jid, state)| (BareJid::parse(jid).unwrap(), *state))
                .collect();
            let fresh = Roster::new(&contacts);
            prop_assert_eq!(fresh.iter().collect::<Vec<_>>(), roster.iter().collect::<Vec<_>>());
            let mut paged: Vec<(String, State)> = Vec::new();
            loop {
                let last = paged.last().map_or(String::new(), |(jid, _)| jid.clone());
                let page: Vec<_> = roster.after(&last, 3).map(|(j, s)| (j.to_owned(), s)).collect();
                if page.is_empty() {
                    break;
                }
                paged.extend(page);
            }
            prop_assert_eq!(paged, all);
        }
    }
}
