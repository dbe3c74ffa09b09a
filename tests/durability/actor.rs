//! A client at work: it changes what its account keeps, notes what it is told, and compares it with
//! what is there after a crash.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write;
use std::sync::mpsc::Sender;

use stanzad::ns;
use stanzad::xml::Element;

use crate::chance::Chance;
use crate::common::client::{Client, Heard, text};
use crate::common::server::Server;
use crate::ledger::{Key, Ledger, roster};
use crate::operator::GUESTS;

/// Who is offline while the others work.
pub const ABSENT: &str = "tybalt@example.org/street";

/// The clients. Two share an account; the one that is named `hidden` never tells that it is there,
/// so that messages to its own account are stored.
pub const CLIENTS: [&str; 6] = [
    "juliet@example.org/balcony",
    "juliet@example.org/chamber",
    "romeo@example.org/orchard",
    "mercutio@example.org/street",
    "nurse@example.org/hidden",
    "paris@example.net/tomb",
];

/// Contacts of each client that have no account here.
const FOREIGN: u64 = 6;
/// Elements of private XML of each client.
const PRIVATE: u64 = 3;

/// A request that is not answered yet.
struct Asked {
    id: String,
    key: Key,
    /// Messages that were sent before it.
    messages: usize,
}

pub struct Actor {
    pub jid: &'static str,
    pub ledger: Ledger,
    /// The ids of all messages that have ever come.
    pub received: BTreeSet<String>,
    /// Answers to requests, pushes and subscription stanzas.
    pub told: u64,
    client: Option<Client>,
    asked: VecDeque<Asked>,
    /// Messages that were sent before the request that [`ABSENT`] has approved already.
    before_approval: Option<usize>,
    /// Of anything that has to differ from all before.
    number: u64,
}

impl Actor {
    pub fn new(jid: &'static str) -> Actor {
        Actor {
            jid,
            ledger: Ledger::default(),
            received: BTreeSet::new(),
            told: 0,
            client: None,
            asked: VecDeque::new(),
            before_approval: None,
            number: 0,
        }
    }

    pub fn bare(&self) -> &'static str {
        bare(self.jid)
    }

    pub fn is_hidden(&self) -> bool {
        self.jid.ends_with("/hidden")
    }

    /// Whether it is the one of its account's clients that changes what the account has but once.
    pub fn is_first(&self) -> bool {
        CLIENTS.iter().find(|jid| bare(jid) == self.bare()) == Some(&self.jid)
    }

    fn client(&mut self) -> &mut Client {
        self.client.as_mut().expect("it is logged in")
    }

    // --- after a crash

    /// Logs in and compares everything but messages with what it was told.
    pub fn enter(&mut self, server: &Server) {
        self.asked.clear();
        self.before_approval = None;
        self.client = Some(Client::login(server, self.jid));
        let whole = self.ask("get", "<query xmlns='jabber:iq:roster'/>");
        let seen = self.ledger.mirror.version;
        let since = self.ask(
            "get",
            &format!("<query xmlns='jabber:iq:roster' ver='{seen}'/>"),
        );
        if seen > 0 && since.elements().next().is_some() {
            let problem = format!("version {seen} was told and is not known: {}", text(&since));
            self.ledger.problems.push(problem);
        }
        let pushes = self.client().until_settled();
        let changes = pushes.iter().filter_map(roster).cloned();
        let changes: Vec<Element> = changes.collect();
        assert_eq!(changes.len(), pushes.len(), "{pushes:?}");
        let whole = roster(&whole).expect("a roster");
        self.ledger
            .compare_roster(whole, &changes, |jid| jid.ends_with("@example.com"));
        for number in 0..PRIVATE {
            self.compare_private(number);
        }
        if self.is_first() {
            let card = self.ask("get", "<vCard xmlns='vcard-temp'/>");
            let card = card.find(ns::VCARD, "vCard").expect("a vCard");
            let name = card.find(ns::VCARD, "FN").map(Element::text);
            self.ledger.compare(&Key::Card, name);
        }
    }

    fn compare_private(&mut self, number: u64) {
        let name = self.private(number);
        let wanted = format!(
            "<query xmlns='jabber:iq:private'>{}</query>",
            note(&name, "")
        );
        let answer = self.ask("get", &wanted);
        let query = answer.find("jabber:iq:private", "query").expect("a query");
        let found = query.elements().next().expect("what was asked for").text();
        let found = Some(found).filter(|text| !text.is_empty());
        self.ledger.compare(&Key::Private(name), found);
    }

    /// Sends presence, and hears who waits for an answer. Who is hidden only does so to get the
    /// messages that were stored: [`Actor::hide`] follows.
    pub fn appear(&mut self) {
        self.client().send("<presence/>");
        self.settle();
    }

    /// Hears all that has come.
    pub fn settle(&mut self) {
        for element in self.client().until_settled() {
            self.hear(&element);
        }
        self.client().forget();
    }

    pub fn hide(&mut self) {
        self.client().send("<presence type='unavailable'/>");
        self.settle();
    }

    /// Leaves in an orderly way.
    pub fn leave(&mut self) {
        self.client().send("</stream:stream>");
        while !matches!(self.client().hear(), Heard::End) {}
        self.client = None;
    }

    /// Lets each of the others ask for its presence once more, and have it at once (RFC 6121 §3.4).
    pub fn approve(&mut self, others: impl Iterator<Item = &'static str>) {
        for jid in others {
            let signals = ["unsubscribed", "subscribed"];
            for type_ in signals {
                let signal = format!("<presence type='{type_}' to='{jid}'/>");
                self.client().send(signal);
            }
        }
        self.settle();
    }

    fn ask(&mut self, type_: &str, child: &str) -> Element {
        self.number += 1;
        let id = format!("ask-{}", self.number);
        self.client()
            .send(format!("<iq type='{type_}' id='{id}'>{child}</iq>"));
        let answer = self.client().stanza("iq");
        assert_eq!(answer.attribute("id"), Some(&*id), "{}", text(&answer));
        assert_eq!(
            answer.attribute("type"),
            Some("result"),
            "{}",
            text(&answer)
        );
        answer
    }

    // --- under load

    /// Works until the connection ends, or so many bursts of stanzas are answered. Each thing that
    /// it is told goes to `told` as well.
    pub fn work(&mut self, mut chance: Chance, bursts: u64, told: &Sender<()>) {
        for _ in 0..bursts {
            let mut stanzas = String::new();
            for _ in 0..chance.within(0..=6) {
                stanzas += &self.step(&mut chance);
            }
            // What comes before it has been done when it is answered (RFC 6120 §10.1).
            stanzas += &self.set_private(&mut chance);
            // If the server is gone already, what it has said before can be read all the same.
            let is_gone = self.client().try_send(stanzas).is_err();
            while is_gone || !self.asked.is_empty() {
                let Ok(Heard::Element(element)) = self.client().try_hear() else {
                    return;
                };
                self.hear(&element);
                self.client().forget();
                // Nobody counts any more once the server is killed.
                let _ = told.send(());
            }
        }
    }

    fn step(&mut self, chance: &mut Chance) -> String {
        match chance.within(0..=11) {
            0..=2 => {
                let number = chance.within(0..=FOREIGN - 1);
                let resource = self.resource();
                self.set_contact(format!("{resource}{number}@example.com"), chance)
            }
            3 if self.is_first() => {
                let contact = self.peer(chance);
                self.set_contact(contact.to_owned(), chance)
            }
            4 | 5 => self.signal(chance),
            6 if self.is_first() => self.set_card(),
            7 if self.is_first() && self.before_approval.is_none() => self.ask_for_approved(),
            8 => self.set_private(chance),
            _ => self.message(),
        }
    }

    fn set_contact(&mut self, contact: String, chance: &mut Chance) -> String {
        let key = Key::Contact(contact.clone());
        let is_there = self.ledger.thing(&key).latest().is_some();
        if is_there && chance.one_in(3) {
            let removal = (contact.clone(), "remove");
            self.ledger.signalled.insert(removal);
            let item = format!("<item jid='{contact}' subscription='remove'/>");
            return self.request(key, None, &roster_query(&item));
        }
        let name = self.unique();
        let item = format!("<item jid='{contact}' name='{name}'><group>{name}</group></item>");
        self.request(key, Some(name), &roster_query(&item))
    }

    fn set_private(&mut self, chance: &mut Chance) -> String {
        let name = self.private(chance.within(0..=PRIVATE - 1));
        let value = Some(self.unique()).filter(|_| !chance.one_in(5));
        let note = note(&name, value.as_deref().unwrap_or_default());
        let query = format!("<query xmlns='jabber:iq:private'>{note}</query>");
        self.request(Key::Private(name), value, &query)
    }

    fn set_card(&mut self) -> String {
        let name = self.unique();
        let card = format!("<vCard xmlns='vcard-temp'><FN>{name}</FN></vCard>");
        self.request(Key::Card, Some(name), &card)
    }

    fn request(&mut self, key: Key, value: Option<String>, child: &str) -> String {
        let id = self.unique();
        self.ledger.thing(&key).ask(value);
        self.asked.push_back(Asked {
            id: id.clone(),
            key,
            messages: self.ledger.messages.len(),
        });
        format!("<iq type='set' id='{id}'>{child}</iq>")
    }

    fn signal(&mut self, chance: &mut Chance) -> String {
        let to = self.peer(chance);
        // Agreements are rarer than their opposite: both have to want one.
        let types = [
            "subscribe",
            "subscribe",
            "subscribed",
            "subscribed",
            "unsubscribe",
            "unsubscribed",
        ];
        let type_ = chance.pick(&types);
        self.ledger.signalled.insert((to.to_owned(), type_));
        format!("<presence type='{type_}' to='{to}'/>")
    }

    /// A message that is stored: for who is absent, or for an account that nobody is seen at.
    fn message(&mut self) -> String {
        let id = self.unique();
        let to = match self.is_hidden() {
            true => self.bare(),
            false => bare(ABSENT),
        };
        self.ledger.messages.push(id.clone());
        format!("<message type='chat' to='{to}' id='{id}'><body>{id}</body></message>")
    }

    /// A request that is granted at once. It comes behind all messages that were sent before, and
    /// is answered when the absent account's change is committed: theirs are by then.
    fn ask_for_approved(&mut self) -> String {
        self.before_approval = Some(self.ledger.messages.len());
        format!("<presence type='subscribe' to='{}'/>", bare(ABSENT))
    }

    fn hear(&mut self, element: &Element) {
        let from = element.attribute("from").map(bare).unwrap_or_default();
        match (
            &*element.name,
            element.attribute("type").unwrap_or_default(),
        ) {
            ("iq", "result") => self.answered(element),
            ("iq", "set") => {
                let query = roster(element).expect("nothing else is pushed");
                if let Err(problem) = self.ledger.mirror.push(query) {
                    self.ledger.problems.push(problem);
                }
            }
            ("presence", "subscribe") => {
                self.ledger.asked_by.insert(from.to_owned());
            }
            ("presence", type_ @ ("subscribed" | "unsubscribed")) => {
                self.ledger.mirror.owed.insert(from.to_owned());
                if type_ == "subscribed" && from == bare(ABSENT) {
                    self.ledger.proven = self.before_approval.unwrap_or_default();
                }
            }
            ("presence", "unsubscribe") => {}
            // Who is there, which no store knows.
            ("presence", "" | "unavailable") => return,
            ("message", "chat") => {
                let id = element.attribute("id").expect("ours have one");
                self.received.insert(id.to_owned());
            }
            _ => {
                let problem = format!("it was told {}", text(element));
                self.ledger.problems.push(problem);
            }
        }
        self.told += 1;
    }

    fn answered(&mut self, result: &Element) {
        let asked = self.asked.pop_front().expect("an answer to a request");
        assert_eq!(result.attribute("id"), Some(&*asked.id), "answers in order");
        self.ledger.thing(&asked.key).acknowledge();
        if self.is_hidden() {
            // Both are changes of one account: its messages were committed before.
            self.ledger.proven = asked.messages;
        }
    }

    // --- names

    fn resource(&self) -> &'static str {
        self.jid.split_once('/').expect("a full JID").1
    }

    fn private(&self, number: u64) -> String {
        format!("{}{number}", self.resource())
    }

    fn unique(&mut self) -> String {
        self.number += 1;
        let mut unique = self.resource().to_owned();
        write!(unique, ".{}", self.number).expect("a string takes all");
        unique
    }

    /// Another account: of somebody who is there, or of a guest.
    fn peer(&self, chance: &mut Chance) -> &'static str {
        let others = CLIENTS.iter().map(|jid| bare(jid)).chain(GUESTS);
        let others: Vec<&str> = others.filter(|jid| *jid != self.bare()).collect();
        chance.pick(&others)
    }
}

pub fn bare(jid: &str) -> &str {
    jid.split('/').next().unwrap_or(jid)
}

fn roster_query(item: &str) -> String {
    format!("<query xmlns='jabber:iq:roster'>{item}</query>")
}

fn note(name: &str, text: &str) -> String {
    format!("<note xmlns='urn:example:{name}'>{text}</note>")
}
