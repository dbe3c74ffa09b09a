//! Subscriptions between the accounts of a run (RFC 6121 §3, Appendix A): who asks, grants and
//! cancels, and who may see whose presence when. At rest both sides of each pair agree.

use std::collections::BTreeMap;

use stanzad::jid::BareJid;
use stanzad::ns;
use stanzad::storage::handoff;
use stanzad::storage::roster::{self, State};
use stanzad::xml::Element;

use crate::accounts::Account;
use crate::client::condition;
use crate::servers::{Server, stored_id};
use crate::world::{Phase, World};

/// How long a shard may go by what was stored before, in milliseconds: until it has the answer.
const ANSWER_MILLIS: u64 = 1_000;

/// The subscription stanzas that clients have sent, by number.
#[derive(Default)]
pub struct Signals(BTreeMap<u64, Sent>);

struct Sent {
    client: usize,
    contact: String,
    type_: &'static str,
    at: u64,
    /// The clients that it came back to.
    returned: Vec<usize>,
}

/// When which account let which other one see its presence, as the store had it.
#[derive(Default)]
pub struct Grants(BTreeMap<(usize, usize), Vec<Span>>);

struct Span {
    start: u64,
    /// None while it lasts.
    end: Option<u64>,
}

impl Grants {
    fn set(&mut self, of: usize, viewer: usize, is_granted: bool, now: u64) {
        let spans = self.0.entry((of, viewer)).or_default();
        let open = spans.last_mut().filter(|span| span.end.is_none());
        match (open, is_granted) {
            (None, true) => spans.push(Span {
                start: now,
                end: None,
            }),
            (Some(span), false) => span.end = Some(now),
            (Some(_), true) | (None, false) => {}
        }
    }

    /// Whether a viewer may have been shown presence of another account since then.
    pub fn has_since(&self, of: usize, viewer: usize, since: u64, now: u64) -> bool {
        self.0.get(&(of, viewer)).is_some_and(|spans| {
            spans.iter().any(|span| {
                span.start <= now && span.end.is_none_or(|end| end + ANSWER_MILLIS >= since)
            })
        })
    }
}

impl Grants {
    /// Whether a viewer was shut out since then.
    pub fn has_ended_since(&self, of: usize, viewer: usize, since: u64) -> bool {
        let spans = self.0.get(&(of, viewer)).into_iter().flatten();
        spans
            .into_iter()
            .any(|span| span.end.is_some_and(|end| end + ANSWER_MILLIS >= since))
    }
}

impl World {
    // --- doing

    /// Some begin with contacts.
    pub fn create_contacts(&mut self) {
        for one in 0..self.accounts.all.len() {
            for other in one + 1..self.accounts.all.len() {
                if self.chance.one_in(2) {
                    continue;
                }
                let (to, from) = self.chance.pick(&[
                    (true, true),
                    (true, true),
                    (true, false),
                    (false, true),
                    (false, false),
                ]);
                self.befriend(one, other, to, from);
                self.befriend(other, one, from, to);
            }
        }
        self.observe_grants(None);
    }

    fn befriend(&mut self, one: usize, other: usize, to: bool, from: bool) {
        let (own, contact) = (self.jid_of(one), self.jid_of(other));
        let mut state = State::LISTED;
        if to {
            state = state.with(State::TO);
        }
        if from {
            state = state.with(State::FROM);
        }
        let life = stored_id(self.accounts.all[one].id.unwrap());
        let is_named = self.chance.one_in(2);
        self.store_mut(&self.jid_of(one))
            .change(move |db| {
                roster::set_state(db, &own, &contact, state, None)?;
                if is_named {
                    let groups = ["Old friends".to_owned()];
                    roster::set_item(db, life, &contact, Some("Friend"), &groups, 1 << 20)?;
                }
                Ok(())
            })
            .unwrap();
    }

    pub fn jid_of(&self, account: usize) -> BareJid {
        self.accounts.all[account].jid.clone()
    }

    /// Somebody to have to do with, mostly one of few, so that both sides act at once.
    pub fn contact(&mut self, index: usize) -> String {
        match self.chance.within(0..=29) {
            0 => "nobody@example.org".to_owned(),
            1 => "someone@elsewhere.example".to_owned(),
            2 => self.own_jid(index),
            _ => self.other_account(index),
        }
    }

    /// The bare JID of another account.
    pub fn other_account(&mut self, index: usize) -> String {
        let count = self.accounts.all.len();
        let own = self.clients[index].account;
        let by = match self.chance.one_in(2) {
            true => 1 + 4 * (own % 2),
            false => self.chance.within(1..=count as u64 - 1) as usize,
        };
        self.accounts.all[(own + by) % count].jid.to_string()
    }

    /// A client sends a subscription stanza, or some.
    pub fn signal_somebody(&mut self, index: usize) {
        let contact = self.contact(index);
        let type_ = self.signal_type();
        self.signal(index, type_, &contact);
        // A change of mind while the first is on its way.
        while self.chance.one_in(4) {
            let type_ = self.signal_type();
            self.signal(index, type_, &contact);
        }
    }

    fn signal_type(&mut self) -> &'static str {
        self.chance.pick(&[
            "subscribe",
            "subscribe",
            "subscribe",
            "subscribed",
            "subscribed",
            "unsubscribe",
            "unsubscribed",
        ])
    }

    pub fn signal(&mut self, index: usize, type_: &'static str, contact: &str) {
        if !self.clients[index].is_online() {
            return;
        }
        let number = self.number();
        // RFC 6121 §3.1.2: it is for the bare JID all the same.
        let resource = match self.chance.one_in(8) {
            true => "/desk",
            false => "",
        };
        let stanza = format!(
            "<presence type='{type_}' id='s{number}' to='{contact}{resource}'>\
             <status>Pray, {number}</status></presence>"
        );
        self.note(|| format!("client {index} sends s{number}: {type_} to {contact}"));
        self.count(type_);
        let sent = Sent {
            client: index,
            contact: contact.to_owned(),
            type_,
            at: self.now,
            returned: Vec::new(),
        };
        self.signals.0.insert(number, sent);
        self.send(index, stanza.as_bytes());
    }

    // --- hearing

    /// A client got a subscription stanza, and may answer it.
    pub fn signal_heard(&mut self, index: usize, element: &Element, type_: &str) {
        let from = element.attribute("from").unwrap_or_default().to_owned();
        let id = element.attribute("id").unwrap_or_default().to_owned();
        self.note(|| format!("client {index} got {id} {type_} of {from}"));
        if from.contains('/') || from == self.own_jid(index) {
            return self.violated(format!("client {index} got {type_} of {from}"));
        }
        if type_ != "subscribe" {
            self.count("answers to requests heard");
            return;
        }
        self.count("requests heard");
        let number = id.strip_prefix('s').and_then(|number| number.parse().ok());
        let sent = number.and_then(|number: u64| Some((number, self.signals.0.get(&number)?)));
        let is_sent = sent.is_some_and(|(number, sent)| {
            sent.type_ == "subscribe"
                && sent.contact == self.own_jid(index)
                && self.own_jid(sent.client) == from
                && element.find(ns::CLIENT, "status").map(Element::text)
                    == Some(format!("Pray, {number}"))
        });
        // RFC 6121 §3.1.2, last paragraph.
        let is_sent_again = id.is_empty() && self.has_asked(&from, index);
        if !is_sent && !is_sent_again {
            return self.violated(format!(
                "client {index} got the request {id} of {from}, which nobody sent"
            ));
        }
        if self.phase != Phase::Busy {
            return;
        }
        match self.chance.within(0..=9) {
            0..=4 => self.signal(index, "subscribed", &from),
            5 => self.signal(index, "unsubscribed", &from),
            _ => {}
        }
        if self.chance.one_in(3) {
            self.signal(index, "subscribe", &from);
        }
    }

    /// Whether an account of the other server has ever asked for a client's presence.
    fn has_asked(&self, contact: &str, index: usize) -> bool {
        let own = self.own_jid(index);
        let is_request = |sent: &Sent| {
            sent.type_ == "subscribe" && sent.contact == own && self.own_jid(sent.client) == contact
        };
        self.is_between(contact, &own) && self.signals.0.values().any(is_request)
    }

    /// A subscription stanza came back.
    pub fn signal_returned(&mut self, index: usize, number: u64, element: &Element) {
        let condition = condition(element);
        self.note(|| format!("client {index} got s{number} back: {condition}"));
        let (is_tight, had_trouble) = (self.character.has_tight_limits, self.trouble_at.is_some());
        let own = self.own_jid(index);
        let Some(sent) = self.signals.0.get_mut(&number) else {
            return self.violated(format!("client {index} got s{number}, which nobody sent"));
        };
        // It is sent in the account's name, so all of its resources hear of it.
        sent.returned.push(index);
        let times = sent.returned.iter().filter(|it| **it == index).count();
        let (at, contact) = (sent.at, sent.contact.clone());
        let is_due = match condition.as_str() {
            "remote-server-not-found" => contact.ends_with("elsewhere.example"),
            "remote-server-timeout" => self.may_go_back(&own, at),
            "policy-violation" => is_tight,
            "resource-constraint" => self.may_be_too_much(element),
            "internal-server-error" => had_trouble,
            _ => false,
        };
        // The other server may have had it twice, or have sent its error twice; and what this one answers
        // in the account's name, as often as it gets it, comes back too.
        let id = format!("s{number}");
        let gone_back = self.times_gone_back(&id, self.server_of(&own));
        let times_max = (self.answers_max(&id) + gone_back).max(self.times_sent(&id));
        if !is_due || times > times_max {
            self.violated(format!("client {index} got s{number} back: {condition}"));
        }
        self.count("subscription stanzas returned");
    }

    // --- what must hold

    /// Looks who may see whom, in the accounts of these shards, or in all.
    pub fn observe_grants(&mut self, shards: Option<&[u32]>) {
        let now = self.now;
        for of in 0..self.accounts.all.len() {
            let jid = self.jid_of(of);
            let shard = self.shard_of(jid.as_str());
            if shards.is_some_and(|shards| !shards.contains(&shard)) {
                continue;
            }
            let states = roster::states(self.store(&jid).db(), &jid).unwrap();
            for viewer in 0..self.accounts.all.len() {
                let contact = &self.accounts.all[viewer].jid;
                let found = states.iter().find(|(jid, _)| jid == contact);
                let state = found.map_or(State::NONE, |(_, state)| *state);
                if !makes_sense(state) {
                    let what = format!("{jid} has {contact} as {state:?}, which is no state");
                    self.violated(what);
                }
                self.grants.set(of, viewer, state.has(State::FROM), now);
            }
        }
    }

    /// At rest: nothing is on its way between two accounts, and they agree.
    pub fn check_agreement(&mut self) {
        let mut wrong = Vec::new();
        let count = |server: &Server| handoff::count(server.store.db()).unwrap();
        let waiting: u64 = self.servers.iter().map(count).sum();
        if waiting > 0 {
            wrong.push(format!("{waiting} hand-offs are never completed"));
        }
        let mut counts = [0; 4];
        for one in &self.accounts.all {
            for other in &self.accounts.all {
                if one.jid >= other.jid {
                    continue;
                }
                let (mine, theirs) = (
                    self.state_between(&one.jid, &other.jid),
                    self.state_between(&other.jid, &one.jid),
                );
                let is_agreed = match self.is_between(one.jid.as_str(), other.jid.as_str()) {
                    true => self.agrees_across(one, other, mine, theirs),
                    false => {
                        self.agrees(mine, theirs, other.was_absent)
                            && self.agrees(theirs, mine, one.was_absent)
                    }
                };
                if !is_agreed {
                    wrong.push(format!(
                        "{} and {} do not agree: {mine:?} and {theirs:?}",
                        one.jid, other.jid
                    ));
                }
                let kinds = [State::TO, State::FROM, State::PENDING_OUT, State::APPROVED];
                for (kind, count) in kinds.iter().zip(&mut counts) {
                    *count += u64::from(mine.has(*kind)) + u64::from(theirs.has(*kind));
                }
            }
        }
        let names = [
            "subscriptions to at rest",
            "subscriptions from at rest",
            "requests at rest",
            "approvals at rest",
        ];
        for (name, count) in names.into_iter().zip(counts) {
            self.count_more(name, count);
        }
        wrong.into_iter().for_each(|what| self.violated(what));
    }

    /// Between servers stanzas that cross, or get lost, are made up for by what is said again (RFC 6121
    /// §3.1.2, §4.3.1).
    fn agrees_across(&self, one: &Account, other: &Account, mine: State, theirs: State) -> bool {
        if self.phase < Phase::Repairing {
            return true;
        }
        match (self.was_repaired(one), self.was_repaired(other)) {
            (true, true) => {
                self.agrees(mine, theirs, other.was_absent)
                    && self.agrees(theirs, mine, one.was_absent)
            }
            // What the other one, who is not there, has lost cannot be told to it.
            (true, false) => !mine.has(State::TO) || theirs.has(State::FROM),
            (false, true) => !theirs.has(State::TO) || mine.has(State::FROM),
            (false, false) => true,
        }
    }

    pub fn state_between(&self, own: &BareJid, contact: &BareJid) -> State {
        let states = roster::states(self.store(own).db(), own).unwrap();
        let found = states.into_iter().find(|(jid, _)| jid == contact);
        found.map_or(State::NONE, |(_, state)| state)
    }

    /// Whether one side's state fits the other's. A request need not have arrived at a name that had
    /// no account when it came, nor where no more may wait.
    fn agrees(&self, mine: State, theirs: State, was_absent: bool) -> bool {
        let may_be_lost = was_absent || self.character.has_tight_limits;
        let is_heard = theirs.has(State::PENDING_IN) || may_be_lost;
        mine.has(State::TO) == theirs.has(State::FROM)
            && (!theirs.has(State::PENDING_IN) || mine.has(State::PENDING_OUT))
            && (!mine.has(State::PENDING_OUT) || is_heard)
    }
}

/// Appendix A.1 has no state with one of these pairs, and what the account itself has done makes an
/// item (§3.1.2, §3.1.5, §3.4.2).
fn makes_sense(state: State) -> bool {
    let pairs = [
        (State::TO, State::PENDING_OUT),
        (State::FROM, State::PENDING_IN),
        (State::PENDING_IN, State::APPROVED),
    ];
    let listed = [State::TO, State::FROM, State::PENDING_OUT, State::APPROVED];
    pairs
        .iter()
        .all(|(one, other)| !state.has(one.with(*other)))
        && (state.is_listed() || listed.iter().all(|bit| !state.has(*bit)))
}
