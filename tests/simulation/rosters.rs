//! Rosters as clients ask for them and change them (RFC 6121 §2), and what they are answered: a result
//! says what the pushes have said.

use std::collections::BTreeMap;

use stanzad::ns;
use stanzad::xml::{Element, escape_attribute};

use crate::client::condition;
use crate::wishes::Wish;
use crate::world::World;

/// What a client sees of a contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub subscription: String,
    pub is_asked: bool,
    pub is_approved: bool,
    pub name: Option<String>,
    pub groups: Vec<String>,
}

/// A roster, by contact.
pub type Items = BTreeMap<String, Shown>;

/// A roster that a client has kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The id of the account that it was of: none for a version that was made up.
    pub life: Option<i64>,
    pub version: u64,
    pub items: Items,
}

/// What a client knows of its roster.
#[derive(Default)]
pub struct View {
    /// None until a roster result has come.
    pub version: Option<u64>,
    pub items: Items,
    /// Pushes that make up for a version that it had kept may follow, up to this version at least.
    pub catches_up_to: Option<u64>,
}

/// What has been asked and told about rosters.
#[derive(Default)]
pub struct Rosters {
    pub requests: BTreeMap<u64, Request>,
    /// What became of a contact in a version, by account id and version: none if it was removed.
    pub told: BTreeMap<(i64, u64), (String, Option<Shown>)>,
    /// Whole rosters, by account id and version.
    wholes: BTreeMap<(i64, u64), Items>,
    /// The newest version that anybody has been told of, by account id.
    pub heights: BTreeMap<i64, u64>,
    /// The roster that the last client of an account has left with.
    pub kept: BTreeMap<usize, Kept>,
}

pub struct Request {
    pub asker: usize,
    pub to: String,
    sent_at: u64,
    kind: Kind,
    pub answers: u32,
}

#[derive(Clone)]
enum Kind {
    Get(Option<Kept>),
    /// A set that is kept among the wishes.
    Set,
    /// What is refused, and how.
    Bad(&'static str),
}

impl World {
    // --- asking

    /// A client asks for its roster, with or without a version that it knows.
    pub fn get_roster(&mut self, index: usize) {
        let client = &self.clients[index];
        let known = match client.roster.version {
            Some(version) => Some(Kept {
                life: client.life,
                version,
                items: client.roster.items.clone(),
            }),
            None => self.rosters.kept.get(&client.account).cloned(),
        };
        let kept = match self.chance.within(0..=9) {
            0..=5 => known,
            6 => Some(Kept {
                life: None,
                version: self.chance.within(0..=1 << 47),
                items: Items::new(),
            }),
            _ => None,
        };
        let ver = match (&kept, self.chance.one_in(2)) {
            (Some(kept), _) => format!(" ver='{}'", kept.version),
            // RFC 6121 §2.6.2: it can keep a roster, and has none.
            (None, true) => " ver=''".to_owned(),
            (None, false) => String::new(),
        };
        self.count(match kept {
            Some(_) => "roster gets with a version",
            None => "roster gets",
        });
        let query = format!("<query xmlns='{}'{ver}/>", ns::ROSTER);
        self.ask_roster(index, "get", "", &query, Kind::Get(kept));
    }

    /// A client puts a contact into its roster, or changes its name and groups.
    pub fn set_item(&mut self, index: usize) {
        let contact = self.contact(index);
        let name = self
            .chance
            .pick(&["", "Juliet", "The <Nurse>", "\u{2603}", "'R' & co"]);
        let name = (!name.is_empty()).then(|| name.to_owned());
        let mut groups = Vec::new();
        for group in ["Friends", "Kin & kith", "<3"] {
            if self.chance.one_in(3) {
                groups.push(group.to_owned());
            }
        }
        let mut item = format!("<item jid='{contact}'");
        if let Some(name) = &name {
            item += &format!(" name='{}'", escaped(name));
        }
        item += ">";
        for group in &groups {
            item += &format!("<group>{}</group>", escaped(group));
        }
        item += "</item>";
        self.count("roster sets");
        self.set_roster(index, contact, Some((name, groups)), &item);
    }

    /// A client removes a contact from its roster (RFC 6121 §2.5).
    pub fn remove_item(&mut self, index: usize) {
        let contact = self.contact(index);
        let item = format!("<item jid='{contact}' subscription='remove'/>");
        self.count("roster removals");
        self.set_roster(index, contact, None, &item);
    }

    fn set_roster(
        &mut self,
        index: usize,
        contact: String,
        what: Option<(Option<String>, Vec<String>)>,
        item: &str,
    ) {
        let query = format!("<query xmlns='{}'>{item}</query>", ns::ROSTER);
        if let Some(number) = self.ask_roster(index, "set", "", &query, Kind::Set) {
            let sent = self.moment();
            let wish = Wish::new(self.clients[index].life, contact, what, sent);
            self.wishes.insert(number, wish);
        }
    }

    /// A client asks for what the RFC has refused (§2.1.3, §2.3.3), or what is nobody's business.
    pub fn ask_what_is_refused(&mut self, index: usize) {
        let other = self.other_account(index);
        let (type_, to, items, condition) = self.chance.pick(&[
            ("get", false, "<item jid='x@example.org'/>", "bad-request"),
            ("set", false, "", "bad-request"),
            (
                "set",
                false,
                "<item jid='x@example.org'/><item jid='y@example.org'/>",
                "bad-request",
            ),
            ("set", false, "<item/>", "bad-request"),
            ("set", false, "<item jid='x@'/>", "jid-malformed"),
            (
                "set",
                false,
                "<item jid='x@example.org'><group>a</group><group>a</group></item>",
                "bad-request",
            ),
            (
                "set",
                false,
                "<item jid='x@example.org'><group/></item>",
                "not-acceptable",
            ),
            ("set", true, "<item jid='x@example.org'/>", "forbidden"),
            ("get", true, "", "service-unavailable"),
        ]);
        let to = match to {
            true => other,
            false => String::new(),
        };
        let query = format!("<query xmlns='{}'>{items}</query>", ns::ROSTER);
        self.ask_roster(index, type_, &to, &query, Kind::Bad(condition));
    }

    fn ask_roster(
        &mut self,
        index: usize,
        type_: &str,
        to: &str,
        query: &str,
        kind: Kind,
    ) -> Option<u64> {
        if !self.clients[index].is_online() {
            return None;
        }
        let number = self.number();
        let address = match to.is_empty() {
            true => String::new(),
            false => format!(" to='{to}'"),
        };
        let stanza = format!("<iq type='{type_}' id='r{number}'{address}>{query}</iq>");
        self.note(|| format!("client {index} asks r{number}: {type_}{address} {query}"));
        let request = Request {
            asker: index,
            to: to.to_owned(),
            sent_at: self.now,
            kind,
            answers: 0,
        };
        self.rosters.requests.insert(number, request);
        self.send(index, stanza.as_bytes());
        Some(number)
    }

    // --- being answered

    /// Whether a client was read late, as one that sends more than it may: what it asked a second or more
    /// before its end was never answered.
    pub fn was_read_late(&self, index: usize, end: u64) -> bool {
        self.rosters.requests.values().any(|request| {
            request.asker == index && request.answers == 0 && request.sent_at + 1_000 <= end
        })
    }

    /// A client got a result or an error of a roster request.
    pub fn roster_answered(&mut self, index: usize, number: u64, element: &Element) {
        let Some(request) = self.rosters.requests.get_mut(&number) else {
            return self.violated(format!(
                "client {index} got an answer to no request r{number}"
            ));
        };
        if request.asker != index {
            // It has the asker's full JID by now.
            return;
        }
        request.answers += 1;
        let (kind, answers) = (request.kind.clone(), request.answers as usize);
        let sent_at = request.sent_at;
        if answers > 1 && answers > self.answers_max(&format!("r{number}")) {
            return self.violated(format!("client {index} got {answers} answers to r{number}"));
        }
        if answers > 1 {
            return;
        }
        if element.attribute("type") == Some("error") {
            let condition = condition(element);
            self.note(|| format!("client {index} is refused r{number}: {condition}"));
            return self.roster_refused(index, number, &kind, &condition, sent_at);
        }
        self.note(|| format!("client {index} is answered r{number}"));
        match kind {
            Kind::Get(kept) => match element.find(ns::ROSTER, "query") {
                Some(query) => self.got_whole_roster(index, query),
                None => self.got_changes_only(index, kept),
            },
            Kind::Set => {
                self.count("roster sets done");
                let done = self.moment();
                self.wishes.done(number, done);
            }
            Kind::Bad(expected) => {
                self.violated(format!("r{number} was not refused as {expected}"));
            }
        }
    }

    fn roster_refused(
        &mut self,
        index: usize,
        number: u64,
        kind: &Kind,
        condition: &str,
        sent_at: u64,
    ) {
        let had_trouble = self.trouble_at.is_some();
        let own = self.own_jid(index);
        let is_due = match (kind, condition) {
            (Kind::Bad(_), "remote-server-timeout") => {
                self.may_go_back(&own, sent_at) || self.may_be_unknown(&format!("r{number}"))
            }
            // Too many stanzas wait for the account.
            (_, "resource-constraint") => {
                had_trouble || self.character.has_flood || self.character.has_bursts
            }
            (_, "internal-server-error") => had_trouble,
            (Kind::Set, _) => self.wishes.get(number).is_some_and(|wish| match condition {
                "item-not-found" => wish.what.is_none(),
                "not-allowed" => wish.what.is_some() && wish.contact == own,
                "policy-violation" => wish.what.is_some() && self.character.has_tight_limits,
                _ => false,
            }),
            (Kind::Bad(expected), condition) => *expected == condition,
            (Kind::Get(_), _) => false,
        };
        if !is_due {
            self.violated(format!("client {index} was refused r{number}: {condition}"));
        }
        self.wishes.refused(number);
        self.count(match kind {
            Kind::Bad(_) => "bad roster requests refused",
            _ => "roster requests refused",
        });
    }

    fn got_whole_roster(&mut self, index: usize, query: &Element) {
        let version = query.attribute("ver").and_then(|ver| ver.parse().ok());
        let mut items = Items::new();
        for element in query.elements() {
            let (contact, shown) = read_item(element);
            if shown.is_none() || items.contains_key(&contact) {
                return self.violated(format!("client {index} got a roster with {contact} twice"));
            }
            items.extend(shown.map(|shown| (contact, shown)));
        }
        let client = &self.clients[index];
        let (Some(version), Some(life)) = (version, client.life) else {
            return self.violated(format!("client {index} got a roster without a version"));
        };
        self.count("whole rosters");
        let view = &self.clients[index].roster;
        // Pushes have told it all before.
        if let Some(known) = view.version
            && (known, &view.items) != (version, &items)
        {
            let what = format!(
                "client {index} got the roster {version} {items:?}, though pushes made it {known} {:?}",
                view.items
            );
            return self.violated(what);
        }
        let wholes = &mut self.rosters.wholes;
        let before = wholes
            .entry((life, version))
            .or_insert_with(|| items.clone());
        if *before != items {
            let what = format!(
                "client {index} got the roster {version} as {items:?}, others as {before:?}"
            );
            return self.violated(what);
        }
        self.heard_of(life, version);
        let view = &mut self.clients[index].roster;
        view.version = Some(version);
        view.items = items;
        view.catches_up_to = None;
    }

    /// The bare JID of a client.
    pub fn own_jid(&self, index: usize) -> String {
        self.accounts.all[self.clients[index].account]
            .jid
            .to_string()
    }
}

/// The contact of an item, and what is shown of it: nothing if it is removed.
pub fn read_item(element: &Element) -> (String, Option<Shown>) {
    let contact = element.attribute("jid").unwrap_or_default().to_owned();
    let subscription = element.attribute("subscription").unwrap_or_default();
    if subscription == "remove" {
        return (contact, None);
    }
    let groups = element.elements().filter(|child| child.name == "group");
    let shown = Shown {
        subscription: subscription.to_owned(),
        is_asked: element.attribute("ask") == Some("subscribe"),
        is_approved: element.attribute("approved") == Some("true"),
        name: element.attribute("name").map(str::to_owned),
        groups: groups.map(Element::text).collect(),
    };
    (contact, Some(shown))
}

fn escaped(text: &str) -> String {
    let mut escaped = Vec::new();
    escape_attribute(&mut escaped, text);
    String::from_utf8_lossy(&escaped).into_owned()
}
