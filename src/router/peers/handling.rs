//! What we have handled of what other servers send on streams with stream management (XEP-0198): it is
//! settled (`Settlement` in lib.rs).

use super::Incoming;
use crate::clock::Mono;
use crate::router::Router;
use crate::router::management::{Handled, Nonza};
use crate::slots::Key;

/// What the stream of another server tells of its stream management.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerNews {
    /// The peer has sent `<enable/>`, which is to be answered.
    Enable,
    /// The peer has answered ours: it counts what it sends from now on.
    Enabled,
    /// The peer wants to know how much is handled.
    Request,
    /// A stanza of that size was handled without the router's help.
    Stanza(usize),
    /// The stream is about to be closed.
    Close,
}

impl Incoming {
    /// Numbers the next stanza.
    pub(super) fn receive(&mut self, size: usize) -> u64 {
        let seq = self.unsettled.issue(size, false);
        if let Some(handled) = &mut self.handled {
            handled.receive(seq);
        }
        seq
    }

    fn ack_at(&self, now: Mono) -> Option<Mono> {
        let handled = self.handled.as_ref()?;
        handled.ack_at(self.unsettled.settled_prefix(), now)
    }
}

impl Router {
    /// Takes news of the stream management on the stream of another server.
    pub fn peer_news(&mut self, key: Key, news: PeerNews) {
        let now = self.now.mono;
        let Some(incoming) = self.peers.incoming.get_mut(key) else {
            return;
        };
        match news {
            PeerNews::Enable | PeerNews::Enabled => {
                incoming.handled = Some(Handled::after(incoming.unsettled.issued()));
                if news == PeerNews::Enable
                    && let Some(output) = self.out.outputs.append(incoming.conn)
                {
                    let enabled = Nonza::Enabled {
                        id: None,
                        resume: false,
                        seconds_max: None,
                        location: None,
                    };
                    enabled.write(output);
                }
            }
            PeerNews::Request => {
                if let Some(handled) = &mut incoming.handled {
                    handled.request(now);
                    self.answer_peer(key);
                }
            }
            PeerNews::Stanza(size) => {
                let seq = incoming.receive(size);
                incoming.unsettled.settle(seq);
                self.answer_peer(key);
            }
            PeerNews::Close => {
                let settled = incoming.unsettled.settled_prefix();
                let handled = incoming.handled.as_mut();
                if let Some(h) = handled.and_then(|handled| handled.farewell(settled))
                    && let Some(output) = self.out.outputs.append(incoming.conn)
                {
                    Nonza::Ack { h }.write(output);
                }
            }
        }
    }

    /// Says what is handled, if the peer has asked and it is time to; else it is looked at later.
    pub(in crate::router) fn answer_peer(&mut self, key: Key) {
        let now = self.now.mono;
        let Some(incoming) = self.peers.incoming.get_mut(key) else {
            return;
        };
        let Some(at) = incoming.ack_at(now) else {
            return;
        };
        let settled = incoming.unsettled.settled_prefix();
        if at <= now {
            if let Some(handled) = &mut incoming.handled
                && let Some(output) = self.out.outputs.append(incoming.conn)
            {
                let h = handled.say(settled);
                Nonza::Ack { h }.write(output);
            }
        } else if !std::mem::replace(&mut incoming.is_owed, true) {
            self.peers.owed.push(key);
        }
    }

    /// Answers whom it is time to answer.
    pub(super) fn answer_owed(&mut self) {
        for key in std::mem::take(&mut self.peers.owed) {
            if let Some(incoming) = self.peers.incoming.get_mut(key) {
                incoming.is_owed = false;
            }
            self.answer_peer(key);
        }
    }

    /// When the first of those is due that are owed an answer.
    pub(super) fn owed_at(&self) -> Option<Mono> {
        let now = self.now.mono;
        let owed = self.peers.owed.iter();
        owed.filter_map(|key| self.peers.incoming.get(*key)?.ack_at(now))
            .min()
    }
}
