//! Broadcasts to contacts, in steps: a roster of thousands takes several turns, and in each of them
//! the accounts of a shard take turns too (`Order of a turn` in lib.rs). What a contact may see is
//! looked up when its turn comes: one that may not see it any more has been told so by the
//! subscription's end, also of resources whose going it has not come to hear of (`partings`).
//!
//! Broadcasts of one account are done one after another, so that each contact hears in order what
//! one session says. A session is held while its broadcast is under way.

use std::collections::{HashMap, VecDeque};
use std::vec;

use crate::clock::Now;
use crate::jid::{BareJid, FullJid, Jid};
use crate::limits::{FANOUT_BYTES_TURN, FANOUT_SLICE, FANOUT_TURN};
use crate::router::Router;
use crate::slots::Key;
use crate::stanza::{Kind, Stanza, Type};
use crate::storage::roster::State;
use crate::xml::Payload;

/// What one contact costs at least: presence and a probe.
const CONTACT_COST_MIN: usize = 2;

/// One stanza on its way to many.
#[derive(Debug)]
pub(crate) struct Broadcast {
    session: Key,
    /// It has `from`; each recipient's copy shares its payload.
    stanza: Stanza,
    /// Whether contacts with [`State::FROM`] get it.
    pub has_contacts: bool,
    /// Whether contacts with [`State::TO`] are probed for the session (RFC 6121 §4.3.1).
    pub has_probes: bool,
    /// Entities that get it too, unless they do as contacts.
    pub directed: vec::IntoIter<Jid>,
    /// The last contact that was looked at; empty before the first.
    after: String,
    is_held: bool,
}

impl Broadcast {
    /// A stanza of a session for its account's contacts.
    pub(crate) fn new(session: Key, stanza: Stanza) -> Broadcast {
        Broadcast {
            session,
            stanza,
            has_contacts: true,
            has_probes: false,
            directed: Vec::new().into_iter(),
            after: String::new(),
            is_held: false,
        }
    }

    /// What one copy costs: one stanza, or what its bytes are of a turn's.
    fn copy_cost(&self) -> usize {
        1 + self.stanza.size() / (FANOUT_BYTES_TURN / FANOUT_TURN)
    }
}

/// A resource that has gone, of which contacts are being told.
#[derive(Debug)]
pub(crate) struct Parting {
    /// The resource.
    pub resource: FullJid,
    /// The last contact that was looked at; empty before the first.
    pub after: String,
}

/// The broadcasts of one shard that are not done.
#[derive(Debug)]
pub(crate) struct Fanouts {
    /// Accounts with broadcasts, the one whose turn is next first.
    ring: VecDeque<Key>,
    /// Their broadcasts, never empty.
    broadcasts: HashMap<Key, VecDeque<Broadcast>>,
    /// How much this turn may still do.
    left: usize,
}

impl Default for Fanouts {
    fn default() -> Fanouts {
        Fanouts {
            ring: VecDeque::new(),
            broadcasts: HashMap::new(),
            left: FANOUT_TURN,
        }
    }
}

impl Fanouts {
    fn push(&mut self, account: Key, broadcast: Broadcast) {
        let waiting = self.broadcasts.entry(account).or_default();
        if waiting.is_empty() {
            self.ring.push_back(account);
        }
        waiting.push_back(broadcast);
    }

    /// The broadcast whose turn is next, taken out.
    fn next(&mut self) -> Option<(Key, Broadcast)> {
        let account = self.ring.pop_front()?;
        let broadcast = self.broadcasts.get_mut(&account)?.pop_front()?;
        Some((account, broadcast))
    }

    /// Those broadcasts of an account that tell contacts that a resource has gone.
    fn partings(&self, account: Key) -> impl Iterator<Item = &Broadcast> {
        let broadcasts = self.broadcasts.get(&account).into_iter().flatten();
        broadcasts.filter(|broadcast| {
            broadcast.has_contacts && broadcast.stanza.type_ == Type::Unavailable
        })
    }

    /// Puts what [`Fanouts::next`] gave back: `rest` of it is to be done.
    fn go_on(&mut self, account: Key, rest: Option<Broadcast>) {
        let Some(waiting) = self.broadcasts.get_mut(&account) else {
            return;
        };
        if let Some(rest) = rest {
            waiting.push_front(rest);
        }
        if waiting.is_empty() {
            self.broadcasts.remove(&account);
        } else {
            self.ring.push_back(account);
        }
    }
}

impl Router {
    /// Begins a turn: the time stands still in it, and so much may be broadcast.
    pub fn begin_turn(&mut self, now: Now) {
        self.now = now;
        self.fanouts.left = FANOUT_TURN;
    }

    /// Whether broadcasts wait for the next turn.
    pub fn has_fanout(&self) -> bool {
        !self.fanouts.ring.is_empty()
    }

    /// Goes on with broadcasts, as far as this turn may.
    pub fn fan_out(&mut self) {
        while self.fanouts.left >= CONTACT_COST_MIN {
            let Some((account, mut broadcast)) = self.fanouts.next() else {
                return;
            };
            let max = FANOUT_SLICE.min(self.fanouts.left);
            let (cost, is_done) = self.broadcast_step(account, &mut broadcast, max);
            self.fanouts.left = self.fanouts.left.saturating_sub(cost);
            if is_done {
                self.fanouts.go_on(account, None);
                self.broadcast_done(account, &broadcast);
            } else {
                self.fanouts.go_on(account, Some(broadcast));
            }
        }
    }

    /// Begins a broadcast. It is done on return if it is small and no other one waits; else its
    /// session is held until it is.
    pub(super) fn broadcast(&mut self, account: Key, broadcast: Broadcast) {
        let is_first = !self.has_fanout();
        let session = broadcast.session;
        if let Some(account) = self.accounts.get_mut(account) {
            account.broadcasts += 1;
        }
        self.fanouts.push(account, broadcast);
        if is_first {
            self.fan_out();
        }
        let waiting = self.fanouts.broadcasts.get_mut(&account);
        if let Some(last) = waiting.and_then(VecDeque::back_mut)
            && self.sessions.get(session).is_some()
        {
            last.is_held = true;
            self.hold(session);
        }
    }

    /// The unavailable presence of an account on its way to a contact whose turn has not come.
    pub(super) fn partings_before(&self, account: Key, contact: &BareJid) -> Vec<Stanza> {
        let partings = self.fanouts.partings(account);
        partings
            .filter(|broadcast| *broadcast.after < *contact.as_str())
            .map(|broadcast| broadcast.stanza.clone())
            .collect()
    }

    /// Resources of an account that have gone while not all contacts know it.
    pub(crate) fn partings(&self, account: Key) -> Vec<Parting> {
        let partings = self.fanouts.partings(account);
        let parting = |broadcast: &Broadcast| {
            let from = broadcast.stanza.from.as_ref()?;
            Some(Parting {
                resource: from.bare().with_resource(from.resource()?).ok()?,
                after: broadcast.after.clone(),
            })
        };
        partings.filter_map(parting).collect()
    }

    fn broadcast_done(&mut self, account: Key, broadcast: &Broadcast) {
        if broadcast.is_held {
            self.release(broadcast.session);
        }
        // An anonymous account is gone with its session.
        if let Some(account) = self.accounts.get_mut(account) {
            account.broadcasts -= 1;
        }
        self.accounts.mark_idle(account, self.now.mono);
    }

    /// Does about `max` of a broadcast, in stanzas sent (large ones count more) and contacts that get
    /// none. Yields how much that was, and whether all is done.
    fn broadcast_step(
        &mut self,
        account: Key,
        broadcast: &mut Broadcast,
        max: usize,
    ) -> (usize, bool) {
        let copy_cost = broadcast.copy_cost();
        let mut cost = 0;
        while cost < max {
            let Some(jid) = broadcast.directed.next() else {
                break;
            };
            cost += copy_cost;
            if !(broadcast.has_contacts && self.is_broadcast_to(account, &jid)) {
                self.send_copy(&broadcast.stanza, jid);
            }
        }
        if !broadcast.directed.as_slice().is_empty() {
            return (cost, false);
        }
        if !broadcast.has_contacts {
            return (cost, true);
        }
        // Presence and a probe.
        let contact_cost = copy_cost + 1;
        let count = match max.saturating_sub(cost) / contact_cost {
            0 if cost > 0 => return (cost, false),
            // However large it is.
            0 => 1,
            count => count,
        };
        let Some(contacts) = self.page(account, broadcast, count) else {
            return (cost, true);
        };
        let is_done = contacts.len() < count;
        let session = self.sessions.get(broadcast.session);
        let prober = session
            .filter(|_| broadcast.has_probes)
            .map(|session| session.jid.to_jid());
        for (contact, state) in contacts {
            let before = cost;
            if state.has(State::FROM) {
                cost += copy_cost;
                self.send_copy(&broadcast.stanza, contact.clone());
            }
            if let Some(prober) = &prober {
                if state.has(State::TO) {
                    cost += 1;
                    self.send_probe(prober, contact);
                } else if state.has(State::PENDING_OUT) && self.domain(contact.domain()).is_none() {
                    cost += 1;
                    self.ask_again(prober, contact);
                }
            }
            cost = cost.max(before + 1);
        }
        (cost, is_done)
    }

    /// The next contacts of a broadcast. None if the account has no roster.
    fn page(
        &self,
        account: Key,
        broadcast: &mut Broadcast,
        count: usize,
    ) -> Option<Vec<(Jid, State)>> {
        let roster = self.accounts.get(account)?.roster.as_ref()?;
        let mut contacts = Vec::with_capacity(count.min(roster.len()));
        for (name, state) in roster.after(&broadcast.after, count) {
            match BareJid::parse(name) {
                Ok(contact) => contacts.push((contact.to_jid(), state)),
                Err(_) => debug_assert!(false, "a roster holds addresses"),
            }
        }
        if let Some((last, _)) = contacts.last() {
            broadcast.after = last.as_str().to_owned();
        }
        Some(contacts)
    }

    pub(super) fn send_copy(&mut self, stanza: &Stanza, to: Jid) {
        let mut copy = stanza.clone();
        copy.to = Some(to);
        self.reply(copy);
    }

    /// Has all available resources of an account ask for a contact's presence.
    pub(in crate::router) fn probe_for_all(&mut self, account: Key, contact: &BareJid) {
        for session in self.sessions_where(account, |session| session.presence.is_some()) {
            if let Some(prober) = self.sessions.get(session).map(|it| it.jid.to_jid()) {
                self.send_probe(&prober, contact.to_jid());
            }
        }
    }

    /// RFC 6121 §3.1.2, last paragraph: a request may have got lost on the way to another server, or its
    /// answer on the way back.
    fn ask_again(&mut self, asker: &Jid, contact: Jid) {
        let mut request = Stanza::new(Kind::Presence, Type::Subscribe, Payload::empty());
        request.from = Some(asker.bare().to_jid());
        request.to = Some(contact);
        self.reply(request);
    }

    /// RFC 6121 §4.3: a local contact's presence is wanted by the new resource only, so the probe is
    /// from its full JID. What leaves this server is from the bare JID.
    fn send_probe(&mut self, prober: &Jid, contact: Jid) {
        let mut probe = Stanza::new(Kind::Presence, Type::Probe, Payload::empty());
        probe.from = Some(match self.domain(contact.domain()) {
            Some(_) => prober.clone(),
            None => prober.bare().to_jid(),
        });
        probe.to = Some(contact);
        self.reply(probe);
    }
}
