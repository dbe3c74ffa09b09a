//! Connections without a session, in a turn beside those that have one.

use crate::limits::{TURN_NEWCOMERS_MAX, TURN_SESSIONS_PER_NEWCOMER};
use crate::shard::testing::{Client, HEADER, Server, open_settings};
use crate::shard::turn::{Due, Ready};

/// Issue 5: a storm of handshakes must not make sessions wait for all of them.
#[test]
fn newcomers_get_a_share_of_each_turn_and_sessions_need_not_wait_for_them() {
    let mut server = Server::new(1, open_settings());
    let juliet = server.log_in(0, "juliet", "balcony");
    let storm = storm(&mut server, 2 * TURN_NEWCOMERS_MAX);
    ask(&juliet);
    assert_eq!(all_have_news(&mut server), Due::Now);
    assert!(juliet.take().contains("id='p'"));
    assert_eq!(answered(&storm), TURN_NEWCOMERS_MAX);
    server.turn(0, &[]);
    assert_eq!(answered(&storm), TURN_NEWCOMERS_MAX);
}

#[test]
fn many_busy_sessions_leave_newcomers_a_share_that_grows_with_them() {
    let mut settings = open_settings();
    settings.limits.resources_per_account_max = 100;
    let mut server = Server::new(1, settings);
    let share = 2 * TURN_NEWCOMERS_MAX;
    let busy: Vec<_> = (0..share * TURN_SESSIONS_PER_NEWCOMER)
        .map(|number| {
            let resource = format!("r{}", number / 2);
            server.log_in(0, ["juliet", "romeo"][number % 2], &resource)
        })
        .collect();
    let storm = storm(&mut server, 2 * share);
    busy.iter().for_each(ask);
    all_have_news(&mut server);
    assert_eq!(answered(&busy), busy.len());
    assert_eq!(answered(&storm), share);
}

/// Clients that have all sent the start of their streams.
fn storm(server: &mut Server, count: usize) -> Vec<Client> {
    let storm: Vec<_> = (0..count).map(|_| server.connect(0)).collect();
    for client in &storm {
        client.wire.lock().unwrap().sent.extend(HEADER.bytes());
    }
    storm
}

fn ask(client: &Client) {
    let ping = "<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>";
    client.wire.lock().unwrap().sent.extend(ping.bytes());
}

/// A turn with news of all sockets, those of the last to come first.
fn all_have_news(server: &mut Server) -> Due {
    let news = |index| Ready {
        index,
        is_closed: false,
    };
    let all: Vec<_> = (0..512).rev().map(news).collect();
    server.turn(0, &all)
}

fn answered(clients: &[Client]) -> usize {
    let spoken = clients.iter().filter(|client| !client.take().is_empty());
    spoken.count()
}
