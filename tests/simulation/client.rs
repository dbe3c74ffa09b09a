//! A simulated client: it logs in, talks, and leaves, by chance well or badly behaved. What it sees
//! is checked on the spot; what can be judged only at the end goes into the ledger.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use stanzad::ns;
use stanzad::xml::{Bounds, Element, Item, Parser};

use crate::chance::Chance;
use crate::network::{CLIENT_HELLO, Wire};
use crate::offline::Heard;
use crate::presence::Sight;
use crate::rosters::View;
use crate::scram::{PASSWORDS, Scram};
use crate::world::{Event, Phase, World};

const CLOSE: &str = "</stream:stream>";
/// How long an orderly login may take before something must be stuck, in milliseconds.
const LOGIN_MILLIS_MAX: u64 = 25_000;

/// How long the server may take to come to a request behind much else, in milliseconds.
pub const ANSWER_MILLIS_MAX: u64 = 10_000;

/// How a client reads what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Eager,
    Slow,
    Never,
}

/// Where a client is in its stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for the features of the stream in the clear.
    Clear,
    /// It waits for `<proceed/>`.
    Proceeding,
    /// It waits for the features of the stream under TLS.
    Encrypted,
    /// It waits for a challenge.
    Challenged,
    /// It waits for `<success/>` or `<failure/>`.
    Judged,
    /// It waits for the features of the authenticated stream.
    Authenticated,
    /// It waits for the answer to its bind.
    Binding,
    /// It has a session.
    Online,
    /// It has sent its end of the stream.
    Closing,
    /// It is gone.
    Gone,
}

/// How a client's connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub at: u64,
    /// It has read all that the server wrote, up to `</stream:stream>`.
    pub is_whole: bool,
}

/// One connection of a simulated client.
pub struct Client {
    pub slot: usize,
    pub account: usize,
    /// The id of the account when it was let in.
    pub life: Option<i64>,
    pub password: usize,
    pub address: SocketAddr,
    pub wire: Wire,
    pub registered: Option<(u32, usize)>,
    /// When the server last stopped watching it.
    pub released: Option<u64>,
    pub reading: Reading,
    pub is_drain_due: bool,
    pub stage: Stage,
    pub jid: Option<String>,
    /// When it heard which JID it has.
    pub bound_at: u64,
    pub ended: Option<Ended>,
    /// The turn in which `<success/>` was written.
    pub admitted_turn: Option<u64>,
    /// A worker refused a job of it.
    pub had_trouble: bool,
    /// What has come from each other connection, and from before the run.
    pub heard: BTreeMap<Option<usize>, Heard>,
    pub roster: View,
    pub sight: Sight,
    pub parser: Parser,
    pub scram: Option<Scram>,
    pub arrives_last: u64,
    pub started: u64,
    leaves: u64,
    pub failures: u32,
    /// It has not always read at once.
    pub was_lazy: bool,
    /// It has sent what ends its stream.
    pub is_bad: bool,
    /// It has sent what follows its login before it knew the outcome.
    pub is_hasty: bool,
    /// It says nothing, and answers nothing, until this request of its own is answered: what a
    /// client says wakes its connection, whatever else should have.
    pub awaits: Option<u64>,
    /// It has come to repair what was lost between the servers.
    pub is_repairing: bool,
    /// What it will say all at once.
    withheld: Option<Vec<u8>>,
    /// It has taken no messages for a while.
    pub has_rested: bool,
    /// The account that it says much to.
    pub favorite: Option<usize>,
    /// Its next read takes all there is, as that of a device that wakes up.
    pub is_thirsty: bool,
    has_closed: bool,
    saw_close: bool,
    /// The last bytes received.
    tail: Vec<u8>,
}

impl Client {
    pub fn is_online(&self) -> bool {
        self.stage == Stage::Online && !self.is_bad
    }
}

impl World {
    /// A slot's next client comes.
    pub fn connect(&mut self, slot: usize) {
        if self.phase != Phase::Busy {
            return;
        }
        let mut chance: Chance = self.chance.split();
        let mut account = match chance.one_in(4) {
            true => chance.index(self.accounts.all.len()),
            false => slot % self.accounts.all.len(),
        };
        // Mostly those that let somebody in, so that there is more to see.
        while !self.accounts.all[account].state.is_enabled && !chance.one_in(6) {
            account = chance.index(self.accounts.all.len());
        }
        let right = self.accounts.all[account].state.password;
        let password = match chance.one_in(15) {
            true => chance.index(PASSWORDS),
            false => right,
        };
        let room = match chance.one_in(6) {
            true => 400_000,
            false => chance.within(64..=8_192).max(chance.within(1..=8_192)),
        } as usize;
        let leaves = self.now + chance.within(500..=14_000);
        let server = self.server_of_account(account);
        if self.now < self.servers[server].is_away_until {
            let pause = self.chance.within(200..=2_000);
            return self.after(pause, Event::Connect(slot));
        }
        let wire = Wire::new(chance, room);
        let index = self.push_client(slot, account, password, wire, leaves);
        // Some hang up before they have logged in.
        if self.chance.one_in(12) {
            let at = self.now + self.chance.within(0..=600);
            self.clients[index].leaves = at;
            self.at(at, Event::Act(index));
        }
    }

    /// A client that stays until the end.
    pub fn connect_to_repair(&mut self, slot: usize, account: usize) {
        let password = self.accounts.all[account].state.password;
        let wire = Wire::new(self.chance.split(), 400_000);
        let index = self.push_client(slot, account, password, wire, u64::MAX);
        self.clients[index].is_repairing = true;
    }

    fn push_client(
        &mut self,
        slot: usize,
        account: usize,
        password: usize,
        wire: Wire,
        leaves: u64,
    ) -> usize {
        let index = self.clients.len();
        self.clients.push(Client {
            slot,
            account,
            life: None,
            password,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            wire: wire.clone(),
            registered: None,
            released: None,
            reading: Reading::Eager,
            is_drain_due: false,
            stage: Stage::Clear,
            jid: None,
            bound_at: 0,
            ended: None,
            admitted_turn: None,
            had_trouble: false,
            heard: BTreeMap::new(),
            roster: View::default(),
            sight: Sight::default(),
            parser: Parser::new(Bounds::of(1 << 20)),
            scram: None,
            arrives_last: 0,
            started: self.now,
            leaves,
            failures: 0,
            was_lazy: false,
            is_bad: false,
            is_hasty: false,
            awaits: None,
            is_repairing: false,
            withheld: None,
            has_rested: false,
            favorite: None,
            is_thirsty: false,
            has_closed: false,
            saw_close: false,
            tail: Vec::new(),
        });
        self.live.push(index);
        self.count("connections");
        self.note(|| format!("client {index} connects"));
        self.accept(index, &wire);
        self.send_header(index);
        self.after(LOGIN_MILLIS_MAX, Event::Act(index));
        index
    }

    // --- sending ---

    /// Sends bytes, in pieces that arrive later.
    pub fn send(&mut self, index: usize, bytes: &[u8]) {
        let client = &mut self.clients[index];
        if client.ended.is_some() || client.has_closed {
            return;
        }
        match &mut client.withheld {
            Some(withheld) => withheld.extend_from_slice(bytes),
            None => self.push(index, bytes),
        }
    }

    /// Keeps back what a client says from now on.
    pub fn withhold(&mut self, index: usize) {
        self.clients[index].withheld.get_or_insert_default();
    }

    /// Sends what a client has kept back, all at once, after which it waits for an answer or not.
    pub fn let_out(&mut self, index: usize, awaits: Option<u64>) {
        let client = &mut self.clients[index];
        client.awaits = awaits;
        let bytes = client.withheld.take().unwrap_or_default();
        self.send(index, &bytes);
        if awaits.is_some() {
            self.withhold(index);
        }
    }

    fn push(&mut self, index: usize, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = match self.chance.one_in(4) {
                true => self.chance.within(1..=rest.len() as u64) as usize,
                false => rest.len(),
            };
            let (piece, later) = rest.split_at(count);
            rest = later;
            let at = self.arrival(index);
            self.at(at, Event::Arrive(index, piece.to_vec()));
        }
    }

    fn arrival(&mut self, index: usize) -> u64 {
        let at = self.now + self.chance.delay();
        let client = &mut self.clients[index];
        client.arrives_last = client.arrives_last.max(at);
        client.arrives_last
    }

    pub fn send_header(&mut self, index: usize) {
        let header = self.header(index);
        self.send(index, header.as_bytes());
    }

    pub fn header(&self, index: usize) -> String {
        let to = self.accounts.all[self.clients[index].account].jid.domain();
        format!(
            "<?xml version='1.0'?><stream:stream to='{to}' version='1.0' xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams'>"
        )
    }

    /// Ends the stream as RFC 6120 §4.4 wants it.
    pub fn leave(&mut self, index: usize) {
        self.let_out(index, None);
        self.send(index, CLOSE.as_bytes());
        let client = &mut self.clients[index];
        client.has_closed = true;
        client.stage = Stage::Closing;
        self.note(|| format!("client {index} ends its stream"));
    }

    /// Hangs up without a word.
    fn cut(&mut self, index: usize) {
        // A socket that is closed with unread bytes in it resets its connection.
        let is_reset = self.chance.one_in(2) || self.clients[index].was_lazy;
        self.note(|| format!("client {index} hangs up, reset: {is_reset}"));
        self.count("cuts");
        let at = self.arrival(index);
        self.at(at, Event::Hang(index, is_reset));
        self.clients[index].reading = Reading::Never;
        self.gone(index, false);
    }

    fn gone(&mut self, index: usize, is_whole: bool) {
        let at = self.now;
        let client = &mut self.clients[index];
        if client.ended.is_none() {
            client.ended = Some(Ended { at, is_whole });
            client.stage = Stage::Gone;
            let slot = client.slot;
            self.keep_roster(index);
            let pause = self.chance.within(20..=2_000);
            self.after(pause, Event::Connect(slot));
        }
    }

    /// The server was killed.
    pub fn server_died(&mut self, index: usize) {
        self.clients[index].reading = Reading::Never;
        self.clients[index].registered = None;
        self.clients[index].released = Some(self.now);
        self.gone(index, false);
    }

    // --- receiving ---

    /// Takes what the server has sent.
    pub fn received(&mut self, index: usize, bytes: &[u8]) {
        let client = &mut self.clients[index];
        if client.saw_close {
            let text = String::from_utf8_lossy(bytes).into_owned();
            self.violated(format!(
                "client {index} got {text:?} after the end of its stream"
            ));
            return;
        }
        client.tail.extend_from_slice(bytes);
        let keep = client.tail.len().saturating_sub(CLOSE.len());
        client.tail.drain(..keep);
        client.parser.feed(bytes);
        loop {
            match self.clients[index].parser.next() {
                Ok(Some(item)) => self.item(index, item),
                Ok(None) => return,
                Err(error) => {
                    self.violated(format!("client {index} got bad XML: {error:?}"));
                    return;
                }
            }
            if !self.violations.is_empty() {
                return;
            }
        }
    }

    fn item(&mut self, index: usize, item: Item) {
        match item {
            Item::Open(header) => {
                let to = self.accounts.all[self.clients[index].account].jid.domain();
                if header.from.as_deref() != Some(to) {
                    self.violated(format!("client {index} got a header of {:?}", header.from));
                }
            }
            Item::Top(top) => {
                let element = top.to_element();
                self.element(index, &element);
            }
            Item::Close => {
                let client = &mut self.clients[index];
                client.saw_close = true;
                if client.tail != CLOSE.as_bytes() {
                    self.violated(format!("client {index} got more behind its stream's end"));
                }
                self.note(|| format!("client {index} reads the end of its stream"));
                if !self.clients[index].has_closed {
                    self.clients[index].has_closed = true;
                    if self.clients[index].ended.is_none() {
                        self.push(index, CLOSE.as_bytes());
                    }
                }
                let at = self.arrival(index);
                self.at(at, Event::Hang(index, false));
                self.gone(index, true);
            }
        }
    }

    /// The server has closed the connection.
    pub fn saw_end(&mut self, index: usize) {
        self.live.retain(|live| *live != index);
        let client = &self.clients[index];
        if client.ended.is_none() {
            if !client.was_lazy {
                self.violated(format!("client {index} lost its connection without a word"));
            }
            self.note(|| format!("client {index} lost its connection"));
            self.gone(index, false);
        }
    }

    fn element(&mut self, index: usize, element: &Element) {
        if element.is(ns::STREAM, "error") {
            return self.stream_error(index, element);
        }
        match &self.clients[index].stage {
            Stage::Clear => self.send(
                index,
                b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
            ),
            Stage::Proceeding => {
                if !element.is(ns::TLS, "proceed") {
                    return self.unexpected(index, element);
                }
                self.clients[index].parser.restart();
                self.send(index, CLIENT_HELLO);
                self.send_header(index);
            }
            Stage::Encrypted => self.authenticate(index),
            Stage::Challenged => self.answer(index, element),
            Stage::Judged => self.judged(index, element),
            Stage::Authenticated => self.bind(index),
            Stage::Binding => self.bound(index, element),
            Stage::Online | Stage::Closing => {
                for element in self.tampered(index, element) {
                    self.stanza(index, &element);
                }
            }
            Stage::Gone => {}
        }
        let client = &mut self.clients[index];
        client.stage = match client.stage {
            Stage::Clear => Stage::Proceeding,
            Stage::Proceeding => Stage::Encrypted,
            _ => return,
        };
    }

    pub fn unexpected(&mut self, index: usize, element: &Element) {
        let text = String::from_utf8_lossy(&element.to_bytes()).into_owned();
        let stage = &self.clients[index].stage;
        let what = format!("client {index} got {text} while {stage:?}");
        self.violated(what);
    }

    fn stream_error(&mut self, index: usize, element: &Element) {
        let condition = element
            .elements()
            .next()
            .map_or("", |child| child.name.as_str());
        let client = &self.clients[index];
        let account = &self.accounts.all[client.account];
        let is_changed =
            account.changed_turn.is_some() && account.changed_turn >= client.admitted_turn;
        let is_due = match condition {
            "conflict" => client.jid.as_ref().is_some_and(|jid| !jid.is_empty()),
            "reset" | "not-authorized" if is_changed => true,
            "system-shutdown" => self.phase == Phase::Stopping,
            "resource-constraint" => client.was_lazy,
            "connection-timeout" => client.was_lazy,
            "policy-violation" => client.failures >= 5,
            _ => false,
        };
        self.count(match condition {
            "conflict" => "conflicts",
            "reset" | "not-authorized" => "sessions ended by the operator",
            "resource-constraint" => "sessions ended for not reading",
            "connection-timeout" => "time-outs",
            _ => "other stream errors",
        });
        self.note(|| format!("client {index} got the stream error {condition}"));
        if !is_due && !self.clients[index].is_bad {
            self.violated(format!(
                "client {index} got the stream error {condition} for nothing"
            ));
        }
    }

    // --- acting ---

    /// A client does something of its own accord.
    pub fn act(&mut self, index: usize) {
        let (now, phase) = (self.now, self.phase);
        let client = &self.clients[index];
        if client.ended.is_some() {
            return;
        }
        let is_over = now >= client.leaves && phase == Phase::Busy;
        match client.stage {
            Stage::Online => {}
            Stage::Closing => {
                // RFC 6120 §4.4: whoever waits too long may hang up.
                if now >= client.leaves + 20_000 {
                    if !client.was_lazy {
                        self.violated(format!("client {index} was not answered its end"));
                    }
                    self.cut(index);
                }
                return;
            }
            _ => {
                if client.leaves < client.started + 600 && is_over {
                    return self.cut(index);
                }
                let is_late = now >= client.started + LOGIN_MILLIS_MAX && client.failures == 0;
                if is_late && client.ended.is_none() {
                    let stage = &client.stage;
                    let what = format!("client {index} is stuck while {stage:?}");
                    self.violated(what);
                }
                return;
            }
        }
        if phase != Phase::Busy || client.is_bad {
            return;
        }
        if client.awaits.is_some() {
            return self.after(500, Event::Act(index));
        }
        if is_over {
            match self.chance.within(0..=9) {
                0..=3 => self.cut(index),
                4 => self.misbehave(index),
                _ => {
                    self.leave(index);
                    self.clients[index].leaves = now;
                    self.after(20_000, Event::Act(index));
                }
            }
            return;
        }
        self.talk(index);
        let pause = self.chance.within(5..=500);
        self.after(pause, Event::Act(index));
    }

    /// A client that did not read does so again, and is answered.
    pub fn wake(&mut self, index: usize) {
        self.read_as(index, Reading::Eager);
        if let Some(number) = self.clients[index].awaits {
            self.after(ANSWER_MILLIS_MAX, Event::Expect(index, number));
        }
    }

    /// Nobody but the server itself sees to it that a client that says nothing is read on, and that
    /// must not take until it is pinged.
    pub fn expect_answer(&mut self, index: usize, number: u64) {
        let client = &self.clients[index];
        let reads = client.reading != Reading::Never;
        if client.ended.is_none() && client.awaits == Some(number) && reads {
            self.violated(format!(
                "client {index} says nothing until q{number} is answered, which it is not"
            ));
        }
    }

    /// Changes how a client reads.
    pub fn read_as(&mut self, index: usize, reading: Reading) {
        let client = &mut self.clients[index];
        if client.ended.is_some() {
            return;
        }
        client.is_thirsty = client.reading == Reading::Never;
        client.reading = reading;
        client.was_lazy |= reading != Reading::Eager;
        self.note(|| format!("client {index} reads {reading:?}"));
        self.look_at_wire(index);
    }

    /// Sends what no client may.
    fn misbehave(&mut self, index: usize) {
        let bad = self.chance.pick(&[
            "<message><body>never closed</message>",
            "<unheard-of xmlns='urn:example:nothing'/>",
            "<message from='somebody@example.org/else' to='a@example.org'/>",
            "<!-- hush -->",
            "<!DOCTYPE x>",
            "\u{0}\u{1}\u{2}",
            "</message>",
            "<stream:stream xmlns:stream='http://etherx.jabber.org/streams'/>",
        ]);
        self.note(|| format!("client {index} sends {bad:?}"));
        self.count("misbehaviors");
        self.send(index, bad.as_bytes());
        self.clients[index].is_bad = true;
    }

    /// Whether a client will read all that is written to it from now on.
    pub fn reads_on(&mut self) {
        for index in self.live.clone() {
            if self.clients[index].reading != Reading::Eager {
                self.read_as(index, Reading::Eager);
            }
        }
    }
}

/// The condition of a stanza error.
pub fn condition(element: &Element) -> String {
    let error = element.elements().find(|child| child.name == "error");
    let condition = error.and_then(|error| error.elements().next());
    condition.map_or(String::new(), |condition| condition.name.clone())
}
