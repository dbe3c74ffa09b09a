//! Delivery within this server (RFC 6120 §10.5, RFC 6121 §8.5), within a shard and across shards.

use crate::common::client::{Client, Heard};
use crate::common::server::Server;

const NAMES: [&str; 5] = ["juliet", "romeo", "mercutio", "tybalt", "nurse"];

/// Everybody is logged in and available; more accounts are made until both shards have some.
fn everybody(server: &Server) -> Vec<Client> {
    let mut clients: Vec<Client> = NAMES
        .iter()
        .map(|name| Client::login(server, &format!("{name}@example.org/home")))
        .collect();
    let mut extra = 0;
    loop {
        let shards: Vec<usize> = clients.iter().map(|c| server.shard_of(&c.jid)).collect();
        let on_first = shards.iter().filter(|shard| **shard == shards[0]).count();
        if on_first >= 2 && on_first < shards.len() {
            break;
        }
        let jid = format!("guest{extra}@example.org");
        server.add(&jid, crate::common::server::PASSWORD);
        clients.push(Client::login(server, &format!("{jid}/home")));
        extra += 1;
    }
    for client in &mut clients {
        client.send("<presence/>");
        client.until_settled();
    }
    clients
}

/// RFC 6120 §10.5.4, RFC 6121 §8.5.3.1: to a full JID, from every account to every account, so that
/// senders and recipients share a shard or not.
#[test]
fn messages_reach_full_jids_within_and_across_shards() {
    let server = Server::start("");
    let mut clients = everybody(&server);
    for from in 0..clients.len() {
        for to in 0..clients.len() {
            let (sender, recipient) = (clients[from].jid.clone(), clients[to].jid.clone());
            clients[from].send(format!("<message to='{recipient}' id='{from}-{to}'/>"));
            let message = clients[to].stanza("message");
            assert_eq!(message.attribute("from"), Some(&*sender));
            assert_eq!(message.attribute("id"), Some(&*format!("{from}-{to}")));
        }
    }
    for client in &mut clients {
        client.settle();
    }
}

/// RFC 6120 §10.5.3, RFC 6121 §8.5.2.1.1: to a bare JID.
#[test]
fn messages_reach_bare_jids_within_and_across_shards() {
    let server = Server::start("");
    let mut clients = everybody(&server);
    for from in 0..clients.len() {
        for to in 0..clients.len() {
            let recipient = clients[to].jid.replace("/home", "");
            clients[from].send(format!(
                "<message to='{recipient}' type='chat' id='{from}-{to}'/>"
            ));
            let message = clients[to].stanza("message");
            assert_eq!(message.attribute("id"), Some(&*format!("{from}-{to}")));
        }
    }
    for client in &mut clients {
        client.settle();
    }
}

/// RFC 6120 §10.1: what one sends to another arrives in order, whatever kinds and recipients lie
/// between.
#[test]
fn stanzas_arrive_in_the_order_in_which_they_were_sent() {
    let server = Server::start("");
    let mut clients = everybody(&server);
    let jids: Vec<String> = clients.iter().map(|client| client.jid.clone()).collect();
    const ROUNDS: usize = 200;
    let mut script = String::new();
    for round in 0..ROUNDS {
        for jid in &jids[1..] {
            let bare = jid.replace("/home", "");
            script += &match round % 4 {
                0 => format!("<message to='{jid}' id='{round}'/>"),
                1 => format!("<message to='{bare}' type='chat' id='{round}'/>"),
                2 => format!("<presence to='{jid}' id='{round}'/>"),
                _ => format!("<iq to='{jid}' type='result' id='{round}'/>"),
            };
        }
    }
    // In pieces that end anywhere.
    for piece in script.as_bytes().chunks(1_777) {
        clients[0].send(piece);
    }
    for client in &mut clients[1..] {
        for round in 0..ROUNDS {
            let id = round.to_string();
            assert_eq!(client.element().attribute("id"), Some(&*id));
        }
        client.settle();
    }
}

/// RFC 6120 §10.1: what a recipient does not read at once waits for it, in order.
#[test]
fn a_recipient_that_reads_late_gets_everything() {
    let server = Server::start("");
    let mut clients = everybody(&server);
    let body = "a".repeat(1_000);
    const COUNT: usize = 2_000;
    let jids: Vec<String> = clients.iter().map(|client| client.jid.clone()).collect();
    for n in 0..COUNT {
        let to = &jids[1 + n % (jids.len() - 1)];
        clients[0].send(format!(
            "<message to='{to}' id='{n}'><body>{body}</body></message>"
        ));
    }
    clients[0].settle();
    let others = jids.len() - 1;
    for (index, client) in clients.iter_mut().enumerate().skip(1) {
        for n in (index - 1..COUNT).step_by(others) {
            let message = client.stanza("message");
            assert_eq!(message.attribute("id"), Some(&*n.to_string()));
        }
        client.settle();
    }
}

/// RFC 6121 §8.5.2.1.1: every resource of the highest priority, or every available one that is not
/// negative; this server takes the second choice, as XEP-0280's users expect.
#[test]
fn a_message_to_a_bare_jid_reaches_every_resource_that_takes_messages() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut resources = Vec::new();
    for (resource, presence) in [
        ("high", "<presence><priority>127</priority></presence>"),
        ("zero", "<presence/>"),
        ("negative", "<presence><priority>-1</priority></presence>"),
        ("lowest", "<presence><priority>-128</priority></presence>"),
        ("offline", ""),
    ] {
        let mut client = Client::login(&server, &format!("juliet@example.org/{resource}"));
        client.send(presence);
        client.until_settled();
        resources.push(client);
    }
    for type_ in ["chat", "normal", "headline"] {
        romeo.send(format!(
            "<message to='juliet@example.org' type='{type_}' id='bare'/>"
        ));
        for client in &mut resources {
            romeo.send(format!("<message to='{}' id='full'/>", client.jid));
        }
        for client in &mut resources {
            let takes = client.jid.ends_with("high") || client.jid.ends_with("zero");
            let messages = messages_until(client, "full");
            assert_eq!(
                messages == ["bare", "full"],
                takes,
                "{} {messages:?}",
                client.jid
            );
        }
    }
    romeo.settle();
}

/// The ids of messages up to the one with this id; presence is not counted.
fn messages_until(client: &mut Client, last: &str) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let element = client.element();
        if element.name == "message" {
            let id = element.attribute("id").unwrap_or_default().to_owned();
            ids.push(id.clone());
            if id == last {
                return ids;
            }
        }
    }
}

/// RFC 6121 §4.7.2.3, §8.5.2.2: a session with negative priority, or none that is available, takes
/// no message to the account. What may not be stored comes back (XEP-0334 §4.2); the rest waits
/// (`tests/offline.rs`).
#[test]
fn a_message_comes_back_when_no_resource_takes_messages() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let message = "<message to='juliet@example.org' type='chat'><body>hark</body>\
                   <no-store xmlns='urn:xmpp:hints'/></message>";
    romeo.send(message);
    romeo.refused("message", "service-unavailable");
    juliet.send("<presence><priority>-1</priority></presence>");
    juliet.until_settled();
    romeo.send(message);
    romeo.refused("message", "service-unavailable");
    juliet.send("<presence><priority>0</priority></presence>");
    juliet.until_settled();
    romeo.send(message);
    juliet.stanza("message");
    juliet.send("<presence type='unavailable'/>");
    juliet.until_settled();
    romeo.send(message);
    romeo.refused("message", "service-unavailable");
    juliet.settle();
}

/// RFC 6121 §8.5.3.1: a full JID is reached whatever its presence.
#[test]
fn a_message_to_a_full_jid_needs_no_presence() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    romeo.send("<message to='juliet@example.org/balcony' id='1'/>");
    assert_eq!(juliet.stanza("message").attribute("id"), Some("1"));
    juliet.send("<presence><priority>-5</priority></presence>");
    juliet.until_settled();
    romeo.send("<message to='juliet@example.org/balcony' id='2'/>");
    assert_eq!(juliet.stanza("message").attribute("id"), Some("2"));
}

/// RFC 6121 §8.5.3.2.1: to a resource that is gone: a chat as to the account, others back.
#[test]
fn a_chat_to_a_resource_that_is_gone_goes_to_the_account() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet.send("<presence/>");
    juliet.until_settled();
    romeo.send("<message to='juliet@example.org/gone' type='chat'/>");
    juliet.stanza("message");
    for type_ in ["normal", "groupchat"] {
        romeo.send(format!(
            "<message to='juliet@example.org/gone' type='{type_}'/>"
        ));
        romeo.refused("message", "service-unavailable");
    }
    romeo.send("<message to='juliet@example.org/gone' type='headline'/>");
    romeo.settle();
    juliet.settle();
}

/// RFC 6121 §8.5.3.2.3: an IQ to a resource that is not connected comes back, to none else.
#[test]
fn an_iq_to_a_resource_that_is_not_connected_comes_back() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet.send("<presence/>");
    juliet.until_settled();
    for type_ in ["get", "set"] {
        romeo.send(format!(
            "<iq to='juliet@example.org/gone' type='{type_}' id='1'><a xmlns='urn:x'/></iq>"
        ));
        let error = romeo.refused("iq", "service-unavailable");
        assert_eq!(error.attribute("from"), Some("juliet@example.org/gone"));
    }
    juliet.settle();
}

/// RFC 6121 §8.5.2.1.1: a groupchat message to an account comes back.
#[test]
fn a_groupchat_message_to_an_account_comes_back() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet.send("<presence/>");
    juliet.until_settled();
    romeo.send("<message to='juliet@example.org' type='groupchat'/>");
    romeo.refused("message", "service-unavailable");
    juliet.settle();
}

/// RFC 6120 §10.5: each domain is its own, and their accounts reach each other.
#[test]
fn accounts_of_two_domains_reach_each_other() {
    let server = Server::start("");
    let mut paris = Client::login(&server, "paris@example.net/villa");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet.send("<message to='paris@example.net/villa' id='no'/>");
    let message = paris.stanza("message");
    assert_eq!(
        message.attribute("from"),
        Some("juliet@example.org/balcony")
    );
    juliet.send("<message to='paris@example.org' id='unknown'/>");
    juliet.refused("message", "service-unavailable");
}

/// Each message is delivered once, or comes back once, whenever the recipient leaves.
#[test]
fn messages_to_a_leaving_client_arrive_or_come_back() {
    let server = Server::start("");
    let mut clients = everybody(&server);
    let mut leaving = clients.pop().unwrap();
    const COUNT: usize = 300;
    let to = leaving.jid.clone();
    let script: String = (0..COUNT)
        .map(|n| format!("<message to='{to}' type='groupchat' id='{n}'/>"))
        .collect();
    let sender = &mut clients[0];
    let (first, second) = script.split_at(script.len() / 2);
    sender.send(first);
    leaving.send("</stream:stream>");
    sender.send(second);
    let mut seen = vec![0; COUNT];
    loop {
        match leaving.try_hear() {
            Ok(Heard::Element(message)) => {
                seen[message.attribute("id").unwrap().parse::<usize>().unwrap()] += 1;
            }
            Ok(Heard::Close) => {}
            Ok(Heard::End) | Err(_) => break,
            Ok(other) => panic!("{other:?}"),
        }
    }
    while seen.iter().sum::<usize>() < COUNT {
        let error = sender.refused("message", "service-unavailable");
        seen[error.attribute("id").unwrap().parse::<usize>().unwrap()] += 1;
    }
    assert_eq!(seen, vec![1; COUNT]);
    sender.settle();
}
