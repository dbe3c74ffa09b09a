//! The pings by which other servers say what they have received (XEP-0199 §4.3), and their answers, which
//! come on whatever stream the server likes, mostly one of its own.
//!
//! Between two servers that both do this, the answer to a ping is asked about by nobody.

use super::Link;
use super::acknowledging::Receipt;
use super::link::Waiting;
use super::pinged::Step;
use crate::jid::Domain;
use crate::ns;
use crate::router::Router;
use crate::slots::Key;
use crate::stanza::{Kind, Stanza, Type};
use crate::xml::{Element, Payload};

/// What begins the id of a ping; 16 hexadecimal digits follow.
const ID: &str = "receipt-";

/// Whether a stanza is the answer of one server to another, to a ping perhaps.
pub(super) fn is_answer(stanza: &Stanza) -> bool {
    stanza.kind == Kind::Iq
        && matches!(stanza.type_, Type::Result | Type::Error)
        && is_between_servers(stanza)
}

/// Whether a stanza is a ping of one server to another, or an answer to one: nobody needs the stream for
/// that.
pub fn is_aside(stanza: &Stanza) -> bool {
    let is_ping = || {
        let payload = &stanza.payload;
        let child = payload.children().first();
        child.is_some_and(|child| payload.ns(child) == ns::PING)
    };
    is_answer(stanza)
        || (stanza.kind == Kind::Iq
            && stanza.type_ == Type::Get
            && is_between_servers(stanza)
            && is_ping())
}

fn is_between_servers(stanza: &Stanza) -> bool {
    [&stanza.from, &stanza.to]
        .into_iter()
        .all(|jid| jid.as_ref().is_some_and(|jid| jid.is_domain()))
}

/// The ping that a stanza of another server answers, if it answers one: ours and theirs, and its number.
pub(super) fn answered(stanza: &Stanza) -> Option<((Domain, Domain), u64)> {
    if !is_answer(stanza) {
        return None;
    }
    let digits = stanza.id.as_deref()?.strip_prefix(ID)?;
    if digits.len() != 16 {
        return None;
    }
    let number = u64::from_str_radix(digits, 16).ok()?;
    let (from, to) = (stanza.from.as_ref()?, stanza.to.as_ref()?);
    Some(((to.to_domain(), from.to_domain()), number))
}

impl Link {
    fn ping(&self, number: u64) -> Stanza {
        let ping = Element::new(ns::PING, "ping");
        let mut stanza = Stanza::new(Kind::Iq, Type::Get, Payload::from_elements(&[ping]));
        stanza.from = Some(self.local.to_jid());
        stanza.to = Some(self.remote.to_jid());
        stanza.id = Some(format!("{ID}{number:016x}").into());
        stanza
    }
}

impl Router {
    /// Pings the peer of a link, if it is time to; and draws the conclusion if it does not answer.
    pub(super) fn ping_if_due(&mut self, key: Key) {
        let now = self.now.mono;
        let steps = self.peers.change(key, |link| {
            let mut steps = Vec::new();
            for sent in &mut link.sent {
                let unacknowledged = sent.len();
                if let Receipt::Pinged(pinged) = &mut sent.receipt {
                    match pinged.step(&mut link.habit, now) {
                        Step::Nothing => {}
                        step => steps.push((sent.conn, unacknowledged, step)),
                    }
                }
            }
            steps
        });
        for (conn, unacknowledged, step) in steps.into_iter().flatten() {
            match step {
                Step::Nothing => {}
                Step::Ping => self.ping(key, conn),
                Step::Settle(settled) => self.never_answered(key, settled),
                Step::GiveUp => self.give_up(key, conn, unacknowledged),
            }
        }
    }

    fn ping(&mut self, key: Key, conn: Key) {
        self.peers.pings = self.peers.pings.wrapping_add(1);
        let nth = self.peers.pings | (u64::from(self.shard) << 48);
        // An answer to a ping from before a restart says nothing.
        let start = self.placement.chance(self.now.wall.micros());
        let number = self.placement.chance(start ^ nth);
        let now = self.now.mono;
        let Some(link) = self.peers.links.get_mut(key) else {
            return;
        };
        let stanza = link.ping(number);
        let sent = link.sent.iter_mut().find(|sent| sent.conn == conn);
        if let Some(Receipt::Pinged(pinged)) = sent.map(|sent| &mut sent.receipt)
            && let Some(output) = self.out.outputs.append_aside(conn)
        {
            stanza.write(output);
            pinged.ping(number, now);
        }
    }

    /// The peer of a link answers no pings: what it was sent counts as received.
    pub(super) fn never_answered(&mut self, key: Key, settled: Vec<Waiting>) {
        if let Some(link) = self.peers.links.get(key) {
            ::log::debug!(
                from:% = link.local, to:% = link.remote, unacknowledged = settled.len();
                "server answers no pings, what it is sent counts as received"
            );
        }
        for waiting in settled {
            self.acknowledged(key, waiting);
        }
        self.drain_link(key);
    }

    /// A server has answered the ping of a link of this shard.
    pub(in crate::router) fn ping_answered(&mut self, domains: &(Domain, Domain), number: u64) {
        let now = self.now.mono;
        let Some(&key) = self.peers.by_domains.get(domains) else {
            return;
        };
        let done = self.peers.change(key, |link| {
            let habit = &mut link.habit;
            link.sent
                .iter_mut()
                .find_map(|sent| match &mut sent.receipt {
                    Receipt::Pinged(pinged) => pinged.answered(habit, number, now),
                    Receipt::Managed(_) => None,
                })
        });
        if let Some(done) = done.flatten() {
            self.received(key, done);
        }
    }

    /// Whether something that was written to a connection is not received yet.
    pub fn awaits_receipt(&self, conn: Key) -> bool {
        let links = self.peers.written_by(conn);
        let mut sent = links.filter_map(|link| link.sent_by(conn));
        sent.any(|sent| sent.len() > 0)
    }
}
