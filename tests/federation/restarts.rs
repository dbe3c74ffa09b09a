//! What waits for another server outlives this one's end.

use std::time::Instant;

use rusqlite::{Connection, OpenFlags};

use super::common::client::Client;
use super::common::network::{Network, address};
use super::common::server::{PATIENCE, Server};

/// Waits until so many messages for other servers are stored.
pub fn until_stored(server: &Server, count: i64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let path = server.site.path("data/stanzad.sqlite");
        let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let stored: i64 = database
            .query_row("SELECT count(*) FROM peer_queue", [], |row| row.get(0))
            .unwrap();
        if stored == count {
            return;
        }
        assert!(Instant::now() < deadline, "{stored} of {count}");
        std::thread::yield_now();
    }
}

/// `Settlement` in lib.rs.
#[test]
fn messages_for_a_server_that_is_away_outlive_a_kill_and_arrive_in_order() {
    let network = Network::new();
    let away = address();
    network.announce("montague.example", away);
    let mut capulet = network.server("capulet.example", "");
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    for n in 1..=300 {
        juliet.send(format!(
            "<message to='romeo@montague.example' type='chat' id='{n}'><body>{n}</body></message>"
        ));
    }
    // Nothing of these is kept: nobody waits for them by then.
    juliet.send("<presence to='romeo@montague.example'/>");
    juliet.send("<iq to='montague.example' type='get' id='a'><ping xmlns='urn:xmpp:ping'/></iq>");
    until_stored(&capulet, 300);
    capulet.kill();

    let montague = network.start(network.site(&["montague.example"], away, ""));
    let mut romeo = Client::available(&montague, "romeo@montague.example/orchard");
    capulet.start_again();
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    juliet.send("<message to='romeo@montague.example' type='chat' id='301'/>");
    for n in 1..=301 {
        let heard = romeo.element();
        assert_eq!(heard.attribute("id"), Some(n.to_string().as_str()));
        assert_eq!(heard.name, "message");
    }
    until_stored(&capulet, 0);
}
