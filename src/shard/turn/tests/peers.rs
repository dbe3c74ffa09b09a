//! Streams of other servers, on several shards (`Who owns what` in lib.rs).

use std::sync::Arc;

use super::*;
use crate::config::Settings;
use crate::limits::{OUTPUT_HOLD_BYTES, PEER_REQUEST_DELAY};
use crate::shard::testing::Client;
use crate::shard::testing::servers::{
    EXTERNAL, Network, answer, header, lenient_settings, to_juliet,
};

const SHARDS: u32 = 4;

fn bodies(text: &str) -> Vec<&str> {
    let parts = text.split("<body>").skip(1);
    parts
        .filter_map(|part| part.split("</body>").next())
        .collect()
}

fn networked(settings: Settings) -> (Server, Arc<Network>) {
    let network = Arc::new(Network::default());
    let server = Server::in_network(SHARDS, settings, Arc::<Network>::clone(&network));
    (server, network)
}

/// The keys that are asked about on a stream: who asks, about whom, on which stream, and the key.
fn questions(said: &str) -> Vec<(String, String, String, String)> {
    let attribute = |tag: &str, name: &str| {
        let at = tag.split(&format!("{name}='")).nth(1).unwrap();
        at.split('\'').next().unwrap().to_owned()
    };
    let parts = said.split("<db:verify ").skip(1);
    parts
        .map(|part| {
            let (tag, rest) = part.split_once('>').unwrap();
            let key = rest.split('<').next().unwrap().to_owned();
            let [from, to, id] = ["from", "to", "id"].map(|name| attribute(tag, name));
            (from, to, id, key)
        })
        .collect()
}

/// Answers, in a peer's name, the questions about keys that were asked on a dialled stream.
fn answer_questions(server: &mut Server, peer: &Client, said: &str, verdict: &str) -> usize {
    let asked = questions(said);
    for (from, to, id, _) in &asked {
        let text = format!("<db:verify from='{to}' to='{from}' id='{id}' type='{verdict}'/>");
        server.say(peer, &text);
    }
    asked.len()
}

/// Answers a header in a peer's name, and refuses TLS if it is asked for.
fn without_tls(server: &mut Server, peer: &Client, remote: &str) -> String {
    let said = server.say(peer, &answer(remote, ""));
    match said.contains("<starttls ") {
        true => server.say(peer, "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
        false => said,
    }
}

#[test]
fn the_stream_of_a_server_moves_to_the_shard_of_its_first_proven_domain() {
    for shard in 0..SHARDS as usize {
        let mut server = Server::new(SHARDS, lenient_settings());
        let juliet = server.log_in(0, "juliet", "balcony");
        let before = server.places();
        let remote = server.remote_of((shard + 1) % SHARDS as usize);
        let peer = server.connect_securely(shard, &remote);
        assert_eq!(server.places()[shard], before[shard] + 1);
        let romeo = format!("romeo@{remote}/orchard");
        // What comes right behind the proof travels along.
        let stanzas: String = (1..4)
            .map(|n| to_juliet(&romeo, &format!("m{n}")))
            .collect();
        let said = server.say(&peer, &format!("{EXTERNAL}{}{stanzas}", header(&remote)));
        assert!(said.starts_with("<success "), "{said}");
        assert!(said.contains("<stream:features>"), "{said}");
        let owner = server.shard_of(&remote);
        let after = server.places();
        assert_eq!(
            (after[shard], after[owner]),
            (before[shard], before[owner] + 1)
        );
        assert_eq!(bodies(&juliet.take()), ["m1", "m2", "m3"]);
        // It goes on there, and gives its place back.
        server.say(&peer, &to_juliet(&romeo, "m4"));
        assert_eq!(bodies(&juliet.take()), ["m4"]);
        assert_eq!(server.say(&peer, "</stream:stream>"), "</stream:stream>");
        assert_eq!(server.places(), before);
    }
}

/// XEP-0220 §2.6: the second domain has its links on another shard; what it sends hops there.
#[test]
fn several_domains_are_proven_on_one_stream_that_moves_once() {
    let (mut server, network) = networked(lenient_settings());
    let juliet = server.log_in(0, "juliet", "balcony");
    let before = server.places();
    let (first, second) = (server.remote_of(1), server.remote_of(2));
    let peer = server.connect_server(0);
    let key = |from: &str| format!("<db:result from='{from}' to='example.org'>0{from}</db:result>");
    server.say(&peer, &header(&first));
    // Both keys are offered before either is verified.
    assert_eq!(server.say(&peer, &(key(&first) + &key(&second))), "");
    let mut proven = String::new();
    for remote in [&first, &second] {
        let [(domain, authoritative)] = &network.take()[..] else {
            panic!("one key is verified at a time");
        };
        assert_eq!(domain, remote);
        let features = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>";
        let without_tls = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
        let mut said = server.say(authoritative, &answer(domain, features));
        if said.contains("<starttls ") {
            said = server.say(authoritative, without_tls);
        }
        assert_eq!(
            answer_questions(&mut server, authoritative, &said, "valid"),
            1,
            "{said}"
        );
        proven.push_str(&peer.take());
    }
    for remote in [&first, &second] {
        let valid = format!("to='{remote}' type='valid'");
        assert!(proven.contains(&valid), "{proven}");
    }
    let after = server.places();
    let owner = server.shard_of(&first);
    // The stream, and the one that was dialled to ask about its key.
    assert_eq!(after[owner], before[owner] + 2);
    assert_eq!(after[0], before[0]);
    for round in 0..3 {
        for remote in [&first, &second] {
            let body = format!("{remote}{round}");
            server.say(&peer, &to_juliet(&format!("romeo@{remote}"), &body));
        }
    }
    let text = juliet.take();
    let got = bodies(&text);
    for remote in [&first, &second] {
        let of_one: Vec<&&str> = got
            .iter()
            .filter(|body| body.starts_with(remote.as_str()))
            .collect();
        assert_eq!(of_one.len(), 3);
        assert!(of_one.is_sorted(), "{got:?}");
    }
}

/// A key that is denied does not keep the next one waiting.
#[test]
fn a_key_that_waits_is_verified_after_the_first_was_refused() {
    let (mut server, network) = networked(lenient_settings());
    let (first, second) = (server.remote_of(1), server.remote_of(2));
    let peer = server.connect_server(0);
    let key = |from: &str| format!("<db:result from='{from}' to='example.org'>0{from}</db:result>");
    server.say(&peer, &header(&first));
    server.say(&peer, &(key(&first) + &key(&second)));
    let (_, authoritative) = network.take().remove(0);
    // It cannot be asked: its connection breaks.
    authoritative.wire.lock().unwrap().is_ended = true;
    server.news();
    server.run();
    let said = peer.take();
    assert!(said.contains("<remote-server-timeout "), "{said}");
    let [(domain, _)] = &network.take()[..] else {
        panic!("the second key is to be verified");
    };
    assert_eq!(*domain, second);
}

/// Prosody 0.12 answers our key only after we have answered its own.
#[test]
fn a_server_that_has_not_answered_our_key_yet_is_asked_about_its_own() {
    let (mut server, network) = networked(lenient_settings());
    let juliet = server.log_in(0, "juliet", "balcony");
    let remote = server.remote_of(1);
    server.say(
        &juliet,
        &format!("<message to='romeo@{remote}' type='chat'><body>m1</body></message>"),
    );
    let [(_, dialled)] = &network.take()[..] else {
        panic!("the server is dialled");
    };
    let features = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>";
    let said = server.say(dialled, &answer(&remote, features));
    assert!(said.contains("<db:result "), "{said}");
    let peer = server.connect_server(2);
    server.say(&peer, &header(&remote));
    let key = format!("<db:result from='{remote}' to='example.org'>0123</db:result>");
    assert_eq!(server.say(&peer, &key), "");
    assert!(network.take().is_empty());
    let said = dialled.take();
    assert_eq!(
        answer_questions(&mut server, dialled, &said, "valid"),
        1,
        "{said}"
    );
    let said = peer.take();
    assert!(said.contains("type='valid'"), "{said}");
}

const BIDI: &str = "<bidi xmlns='urn:xmpp:bidi'/>";

/// XEP-0288 §2.2: behind the peer's proof, by the stream that it has opened, on the shard of its link.
#[test]
fn a_stream_that_a_server_has_opened_takes_what_is_sent_to_it() {
    for shard in 0..SHARDS as usize {
        let (mut server, network) = networked(lenient_settings());
        let juliet = server.log_in(0, "juliet", "balcony");
        let remote = server.remote_of(1);
        let romeo = format!("romeo@{remote}/orchard");
        let peer = server.connect_securely(shard, &remote);
        let request = format!(
            "<iq from='{romeo}' to='example.org' type='get' id='q'>\
             <query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
        );
        let opening = format!("{BIDI}{EXTERNAL}{}{request}", header(&remote));
        let said = server.say(&peer, &opening);
        let places = ["<success ", "<stream:features>", "<iq "].map(|text| said.find(text));
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{said}"
        );
        let three: String = (1..4).map(|n| chat(&romeo, &format!("m{n}"))).collect();
        server.say(&juliet, &three);
        assert_eq!(bodies(&peer.take()), ["m1", "m2", "m3"]);
        assert!(network.take().is_empty());
    }
}

/// RFC 6120 §10.1: nothing is lost or overtaken when both servers dial at the same time.
#[test]
fn when_both_servers_dial_one_stream_writes_until_it_ends() {
    let (mut server, network) = networked(lenient_settings());
    let juliet = server.log_in(0, "juliet", "balcony");
    let remote = server.remote_of(1);
    let romeo = format!("romeo@{remote}/orchard");
    server.say(&juliet, &chat(&romeo, "m1"));
    let (_, dialled) = network.take().remove(0);
    server.say(
        &dialled,
        &answer(
            &remote,
            "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        ),
    );
    let peer = server.connect_securely(2, &remote);
    let said = server.say(&peer, &format!("{BIDI}{EXTERNAL}{}", header(&remote)));
    assert_eq!(bodies(&said), ["m1"]);
    // Ours is ready after all. It stands by.
    dialled.wire.lock().unwrap().facts = Some(TlsFacts {
        version: "TLSv1.3",
        peer_chain: vec![remote.as_bytes().to_vec()],
        ..TlsFacts::default()
    });
    server.say(
        &dialled,
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    );
    let key = server.say(
        &dialled,
        &answer(&remote, "<bidi xmlns='urn:xmpp:features:bidi'/>"),
    );
    let places = [BIDI, "<db:result "].map(|text| key.find(text));
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{key}"
    );
    let valid = format!("<db:result from='{remote}' to='example.org' type='valid'/>");
    assert_eq!(bodies(&server.say(&dialled, &valid)), [""; 0]);
    server.say(&juliet, &chat(&romeo, "m2"));
    assert_eq!(bodies(&peer.take()), ["m2"]);
    assert_eq!(bodies(&dialled.take()), [""; 0]);
    // Both are read.
    server.say(&peer, &to_juliet(&romeo, "a"));
    server.say(&dialled, &to_juliet(&romeo, "b"));
    assert_eq!(bodies(&juliet.take()), ["a", "b"]);
    // The peer reads nothing any more, and closes with stanzas waiting for it.
    peer.wire.lock().unwrap().room = Some(0);
    for _ in 0..3 {
        server.say(&juliet, &chat(&romeo, &"x".repeat(OUTPUT_HOLD_BYTES / 3)));
    }
    for n in 3..6 {
        server.say(&juliet, &chat(&romeo, &format!("m{n}")));
    }
    assert_eq!(bodies(&dialled.take()), [""; 0]);
    server.say(&peer, "</stream:stream>");
    server.say(&juliet, &chat(&romeo, "m6"));
    // What it has not said to have received comes again.
    let heard = dialled.take();
    let heard: Vec<&str> = bodies(&heard)
        .into_iter()
        .filter(|it| it.len() == 2)
        .collect();
    assert_eq!(heard, ["m1", "m2", "m3", "m4", "m5", "m6"]);
    assert!(network.take().is_empty());
}

/// Prosody 0.12 knows no questions about keys on a stream that it has opened.
#[test]
fn a_server_is_asked_about_keys_on_a_stream_that_we_have_dialled() {
    let (mut server, network) = networked(lenient_settings());
    let juliet = server.log_in(0, "juliet", "balcony");
    let remote = server.remote_of(1);
    let peer = server.connect_securely(2, &remote);
    server.say(&peer, &format!("{BIDI}{EXTERNAL}{}", header(&remote)));
    server.say(&juliet, &chat(&format!("romeo@{remote}"), "m1"));
    assert_eq!(bodies(&peer.take()), ["m1"]);
    for shard in 0..2 {
        let other = server.connect_server(shard);
        server.say(&other, &header(&remote));
        let key = format!("<db:result from='{remote}' to='example.org'>0123</db:result>");
        assert_eq!(server.say(&other, &key), "");
    }
    assert_eq!(peer.take(), "");
    let [(_, dialled)] = &network.take()[..] else {
        panic!("the server is dialled once");
    };
    let said = server.say(dialled, &answer(&remote, ""));
    let said = match said.contains("<starttls ") {
        true => server.say(
            dialled,
            "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        ),
        false => said,
    };
    assert_eq!(questions(&said).len(), 2, "{said}");
    // The link goes on by the stream that it has.
    server.say(&juliet, &chat(&format!("romeo@{remote}"), "m2"));
    assert_eq!(bodies(&peer.take()), ["m2"]);
}

/// `Who owns what` in lib.rs: the stream is not on that domain's shard.
#[test]
fn a_domain_that_is_proven_second_is_dialled_from_its_own_shard() {
    let (mut server, network) = networked(lenient_settings());
    let juliet = server.log_in(0, "juliet", "balcony");
    let (first, second) = (server.remote_of(1), server.remote_of(2));
    let peer = server.connect_securely(0, &first);
    server.say(&peer, &format!("{BIDI}{EXTERNAL}{}", header(&first)));
    let key = format!("<db:result from='{second}' to='example.org'>0123</db:result>");
    server.say(&peer, &key);
    let [(domain, dialled)] = &network.take()[..] else {
        panic!("its server is asked about its key");
    };
    assert_eq!(*domain, second);
    let said = without_tls(&mut server, dialled, &second);
    assert_eq!(
        answer_questions(&mut server, dialled, &said, "valid"),
        1,
        "{said}"
    );
    let said = peer.take();
    assert!(said.contains("type='valid'"), "{said}");
    for remote in [&first, &second] {
        server.say(&juliet, &chat(&format!("romeo@{remote}"), remote));
    }
    assert_eq!(bodies(&peer.take()), [first.as_str()]);
    let valid = format!("<db:result from='{second}' to='example.org' type='valid'/>");
    assert_eq!(bodies(&server.say(dialled, &valid)), [second.as_str()]);
    // Of what it has received it tells on the stream that it has opened: nothing is sent again.
    server.pass(PEER_REQUEST_DELAY);
    let said = dialled.take();
    let ping = said.split("id='").nth(1).expect("it is pinged");
    let id = ping.split('\'').next().unwrap();
    let pong = format!("<iq type='result' id='{id}' from='{second}' to='example.org'/>");
    assert_eq!(server.say(&peer, &pong).matches("</stream").count(), 0);
    server.say(dialled, "</stream:stream>");
    server.say(&juliet, &chat(&format!("romeo@{second}"), "m2"));
    let (_, next) = network.take().remove(0);
    without_tls(&mut server, &next, &second);
    assert_eq!(bodies(&server.say(&next, &valid)), ["m2"]);
}

/// A stream that is being made when another one comes is used when that one is gone, or fails unnoticed.
#[test]
fn a_stream_that_is_being_made_harms_nobody_when_its_server_has_come_meanwhile() {
    for breaks in [false, true] {
        let (mut server, network) = networked(lenient_settings());
        let juliet = server.log_in(0, "juliet", "balcony");
        let remote = server.remote_of(1);
        let romeo = format!("romeo@{remote}/orchard");
        server.say(&juliet, &chat(&romeo, "m1"));
        let (_, mut dialled) = network.take().remove(0);
        let peer = server.connect_securely(2, &remote);
        let said = server.say(&peer, &format!("{BIDI}{EXTERNAL}{}", header(&remote)));
        assert_eq!(bodies(&said), ["m1"]);
        if breaks {
            dialled.wire.lock().unwrap().is_ended = true;
            server.news();
            server.run();
            assert!(network.take().is_empty(), "it is not tried again");
        }
        server.say(&peer, "</stream:stream>");
        server.say(&juliet, &chat(&romeo, "m2"));
        let mut again = network.take();
        assert_eq!(again.len(), usize::from(breaks));
        if let Some((_, newer)) = again.pop() {
            dialled = newer;
        }
        let said = server.say(&dialled, &answer(&remote, ""));
        if said.contains("<starttls ") {
            server.say(
                &dialled,
                "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
            );
        }
        let valid = format!("<db:result from='{remote}' to='example.org' type='valid'/>");
        // The first perhaps again: it was not said to be received.
        assert_eq!(bodies(&server.say(&dialled, &valid)), ["m1", "m2"]);
        assert_eq!(juliet.take(), "", "nothing came back");
    }
}
