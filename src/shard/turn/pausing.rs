//! Streams that are not read for a while: they have sent more than they may, or their TLS handshake
//! waits for its turn.
//!
//! No edge comes for what they have sent by then. So a timer puts a stream whose pause is over on the
//! list of those to go on reading.

use super::Shard;
use crate::clock::Mono;
use crate::shard::budget::{Overdrawn, Used};
use crate::slots::Key;
use crate::stream::machine::Machine;

impl Shard {
    /// Whether the connection may not be read yet.
    pub(super) fn is_paused(&self, key: Key) -> bool {
        let until = self.connections.get(key).and_then(|c| c.paused_until);
        until.is_some_and(|until| self.router.now.mono < until)
    }

    /// Charges a stream for what it has sent in this turn, and pauses it if that is too much.
    pub(super) fn charge(&mut self, key: Key, used: Used) {
        let now = self.router.now.mono;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if used == Used::default() || connection.stream.component().is_some() {
            return;
        }
        let stream = &mut connection.stream;
        let is_bound = stream.is_authenticated();
        let is_server = matches!(stream, Machine::Server(_));
        // After our end of the stream the rest is still read, for the socket would not send that end if
        // it were closed before: at the higher rate, since a large stanza may be the reason.
        let overdrawn = if is_bound || stream.is_ending() {
            let limits = &self.generation.settings.limits;
            match is_server {
                true => connection.budget.charge_server(used, limits, now),
                false => connection.budget.charge(used, limits, now),
            }
        } else {
            connection.budget.charge_unauthenticated(used, now)
        };
        let Some(Overdrawn { until, limit }) = overdrawn else {
            return;
        };
        // Its silence until then is not the client's (RFC 6120 §4.6).
        stream.touch(until);
        let pause = until.millis() - now.millis();
        let (stream, address) = (stream.origin().stream, stream.origin().ip());
        // Once for a login, which the log tells of too; strangers could fill the log.
        let level = if is_bound && !std::mem::replace(&mut connection.is_told, true) {
            log::Level::Info
        } else {
            log::Level::Debug
        };
        let who = if is_server { "server" } else { "client" };
        log::log!(
            level, stream, address:%, limit, milliseconds = pause;
            "{who} sends more than it may, and is slowed down"
        );
        self.pause(key, until);
    }

    pub(super) fn pause(&mut self, key: Key, until: Mono) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.paused_until = Some(until);
            self.rearm(key);
        }
    }

    /// Ends a pause whose time has come.
    pub(super) fn resume(&mut self, key: Key) {
        let now = self.router.now.mono;
        if let Some(connection) = self.connections.get_mut(key)
            && connection.paused_until.is_some_and(|until| until <= now)
        {
            connection.paused_until = None;
            self.list(key);
        }
    }

    /// Other limits are in force: every stream begins anew, lest one waits for hours that has met a
    /// limit set by mistake.
    pub(super) fn forgive(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.stream.is_authenticated()
        {
            connection.budget = Default::default();
            if connection.paused_until.take().is_some() {
                connection.stream.touch(self.router.now.mono);
                self.list(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::config::Settings;
    use crate::limits::{CLOSE_WAIT, TURN_STANZAS_MAX};
    use crate::net::throttle::ThrottleLimits;
    use crate::net::transport::TlsFacts;
    use crate::shard::testing::{
        AnyCertificate, Client, HEADER, NoNetwork, Server, open_settings, plain,
    };
    use crate::shard::turn::{Due, Ready};
    use crate::shard::{Generation, Post};

    const SECOND: Duration = Duration::from_secs(1);
    const MILLISECOND: Duration = Duration::from_millis(1);
    const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

    fn limited(bytes: u32, stanzas: u32) -> Settings {
        let mut settings = open_settings();
        settings.limits.bytes_per_second_max = bytes;
        settings.limits.stanzas_per_second_max = stanzas;
        settings
    }

    fn chat(to: &str, body: &str) -> String {
        format!("<message to='{to}' type='chat'><body>{body}</body></message>")
    }

    fn flood(count: usize) -> String {
        let one = |n| chat("romeo@example.org/orchard", &format!("m{n}."));
        (0..count).map(one).collect()
    }

    fn unread(client: &Client) -> usize {
        client.wire.lock().unwrap().sent.len()
    }

    fn reload(server: &mut Server, settings: Settings) {
        let generation = Generation {
            settings: Arc::new(settings),
            certificates: Arc::new(AnyCertificate),
            dialler: Arc::new(NoNetwork),
        };
        server.post(0, Post::Reload(Arc::new(generation)));
        server.run();
    }

    #[test]
    fn a_flood_is_slowed_its_neighbor_is_not_and_everything_arrives_in_order() {
        let mut server = Server::new(1, limited(0, 10));
        let juliet = server.log_in(0, "juliet", "balcony");
        let romeo = server.log_in(0, "romeo", "orchard");
        server.say(&juliet, &flood(150));
        let mut got = romeo.take();
        let most = |seconds: usize| 100 + TURN_STANZAS_MAX + 10 * seconds;
        let count = |got: &str| got.matches("<message").count();
        assert!((100..=most(0)).contains(&count(&got)), "{}", count(&got));

        let to_juliet = chat("juliet@example.org/balcony", "hark");
        for _ in 0..20 {
            server.say(&romeo, &to_juliet);
            assert!(juliet.take().contains("hark"));
        }
        // Nothing tells of the socket any more.
        for second in 1..=5 {
            server.pass(SECOND);
            got += &romeo.take();
            assert!(count(&got) <= most(second));
        }
        assert_eq!(
            count(&got),
            150,
            "nothing is lost, and no more waited for than needed"
        );
        let places: Vec<_> = (0..150)
            .map(|n| got.find(&format!("<body>m{n}.")))
            .collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted());
        assert!(!juliet.is_dropped());
    }

    #[test]
    fn bytes_are_limited_whatever_they_are() {
        for text in [
            " ".repeat(400_000),
            chat("romeo@example.org", &"x".repeat(90_000)).repeat(5),
        ] {
            let mut server = Server::new(1, limited(10_000, 0));
            let juliet = server.log_in(0, "juliet", "balcony");
            let romeo = server.log_in(0, "romeo", "orchard");
            server.say(&romeo, "<presence/>");
            server.say(&juliet, &text);
            let rest = unread(&juliet);
            assert!(rest >= text.len() - 100_000 - 64 * 1024, "{rest}");
            assert!(rest < text.len() - 90_000, "the burst passes: {rest}");
            server.pass(10 * SECOND);
            assert!(
                unread(&juliet) < rest,
                "the timer alone makes it read again"
            );
            for _ in 0..30 {
                server.pass(SECOND);
            }
            assert_eq!(unread(&juliet), 0);
            let expected = text.matches("<message").count();
            assert_eq!(romeo.take().matches("</message>").count(), expected);
        }
    }

    /// TLS's own messages cost as much as others.
    #[test]
    fn bytes_without_clear_text_count_too() {
        let mut server = Server::new(1, limited(10_000, 0));
        let juliet = server.log_in(0, "juliet", "balcony");
        juliet.wire.lock().unwrap().hidden = 400_000;
        server.say(&juliet, &chat("juliet@example.org/balcony", "hark"));
        let rest = juliet.wire.lock().unwrap().hidden;
        assert!((200_000..300_000).contains(&rest), "{rest}");
        for _ in 0..40 {
            server.pass(SECOND);
        }
        assert!(juliet.take().contains("hark"));
    }

    #[test]
    fn a_paused_stream_costs_no_turns() {
        let mut server = Server::new(1, limited(0, 10));
        let juliet = server.log_in(0, "juliet", "balcony");
        server.say(&juliet, &flood(150));
        let ready = |index| Ready {
            index,
            is_closed: false,
        };
        for index in 0..10 {
            let due = server.turn(0, &[ready(index)]);
            assert!(matches!(due, Due::At(at) if at > server.now), "{due:?}");
        }
    }

    #[test]
    fn a_paused_stream_ends_when_its_peer_or_the_server_does() {
        let mut server = Server::new(1, limited(0, 10));
        let juliet = server.log_in(0, "juliet", "balcony");
        let romeo = server.log_in(0, "romeo", "orchard");
        server.say(&juliet, &(flood(150) + "</stream:stream>"));
        juliet.wire.lock().unwrap().is_ended = true;
        server.news();
        server.run();
        assert!(!juliet.is_dropped(), "what it has sent is due first");
        server.pass(5 * SECOND);
        assert!(juliet.take().ends_with("</stream:stream>"));
        assert!(juliet.is_dropped());
        assert_eq!(romeo.take().matches("<message").count(), 150);

        let juliet = server.log_in(0, "juliet", "balcony");
        server.say(&juliet, &flood(150));
        server.post(0, Post::Stop);
        server.run();
        let end = juliet.take();
        assert!(end.ends_with("</stream:stream>"), "at once: {end}");
        server.say(&romeo, "</stream:stream>");
        server.pass(CLOSE_WAIT);
        assert!(juliet.is_dropped());
        assert!(server.shards[0].is_stopped());
    }

    /// RFC 6120 §4.6.4: what the server does not read may be the answer.
    #[test]
    fn a_paused_client_is_not_taken_for_a_silent_one() {
        let mut settings = limited(1_000, 0);
        for domain in settings.domains.values_mut() {
            let domain = Arc::make_mut(domain);
            (domain.c2s.idle_seconds, domain.c2s.ping_timeout_seconds) = (2, 1);
        }
        let mut server = Server::new(1, settings);
        let juliet = server.log_in(0, "juliet", "balcony");
        server.say(&juliet, &" ".repeat(40_000));
        for second in 0..31 {
            assert_eq!(juliet.take(), "", "after {second} seconds");
            server.pass(SECOND);
        }
        server.pass(2 * SECOND);
        assert!(juliet.take().contains("urn:xmpp:ping"));
        server.pass(2 * SECOND);
        assert!(juliet.take().contains("<connection-timeout"));
    }

    #[test]
    fn before_the_login_less_may_be_sent_and_no_more_time_is_given() {
        let mut server = Server::new(1, limited(0, 0));
        let client = server.connect(0);
        server.say(&client, HEADER);
        client.take();
        server.say(&client, &" ".repeat(400_000));
        let rest = unread(&client);
        assert!(rest > 200_000, "{rest}");
        server.pass(29 * SECOND);
        assert!((1..rest).contains(&unread(&client)));
        assert_eq!(client.take(), "");
        server.pass(SECOND);
        assert!(client.take().contains("<connection-timeout"));
    }

    /// `Who owns what` in lib.rs: budgets travel with the connection.
    #[test]
    fn a_move_to_another_shard_gives_nothing_back() {
        let mut moved = 0;
        let mut server = Server::new(4, limited(0, 0));
        for first in 0..4 {
            let client = server.connect(first);
            let before = server.shards[first].connections();
            server.say(&client, &format!("{HEADER}{}", " ".repeat(50_000)));
            let answer = server.say(&client, &plain("juliet", "secret"));
            assert!(answer.contains("<success"), "{answer}");
            moved += usize::from(server.shards[first].connections() < before);
            server.say(&client, &format!("{HEADER}{}", " ".repeat(50_000)));
            server.say(&client, " ");
            assert_eq!(unread(&client), 1, "it is paused");
            server.pass(20 * SECOND);
            assert_eq!(unread(&client), 0);
        }
        assert_eq!(moved, 3, "the account is at home on one shard");
    }

    #[test]
    fn a_login_begins_with_the_whole_burst() {
        let mut server = Server::new(1, limited(10_000, 10));
        let client = server.connect(0);
        server.say(&client, &format!("{HEADER}{}", " ".repeat(50_000)));
        server.say(&client, &plain("juliet", "secret"));
        server.say(
            &client,
            &format!(
                "{HEADER}<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"
            ),
        );
        server.say(&client, &" ".repeat(90_000));
        server.say(&client, &" ".repeat(1_000));
        assert_eq!(unread(&client), 0);
    }

    #[test]
    fn a_reload_frees_who_waits() {
        let mut server = Server::new(1, limited(100, 0));
        let juliet = server.log_in(0, "juliet", "balcony");
        server.say(&juliet, &" ".repeat(2_000));
        server.say(&juliet, " ");
        assert_eq!(unread(&juliet), 1);
        reload(&mut server, limited(100, 0));
        assert_eq!(unread(&juliet), 0, "it begins anew");
        server.say(&juliet, &" ".repeat(2_000));
        server.say(&juliet, " ");
        assert_eq!(unread(&juliet), 1);
        reload(&mut server, limited(0, 0));
        assert_eq!(unread(&juliet), 0);
    }

    /// RFC 6120 §13.12.
    #[test]
    fn handshakes_wait_for_their_turn_and_are_refused_when_it_comes_too_late() {
        let mut server = Server::new(1, open_settings());
        server.throttle.set_limits(ThrottleLimits {
            connections_per_address_max: 1000,
            handshakes_per_address_max: 6,
            ..ThrottleLimits::default()
        });
        let ask = |server: &mut Server| {
            let client = server.connect(0);
            server.say(&client, HEADER);
            let answer = server.say(&client, STARTTLS);
            client.wire.lock().unwrap().facts = Some(TlsFacts::default());
            server.say(&client, HEADER);
            (client, answer)
        };
        for _ in 0..6 {
            let (client, answer) = ask(&mut server);
            assert!(answer.contains("<proceed"), "{answer}");
            assert_eq!(unread(&client), 0);
        }
        let (waiting, answer) = ask(&mut server);
        assert!(answer.contains("<proceed"), "{answer}");
        assert_eq!(unread(&waiting), HEADER.len(), "not even looked at");
        server.pass(10 * SECOND - MILLISECOND);
        assert_eq!(unread(&waiting), HEADER.len());
        server.pass(MILLISECOND);
        assert!(waiting.take().contains("<mechanisms"));
        let (_, answer) = ask(&mut server);
        assert!(answer.contains("<proceed"), "{answer}");
        // In twenty seconds it would leave ten for the login.
        let (_, answer) = ask(&mut server);
        assert!(answer.contains("<policy-violation"), "{answer}");
        assert!(!answer.contains("<proceed"), "{answer}");
    }

    /// Who has taken long already is not refused what is there.
    #[test]
    fn a_handshake_that_need_not_wait_is_never_too_late() {
        let mut server = Server::new(1, open_settings());
        server.throttle.set_limits(ThrottleLimits {
            connections_per_address_max: 1000,
            handshakes_per_address_max: 1,
            ..ThrottleLimits::default()
        });
        let client = server.connect(0);
        server.say(&client, HEADER);
        server.pass(29 * SECOND);
        assert!(server.say(&client, STARTTLS).contains("<proceed"));
    }
}
