mod components;
mod fairness;
mod peers;
mod reloads;
mod shares;

use std::time::Duration;

use super::*;
use crate::limits::{CLOSE_WAIT, LAST_SEEN_DELAY, OUTPUT_BYTES_MAX, PARSER_REST_AFTER};
use crate::net::transport::TlsFacts;
use crate::router::commands::AccountCommand;
use crate::shard::testing::{HEADER, Server, open_settings, plain};
use crate::stanza::{StreamCondition, StreamError};
use crate::storage::accounts;

fn chat(to: &str, body: &str) -> String {
    format!("<message to='{to}' type='chat'><body>{body}</body></message>")
}

#[test]
fn stanzas_go_between_the_shards_of_two_accounts_in_order() {
    let mut server = Server::new(4, open_settings());
    let juliet = server.log_in(0, "juliet", "balcony");
    let romeo = server.log_in(1, "romeo", "orchard");
    let three: String = (1..4)
        .map(|n| chat("romeo@example.org/orchard", &format!("m{n}")))
        .collect();
    assert_eq!(server.say(&juliet, &three), "");
    let got = romeo.take();
    let places: Vec<_> = (1..4)
        .map(|n| got.find(&format!("<body>m{n}</body>")))
        .collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{got}"
    );
    assert!(got.contains("from='juliet@example.org/balcony'"), "{got}");
}

/// RFC 6120 §4.4: who does not answer our end is waited for, but not for ever.
#[test]
fn a_peer_that_never_closes_is_dropped_after_the_wait() {
    let mut server = Server::new(1, open_settings());
    let client = server.connect(0);
    let answer = server.say(&client, &format!("{HEADER}<bogus/>"));
    assert!(answer.ends_with("</stream:stream>"), "{answer}");
    assert!(client.wire.lock().unwrap().is_shut);
    assert!(!client.is_dropped());
    server.pass(CLOSE_WAIT - Duration::from_millis(1));
    assert!(!client.is_dropped());
    server.pass(Duration::from_millis(1));
    assert!(client.is_dropped());
    assert_eq!(server.shards[0].connections(), 0);
}

#[test]
fn a_peer_that_neither_reads_nor_closes_is_dropped_after_the_wait() {
    let mut server = Server::new(1, open_settings());
    let client = server.connect(0);
    client.wire.lock().unwrap().room = Some(10);
    server.say(&client, &format!("{HEADER}<bogus/>"));
    assert!(!client.wire.lock().unwrap().is_shut, "output is left");
    server.pass(CLOSE_WAIT);
    assert!(client.is_dropped());
}

/// RFC 6120 §4.4: the end of the stream is answered, also when the FIN came with it.
#[test]
fn a_peer_that_ends_its_stream_and_its_direction_is_answered() {
    let mut server = Server::new(1, open_settings());
    let client = server.connect(0);
    client.wire.lock().unwrap().is_ended = true;
    let answer = server.say(&client, &format!("{HEADER}</stream:stream>"));
    assert!(answer.ends_with("</stream:stream>"), "{answer}");
    assert!(client.is_dropped());
}

#[test]
fn a_stream_error_is_written_though_the_peer_has_ended_its_direction() {
    let mut server = Server::new(1, open_settings());
    let client = server.connect(0);
    client.wire.lock().unwrap().is_ended = true;
    let answer = server.say(&client, "<nonsense");
    assert_eq!(answer, "", "it ended in the middle of a tag");
    assert!(client.is_dropped());
    let client = server.connect(0);
    client.wire.lock().unwrap().is_ended = true;
    let answer = server.say(&client, "nonsense");
    assert!(answer.contains("<stream:error>"), "{answer}");
    assert!(client.is_dropped());
}

#[test]
fn a_client_that_does_not_log_in_in_time_is_told_and_dropped() {
    let mut server = Server::new(1, open_settings());
    let client = server.connect(0);
    server.pass(Duration::from_secs(60));
    let answer = client.take();
    assert!(answer.contains("<connection-timeout"), "{answer}");
    server.pass(CLOSE_WAIT);
    assert!(client.is_dropped());
}

/// RFC 6120 §5.4.3.3: TLS begins only when `<proceed/>` is sent, and what a peer puts behind
/// `<starttls/>` is never parsed.
#[test]
fn tls_begins_after_proceed_was_sent_and_the_stream_begins_anew() {
    let mut server = Server::new(1, open_settings());
    let client = server.connect(0);
    server.say(&client, HEADER);
    client.wire.lock().unwrap().room = Some(0);
    // White space behind it is allowed: it is no beginning of anything.
    let starttls = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>\n";
    server.say(&client, starttls);
    assert_eq!(client.wire.lock().unwrap().tls, None);
    client.wire.lock().unwrap().room = None;
    server.news();
    server.run();
    assert_eq!(
        client.take(),
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
    );
    assert_eq!(
        client.wire.lock().unwrap().tls.as_deref(),
        Some("example.org")
    );
    client.wire.lock().unwrap().facts = Some(TlsFacts::default());
    let features = server.say(&client, HEADER);
    assert!(features.contains("<mechanisms"), "{features}");
    assert!(!features.contains("<starttls"), "{features}");
}

#[test]
fn bytes_behind_starttls_end_the_stream_unparsed() {
    let mut server = Server::new(1, open_settings());
    let client = server.connect(0);
    server.say(&client, HEADER);
    let slipped = format!(
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>{}",
        plain("juliet", "secret")
    );
    let answer = server.say(&client, &slipped);
    assert!(answer.contains("<policy-violation"), "{answer}");
    assert!(!answer.contains("<proceed"), "{answer}");
    assert!(!answer.contains("<success"), "{answer}");
}

#[test]
fn a_handshake_that_never_ends_is_dropped_at_the_login_deadline() {
    let mut server = Server::new(1, open_settings());
    let client = server.connect(0);
    server.say(&client, HEADER);
    server.say(
        &client,
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    );
    server.pass(Duration::from_secs(60));
    assert!(client.is_dropped());
}

/// A client may send all of its login at once, as far as it need not wait for answers.
#[test]
fn pipelined_bytes_wait_for_the_login_and_travel_with_the_move() {
    for first in 0..4 {
        let mut server = Server::new(4, open_settings());
        let client = server.connect(first);
        let all = format!(
            "{HEADER}{}\n{HEADER}<iq type='set' id='b'>\
             <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>\
             <iq type='get' id='p' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>",
            plain("juliet", "secret")
        );
        let answer = server.say(&client, &all);
        assert!(answer.contains("<success"), "{answer}");
        assert!(answer.contains("<jid>juliet@example.org/"), "{answer}");
        assert!(answer.contains("id='p' type='result'"), "{answer}");
    }
}

#[test]
fn a_held_connection_is_not_polled_and_goes_on_when_the_gate_opens() {
    let mut server = Server::new(1, open_settings());
    let client = server.connect(0);
    server.worlds[0].is_gate_shut = true;
    client.wire.lock().unwrap().sent.extend(HEADER.bytes());
    for _ in 0..10 {
        let due = server.turn(
            0,
            &[Ready {
                index: 0,
                is_closed: false,
            }],
        );
        assert_eq!(due, Due::At(server.now + GATE_PAUSE), "no busy loop");
        assert!(server.shards[0].gated.len() <= 1);
    }
    assert_eq!(client.take(), "");
    server.worlds[0].is_gate_shut = false;
    server.run();
    assert!(client.take().contains("<stream:features>"));
}

#[test]
fn a_connection_whose_output_is_blocked_is_read_again_when_it_is_drained() {
    let mut server = Server::new(1, open_settings());
    let client = server.log_in(0, "juliet", "balcony");
    client.wire.lock().unwrap().room = Some(0);
    let body = "x".repeat(100_000);
    let to_self = chat("juliet@example.org/balcony", &body);
    for _ in 0..8 {
        server.say(&client, &to_self);
    }
    let unread = client.wire.lock().unwrap().sent.len();
    assert!(unread > 0, "above the mark nothing is read");
    assert_eq!(server.turn(0, &[]), server.turn(0, &[]));
    client.wire.lock().unwrap().room = None;
    server.news();
    server.run();
    assert_eq!(client.wire.lock().unwrap().sent.len(), 0);
    assert_eq!(client.take().matches("<message").count(), 8);
}

/// RFC 6120 §4.9.3.17.
#[test]
fn a_session_that_never_reads_is_ended_and_its_memory_bounded() {
    let mut server = Server::new(2, open_settings());
    let juliet = server.log_in(0, "juliet", "balcony");
    let romeo = server.log_in(1, "romeo", "orchard");
    juliet.wire.lock().unwrap().room = Some(0);
    let body = "x".repeat(100_000);
    for _ in 0..(OUTPUT_BYTES_MAX / 100_000 + 5) {
        server.say(&romeo, &chat("juliet@example.org/balcony", &body));
    }
    server.pass(CLOSE_WAIT);
    assert!(juliet.is_dropped());
    assert!(!romeo.is_dropped());
}

#[test]
fn a_stop_ends_every_stream_and_then_the_shard() {
    let mut server = Server::new(2, open_settings());
    let bound = server.log_in(0, "juliet", "balcony");
    let fresh = server.connect(1);
    for shard in 0..2 {
        server.post(shard, Post::Stop);
    }
    server.run();
    for client in [&bound, &fresh] {
        let end = client.take();
        assert!(end.contains("<system-shutdown"), "{end}");
        assert!(end.ends_with("</stream:stream>"), "{end}");
    }
    let late = server.connect(0);
    assert!(late.is_dropped(), "nobody is let in any more");
    server.say(&bound, "</stream:stream>");
    server.pass(CLOSE_WAIT);
    assert!(server.shards.iter().all(Shard::is_stopped));
}

/// Who has proven nothing is told and let go; a handshake that waits for the client is not waited for.
#[test]
fn a_stop_waits_for_nobody_who_has_proven_nothing() {
    let mut server = Server::new(2, open_settings());
    let silent = server.connect(0);
    let securing = server.connect(1);
    securing.wire.lock().unwrap().is_securing = true;
    let bound = server.log_in(0, "juliet", "balcony");
    for shard in 0..2 {
        server.post(shard, Post::Stop);
    }
    server.run();
    let end = silent.take();
    assert!(end.contains("<system-shutdown"), "{end}");
    assert!(silent.is_dropped() && securing.is_dropped());
    assert_eq!(securing.take(), "");
    assert!(!bound.is_dropped(), "its end is waited for");
    server.say(&bound, "</stream:stream>");
    assert!(server.shards.iter().all(Shard::is_stopped));
}

#[test]
fn every_connection_gives_its_place_back_once() {
    let mut server = Server::new(2, open_settings());
    let limits = crate::net::throttle::ThrottleLimits {
        connections_per_address_max: 3,
        login_failures_per_address_max: 1000,
        login_failures_per_account_max: 1000,
        ..Default::default()
    };
    server.throttle.set_limits(limits);
    for round in 0..5 {
        let moved = server.log_in(round % 2, "juliet", "balcony");
        let closed = server.connect(0);
        let hung_up = server.connect(1);
        let address = "192.0.2.1".parse().unwrap();
        assert!(
            server
                .throttle
                .connect(address, server.now, u64::MAX)
                .is_err(),
            "three are open"
        );
        server.say(&moved, "</stream:stream>");
        server.say(&closed, &format!("{HEADER}<bogus/>"));
        hung_up.wire.lock().unwrap().is_ended = true;
        server.news();
        server.pass(CLOSE_WAIT);
    }
}

#[test]
fn workers_that_have_too_much_to_do_are_a_temporary_failure() {
    let mut server = Server::new(1, open_settings());
    let client = server.connect(0);
    server.say(&client, HEADER);
    server.worlds[0].is_busy = true;
    let answer = server.say(&client, &plain("juliet", "secret"));
    assert!(answer.contains("<temporary-auth-failure/>"), "{answer}");
    server.worlds[0].is_busy = false;
    let answer = server.say(&client, &plain("juliet", "secret"));
    assert!(answer.contains("<success"), "{answer}");
}

#[test]
fn a_client_that_is_gone_when_the_store_answers_harms_nobody() {
    let mut server = Server::new(1, open_settings());
    let client = server.connect(0);
    server.is_store_stuck = true;
    server.say(&client, &format!("{HEADER}{}", plain("juliet", "secret")));
    server.pass(Duration::from_secs(60));
    assert!(client.take().contains("<connection-timeout"));
    server.pass(CLOSE_WAIT);
    assert!(client.is_dropped());
    server.is_store_stuck = false;
    server.run();
    let again = server.log_in(0, "juliet", "balcony");
    assert!(!again.is_dropped());
}

fn command(
    server: &mut Server,
    apply: impl FnOnce(&crate::storage::Db) -> Result<(), crate::storage::StoreError> + Send + 'static,
) {
    let jid = crate::jid::BareJid::parse("juliet@example.org").unwrap();
    let shard = server.shards[0].router.placement.shard_of(jid.as_str());
    let command = AccountCommand {
        apply: Box::new(apply),
        ends_sessions: Some(StreamError::new(StreamCondition::Reset, "changed")),
    };
    let post = Post::Command(jid, command, Box::new(|outcome| assert!(outcome.is_ok())));
    server.post(shard as usize, post);
}

/// Between `<success/>` and the bind there is no session yet that a new password could end.
#[test]
fn a_password_changed_between_login_and_bind_ends_the_login() {
    let mut server = Server::new(2, open_settings());
    let client = server.connect(0);
    server.say(&client, &format!("{HEADER}{}", plain("juliet", "secret")));
    server.say(&client, HEADER);
    command(&mut server, |db| {
        let jid = crate::jid::BareJid::parse("juliet@example.org").unwrap();
        accounts::set_credentials(db, &jid, &crate::shard::testing::credentials("secret"))
            .map(|_| ())
    });
    server.run();
    let answer = server.say(
        &client,
        "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
    );
    assert!(!answer.contains("<jid>"), "{answer}");
}

#[test]
fn a_command_ends_the_sessions_of_the_account() {
    let mut server = Server::new(2, open_settings());
    let client = server.log_in(0, "juliet", "balcony");
    command(&mut server, |db| {
        let jid = crate::jid::BareJid::parse("juliet@example.org").unwrap();
        accounts::set_enabled(db, &jid, false).map(|_| ())
    });
    server.run();
    let end = client.take();
    assert!(end.contains("<reset"), "{end}");
    let next = server.connect(0);
    let answer = server.say(&next, &format!("{HEADER}{}", plain("juliet", "secret")));
    assert!(answer.contains("<account-disabled/>"), "{answer}");
}

/// RFC 6120 §4.9.3.5.
#[test]
fn a_reload_without_a_domain_ends_its_sessions() {
    let mut server = Server::new(2, open_settings());
    let client = server.log_in(0, "juliet", "balcony");
    let generation = |settings| {
        Arc::new(Generation {
            settings: Arc::new(settings),
            certificates: Arc::new(crate::shard::testing::AnyCertificate),
            dialler: Arc::new(crate::shard::testing::NoNetwork),
        })
    };
    let same = generation(open_settings());
    for shard in 0..2 {
        server.post(shard, Post::Reload(Arc::clone(&same)));
    }
    server.run();
    assert_eq!(client.take(), "", "a reload disturbs no stream");
    let none = generation(crate::config::Settings::default());
    for shard in 0..2 {
        server.post(shard, Post::Reload(Arc::clone(&none)));
    }
    server.run();
    let end = client.take();
    assert!(end.contains("<host-gone"), "{end}");
    assert!(
        server
            .shards
            .iter()
            .all(|shard| shard.router.sessions.is_empty())
    );
}

#[test]
fn a_shorter_time_for_logins_holds_at_once() {
    let mut server = Server::new(1, open_settings());
    let client = server.connect(0);
    let mut settings = open_settings();
    settings.limits.unauthenticated_seconds_max = 5;
    let generation = Generation {
        settings: Arc::new(settings),
        certificates: Arc::new(crate::shard::testing::AnyCertificate),
        dialler: Arc::new(crate::shard::testing::NoNetwork),
    };
    server.post(0, Post::Reload(Arc::new(generation)));
    server.run();
    server.pass(Duration::from_secs(5));
    assert!(client.take().contains("<connection-timeout"));
}

/// A session's end is stored with the next thing that is, or after a moment; a stop waits for it.
#[test]
fn the_time_of_a_sessions_end_is_stored_by_and_by_and_before_a_stop() {
    let mut server = Server::new(1, open_settings());
    let due = |server: &Server| server.shards[0].router.last_seen_due();
    let client = server.log_in(0, "juliet", "balcony");
    server.say(&client, "</stream:stream>");
    let at = server.now + LAST_SEEN_DELAY;
    assert_eq!(due(&server), Some(at));
    server.pass(LAST_SEEN_DELAY - Duration::from_millis(1));
    assert_eq!(due(&server), Some(at));
    server.pass(Duration::from_millis(1));
    assert_eq!(due(&server), None);

    let client = server.log_in(0, "juliet", "balcony");
    server.say(&client, "</stream:stream>");
    assert!(due(&server).is_some());
    let romeo = server.log_in(0, "romeo", "orchard");
    server.say(
        &romeo,
        "<iq type='set' id='r'><query xmlns='jabber:iq:roster'>\
         <item jid='nurse@example.org'/></query></iq>",
    );
    assert_eq!(due(&server), None);

    server.say(&romeo, "</stream:stream>");
    assert!(due(&server).is_some());
    server.post(0, Post::Stop);
    server.pass(Duration::from_millis(1));
    assert_eq!(due(&server), None);
    server.pass(CLOSE_WAIT);
    assert!(server.shards[0].is_stopped());
}

/// A silent stream costs no parser, and goes on as if it had one.
#[test]
fn a_silent_stream_gives_its_parser_back_until_more_comes() {
    let mut server = Server::new(1, open_settings());
    let juliet = server.log_in(0, "juliet", "balcony");
    let romeo = server.log_in(0, "romeo", "orchard");
    let resting = |server: &Server| {
        let connections = server.shards[0].connections.iter();
        connections.filter(|(_, c)| c.input.is_at_rest()).count()
    };
    server.pass(PARSER_REST_AFTER - Duration::from_millis(1));
    server.say(&romeo, "<message to='juliet@example.org/balcony'><body>");
    assert_eq!(resting(&server), 0);
    server.pass(PARSER_REST_AFTER);
    assert_eq!(resting(&server), 1, "romeo is in the midst of a message");
    server.say(&juliet, " \n");
    assert_eq!(resting(&server), 1, "keepalives wake nobody");
    server.say(&romeo, "hi</body></message>");
    assert!(juliet.take().contains("<body>hi</body>"));
    server.say(&juliet, &chat("romeo@example.org/orchard", "and you"));
    assert!(romeo.take().contains("<body>and you</body>"));
    assert_eq!(resting(&server), 0);
    server.pass(PARSER_REST_AFTER);
    server.pass(PARSER_REST_AFTER);
    assert_eq!(resting(&server), 2);
    let left = server.say(&juliet, "</stream:stream>");
    assert!(left.ends_with("</stream:stream>"), "{left}");
}
