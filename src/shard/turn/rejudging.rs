//! Streams with other servers that a reload has judged anew, some of them in each turn.

use std::sync::Arc;

use super::{Outside, Shard, question};
use crate::config::Settings;
use crate::dns::Endpoint;
use crate::limits::TURN_REJUDGED_MAX;
use crate::shard::Generation;
use crate::stream::Event;
use crate::stream::machine::Machine;
use crate::stream::s2s::ServerStream;

impl Shard {
    /// Has all streams with other servers judged by a generation that is about to be put in force.
    pub(super) fn judge_servers_by(&mut self, next: &Arc<Generation>, outside: &mut dyn Outside) {
        // Those that are still to be judged by the one in force are not to forget it.
        while !self.rejudged.is_empty() {
            self.rejudge(outside);
        }
        let settings = [&self.generation.settings, &next.settings];
        let connections = self.connections.iter();
        let servers = connections.filter_map(|(key, connection)| match &connection.stream {
            Machine::Server(stream) => {
                let place = |settings: &Arc<Settings>| place(settings, stream);
                let [before, now] = settings.map(place);
                Some((key, before != now))
            }
            Machine::Client(_) | Machine::Component(_) => None,
        });
        self.rejudged = servers.collect();
    }

    /// Judges some of those that are still to be judged: it takes a look at each one's certificates.
    pub(super) fn rejudge(&mut self, outside: &mut dyn Outside) {
        for _ in 0..TURN_REJUDGED_MAX {
            let Some((key, is_elsewhere)) = self.rejudged.pop_front() else {
                return;
            };
            self.event(key, Event::Reloaded { is_elsewhere }, outside);
        }
    }
}

/// Where the settings have us dial the peer of a stream that we have opened, if they say so themselves.
fn place(settings: &Settings, stream: &ServerStream) -> Option<Endpoint> {
    let (local, remote) = stream.dialled_domains()?;
    question(settings.served(local.as_str()).map(Arc::as_ref), remote).endpoint
}
