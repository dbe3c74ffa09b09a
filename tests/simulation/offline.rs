//! Messages that wait in the store (XEP-0160): each is delivered once, in order, or still there.

use std::collections::BTreeSet;

use stanzad::clock::Wall;
use stanzad::jid::Jid;
use stanzad::ns;
use stanzad::stanza::{Kind, Stanza, Type};
use stanzad::storage::offline::{OfflineMessage, page};
use stanzad::storage::{Batch, Row};
use stanzad::xml::{Element, Payload};

use crate::ledger::{Message, body};
use crate::servers::stored_id;
use crate::world::{Event, Phase, World};

/// Who has sent what waits from the start.
const OLD_FRIEND: &str = "friend@elsewhere.example/there";
/// Backlogs of more than a page that one run makes.
const BACKLOGS_MAX: u64 = 4;
/// After so many milliseconds what a client has read is deleted: its connection has written all.
const DELETION_MILLIS: u64 = 5_000;

/// How a message came to a client.
#[derive(Clone, Copy, Debug)]
pub struct Got {
    pub client: usize,
    pub at: u64,
    /// It came from the store, with the time when it was sent (XEP-0203).
    pub is_late: bool,
}

/// How stanzas of one sender have come to a client: the number of the last one of each way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard {
    any: u64,
    late: u64,
}

/// The way that a stanza has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// At once, or as soon as it was stored.
    Live,
    /// From the store.
    Late,
}

impl Heard {
    /// Takes a stanza; whether it comes in order. A session that takes the place of one to which stored
    /// messages were delivered gets those behind what it has had already, and so does one that takes no
    /// messages for a while.
    pub fn take(&mut self, number: u64, way: Way) -> bool {
        let before = match way {
            Way::Live => self.any,
            Way::Late => self.late,
        };
        if way == Way::Late {
            self.late = number.max(self.late);
        }
        self.any = number.max(self.any);
        before < number
    }
}

impl World {
    /// Some messages wait from the start.
    pub fn create_offline_messages(&mut self) {
        for account in 0..self.accounts.all.len() {
            if !self.chance.one_in(3) {
                continue;
            }
            let mut rows = Vec::new();
            // Up to more than a page.
            for seq in 1..=self.chance.within(1..=70) {
                rows.push(self.old_message(account, seq));
            }
            let batch = Batch {
                rows,
                ..Batch::default()
            };
            let jid = self.jid_of(account);
            self.store_mut(&jid).commit(vec![(0, batch)]);
        }
    }

    fn old_message(&mut self, account: usize, seq: u64) -> Row {
        let number = self.number();
        let to = self.jid_of(account);
        let text = Element::new(ns::CLIENT, "body").with_text(body(number));
        let mut stanza = Stanza::new(Kind::Message, Type::Chat, Payload::from_elements(&[text]));
        stanza.from = Some(Jid::parse(OLD_FRIEND).unwrap());
        stanza.to = Some(to.to_jid());
        stanza.id = Some(format!("m{number}").into());
        let message = Message {
            sender: None,
            from: OLD_FRIEND.to_owned(),
            to: to.to_string(),
            account: Some(account),
            type_: "chat",
            sent_at: 0,
            got: Vec::new(),
            errors: 0,
            was_stored: true,
            was_kept: false,
        };
        self.ledger.messages.insert(number, message);
        Row::Offline(Box::new(OfflineMessage {
            account: stored_id(self.accounts.all[account].id.unwrap()),
            seq: seq as i64,
            came: Wall::from_micros(seq),
            stanza,
        }))
    }

    /// A client says much to one account in one breath: what is stored there and what is not, to all
    /// of the account and to its resources.
    pub fn pour(&mut self, index: usize) {
        let client = &self.clients[index];
        if self.phase != Phase::Busy || !client.is_online() {
            return;
        }
        let account = match client.favorite {
            Some(account) => account,
            None => self.chance.index(self.accounts.all.len()),
        };
        self.clients[index].favorite = Some(account);
        let bare = self.jid_of(account).to_string();
        let is_there = |other: &&usize| {
            let other = &self.clients[**other];
            other.account == account && other.is_online()
        };
        let resource = self.live.iter().find(is_there);
        let full = resource.and_then(|other| self.clients[*other].jid.clone());
        if full.is_none() && self.count_of("backlogs") < BACKLOGS_MAX {
            // More than a page: it is delivered while others speak.
            self.count("backlogs");
            for _ in 0..self.chance.within(55..=130) {
                self.send_message_to(index, "chat", bare.clone());
            }
        }
        let full = full.unwrap_or_else(|| bare.clone());
        for _ in 0..self.chance.within(2..=8) {
            match self.chance.within(0..=6) {
                0..=2 => self.send_message_to(index, "chat", bare.clone()),
                3 | 4 => self.send_message_to(index, "headline", bare.clone()),
                5 => self.send_message_to(index, "headline", full.clone()),
                _ => drop(self.send_request_to(index, full.clone())),
            }
        }
    }

    /// Those that have said much to somebody say more when he is there, while he is given what waits.
    pub fn be_greeted(&mut self, index: usize) {
        let account = self.clients[index].account;
        for other in self.live.clone() {
            if self.clients[other].favorite == Some(account) {
                for _ in 0..3 {
                    let pause = self.chance.within(1..=150);
                    self.after(pause, Event::Pour(other));
                }
            }
        }
    }

    /// A client got a message.
    pub fn message_got(&mut self, index: usize, number: u64, element: &Element) {
        let is_late = self.is_late(index, element);
        let Some(message) = self.ledger.messages.get_mut(&number) else {
            return self.violated(format!("client {index} got m{number}, which nobody sent"));
        };
        let sender = message.sender;
        let (from, to) = (message.from.clone(), message.to.clone());
        let late = message.got.iter().find(|got| got.is_late).copied();
        message.got.push(Got {
            client: index,
            at: self.now,
            is_late,
        });
        let is_harmed = element.attribute("from") != Some(&message.from)
            || element.find(ns::CLIENT, "body").map(Element::text) != Some(body(number));
        let is_both = message.errors > 0;
        // What has waited for a resource that is gone goes to the others behind what came meanwhile.
        let is_for_another = self.clients[index].jid.as_ref() != Some(&to)
            || message.sent_at < self.clients[index].bound_at;
        let is_redirected = is_for_another && self.ledger.jids.contains(&to);
        let is_by_client = |got: &&Got| got.client == index;
        let times_got = message.got.iter().filter(is_by_client).count();
        let was_shown = message
            .got
            .iter()
            .find(is_by_client)
            .is_some_and(|got| !got.is_late);
        // Who reads late may have been sent it first.
        let reads_late = self.clients[index].was_lazy;
        let is_twice =
            is_late && !reads_late && late.is_some_and(|late| !self.may_come_again(late));
        let is_alone = is_late && !self.has_company(index);
        let client = &mut self.clients[index];
        let way = match is_late {
            true => Way::Late,
            false => Way::Live,
        };
        let is_in_order = client.heard.entry(sender).or_default().take(number, way);
        if self.is_between(&from, &to) {
            self.count("messages between servers delivered");
        }
        if !is_late && self.clients[index].heard[&sender].late > 0 {
            self.count("messages behind those from the store");
        }
        self.count(match is_late {
            true => "messages from the store",
            false => "messages delivered at once",
        });
        self.note(|| format!("client {index} got m{number}, late: {is_late}"));
        // Between servers a message is sent again that may not have arrived.
        let id = format!("m{number}");
        let (times_sent, is_overtaken) = (self.times_sent(&id), self.may_be_overtaken(&id));
        if times_got > 1 {
            self.count("messages got again");
        }
        // It saw some when they were stored, while another one was given what waits. If it takes none for a
        // while, and the other one has left, nobody knows what it saw when it is given what waits itself.
        let is_given_again =
            is_late && self.clients[index].has_rested && times_got == 2 && was_shown;
        if times_got > times_sent.max(1) && !is_given_again {
            self.violated(format!("client {index} got m{number} twice"));
        } else if is_twice && times_sent < 2 {
            self.violated(format!(
                "client {index} got m{number} from the store, which {late:?} had got"
            ));
        } else if is_both && times_sent < 2 {
            self.violated(format!("client {index} got m{number}, which was returned"));
        } else if is_harmed {
            self.violated(format!("client {index} got m{number} changed"));
        } else if !is_in_order && !is_overtaken && !is_redirected {
            self.violated(format!(
                "client {index} got m{number} of client {sender:?} too late, {way:?}"
            ));
        } else if is_alone && !is_overtaken && !is_redirected {
            self.check_overtaken(index, number, sender);
        }
    }

    /// Where nobody else is there, no message to the account overtakes another one, unless the
    /// store could not be read, which leaves what waits there to the next session.
    fn check_overtaken(&mut self, index: usize, number: u64, sender: Option<usize>) {
        let started = self.clients[index].started;
        if self.trouble_at.is_some_and(|at| at >= started) {
            return;
        }
        // Who has sent what is stored is forgotten with the account, and so when the server is killed.
        let sent_at = self.ledger.messages[&number].sent_at;
        let is_known = !self.character.has_crowd && self.crashed_at.is_none_or(|at| at < sent_at);
        let later = self.ledger.messages.range(number + 1..).find(|(_, later)| {
            later.sender == sender
                && !later.to.contains('/')
                && (is_known || later.type_ != "headline")
                && later.got.iter().any(|got| got.client == index)
        });
        if let Some((later, _)) = later {
            self.violated(format!("client {index} got m{number} after m{later}"));
        }
    }

    /// Whether a message came from the store.
    pub fn is_late(&self, index: usize, element: &Element) -> bool {
        let domain = self.accounts.all[self.clients[index].account].jid.domain();
        let delay = element.find(ns::DELAY, "delay");
        delay.is_some_and(|delay| delay.attribute("from") == Some(domain))
    }

    /// Whether a message that has come from the store may come again. Not if one who reads, and is read,
    /// has had it for a while and is still there, or has left long after.
    fn may_come_again(&self, before: Got) -> bool {
        let client = &self.clients[before.client];
        let until = client.ended.map_or(self.now, |ended| ended.at);
        client.was_lazy
            || self.was_read_late(before.client, until)
            || until < before.at + DELETION_MILLIS
            || self.trouble_at.is_some_and(|at| at >= before.at)
            || self
                .crashed_at
                .is_some_and(|at| at < before.at + DELETION_MILLIS)
    }

    /// Whether somebody else of a client's account was or is there at the same time.
    fn has_company(&self, index: usize) -> bool {
        let client = &self.clients[index];
        self.clients.iter().enumerate().any(|(other, company)| {
            let is_past = company.released.is_some_and(|at| at < client.started);
            other != index && company.account == client.account && company.jid.is_some() && !is_past
        })
    }

    /// The messages that wait for all accounts, by number.
    pub fn stored_messages(&self) -> BTreeSet<u64> {
        let pages = self.accounts.all.iter().filter_map(|account| {
            let (db, id) = (self.store(&account.jid).db(), stored_id(account.id?));
            Some(page(db, id, 0, usize::MAX, u64::MAX).unwrap())
        });
        let messages = pages.flat_map(|page| page.messages);
        let stanzas = messages.filter_map(|message| message.stanza);
        let numbers = stanzas.filter_map(|stanza| stanza.id?.strip_prefix('m')?.parse().ok());
        numbers.collect()
    }

    /// Remembers after a crash what is stored: it must not get lost from then on.
    pub fn note_stored_messages(&mut self) {
        for number in self.stored_messages() {
            if let Some(message) = self.ledger.messages.get_mut(&number) {
                message.was_stored = true;
            }
        }
    }

    /// At rest: what was returned or has been read is not stored.
    pub fn check_stored_messages(&mut self, stored: &BTreeSet<u64>) {
        let mut wrong = Vec::new();
        for number in stored {
            let Some(message) = self.ledger.messages.get(number) else {
                wrong.push(format!("m{number} is stored, which nobody has sent"));
                continue;
            };
            if self.times_sent(&format!("m{number}")) > 1 {
                continue;
            }
            if message.errors > 0 {
                wrong.push(format!("m{number} is stored, though it was returned"));
            }
            let late = message.got.iter().find(|got| got.is_late);
            if let Some(late) = late.filter(|late| !self.may_come_again(**late)) {
                wrong.push(format!(
                    "m{number} is stored, though it was delivered: {late:?}"
                ));
            }
        }
        self.count_more("messages stored at rest", stored.len() as u64);
        wrong.into_iter().for_each(|what| self.violated(what));
    }
}
