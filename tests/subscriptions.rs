//! Subscriptions over real sockets, between accounts on the same shard and on different ones, and over
//! crashes (RFC 6121 §3).

mod common;

use stanzad::jid::BareJid;
use stanzad::storage::handoff;
use stanzad::storage::roster::{State, states};
use stanzad::xml::Element;

use common::client::{Client, text};
use common::server::{ACCOUNTS, PASSWORD, Server, with_store};

const JULIET: &str = "juliet@example.org";
const ROMEO: &str = "romeo@example.org";
const SHARDS: &str = "[server]\nshards = 4\n";

/// Logs in, asks for the roster and becomes available; what comes with that is heard.
fn appear(server: &Server, jid: &str) -> Client {
    let mut client = Client::login(server, jid);
    client.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>");
    client.stanza("iq");
    client.send("<presence/>");
    client.stanza("presence");
    client
}

fn send(client: &mut Client, type_: &str, to: &str) {
    client.send(format!("<presence type='{type_}' to='{to}'/>"));
}

/// A stanza in a few words: `type from`, or `push jid subscription flags`.
fn told(stanza: &Element) -> String {
    let attribute = |name| stanza.attribute(name).unwrap_or_default();
    if stanza.name == "presence" {
        let type_ = match attribute("type") {
            "" => "available",
            type_ => type_,
        };
        return format!("{type_} {}", attribute("from"));
    }
    let query = stanza.find("jabber:iq:roster", "query");
    let item = query.and_then(|query| query.elements().next());
    let item = item.unwrap_or_else(|| panic!("no push: {}", text(stanza)));
    let mut told = format!(
        "push {} {}",
        item.attribute("jid").unwrap(),
        item.attribute("subscription").unwrap()
    );
    for flag in ["ask", "approved"] {
        if item.attribute(flag).is_some() {
            told = format!("{told} {flag}");
        }
    }
    told
}

/// The stanzas that come next have to be these.
fn hears(client: &mut Client, expected: &[&str]) {
    let heard: Vec<String> = expected.iter().map(|_| told(&client.element())).collect();
    assert_eq!(heard, expected, "of {}", client.jid);
}

/// `client` gets the presence of `contact`, where there was no subscription before.
fn subscribe(client: &mut Client, contact: &mut Client) {
    subscribe_from(client, contact, ["none", "from", "to"]);
}

/// `client` gets the presence of `contact`, who gets that of `client` already.
fn subscribe_back(client: &mut Client, contact: &mut Client) {
    subscribe_from(client, contact, ["from", "both", "both"]);
}

/// The states are that of `client` before, and those of `contact` and `client` after.
fn subscribe_from(client: &mut Client, contact: &mut Client, states: [&str; 3]) {
    let [before, given, got] = states;
    let (one, other) = (bare(client), bare(contact));
    let at = contact.jid.clone();
    send(client, "subscribe", &other);
    hears(client, &[&format!("push {other} {before} ask")]);
    hears(contact, &[&format!("subscribe {one}")]);
    send(contact, "subscribed", &one);
    hears(contact, &[&format!("push {one} {given}")]);
    hears(
        client,
        &[
            &format!("subscribed {other}"),
            &format!("push {other} {got}"),
            &format!("available {at}"),
        ],
    );
}

fn bare(client: &Client) -> String {
    client.jid.split_once('/').unwrap().0.to_owned()
}

/// What the store of a stopped server has of an account about a contact.
fn stored(server: &Server, account: &str, contact: &str) -> State {
    let (account, contact) = (account.to_owned(), contact.to_owned());
    with_store(&server.site, |store| {
        let all = states(store.db(), &BareJid::parse(&account).unwrap()).unwrap();
        let found = all.iter().find(|(jid, _)| jid.as_str() == contact);
        found.map_or(State::NONE, |(_, state)| *state)
    })
}

fn handoffs(server: &Server) -> u64 {
    with_store(&server.site, |store| handoff::count(store.db()).unwrap())
}

/// RFC 6121 §3.1, §3.2, §3.3: asked, granted, cancelled, and left, by whoever it may be and wherever
/// they live.
#[test]
fn accounts_on_any_shards_subscribe_cancel_and_leave() {
    let server = Server::start(SHARDS);
    let mut clients: Vec<Client> = ACCOUNTS
        .iter()
        .map(|account| appear(&server, &format!("{account}/home")))
        .collect();
    for first in 0..clients.len() {
        for second in first + 1..clients.len() {
            let (head, tail) = clients.split_at_mut(second);
            let (one, other) = (&mut head[first], &mut tail[0]);
            let (me, you) = (bare(one), bare(other));
            subscribe(one, other);
            send(other, "unsubscribed", &me);
            hears(other, &[&format!("push {me} none")]);
            let gone = [
                format!("unavailable {}", other.jid),
                format!("unsubscribed {you}"),
                format!("push {you} none"),
            ];
            hears(one, &gone.each_ref().map(String::as_str));
            send(one, "subscribe", &you);
            hears(one, &[&format!("push {you} none ask")]);
            hears(other, &[&format!("subscribe {me}")]);
            send(other, "subscribed", &me);
            hears(other, &[&format!("push {me} from")]);
            hears(
                one,
                &[&format!("subscribed {you}"), &format!("push {you} to")],
            );
            hears(one, &[&format!("available {}", other.jid)]);
            send(one, "unsubscribe", &you);
            hears(one, &[&format!("push {you} none")]);
            hears(
                other,
                &[&format!("unsubscribe {me}"), &format!("push {me} none")],
            );
            hears(one, &[&format!("unavailable {}", other.jid)]);
        }
    }
    for client in &mut clients {
        client.settle();
    }
}

/// RFC 6121 §3.1.4, §3.2: a denial adds nobody to the roster of who denies.
#[test]
fn a_request_is_denied() {
    let server = Server::start(SHARDS);
    let mut juliet = appear(&server, "juliet@example.org/balcony");
    let mut romeo = appear(&server, "romeo@example.org/orchard");
    send(&mut romeo, "subscribe", JULIET);
    hears(&mut romeo, &["push juliet@example.org none ask"]);
    hears(&mut juliet, &["subscribe romeo@example.org"]);
    send(&mut juliet, "unsubscribed", ROMEO);
    hears(
        &mut romeo,
        &[
            "unsubscribed juliet@example.org",
            "push juliet@example.org none",
        ],
    );
    juliet.settle();
}

/// RFC 6121 §3.4: announced, noted, used once.
#[test]
fn a_request_is_approved_before_it_comes() {
    let server = Server::start(SHARDS);
    let mut features = Client::connect(&server);
    features.secure("example.org");
    features.scram("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
    let offered = features.open("example.org");
    assert!(
        offered
            .find("urn:xmpp:features:pre-approval", "sub")
            .is_some()
    );
    let mut juliet = appear(&server, "juliet@example.org/balcony");
    let mut romeo = appear(&server, "romeo@example.org/orchard");
    send(&mut juliet, "subscribed", ROMEO);
    hears(&mut juliet, &["push romeo@example.org none approved"]);
    send(&mut romeo, "subscribe", JULIET);
    hears(&mut juliet, &["push romeo@example.org from"]);
    hears(
        &mut romeo,
        &[
            "push juliet@example.org none ask",
            "subscribed juliet@example.org",
            "push juliet@example.org to",
            "available juliet@example.org/balcony",
        ],
    );
}

/// RFC 6121 §2.5.2.
#[test]
fn a_contact_that_is_removed_is_told() {
    let server = Server::start(SHARDS);
    let mut juliet = appear(&server, "juliet@example.org/balcony");
    let mut romeo = appear(&server, "romeo@example.org/orchard");
    subscribe(&mut romeo, &mut juliet);
    juliet.send(
        "<iq type='set' id='x'><query xmlns='jabber:iq:roster'>\
         <item jid='romeo@example.org' subscription='remove'/></query></iq>",
    );
    hears(
        &mut romeo,
        &[
            "unavailable juliet@example.org/balcony",
            "unsubscribed juliet@example.org",
            "push juliet@example.org none",
        ],
    );
    hears(&mut juliet, &["push romeo@example.org remove"]);
    assert_eq!(juliet.stanza("iq").attribute("type"), Some("result"));
}

/// RFC 6121 §3.1.3, rule 4: whole, at each login, and over a crash, until it is answered.
#[test]
fn a_request_to_who_is_offline_waits_over_crashes() {
    let mut server = Server::start(SHARDS);
    let mut romeo = appear(&server, "romeo@example.org/orchard");
    romeo.send(
        "<presence type='subscribe' to='juliet@example.org' id='xk3h1v69'>\
         <nick xmlns='http://jabber.org/protocol/nick'>Romeo</nick></presence>",
    );
    hears(&mut romeo, &["push juliet@example.org none ask"]);
    // The push says that the request is committed.
    for resource in ["balcony", "chamber"] {
        server.kill();
        server.start_again();
        let mut juliet = appear(&server, &format!("{JULIET}/{resource}"));
        let request = juliet.stanza("presence");
        assert_eq!(told(&request), "subscribe romeo@example.org");
        assert_eq!(request.attribute("id"), Some("xk3h1v69"));
        let nick = request.find("http://jabber.org/protocol/nick", "nick");
        assert_eq!(nick.unwrap().text(), "Romeo");
        juliet.settle();
    }
    let mut juliet = Client::login(&server, "juliet@example.org/hall");
    send(&mut juliet, "subscribed", ROMEO);
    juliet.settle();
    server.kill();
    server.start_again();
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    romeo.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>");
    let roster = romeo.stanza("iq");
    let item = roster.elements().next().unwrap().elements().next().unwrap();
    assert_eq!(item.attribute("subscription"), Some("to"));
    let mut juliet = appear(&server, "juliet@example.org/balcony");
    juliet.settle();
}

/// `Two commits` in lib.rs: two accounts do what comes to mind at once, and the server is killed in
/// the middle.
#[test]
fn a_server_killed_in_the_middle_has_accounts_that_agree() {
    let mut server = Server::start(SHARDS);
    for round in 0..6 {
        let mut juliet = appear(&server, "juliet@example.org/balcony");
        let mut romeo = appear(&server, "romeo@example.org/orchard");
        let types = ["subscribe", "subscribed", "unsubscribe", "unsubscribed"];
        for step in 0..40_usize {
            let one = types[(step * (round + 1)) % 4];
            let other = types[(step / 3 + round) % 4];
            juliet.send(format!("<presence type='{one}' to='{ROMEO}'/>"));
            romeo.send(format!("<presence type='{other}' to='{JULIET}'/>"));
            if step == 5 * (round + 2) {
                // Something of it is committed.
                romeo.until_settled();
                break;
            }
        }
        server.kill();
        server.start_again();
        // Nobody has logged in: all is as it was completed at the start.
        server.kill();
        assert_eq!(handoffs(&server), 0);
        let (mine, theirs) = (
            stored(&server, JULIET, ROMEO),
            stored(&server, ROMEO, JULIET),
        );
        let seen = format!("juliet {mine:?}, romeo {theirs:?} in round {round}");
        assert_eq!(mine.has(State::TO), theirs.has(State::FROM), "{seen}");
        assert_eq!(mine.has(State::FROM), theirs.has(State::TO), "{seen}");
        let asks =
            |one: State, other: State| (one.has(State::PENDING_OUT), other.has(State::PENDING_IN));
        let (asks_romeo, is_asked) = asks(mine, theirs);
        assert_eq!(asks_romeo, is_asked, "{seen}");
        let (asks_juliet, is_asked) = asks(theirs, mine);
        assert_eq!(asks_juliet, is_asked, "{seen}");
        server.start_again();
    }
}

/// Issue 4: deleting an account tells its contacts and leaves no row behind.
#[test]
fn contacts_of_a_deleted_account_are_told() {
    let mut server = Server::start(SHARDS);
    let mut juliet = appear(&server, "juliet@example.org/balcony");
    let mut romeo = appear(&server, "romeo@example.org/orchard");
    subscribe(&mut romeo, &mut juliet);
    subscribe_back(&mut juliet, &mut romeo);
    let ended = server.run(&["account", "delete", JULIET], "");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    // A successor may come at once.
    server.add(JULIET, PASSWORD);
    hears(
        &mut romeo,
        &[
            "unsubscribe juliet@example.org",
            "push juliet@example.org to",
            "unavailable juliet@example.org/balcony",
            "unsubscribed juliet@example.org",
            "push juliet@example.org none",
        ],
    );
    romeo.settle();
    let mut again = appear(&server, "juliet@example.org/balcony");
    again.settle();
    romeo.settle();
    server.stop();
    assert_eq!(stored(&server, JULIET, ROMEO), State::NONE);
    assert_eq!(stored(&server, ROMEO, JULIET), State::LISTED);
    assert_eq!(handoffs(&server), 0);
}

/// The same without a server: the next start tells them.
#[test]
fn contacts_of_an_account_that_was_deleted_offline_are_told_at_the_next_start() {
    let mut server = Server::start(SHARDS);
    let mut juliet = appear(&server, "juliet@example.org/balcony");
    let mut romeo = appear(&server, "romeo@example.org/orchard");
    subscribe(&mut romeo, &mut juliet);
    server.stop();
    server.site.ok(&["account", "delete", JULIET], "");
    assert_eq!(handoffs(&server), 1);
    server.site.add(JULIET);
    assert_eq!(stored(&server, ROMEO, JULIET), State::LISTED);
    assert_eq!(handoffs(&server), 0, "before the successor was made");
    server.start_again();
    let mut romeo = appear(&server, "romeo@example.org/orchard");
    romeo.settle();
}

/// RFC 6121 §3.1.2: what cannot be routed comes back, and the request can be withdrawn.
#[test]
fn a_contact_on_another_server_is_not_found() {
    let server = Server::start(SHARDS);
    let mut romeo = appear(&server, "romeo@example.org/orchard");
    send(&mut romeo, "subscribe", "rosaline@example.com");
    hears(&mut romeo, &["push rosaline@example.com none ask"]);
    romeo.refused("presence", "remote-server-not-found");
    send(&mut romeo, "unsubscribe", "rosaline@example.com");
    hears(&mut romeo, &["push rosaline@example.com none"]);
    romeo.refused("presence", "remote-server-not-found");
}
