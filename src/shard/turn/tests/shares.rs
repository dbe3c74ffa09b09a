//! Who is read in a turn: sessions that say a word now and then, those that flood, and newcomers.

use crate::limits::{
    FLOOD_STANZAS, TURN_FLOOD_BYTES, TURN_FLOOD_STANZAS, TURN_HANDSHAKES_MAX, TURN_NEWCOMERS_MAX,
    TURN_SESSIONS_PER_NEWCOMER, TURN_STANZAS_MAX,
};
use crate::shard::testing::{Client, HEADER, Server, open_settings};
use crate::shard::turn::{Due, Ready};

/// A storm of handshakes must not make sessions wait for all of them.
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

/// A handshake takes as long as thirty messages: one a turn, and those who only wait for theirs, or
/// speak in the clear, take nobody's place.
#[test]
fn of_handshakes_a_turn_goes_on_with_one() {
    let mut server = Server::new(1, open_settings());
    let juliet = server.log_in(0, "juliet", "balcony");
    let storm: Vec<_> = (0..2 * TURN_NEWCOMERS_MAX)
        .map(|_| server.connect(0))
        .collect();
    for (number, client) in storm.iter().enumerate() {
        let mut wire = client.wire.lock().unwrap();
        wire.is_securing = true;
        wire.hidden = if number % 2 == 0 { 500 } else { 0 };
    }
    let left = |storm: &[Client]| {
        let hidden = storm.iter().map(|one| one.wire.lock().unwrap().hidden);
        hidden.filter(|&hidden| hidden > 0).count()
    };
    let mut handshakes = left(&storm);
    assert_eq!(handshakes, TURN_NEWCOMERS_MAX);
    while handshakes > 0 {
        ask(&juliet);
        all_have_news(&mut server);
        assert!(juliet.take().contains("id='p'"));
        handshakes -= TURN_HANDSHAKES_MAX;
        assert_eq!(left(&storm), handshakes);
    }
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

/// Whoever sends without end waits among those who do.
#[test]
fn floods_go_on_in_turn_and_who_says_a_word_need_not_wait_for_them() {
    let went_on_max = TURN_FLOOD_STANZAS as usize / TURN_STANZAS_MAX;
    let (mut server, flooders, juliet) = crowd(3 * went_on_max);
    for flooder in &flooders {
        (0..3 * TURN_STANZAS_MAX).for_each(|_| ask(flooder));
    }
    all_have_news(&mut server);
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
        assert!(went_on <= went_on_max, "{more:?}");
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

/// Who sends a little less than its share, again and again, is a flood too; who stops is none.
#[test]
fn who_floods_in_small_pieces_waits_among_floods_until_it_sends_less() {
    let count = 2 * TURN_FLOOD_STANZAS as usize / FLOOD_STANZAS as usize;
    let (mut server, flooders, juliet) = crowd(count);
    let all_send = |stanzas: u64| {
        for flooder in &flooders {
            (0..stanzas).for_each(|_| ask(flooder));
        }
    };
    all_send(FLOOD_STANZAS);
    all_have_news(&mut server);
    assert_eq!(answered(&flooders), count, "nobody has flooded before");
    all_send(FLOOD_STANZAS);
    for _ in 0..2 {
        ask(&juliet);
        all_have_news(&mut server);
        assert_eq!(pongs(&juliet), 1, "at once");
        assert_eq!(answered(&flooders), count / 2);
    }
    all_send(1);
    all_have_news(&mut server);
    assert_eq!(answered(&flooders), count, "they take little of the turn");
    all_send(FLOOD_STANZAS);
    all_have_news(&mut server);
    assert_eq!(answered(&flooders), count, "they are none any more");
}

#[test]
fn large_stanzas_are_a_flood_by_their_bytes() {
    let (mut server, flooders, juliet) = crowd(2);
    let text = "x".repeat(TURN_FLOOD_BYTES as usize);
    // An answer to nothing is passed over (RFC 6120 §8.2.3).
    let large = format!("<iq type='result' id='n'><q xmlns='urn:example:q'>{text}</q></iq>");
    for flooder in &flooders {
        for _ in 0..4 {
            flooder.wire.lock().unwrap().sent.extend(large.bytes());
        }
    }
    let unread = || -> usize {
        let sent = |one: &Client| one.wire.lock().unwrap().sent.len();
        flooders.iter().map(sent).sum()
    };
    all_have_news(&mut server);
    let mut before = unread();
    while before > 0 {
        ask(&juliet);
        all_have_news(&mut server);
        assert_eq!(pongs(&juliet), 1, "at once");
        let read = before - unread();
        assert!(0 < read && read as u64 <= TURN_FLOOD_BYTES, "{read}");
        before -= read;
    }
}

/// One shard with so many sessions of Romeo, and one of Juliet.
fn crowd(flooders: usize) -> (Server, Vec<Client>, Client) {
    let mut settings = open_settings();
    settings.limits.resources_per_account_max = 100;
    let mut server = Server::new(1, settings);
    let flooders = (0..flooders)
        .map(|number| server.log_in(0, "romeo", &format!("r{number}")))
        .collect();
    let juliet = server.log_in(0, "juliet", "balcony");
    (server, flooders, juliet)
}

fn pongs(client: &Client) -> usize {
    client.take().matches("id='p'").count()
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
