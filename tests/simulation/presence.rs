//! Presence (RFC 6121 §4): who says what of itself, who may hear it, and what everybody has heard in
//! the end. Nobody is shown what it may not see, and at rest nobody takes a resource to be there that
//! is gone, or misses one that it is subscribed to.

use std::collections::{BTreeMap, BTreeSet};

use stanzad::shard::turn::Shard;
use stanzad::storage::roster::{self, State};
use stanzad::xml::Element;

use crate::client::condition;
use crate::world::World;

/// How long before a client is bound something may have been sent that it still gets.
const SLACK_MILLIS: u64 = 1_000;
/// The same between servers, where presence waits for a connection.
const SLACK_BETWEEN_SERVERS_MILLIS: u64 = 90_000;

/// What has been said, by number.
#[derive(Default)]
pub struct Presences {
    said: BTreeMap<u64, Said>,
    /// Who has sent presence directly to whom, as numbers of accounts.
    directed: BTreeSet<(usize, usize)>,
}

struct Said {
    client: usize,
    at: u64,
    /// None for a broadcast.
    to: Option<String>,
    is_available: bool,
    is_bad: bool,
    /// Who has heard it, if it is directed.
    got: Vec<usize>,
    /// Accounts at which it came to more than had place, as its sender was told.
    refused: Vec<usize>,
}

/// What a client has said of itself and heard of others.
#[derive(Default)]
pub struct Sight {
    /// What it has broadcast last, if it is available by that.
    said: Option<u64>,
    /// Its last broadcast of unavailable presence.
    left: u64,
    /// The server has told it that it is available.
    is_there: bool,
    /// Since when.
    there_since: u64,
    was_away: bool,
    /// Resources of others that are available, as far as it has heard.
    seen: BTreeMap<String, Seen>,
    /// What it has heard last from each client.
    last: BTreeMap<usize, Last>,
}

#[derive(Clone, Copy, Default)]
struct Last {
    number: u64,
    broadcast: u64,
}

impl Last {
    /// Whether a number comes too late. A broadcast may come again to whom it was not new, since it
    /// is what probes are answered with.
    fn is_before(self, number: u64, is_directed: bool) -> bool {
        match is_directed {
            true => self.number < number,
            false => self.broadcast <= number,
        }
    }

    fn after(self, number: u64, is_directed: bool) -> Last {
        Last {
            number: number.max(self.number),
            broadcast: match is_directed {
                true => self.broadcast,
                false => number,
            },
        }
    }
}

#[derive(Debug)]
struct Seen {
    number: u64,
    is_directed: bool,
}

impl World {
    // --- saying

    /// A client broadcasts that it is available, and how.
    pub fn say_available(&mut self, index: usize) {
        let number = self.number();
        // RFC 6121 §4.7.2.3 has no such priority.
        let is_bad = self.chance.one_in(40);
        let priority = match is_bad {
            true => 1_000,
            false => self.chance.pick(&[-128, -1, -1, 0, 0, 1, 5, 127]),
        };
        self.clients[index].has_rested |= priority < 0;
        let stanza = format!(
            "<presence id='p{number}'><show>away</show><priority>{priority}</priority></presence>"
        );
        self.say(index, number, None, true, is_bad, &stanza);
        self.be_greeted(index);
    }

    /// A client broadcasts that it is available, and nothing is wrong with that.
    pub fn say_available_well(&mut self, index: usize) {
        let number = self.number();
        let stanza = format!("<presence id='p{number}'/>");
        self.say(index, number, None, true, false, &stanza);
    }

    /// A client broadcasts that it is unavailable.
    pub fn say_unavailable(&mut self, index: usize) {
        let number = self.number();
        self.clients[index].has_rested = true;
        let stanza = format!("<presence type='unavailable' id='p{number}'/>");
        self.say(index, number, None, false, false, &stanza);
    }

    /// A client tells somebody alone.
    pub fn say_to(&mut self, index: usize, to: String) {
        let number = self.number();
        let is_available = !self.chance.one_in(4);
        let type_ = match is_available {
            true => "",
            false => " type='unavailable'",
        };
        let stanza = format!("<presence{type_} id='p{number}' to='{to}'/>");
        if let Some(account) = self.account_of(&to) {
            let own = self.clients[index].account;
            self.presences.directed.insert((own, account));
        }
        self.say(index, number, Some(to), is_available, false, &stanza);
    }

    /// A client asks for presence itself, which it need not do (RFC 6121 §4.3).
    pub fn probe(&mut self, index: usize, to: &str) {
        if !self.clients[index].is_online() {
            return;
        }
        let stanza = format!("<presence type='probe' to='{to}'/>");
        self.note(|| format!("client {index} says {stanza}"));
        self.count("probes sent");
        self.send(index, stanza.as_bytes());
    }

    fn say(
        &mut self,
        index: usize,
        number: u64,
        to: Option<String>,
        is_available: bool,
        is_bad: bool,
        stanza: &str,
    ) {
        if !self.clients[index].is_online() {
            return;
        }
        self.note(|| format!("client {index} says {stanza}"));
        self.count(match (&to, is_available) {
            (None, true) => "available presence sent",
            (None, false) => "unavailable presence sent",
            (Some(_), _) => "directed presence sent",
        });
        let sight = &mut self.clients[index].sight;
        if to.is_none() && !is_bad {
            sight.said = is_available.then_some(number);
            if !is_available {
                sight.left = number;
            }
        }
        let said = Said {
            client: index,
            at: self.now,
            to,
            is_available,
            is_bad,
            got: Vec::new(),
            refused: Vec::new(),
        };
        self.presences.said.insert(number, said);
        self.send(index, stanza.as_bytes());
    }

    /// The account that a JID is of.
    pub fn account_of(&self, jid: &str) -> Option<usize> {
        let bare = jid.split('/').next().unwrap_or_default();
        let mut all = self.accounts.all.iter();
        all.position(|account| account.jid.as_str() == bare)
    }

    // --- hearing

    /// A client got a presence stanza.
    pub fn presence(
        &mut self,
        index: usize,
        element: &Element,
        type_: &str,
        id: &str,
        number: Option<u64>,
    ) {
        match (type_, number) {
            ("error", Some(number)) if id.starts_with('s') => {
                self.signal_returned(index, number, element);
            }
            ("error", Some(number)) if id.starts_with('p') => {
                self.presence_returned(index, number, element);
            }
            // Of what the server itself has sent in the account's name, or of a probe.
            ("error", _) => {
                let condition = condition(element);
                let is_due = match condition.as_str() {
                    "remote-server-not-found" => true,
                    "remote-server-timeout" => self.links.is_broken_since(0),
                    "resource-constraint" => self.may_be_too_much(element),
                    "internal-server-error" => self.trouble_at.is_some(),
                    _ => false,
                };
                if !is_due {
                    self.violated(format!("client {index} got presence back: {condition}"));
                }
            }
            ("" | "unavailable", _) => self.presence_heard(index, element, type_.is_empty()),
            ("subscribe" | "subscribed" | "unsubscribe" | "unsubscribed", _) => {
                self.signal_heard(index, element, type_);
            }
            _ => self.violated(format!("client {index} got presence of type {type_}")),
        }
    }

    fn presence_heard(&mut self, index: usize, element: &Element, is_available: bool) {
        let from = element.attribute("from").unwrap_or_default().to_owned();
        let id = element.attribute("id").unwrap_or_default();
        let number = id.strip_prefix('p').and_then(|id| id.parse::<u64>().ok());
        let Some(of) = self.account_of(&from) else {
            return self.violated(format!("client {index} got presence of {from}"));
        };
        self.note(|| format!("client {index} sees {from}: {is_available} {number:?}"));
        self.count(match is_available {
            true => "available presence heard",
            false => "unavailable presence heard",
        });
        match number {
            Some(number) => self.presence_said(index, of, &from, number, is_available),
            None => self.presence_made(index, of, &from, is_available),
        }
        if self.violations.is_empty() {
            self.sees(index, from, number, is_available);
        }
    }

    /// Presence that a client has sent.
    fn presence_said(
        &mut self,
        index: usize,
        of: usize,
        from: &str,
        number: u64,
        is_available: bool,
    ) {
        let now = self.now;
        let viewer = self.clients[index].account;
        let own = self.own_jid(index);
        let Some(said) = self.presences.said.get_mut(&number) else {
            return self.violated(format!("client {index} got p{number}, which nobody said"));
        };
        let is_to_me = said
            .to
            .as_ref()
            .is_some_and(|to| Some(to) == self.clients[index].jid.as_ref() || *to == own);
        let is_again = said.to.is_some() && said.got.contains(&index);
        said.got.push(index);
        let is_said = self.clients[said.client].jid.as_deref() == Some(from)
            && said.is_available == is_available
            && !said.is_bad
            && (said.to.is_none() || is_to_me);
        let (speaker, is_directed, said_at) = (said.client, said.to.is_some(), said.at);
        let is_seen = is_to_me
            || of == viewer
            || self.grants.has_since(of, viewer, said_at, now)
            // It may have been seen before, and is told that this is over.
            || (!is_available && self.may_be_told_of_end(index, of));
        // What an old connection still brings may come behind what a new one does.
        // And what may not have arrived is sent again.
        let id = format!("p{number}");
        let may_be_late = self.may_be_overtaken(&id);
        let times = self.times_sent_to(&id, &own);
        let last = self.clients[index].sight.last.entry(speaker).or_default();
        let is_late = !last.is_before(number, is_directed) && !may_be_late;
        *last = last.after(number, is_directed);
        let heard = last.number;
        if !is_said {
            self.violated(format!(
                "client {index} got p{number} of {from}, who has not said it"
            ));
        } else if is_again && times < 2 {
            self.violated(format!("client {index} got p{number} twice"));
        } else if !is_seen {
            self.violated(format!(
                "client {index} got p{number} of {from}, which it may not see"
            ));
        } else if is_late {
            self.violated(format!(
                "client {index} got p{number} of {from} after p{heard}"
            ));
        }
    }

    /// Presence that the server makes: unavailable for who has not said so itself, or of nobody;
    /// available for a resource that has told a prober so (RFC 6121 §4.6.6).
    fn presence_made(&mut self, index: usize, of: usize, from: &str, is_available: bool) {
        let viewer = self.clients[index].account;
        let is_due = match is_available {
            true => self.presences.directed.contains(&(of, viewer)),
            false => viewer == of || self.may_be_told_of_end(index, of),
        };
        if !is_due {
            self.violated(format!(
                "client {index} was told of {from}, which it may not see: {is_available}"
            ));
        }
    }

    fn may_be_told_of_end(&self, index: usize, of: usize) -> bool {
        let client = &self.clients[index];
        let slack = match self.is_between_servers(of, client.account) {
            true => SLACK_BETWEEN_SERVERS_MILLIS,
            false => SLACK_MILLIS,
        };
        let since = client.started.saturating_sub(slack);
        self.grants.has_since(of, client.account, since, self.now)
            || self.presences.directed.contains(&(of, client.account))
    }

    /// What a client makes of what it hears. From the server's word that it is available itself to
    /// the word that it is not, it is told everything.
    fn sees(&mut self, index: usize, from: String, number: Option<u64>, is_available: bool) {
        let is_directed = number
            .and_then(|number| self.presences.said.get(&number))
            .is_some_and(|said| said.to.is_some());
        let is_own = number
            .and_then(|number| self.presences.said.get(&number))
            .is_some_and(|said| said.client == index);
        let now = self.now;
        let sight = &mut self.clients[index].sight;
        if is_own && !is_directed {
            if is_available != sight.is_there {
                sight.seen.clear();
                sight.there_since = now;
            }
            sight.was_away |= !is_available;
            sight.is_there = is_available;
            return;
        }
        if is_own || !sight.is_there {
            return;
        }
        match (number, is_available) {
            (Some(number), true) => {
                let seen = Seen {
                    number,
                    is_directed,
                };
                sight.seen.insert(from, seen);
            }
            // It has been told so before.
            (None, true) => {}
            (_, false) => {
                sight.seen.remove(&from);
            }
        }
    }

    /// Presence came back.
    pub fn presence_returned(&mut self, index: usize, number: u64, element: &Element) {
        let condition = condition(element);
        self.note(|| format!("client {index} got p{number} back: {condition}"));
        let had_trouble = self.trouble_at.is_some();
        let Some(said) = self.presences.said.get(&number) else {
            return self.violated(format!("client {index} got p{number}, which nobody said"));
        };
        let to = said.to.clone().unwrap_or_default();
        let (at, is_bad, is_broadcast, client) =
            (said.at, said.is_bad, said.to.is_none(), said.client);
        let own = self.own_jid(index);
        let is_due = match condition.as_str() {
            "bad-request" => is_bad,
            // A broadcast also goes to whom presence was directed.
            "remote-server-not-found" => is_broadcast || to.contains("elsewhere.example"),
            "remote-server-timeout" => self.may_go_back(&own, at),
            "resource-constraint" => self.may_be_too_much(element),
            "internal-server-error" => had_trouble,
            _ => false,
        };
        // Another connection may have the sender's full JID by now.
        let is_own = self.clients[client].jid == self.clients[index].jid;
        if !is_due || !is_own {
            self.violated(format!("client {index} got p{number} back: {condition}"));
        }
        let by = self.account_of(element.attribute("from").unwrap_or_default());
        if condition == "resource-constraint"
            && let (Some(by), Some(said)) = (by, self.presences.said.get_mut(&number))
        {
            said.refused.push(by);
        }
        self.count("presence returned");
    }

    // --- what must hold

    /// At rest: the server knows what each client has said last, and everybody has heard what it
    /// may hear.
    pub fn check_presence_at_rest(&mut self, shards: &[Shard]) {
        let mut wrong = Vec::new();
        for shard in shards {
            if shard.router.has_fanout() {
                wrong.push("a broadcast is never done".to_owned());
            }
            for (_, session) in shard.router.sessions.iter() {
                let index = session.origin.stream as usize;
                let said = self.clients[index].sight.said;
                let id = session
                    .presence
                    .as_ref()
                    .map(|presence| presence.stanza.id.clone());
                let known = id.map(|id| id.unwrap_or_default().into_string());
                if known != said.map(|number| format!("p{number}")) {
                    wrong.push(format!(
                        "the server has {known:?} as the presence of client {index}, not {said:?}"
                    ));
                }
            }
        }
        for index in self.live.clone() {
            if self.clients[index].is_online() && self.clients[index].sight.said.is_some() {
                self.check_sight(index, &mut wrong);
            }
        }
        wrong.into_iter().for_each(|what| self.violated(what));
    }

    fn check_sight(&mut self, index: usize, wrong: &mut Vec<String>) {
        let own = self.jid_of(self.clients[index].account);
        let states = roster::states(self.store(&own).db(), &own).unwrap();
        let is_subscribed = |other: usize| {
            let jid = self.jid_of(other);
            jid == own
                || states
                    .iter()
                    .any(|(contact, state)| *contact == jid && state.has(State::TO))
        };
        let (mut expected, mut others) = (0, Vec::new());
        for other in &self.live {
            let client = &self.clients[*other];
            if *other == index || !client.is_online() {
                continue;
            }
            let Some(jid) = &client.jid else { continue };
            others.push((jid.clone(), *other));
            let Some(said) = client.sight.said.filter(|_| is_subscribed(client.account)) else {
                continue;
            };
            expected += 1;
            let seen = self.clients[index].sight.seen.get(jid);
            let is_heard = seen
                .is_some_and(|seen| seen.number == said || seen.is_directed && seen.number > said);
            let last = &self.presences.said[&said];
            let is_excused = self.is_excused(index, *other, said)
                || last.refused.contains(&self.clients[index].account)
                || self.waits_for_probe(index, client.account, last.at);
            if !is_heard && !is_excused {
                wrong.push(format!(
                    "client {index} sees {jid} as {seen:?}, whose last presence is p{said}"
                ));
            }
        }
        for (jid, seen) in &self.clients[index].sight.seen {
            let found = others.iter().find(|(other, _)| other == jid);
            let speaker = found.map(|(_, other)| &self.clients[*other]);
            let is_there = speaker.is_some_and(|speaker| {
                let may_see =
                    is_subscribed(speaker.account) || self.is_granted(index, speaker.account);
                let is_shown = speaker.sight.said.is_some() && may_see;
                is_shown || (seen.is_directed && seen.number > speaker.sight.left)
            });
            let is_forgiven = (seen.is_directed && self.may_be_forgotten(index, jid))
                || self
                    .account_of(jid)
                    .is_some_and(|of| self.waits_for_probe(index, of, u64::MAX));
            if !is_there && !is_forgiven {
                wrong.push(format!(
                    "client {index} sees {jid} as {seen:?}, who is not there"
                ));
            }
        }
        self.count_more("resources seen at rest", expected);
    }

    /// Whether an account of the other server lets a client's account see it. Between servers the answer to
    /// an earlier `unsubscribe` may end a request that was sent after it, and be passed by that one's
    /// approval (RFC 6121 Appendix A knows no order of the two): then only the one side counts on it.
    fn is_granted(&self, index: usize, by: usize) -> bool {
        let account = self.clients[index].account;
        let state = self.state_between(&self.jid_of(by), &self.jid_of(account));
        self.is_between_servers(by, account) && state.has(State::FROM)
    }

    /// Whether a client may not know what an account of the other server has said then, or what the client was
    /// told of it when it came: that was lost on its way, or the two do not agree who may see whom, and the
    /// next probe will tell (RFC 6121 §4.3.1).
    fn waits_for_probe(&self, index: usize, of: usize, said_at: u64) -> bool {
        let client = &self.clients[index];
        if !self.is_between_servers(of, client.account)
            || client.sight.there_since >= self.links.healed_at
        {
            return false;
        }
        let (own, other) = (self.jid_of(client.account), self.jid_of(of));
        let is_agreed = self.state_between(&own, &other).has(State::TO)
            == self.state_between(&other, &own).has(State::FROM);
        let since = client.started.min(said_at);
        !is_agreed || self.may_have_missed(own.as_str(), other.as_str(), since)
    }

    /// RFC 6121 §4.6.1: who has sent presence directly forgets it of somebody whose unavailable
    /// presence comes, be it because a subscription has ended.
    fn may_be_forgotten(&self, index: usize, by: &str) -> bool {
        let client = &self.clients[index];
        let Some(by) = self.account_of(by) else {
            return false;
        };
        let has_left = |said: &Said| {
            let to = said.to.as_deref().and_then(|to| self.account_of(to));
            said.client == index && !said.is_available && to == Some(by)
        };
        client.sight.was_away
            || self
                .grants
                .has_ended_since(client.account, by, client.started)
            || self.presences.said.values().any(has_left)
    }

    /// Who was told directly that a resource is not there, and has not heard it broadcast since.
    fn is_excused(&self, index: usize, other: usize, said: u64) -> bool {
        self.presences.said.range(said..).any(|(_, directed)| {
            directed.client == other && !directed.is_available && directed.got.contains(&index)
        })
    }
}
