//! Roster pushes (RFC 6121 §2.1.6, §2.6.3): each version of an account's roster is told to everybody as
//! the same change, and none is left out.

use stanzad::ns;
use stanzad::xml::Element;

use crate::rosters::{Kept, read_item};
use crate::world::World;

impl World {
    /// RFC 6121 §2.6.3: an empty result; what has changed since follows as pushes.
    pub fn got_changes_only(&mut self, index: usize, kept: Option<Kept>) {
        let Some(kept) = kept else {
            return self.violated(format!(
                "client {index} got an empty roster result, though it has no version"
            ));
        };
        // Nobody has ever changed a roster of version 0, which is empty.
        if kept.life != self.clients[index].life && kept.version > 0 {
            return self.violated(format!(
                "client {index} got changes since version {}, which its account never had",
                kept.version
            ));
        }
        self.count("roster results with changes only");
        let view = &mut self.clients[index].roster;
        view.catches_up_to = Some(view.version.unwrap_or(0).max(kept.version));
        view.version = Some(kept.version);
        view.items = kept.items;
    }

    /// Pushes that make up for an old version come right behind the result.
    pub fn check_caught_up(&mut self, index: usize) {
        let view = &mut self.clients[index].roster;
        if let Some(floor) = view.catches_up_to.take()
            && view.version.is_none_or(|version| version < floor)
        {
            let version = view.version;
            self.violated(format!(
                "client {index} was told changes up to version {version:?}, though it knew {floor}"
            ));
        }
    }

    /// A client got a roster push.
    pub fn roster_pushed(&mut self, index: usize, element: &Element) {
        let id = element.attribute("id").unwrap_or_default().to_owned();
        let Some(query) = element.find(ns::ROSTER, "query") else {
            return;
        };
        let mut elements = query.elements();
        let version = query
            .attribute("ver")
            .and_then(|ver| ver.parse::<u64>().ok());
        let (Some(item), None, Some(version)) = (elements.next(), elements.next(), version) else {
            return self.violated(format!("client {index} got a push of no item or version"));
        };
        let (contact, shown) = read_item(item);
        let text = match &shown {
            Some(shown) => format!("{} ask: {}", shown.subscription, shown.is_asked),
            None => "removed".to_owned(),
        };
        self.note(|| format!("client {index} got the push {version}: {contact} {text}"));
        self.count("roster pushes");
        let client = &self.clients[index];
        let (Some(known), Some(life)) = (client.roster.version, client.life) else {
            return self.violated(format!("client {index} got a push, and never asked"));
        };
        let catches_up = client.roster.catches_up_to.is_some();
        if catches_up {
            self.count("interim pushes");
        }
        if version <= known || (!catches_up && known > 0 && version != known + 1) {
            return self.violated(format!("client {index} got push {version} after {known}"));
        }
        let is_known = self.clients[index].roster.items.contains_key(&contact);
        if shown.is_none() && !is_known && !catches_up {
            return self.violated(format!("client {index} lost {contact}, which it never had"));
        }
        if element
            .attribute("from")
            .is_some_and(|from| from != self.own_jid(index))
        {
            return self.violated(format!("client {index} got a push of somebody else"));
        }
        let told = self.rosters.told.entry((life, version));
        let before = told.or_insert_with(|| (contact.clone(), shown.clone()));
        if (&before.0, &before.1) != (&contact, &shown) {
            let what = format!(
                "client {index} got push {version} as {contact} {shown:?}, others as {before:?}"
            );
            return self.violated(what);
        }
        self.heard_of(life, version);
        let view = &mut self.clients[index].roster;
        view.version = Some(version);
        match shown {
            Some(shown) => view.items.insert(contact, shown),
            None => view.items.remove(&contact),
        };
        if self.chance.one_in(2) {
            let answer = format!("<iq type='result' id='{id}'/>");
            self.send(index, answer.as_bytes());
        }
    }

    /// Somebody was told of a version.
    pub fn heard_of(&mut self, life: i64, version: u64) {
        let height = self.rosters.heights.entry(life).or_default();
        *height = version.max(*height);
    }

    /// A client is gone; another one of its account may go on with what it knew.
    pub fn keep_roster(&mut self, index: usize) {
        let client = &self.clients[index];
        if let Some(version) = client.roster.version
            && client.roster.catches_up_to.is_none()
        {
            let kept = Kept {
                life: client.life,
                version,
                items: client.roster.items.clone(),
            };
            self.rosters.kept.insert(client.account, kept);
        }
    }
}
