//! What clients said to each other, and what became of it.

use std::collections::{BTreeMap, BTreeSet};

use stanzad::limits::UNSETTLED_STANZAS_MAX;
use stanzad::ns;
use stanzad::xml::{Element, escape_text};

use crate::client::{ANSWER_MILLIS_MAX, Reading, Stage, condition};
use crate::offline::{Got, Way};
use crate::servers::DOMAINS;
use crate::world::{Event, World};

/// Bursts in one run.
const BURSTS_MAX: u64 = 2;
/// What the socket of a client takes that sleeps, or of one that must not be woken by its socket.
const SLEEPER_BYTES: usize = 400_000;
/// Floods in one run.
const FLOODS_MAX: u64 = 2;

/// Everything that was said, by number. Numbers grow, so order can be seen.
#[derive(Default)]
pub struct Ledger {
    pub messages: BTreeMap<u64, Message>,
    pub requests: BTreeMap<u64, Request>,
    /// All full JIDs that have been bound.
    pub jids: Vec<String>,
    /// Those that were sent more than a client can read.
    pub flooded: BTreeSet<String>,
    last: u64,
}

/// A message that a client has sent.
pub struct Message {
    /// None for a message from before.
    pub sender: Option<usize>,
    pub from: String,
    pub to: String,
    /// The account that it is for, if there can be one.
    pub account: Option<usize>,
    pub type_: &'static str,
    pub sent_at: u64,
    /// How it came to clients.
    pub got: Vec<Got>,
    pub errors: u32,
    /// It is known to have been in the store.
    pub was_stored: bool,
    /// It is known to have been stored for the other server: from then on it must arrive, or go back.
    pub was_kept: bool,
}

/// A request that a client has sent.
pub struct Request {
    pub asker: usize,
    pub to: String,
    pub sent_at: u64,
    /// The client that got it, if not the server answers.
    pub got: Option<usize>,
    pub answers: u32,
}

/// The text of a message, which tells whether it arrived unharmed.
pub fn body(number: u64) -> String {
    let words = [
        "good",
        "morrow",
        "<fair>",
        "& sweet",
        "'Juliet'",
        "\u{2603}",
        "]]>",
        "\u{1d11e}",
    ];
    let mut body = format!("{number}:");
    let mut state = number;
    for _ in 0..number % 23 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(number | 1);
        body.push(' ');
        body.push_str(words[(state >> 60) as usize % words.len()]);
    }
    if number.is_multiple_of(97) {
        body.push_str(&"x".repeat(12_000));
    }
    body
}

impl World {
    // --- saying something ---

    /// A client says something to somebody.
    pub fn talk(&mut self, index: usize) {
        if self.chance.one_in(self.character.talks_in) {
            return self.socialize(index);
        }
        match self.chance.within(0..=99) {
            0..=5 => self.pour(index),
            6..=54 => self.send_message(index),
            55..=74 => self.send_request(index),
            75..=90 => self.socialize(index),
            91 => {
                for _ in 0..self.chance.within(17..=40) {
                    self.send_message(index);
                }
            }
            // More than may be on their way at once.
            92 | 93
                if self.character.has_bursts
                    && self.count_of("bursts") < BURSTS_MAX
                    && self.clients[index].reading == Reading::Eager =>
            {
                self.burst(index);
            }
            94 if self.character.has_flood => self.flood(index),
            95 | 96 => {
                let reading = self.chance.pick(&[
                    Reading::Eager,
                    Reading::Eager,
                    Reading::Slow,
                    Reading::Never,
                ]);
                self.read_as(index, reading);
            }
            // White space between stanzas (RFC 6120 §4.6.1).
            _ => self.send(index, b" \n"),
        }
    }

    pub fn number(&mut self) -> u64 {
        self.ledger.last += 1;
        self.ledger.last
    }

    /// A full JID that somebody has or had, or something that nobody has.
    pub fn somebody(&mut self) -> String {
        let known = self.ledger.jids.len();
        match self.chance.within(0..=19) {
            0..=11 if known > 0 => {
                let recent = known.min(16);
                self.ledger.jids[known - 1 - self.chance.index(recent)].clone()
            }
            12 => "nobody@example.org".to_owned(),
            13 => "nobody@example.net/nowhere".to_owned(),
            14 => "someone@elsewhere.example/there".to_owned(),
            15 => {
                let account = self.chance.index(self.accounts.all.len());
                format!("{}/absent", self.accounts.all[account].jid)
            }
            _ => {
                let account = self.chance.index(self.accounts.all.len());
                self.accounts.all[account].jid.to_string()
            }
        }
    }

    fn send_message(&mut self, index: usize) {
        let type_ = self
            .chance
            .pick(&["chat", "chat", "chat", "normal", "headline", "groupchat"]);
        let to = self.somebody();
        self.send_message_to(index, type_, to);
    }

    pub fn send_message_to(&mut self, index: usize, type_: &'static str, to: String) {
        let client = &self.clients[index];
        let Some(from) = client.jid.clone().filter(|_| client.is_online()) else {
            return;
        };
        let number = self.number();
        let bare = to.split('/').next().unwrap_or_default();
        let account = self
            .accounts
            .all
            .iter()
            .position(|account| account.jid.as_str() == bare);
        let mut text = Vec::new();
        escape_text(&mut text, &body(number));
        let text = String::from_utf8_lossy(&text);
        let stanza = format!(
            "<message type='{type_}' id='m{number}' to='{to}'><body>{text}</body></message>"
        );
        self.note(|| format!("client {index} says m{number} ({type_}) to {to}"));
        self.count("messages");
        self.ledger.messages.insert(
            number,
            Message {
                sender: Some(index),
                from,
                to,
                account,
                type_,
                sent_at: self.now,
                got: Vec::new(),
                errors: 0,
                was_stored: false,
                was_kept: false,
            },
        );
        self.send(index, stanza.as_bytes());
    }

    /// More than may be on its way at once, in one go, and then nothing until the last of it is
    /// answered: nothing but the server itself sees to it that the rest is read.
    fn burst(&mut self, index: usize) {
        self.count("bursts");
        let to = match self.online() {
            Some(other) => self.clients[other].jid.clone().unwrap_or_default(),
            None => self.somebody(),
        };
        self.withhold(index);
        for _ in 0..UNSETTLED_STANZAS_MAX + 100 {
            self.send_message_to(index, "chat", to.clone());
        }
        // No edge shall come because the socket has room again.
        self.clients[index].wire.ends().widen(SLEEPER_BYTES);
        self.ask_and_wait(index);
        if let Some(number) = self.clients[index].awaits {
            self.after(ANSWER_MILLIS_MAX, Event::Expect(index, number));
        }
    }

    /// A client asks its server something, together with what it has kept back, and then waits.
    pub fn ask_and_wait(&mut self, index: usize) {
        self.withhold(index);
        let domain = self.accounts.all[self.clients[index].account]
            .jid
            .domain()
            .to_owned();
        let number = self.send_request_to(index, domain);
        self.let_out(index, number);
    }

    /// Somebody who is online.
    fn online(&mut self) -> Option<usize> {
        let is_online = |live: &usize| self.clients[*live].is_online();
        let online: Vec<usize> = self.live.iter().copied().filter(is_online).collect();
        match online.is_empty() {
            true => None,
            false => Some(online[self.chance.index(online.len())]),
        }
    }

    /// Much, to somebody who may not read it.
    fn flood(&mut self, index: usize) {
        // Not often in a run: it takes its time.
        if self.count_of("floods") >= FLOODS_MAX {
            return;
        }
        let Some(lazy) = self.online() else {
            return;
        };
        let to = self.clients[lazy].jid.clone().unwrap_or_default();
        self.read_as(lazy, Reading::Never);
        self.ledger.flooded.insert(to.clone());
        let is_sleeper = self.chance.one_in(2);
        let count = match is_sleeper {
            // More than its socket takes, so that it is not read while it sleeps, and no more than
            // its socket takes at once when it wakes up.
            true => {
                self.clients[lazy].wire.ends().widen(SLEEPER_BYTES);
                self.after(2_500, Event::Mutter(lazy));
                let pause = self.chance.within(3_000..=6_000);
                self.after(pause, Event::Wake(lazy));
                self.chance.within(11..=13)
            }
            // Little by little, but not for longer than a run lasts.
            false => {
                self.clients[lazy].wire.ends().widen(4_096);
                self.chance.within(6..=90)
            }
        };
        self.count("floods");
        for _ in 0..count {
            let number = self.number();
            let padding = "y".repeat(60_000);
            let stanza = format!(
                "<message type='headline' id='f{number}' to='{to}'><x xmlns='urn:example:flood'>{padding}</x></message>"
            );
            self.send(index, stanza.as_bytes());
        }
    }

    fn send_request(&mut self, index: usize) {
        let to = match self.chance.within(0..=9) {
            0..=2 => self.accounts.all[self.clients[index].account]
                .jid
                .domain()
                .to_owned(),
            3 => "example.net".to_owned(),
            4 => String::new(),
            5 => "elsewhere.example".to_owned(),
            _ => self.somebody(),
        };
        self.send_request_to(index, to);
    }

    /// A client asks somebody something; the request's number.
    pub fn send_request_to(&mut self, index: usize, to: String) -> Option<u64> {
        if !self.clients[index].is_online() {
            return None;
        }
        let (type_, child) = self.chance.pick(&[
            ("get", "<ping xmlns='urn:xmpp:ping'/>"),
            (
                "get",
                "<query xmlns='http://jabber.org/protocol/disco#info'/>",
            ),
            (
                "get",
                "<query xmlns='http://jabber.org/protocol/disco#items'/>",
            ),
            ("get", "<query xmlns='jabber:iq:version'/>"),
            ("get", "<what xmlns='urn:example:unknown'/>"),
            ("set", "<do xmlns='urn:example:unknown'/>"),
        ]);
        let number = self.number();
        let address = match to.is_empty() {
            true => String::new(),
            false => format!(" to='{to}'"),
        };
        let stanza = format!("<iq type='{type_}' id='q{number}'{address}>{child}</iq>");
        self.note(|| format!("client {index} asks q{number} of {to:?}"));
        self.count("requests");
        self.ledger.requests.insert(
            number,
            Request {
                asker: index,
                to,
                sent_at: self.now,
                got: None,
                answers: 0,
            },
        );
        self.send(index, stanza.as_bytes());
        Some(number)
    }

    // --- hearing something ---

    /// A client with a session got a stanza.
    pub fn stanza(&mut self, index: usize, element: &Element) {
        let id = element.attribute("id").unwrap_or_default().to_owned();
        let number = id.get(1..).and_then(|number| number.parse::<u64>().ok());
        let type_ = element.attribute("type").unwrap_or_default().to_owned();
        if id.starts_with('x') {
            return self.violated(format!("client {index} got {id} of an impostor"));
        }
        if let Some(to) = element.attribute("to")
            && !self.is_own(index, to)
        {
            let to = to.to_owned();
            return self.violated(format!("client {index} got {id} for {to}"));
        }
        let is_push = element.name == "iq" && element.find(ns::ROSTER, "query").is_some();
        let is_push = is_push && type_ == "set";
        if !is_push {
            self.check_caught_up(index);
        }
        match (element.name.as_str(), type_.as_str(), number) {
            ("iq", ..) if is_push => self.roster_pushed(index, element),
            ("iq", "result" | "error", Some(number)) if id.starts_with('r') => {
                self.roster_answered(index, number, element);
            }
            ("message", "error", Some(number)) if id.starts_with('m') => {
                self.message_returned(index, number, element);
            }
            ("message", "error", _) => {}
            ("message", _, Some(number)) if id.starts_with('m') => {
                self.message_got(index, number, element);
            }
            ("message", _, _) => {}
            ("presence", ..) => self.presence(index, element, &type_, &id, number),
            ("iq", "get" | "set", _) => self.request_got(index, &id, element),
            ("iq", _, Some(number)) if id.starts_with('q') => {
                let answer = self.ledger.requests.get_mut(&number);
                let Some(request) = answer else {
                    return self
                        .violated(format!("client {index} got an answer to no request {id}"));
                };
                // Another connection may have the asker's full JID by now.
                if request.asker == index {
                    request.answers += 1;
                    let answers = request.answers as usize;
                    if answers > 1 && answers > self.answers_max(&id) {
                        self.violated(format!("client {index} got {answers} answers to {id}"));
                    }
                    if self.clients[index].awaits == Some(number) {
                        self.count("answers awaited in silence");
                        self.let_out(index, None);
                    }
                }
            }
            _ => {
                let text = String::from_utf8_lossy(&element.to_bytes()).into_owned();
                self.violated(format!("client {index} got {text}"));
            }
        }
    }

    fn is_own(&self, index: usize, to: &str) -> bool {
        let client = &self.clients[index];
        let bare = to.split('/').next().unwrap_or_default();
        self.accounts.all[client.account].jid.as_str() == bare
    }

    fn message_returned(&mut self, index: usize, number: u64, element: &Element) {
        let condition = condition(element);
        let Some(message) = self.ledger.messages.get_mut(&number) else {
            return self.violated(format!(
                "client {index} got m{number} back, which nobody sent"
            ));
        };
        message.errors += 1;
        let (errors, got) = (message.errors, message.got.clone());
        let is_own = Some(&message.from) == self.clients[index].jid.as_ref();
        // Who has sent it again after a break does not know that it had arrived; and its error is sent
        // again, too.
        let id = format!("m{number}");
        let is_again = self.times_sent(&id) > 1;
        let got = if is_again { Vec::new() } else { got };
        self.note(|| format!("client {index} got m{number} back: {condition}"));
        if errors > 1 && errors as usize > self.answers_max(&id) {
            self.violated(format!("m{number} was returned twice"));
        } else if !got.is_empty() {
            self.violated(format!(
                "m{number} was returned, and clients {got:?} got it"
            ));
        } else if !is_own {
            self.violated(format!(
                "client {index} got m{number} back, which it did not send"
            ));
        }
    }

    fn request_got(&mut self, index: usize, id: &str, element: &Element) {
        let from = element.attribute("from").unwrap_or_default().to_owned();
        if id.starts_with("ping-") {
            self.count("pings of the server");
        }
        if let Some(number) = id
            .strip_prefix('q')
            .and_then(|number| number.parse::<u64>().ok())
            && let Some(request) = self.ledger.requests.get_mut(&number)
        {
            let (asker, is_again) = (request.asker, request.got.is_some());
            // What has waited for its predecessor comes behind what came meanwhile.
            let is_inherited = request.sent_at < self.clients[index].bound_at;
            request.got = Some(index);
            if is_again {
                return self.violated(format!("request q{number} was delivered twice"));
            }
            let heard = self.clients[index].heard.entry(Some(asker)).or_default();
            if !heard.take(number, Way::Live) && !self.may_be_overtaken(id) && !is_inherited {
                return self.violated(format!("client {index} got q{number} too late"));
            }
        }
        let answer = match self.chance.one_in(3) {
            true => format!(
                "<iq type='error' id='{id}' to='{from}'><error type='cancel'>\
                 <service-unavailable xmlns='{}'/></error></iq>",
                ns::STANZA_ERROR
            ),
            false => format!("<iq type='result' id='{id}' to='{from}'/>"),
        };
        self.send(index, answer.as_bytes());
    }

    // --- the reckoning ---

    /// Whether somebody of that account may have been written something after that time that was
    /// never read: the server notices a lost connection only later.
    fn may_have_lost(&self, account: usize, since: u64) -> bool {
        self.clients.iter().any(|client| {
            let is_cut = client.ended.is_some_and(|ended| !ended.is_whole);
            let is_past = client.released.is_some_and(|released| released < since);
            client.account == account && is_cut && !is_past
        })
    }

    /// Whether a message reaches an account, there or in the store, though nobody hears of it any more if
    /// it does not.
    fn reaches(&self, message: &Message) -> bool {
        let is_taken = match message.type_ {
            "chat" => true,
            "normal" => !message.to.contains('/'),
            _ => false,
        };
        let account = message.account.map(|account| &self.accounts.all[account]);
        is_taken
            && account.is_some_and(|account| {
                account.state.is_enabled && account.disturbed < message.sent_at
            })
            && self.trouble_at.is_none_or(|at| at < message.sent_at)
    }

    /// Whether a message may have got lost between the servers, or the error that it was answered with.
    fn is_lost_between(&self, number: u64, message: &Message) -> bool {
        if !self.is_between(&message.from, &message.to) || message.was_stored {
            return false;
        }
        let own = self.server_of(&message.from);
        let id = format!("m{number}");
        // What its server had not stored is gone with it, as its sender is, who was not told anything.
        let is_gone = self.crossings.is_killed_since(own, message.sent_at) && !message.was_kept;
        is_gone || (!self.reaches(message) && self.is_answer_lost(&id, own))
    }

    /// The same of a request, and of its answer.
    pub fn is_request_lost_between(&self, id: &str, asker: &str, to: &str) -> bool {
        let own = self.server_of(asker);
        self.is_between(asker, to) && self.is_answer_lost(id, own)
    }

    /// Whether two addresses are of different servers.
    pub fn is_between(&self, one: &str, other: &str) -> bool {
        let is_known = |jid: &str| DOMAINS.iter().any(|domain| jid.contains(domain));
        is_known(one) && is_known(other) && self.server_of(one) != self.server_of(other)
    }

    /// Everything that was said by those who are still there must have come to its end.
    pub fn reckon(&mut self) {
        let mut wrong = Vec::new();
        let stored = self.stored_messages();
        self.check_stored_messages(&stored);
        for (number, message) in &self.ledger.messages {
            let is_here = |sender: Option<usize>| {
                sender.is_none_or(|it| self.clients[it].stage == Stage::Online)
            };
            let must_arrive = message.was_kept && self.reaches(message);
            if !message.was_stored && !must_arrive && !is_here(message.sender) {
                continue;
            }
            let is_lost = message.errors == 0 && message.got.is_empty() && !stored.contains(number);
            let may_be_lost = match (message.account, message.type_) {
                // RFC 6121 §8.5.1, §8.5.2.1.1, §8.5.3.2.1: nobody is told.
                (_, "headline") => !message.to.contains("elsewhere.example"),
                _ if self.is_lost_between(*number, message) => true,
                (Some(account), _) => {
                    // What waits for an account goes with it.
                    let deleted_at = self.accounts.all[account].deleted_at;
                    deleted_at.is_some_and(|at| at >= message.sent_at)
                        || self.may_have_lost(account, message.sent_at)
                }
                (None, _) => false,
            };
            if is_lost && !may_be_lost {
                wrong.push(format!(
                    "m{number} of client {:?} to {} ({}) was neither delivered nor returned",
                    message.sender, message.to, message.type_
                ));
            }
        }
        for (number, request) in &self.ledger.requests {
            if self.clients[request.asker].stage != Stage::Online || request.answers > 0 {
                continue;
            }
            let bare = request.to.split('/').next().unwrap_or_default();
            let account = self
                .accounts
                .all
                .iter()
                .position(|account| account.jid.as_str() == bare);
            let asker = self.own_jid(request.asker);
            let id = format!("q{number}");
            let may_be_lost = match (request.got, account) {
                _ if self.is_request_lost_between(&id, &asker, &request.to) => true,
                (Some(got), _) => self.clients[got].stage != Stage::Online,
                (None, Some(account)) if request.to.contains('/') => {
                    self.may_have_lost(account, request.sent_at)
                }
                (None, _) => false,
            };
            if !may_be_lost {
                wrong.push(format!(
                    "q{number} of client {} to {:?} was not answered",
                    request.asker, request.to
                ));
            }
        }
        for what in wrong {
            self.violated(what);
        }
    }
}
