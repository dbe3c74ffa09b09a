//! Who is read in a turn: sessions that say a word now and then, those that flood, and newcomers.

use crate::limits::{
    TURN_CONTINUED_MAX, TURN_NEWCOMERS_MAX, TURN_SESSIONS_PER_NEWCOMER, TURN_STANZAS_MAX,
};
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

/// Issue 5: whoever sends without end waits among those who do.
#[test]
fn floods_go_on_in_turn_and_who_says_a_word_need_not_wait_for_them() {
    let mut settings = open_settings();
    settings.limits.resources_per_account_max = 100;
    let mut server = Server::new(1, settings);
    let flooders: Vec<_> = (0..3 * TURN_CONTINUED_MAX)
        .map(|number| server.log_in(0, "romeo", &format!("r{number}")))
        .collect();
    let juliet = server.log_in(0, "juliet", "balcony");
    for flooder in &flooders {
        (0..3 * TURN_STANZAS_MAX).for_each(|_| ask(flooder));
    }
    all_have_news(&mut server);
    let pongs = |client: &Client| client.take().matches("id='p'").count();
    let mut heard: Vec<_> = flooders.iter().map(pongs).collect();
    assert!(heard.iter().all(|&count| count == TURN_STANZAS_MAX));
    let mut turns = 0;
    while heard.iter().any(|&count| count < 3 * TURN_STANZAS_MAX) {
        ask(&juliet);
        // News of a flooder too do not bring it before its like.
        all_have_news(&mut server);
        assert_eq!(pongs(&juliet), 1, "at once");
        let more: Vec<_> = flooders.iter().map(pongs).collect();
        let went_on = more.iter().filter(|&&count| count > 0).count();
        assert!(went_on <= TURN_CONTINUED_MAX, "{more:?}");
        heard
            .iter_mut()
            .zip(&more)
            .for_each(|(all, more)| *all += more);
        turns += 1;
        assert!(turns <= 9, "{heard:?}");
        let (least, most) = (heard.iter().min().unwrap(), heard.iter().max().unwrap());
        assert!(
            most - least <= TURN_STANZAS_MAX,
            "each in its turn: {heard:?}"
        );
    }
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
