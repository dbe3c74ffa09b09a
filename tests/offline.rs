//! Offline messages (XEP-0160) of the running server: through crashes, to slow readers, beside live
//! messages, and within their quota.

mod common;

use std::thread;
use std::time::Instant;

use rusqlite::{Connection, OpenFlags};
use stanzad::server::control::{Reply, Request};
use stanzad::xml::Element;

use common::client::{Client, text};
use common::server::{ACCOUNTS, PASSWORD, PATIENCE, Server};

const JULIET: &str = "juliet@example.org";
const DELAY: &str = "urn:xmpp:delay";

/// A number from the server's database.
fn count(server: &Server, table: &str) -> u64 {
    let path = server.site.path("data/stanzad.sqlite");
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sql = format!("SELECT count(*) FROM {table}");
    let count: i64 = database.query_row(&sql, [], |row| row.get(0)).unwrap();
    u64::try_from(count).unwrap()
}

/// Waits until a table has so many rows. A round over the control socket keeps this from spinning.
fn until_count(server: &Server, table: &str, expected: u64) {
    // From the last step that was seen: many and large rows may take long.
    let mut deadline = Instant::now() + PATIENCE;
    let mut last = None;
    loop {
        let found = count(server, table);
        if found == expected {
            return;
        }
        if last.replace(found) != Some(found) {
            deadline = Instant::now() + PATIENCE;
        }
        assert!(
            Instant::now() < deadline,
            "{table} has {found} rows, not {expected}"
        );
        server.status();
    }
}

/// Sends messages with these numbers to juliet.
fn send(sender: &mut Client, numbers: std::ops::Range<u64>, body: &str) {
    for number in numbers {
        sender.send(format!(
            "<message to='{JULIET}' type='chat' id='{number}'><body>{body}</body></message>"
        ));
    }
}

/// The next `count` messages: their numbers, and whether they were delayed.
fn receive(client: &mut Client, count: usize) -> Vec<(u64, bool)> {
    let mut got = Vec::new();
    while got.len() < count {
        let element = client.element();
        if element.name == "message" {
            got.push(seen(&element));
        }
        client.forget();
    }
    got
}

fn seen(message: &Element) -> (u64, bool) {
    assert_ne!(
        message.attribute("type"),
        Some("error"),
        "{}",
        text(message)
    );
    let delay = message.find(DELAY, "delay");
    if let Some(delay) = delay {
        assert_eq!(delay.attribute("from"), Some("example.org"));
        assert!(delay.attribute("stamp").unwrap().ends_with('Z'));
    }
    (
        message.attribute("id").unwrap().parse().unwrap(),
        delay.is_some(),
    )
}

fn delayed(numbers: std::ops::Range<u64>) -> Vec<(u64, bool)> {
    numbers.map(|number| (number, true)).collect()
}

fn numbers(messages: &[(u64, bool)]) -> Vec<u64> {
    messages.iter().map(|(number, _)| *number).collect()
}

/// Logs juliet in; messages come from now on.
fn juliet(server: &Server, resource: &str) -> Client {
    let mut client = Client::login(server, &format!("{JULIET}/{resource}"));
    client.send("<presence/>");
    client
}

/// Ends a session in an orderly way, after which the server knows nothing of it.
fn log_out(mut client: Client) {
    client.send("</stream:stream>");
    client.closes();
}

/// XEP-0160 §2, `Stored before shown` in lib.rs: what is stored survives `kill -9`, is delivered in
/// order, and once.
#[test]
fn stored_messages_survive_a_crash_and_come_once() {
    let mut server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    send(&mut romeo, 0..20, "are you there?");
    until_count(&server, "offline", 20);
    server.kill();
    server.start_again();
    let mut first = juliet(&server, "first");
    assert_eq!(receive(&mut first, 20), delayed(0..20));
    first.settle();
    until_count(&server, "offline", 0);
    until_count(&server, "body", 0);
    log_out(first);
    let mut second = juliet(&server, "second");
    let again = second.until_settled();
    assert!(
        again.iter().all(|element| element.name == "presence"),
        "{again:?}"
    );
}

/// Between being written and being deleted a message may come twice, but none is left out.
#[test]
fn a_crash_during_delivery_loses_nothing() {
    let mut server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    send(&mut romeo, 0..500, "are you there?");
    until_count(&server, "offline", 500);
    let mut first = juliet(&server, "first");
    let before = receive(&mut first, 75);
    assert_eq!(before, delayed(0..75));
    server.kill();
    server.start_again();
    let left = usize::try_from(count(&server, "offline")).unwrap();
    let mut second = juliet(&server, "second");
    let after = receive(&mut second, left);
    assert_eq!(after, delayed(500 - left as u64..500));
}

/// What a connection took that nobody read is not delivered: it died in a pocket, say.
#[test]
fn a_connection_that_dies_unread_loses_nothing() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    send(&mut romeo, 0..200, "are you there?");
    until_count(&server, "offline", 200);
    let mut dead = juliet(&server, "dead");
    // The first page is on its way, and the socket has room for it: its first byte is there.
    dead.stanza("presence");
    assert_eq!(receive(&mut dead, 1), delayed(0..1));
    for _ in 0..20 {
        server.status();
    }
    assert_eq!(count(&server, "offline"), 200);
    drop(dead);
    while !server.sessions(Some(JULIET)).is_empty() {}
    let mut living = juliet(&server, "living");
    assert_eq!(receive(&mut living, 200), delayed(0..200));
    living.settle();
    until_count(&server, "offline", 0);
}

/// RFC 6120 §4.4: a client that leaves in an orderly way has read what came before the end, also if it
/// leaves at once.
#[test]
fn a_client_that_leaves_at_once_gets_nothing_twice() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    send(&mut romeo, 0..20, "are you there?");
    until_count(&server, "offline", 20);
    let mut first = juliet(&server, "first");
    assert_eq!(receive(&mut first, 20), delayed(0..20));
    log_out(first);
    until_count(&server, "offline", 0);
}

/// RFC 6120 §10.1: what is never stored waits behind what is stored of the same sender, be it sent to
/// the account or to the resource. What others send does not wait.
#[test]
fn nothing_overtakes_stored_messages_of_its_sender() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    send(&mut romeo, 0..120, "are you there?");
    until_count(&server, "offline", 120);
    let mut client = juliet(&server, "balcony");
    // The next page follows when the client answers, which it does when it reads on.
    assert_eq!(receive(&mut client, 50), delayed(0..50));
    romeo.send(format!(
        "<message to='{JULIET}' type='headline' id='120'><body>news</body></message>\
         <message to='{JULIET}/balcony' type='chat' id='121'><body>you</body></message>\
         <iq to='{JULIET}/balcony' type='result' id='122'/>"
    ));
    romeo.settle();
    let mut nurse = Client::login(&server, "nurse@example.org/hall");
    nurse.send(format!(
        "<message to='{JULIET}' type='headline' id='999'><body>Madam!</body></message>"
    ));
    nurse.settle();
    let mut rest = receive(&mut client, 73);
    // It may have read the request behind the first page together with that page, and so have the second
    // one on its way.
    let place = rest.iter().position(|got| *got == (999, false));
    let place = place.expect("the nurse's message comes");
    assert!(place <= 50, "it waits for no further page: {rest:?}");
    rest.remove(place);
    let mut expected = delayed(50..120);
    expected.extend([(120, false), (121, false)]);
    assert_eq!(rest, expected);
    assert_eq!(client.stanza("iq").attribute("id"), Some("122"));
}

/// A client that does not read is sent a page at a time: far more than a session's output may hold does
/// not end it. What comes meanwhile waits behind.
#[test]
fn a_slow_reader_gets_everything_in_order() {
    let server =
        Server::start("[limits]\noffline_bytes_max = 100000000\nbytes_per_second_max = 0\n");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    // More than the kernel's buffers hold.
    const COUNT: u64 = 400;
    send(&mut romeo, 0..COUNT, &"x".repeat(50_000));
    until_count(&server, "offline", COUNT);
    let mut slow = juliet(&server, "slow");
    // Some of it is there.
    slow.stanza("presence");
    send(&mut romeo, COUNT..COUNT + 2, "are you there?");
    let all = receive(&mut slow, COUNT as usize + 2);
    assert_eq!(all, delayed(0..COUNT + 2));
    slow.settle();
    until_count(&server, "offline", 0);
}

#[test]
fn two_thousand_messages_come_in_order_and_live_ones_behind_them() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    send(&mut romeo, 0..2_000, "are you there?");
    until_count(&server, "offline", 2_000);
    let mut client = juliet(&server, "balcony");
    send(&mut romeo, 2_000..2_010, "are you there?");
    let all = receive(&mut client, 2_010);
    assert_eq!(numbers(&all), (0..2_010).collect::<Vec<_>>());
    assert_eq!(all[..2_000], delayed(0..2_000));
    client.settle();
    until_count(&server, "offline", 0);
    send(&mut romeo, 2_010..2_011, "are you there?");
    assert_eq!(receive(&mut client, 1), [(2_010, false)]);
}

/// What one resource was given, the next is not.
#[test]
fn a_second_resource_gets_what_comes_from_now_on() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    send(&mut romeo, 0..300, "are you there?");
    until_count(&server, "offline", 300);
    let mut first = juliet(&server, "first");
    let mut second = juliet(&server, "second");
    second.until_settled();
    send(&mut romeo, 300..303, "are you there?");
    assert_eq!(
        numbers(&receive(&mut first, 303)),
        (0..303).collect::<Vec<_>>()
    );
    assert_eq!(numbers(&receive(&mut second, 3)), [300, 301, 302]);
    first.settle();
    until_count(&server, "offline", 0);
    first.until_settled();
    second.settle();
}

/// `Features` in lib.rs: however logins, stored and live messages fall together, and whichever
/// shard they come from, each arrives once and in the order in which its sender sent them.
#[test]
fn nothing_is_overtaken_lost_or_doubled_while_a_session_comes_and_goes() {
    let server = Server::start("");
    let mut client = Client::login(&server, &format!("{JULIET}/balcony"));
    let home = server.shard_of(&client.jid);
    let (mut near, mut far, mut guests) = (None, None, 0);
    let mut names: Vec<String> = ACCOUNTS[1..5].iter().map(|&jid| jid.to_owned()).collect();
    while near.is_none() || far.is_none() {
        let name = names.pop().unwrap_or_else(|| {
            guests += 1;
            let name = format!("guest{guests}@example.org");
            server.add(&name, PASSWORD);
            name
        });
        let sender = Client::login(&server, &format!("{name}/home"));
        let is_near = server.shard_of(&sender.jid) == home;
        *(if is_near { &mut near } else { &mut far }) = Some(sender);
    }
    const COUNT: u64 = 2_000;
    let senders = [near.unwrap(), far.unwrap()].map(|mut sender| {
        thread::spawn(move || {
            send(&mut sender, 0..COUNT, "are you there?");
            let heard = sender.until_settled();
            assert!(heard.is_empty(), "{heard:?}");
            sender
        })
    });
    let mut got: std::collections::BTreeMap<String, Vec<u64>> = Default::default();
    let mut total = 0;
    let mut priority = 0;
    let deadline = Instant::now() + 6 * PATIENCE;
    while total < 2 * COUNT {
        assert!(Instant::now() < deadline, "only {total} came");
        client.send(format!(
            "<presence><priority>{priority}</priority></presence>"
        ));
        priority = if priority == 0 { -1 } else { 0 };
        for element in client.until_settled() {
            if element.name == "message" {
                let from = element.attribute("from").unwrap().to_owned();
                got.entry(from).or_default().push(seen(&element).0);
                total += 1;
            }
        }
        client.forget();
    }
    for sender in senders {
        let sender = sender.join().unwrap();
        assert_eq!(got[&sender.jid], (0..COUNT).collect::<Vec<_>>());
    }
    client.send("<presence/>");
    client.until_settled();
    until_count(&server, "offline", 0);
}

/// XEP-0160 §2: `service-unavailable`, which an account that does not exist answers too.
#[test]
fn above_the_quota_senders_are_told() {
    let server = Server::start("[limits]\noffline_messages_max = 3\n");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    send(&mut romeo, 0..5, "are you there?");
    for number in ["3", "4"] {
        let error = romeo.refused("message", "service-unavailable");
        assert_eq!(error.attribute("id"), Some(number));
    }
    romeo.send("<message to='nobody@example.org' id='5'><body>hi</body></message>");
    romeo.refused("message", "service-unavailable");
    let mut client = juliet(&server, "balcony");
    assert_eq!(receive(&mut client, 3), delayed(0..3));
    client.settle();
    until_count(&server, "offline", 0);
    log_out(client);
    send(&mut romeo, 6..9, "are you there?");
    until_count(&server, "offline", 3);
    romeo.settle();
}

#[test]
fn a_deleted_account_leaves_no_message_behind() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    send(&mut romeo, 0..600, "are you there?");
    until_count(&server, "offline", 600);
    let jid = JULIET.to_owned();
    let reply = server.ask(&Request::AccountDelete { jid });
    assert!(matches!(reply, Reply::Account(_)), "{reply:?}");
    assert_eq!(count(&server, "offline"), 0);
    until_count(&server, "body", 0);
    server.add(JULIET, PASSWORD);
    let mut client = juliet(&server, "balcony");
    let heard = client.until_settled();
    assert!(
        heard.iter().all(|element| element.name == "presence"),
        "{heard:?}"
    );
}

/// XEP-0160 §4.
#[test]
fn the_domain_announces_offline_messages() {
    let server = Server::start("");
    let mut client = Client::login(&server, &format!("{JULIET}/balcony"));
    client.send(
        "<iq type='get' to='example.org' id='1'>\
         <query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
    );
    let reply = client.stanza("iq");
    assert!(
        text(&reply).contains("<feature var='msgoffline'/>"),
        "{}",
        text(&reply)
    );
}
