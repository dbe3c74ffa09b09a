//! What is stored of rosters, against what clients were told.

use std::collections::BTreeMap;

use stanzad::jid::BareJid;
use stanzad::storage::Db;
use stanzad::storage::roster::{Item, State, changes, item, listed};

use crate::rosters::{Items, Shown};
use crate::servers::stored_id;
use crate::world::World;

impl World {
    /// After a crash: what anybody was told is stored.
    pub fn check_rosters_stored(&mut self) {
        let mut wrong = Vec::new();
        for account in &self.accounts.all {
            let Some(life) = account.id else {
                continue;
            };
            let db = self.store(&account.jid).db();
            let stored = listed(db, stored_id(life)).unwrap().version;
            if let Some(height) = self.rosters.heights.get(&life)
                && stored < *height
            {
                wrong.push(format!(
                    "the roster of {} is of version {stored}, though {height} was told",
                    account.jid
                ));
            }
            let told = self.rosters.told.range((life, 0)..=(life, u64::MAX));
            let last: BTreeMap<&str, (u64, &Option<Shown>)> = told
                .map(|((_, version), (contact, shown))| (contact.as_str(), (*version, shown)))
                .collect();
            for (contact, (version, shown)) in last {
                if !is_stored(db, stored_id(life), contact, version, shown.as_ref()) {
                    wrong.push(format!(
                        "{} was told of {contact} in version {version}, which is not stored",
                        account.jid
                    ));
                }
            }
        }
        wrong.into_iter().for_each(|what| self.violated(what));
    }

    /// At rest: who gets pushes knows its roster, and every request was answered.
    pub fn check_rosters_at_rest(&mut self) {
        let mut wrong = Vec::new();
        for index in self.live.clone() {
            let client = &self.clients[index];
            let (Some(known), Some(life)) = (client.roster.version, client.life) else {
                continue;
            };
            if !client.is_online() {
                continue;
            }
            let own = &self.accounts.all[client.account].jid;
            let stored = listed(self.store(own).db(), stored_id(life)).unwrap();
            let items: Items = stored
                .items
                .iter()
                .map(|item| (item.contact.to_string(), shown(item)))
                .collect();
            if (known, &client.roster.items) != (stored.version, &items) {
                wrong.push(format!(
                    "client {index} knows the roster {known} {:?}, stored is {} {items:?}",
                    client.roster.items, stored.version
                ));
            }
            self.count("rosters known at rest");
        }
        for (number, request) in &self.rosters.requests {
            let (asker, id) = (self.own_jid(request.asker), format!("r{number}"));
            let may_be_lost = self.is_request_lost_between(&id, &asker, &request.to);
            let is_here = self.clients[request.asker].is_online();
            if is_here && request.answers == 0 && !may_be_lost {
                wrong.push(format!("r{number} was answered {} times", request.answers));
            }
        }
        wrong.into_iter().for_each(|what| self.violated(what));
    }
}

/// Whether the store knows of a change that was told, or of a later one.
fn is_stored(db: &Db, life: i64, contact: &str, version: u64, told: Option<&Shown>) -> bool {
    let jid = BareJid::parse(contact).unwrap();
    let stored = item(db, life, &jid).unwrap();
    match stored.filter(|item| item.state.is_listed()) {
        Some(item) => item.version > version || Some(&shown(&item)) == told,
        None if told.is_none() => true,
        // It must have been removed since.
        None => changes(db, life, version)
            .unwrap()
            .is_none_or(|changes| changes.items.iter().any(|item| item.contact == jid)),
    }
}

/// A stored item as clients are to see it.
fn shown(item: &Item) -> Shown {
    Shown {
        subscription: item.state.subscription().to_owned(),
        is_asked: item.state.has(State::PENDING_OUT),
        is_approved: item.state.has(State::APPROVED),
        name: item.name.clone(),
        groups: item.groups.clone(),
    }
}
