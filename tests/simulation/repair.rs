//! When the network between the servers is whole again: everybody logs in, which probes and asks again,
//! and says once more what he wants of his contacts at the other server. Then both sides must agree
//! whatever was lost.

use stanzad::storage::roster::State;

use crate::accounts::Account;
use crate::client::Stage;
use crate::world::{Event, Phase, World};

/// How long the answers to probes may take, in milliseconds.
const PROBE_MILLIS: u64 = 10_000;

impl World {
    /// Begins the repair, by a client of each account.
    pub fn begin_repair(&mut self) {
        self.phase = Phase::Repairing;
        self.links.heal(self.now);
        for account in 0..self.accounts.all.len() {
            if self.accounts.all[account].state.is_enabled {
                let slot = self.character.slots + account;
                let pause = self.chance.within(0..=500);
                self.after(pause, Event::Repair(slot, account));
            }
        }
    }

    /// A client has its session: it says what its account wants of each contact at the other server.
    pub fn repair_session(&mut self, index: usize) {
        self.get_roster(index);
        self.say_available_well(index);
        // What probes are answered comes first: nothing tells it from the answer to a request.
        self.after(PROBE_MILLIS, Event::Restate(index));
    }

    /// It says what it wants.
    pub fn restate(&mut self, index: usize) {
        let own = self.clients[index].account;
        for other in 0..self.accounts.all.len() {
            if !self.is_between_servers(own, other) {
                continue;
            }
            let state = self.state_between(&self.jid_of(own), &self.jid_of(other));
            let is_wanted = state.has(State::TO) || state.has(State::PENDING_OUT);
            let type_ = match is_wanted {
                true => "subscribe",
                false => "unsubscribe",
            };
            let contact = self.jid_of(other).to_string();
            self.signal(index, type_, &contact);
        }
    }

    /// Whether an account has said once more what it wants.
    pub fn was_repaired(&self, account: &Account) -> bool {
        self.live.iter().any(|live| {
            let client = &self.clients[*live];
            let is_its = self.accounts.all[client.account].jid == account.jid;
            is_its && client.is_repairing && client.stage == Stage::Online
        })
    }
}
