//! Components on a server of several shards: how they come in, and what goes both ways.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{ComponentSettings, DomainSettings, Secret, Settings};
use crate::jid::Domain;
use crate::limits::{COMPONENT_STALL_WAIT, OUTPUT_HOLD_BYTES};
use crate::shard::testing::{AnyCertificate, Client, NoNetwork, Server, open_settings};
use crate::shard::{Generation, Peer, Post};
use crate::slots::Slots;
use crate::stanza::StreamCondition;

const IRC: &str = "irc.example.org";
const SHARDS: usize = 4;

fn with_components(names: &[&str]) -> Settings {
    let mut settings = open_settings();
    for name in names {
        let name = Domain::parse(name).unwrap();
        let component = ComponentSettings {
            domain: Arc::new(DomainSettings::new(name.clone())),
            secret: Secret::new("sesame"),
            stanza_bytes_max: 100_000,
        };
        settings.components.insert(name, Arc::new(component));
    }
    settings
}

fn server() -> Server {
    Server::new(SHARDS as u32, with_components(&[IRC, "rooms.example.net"]))
}

/// Says the header and the handshake, and yields the answer to the latter.
fn shake(server: &mut Server, shard: usize, name: &str) -> (Client, String) {
    let component = server.connect_from(shard, Peer::Component);
    let header = server.say(
        &component,
        &format!(
            "<stream:stream xmlns='jabber:component:accept' \
             xmlns:stream='http://etherx.jabber.org/streams' to='{name}'>"
        ),
    );
    let (_, id) = header.split_once("id='").unwrap();
    let id = id.split('\'').next().unwrap();
    let hash = openssl::sha::sha1(format!("{id}sesame").as_bytes());
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let answer = server.say(&component, &format!("<handshake>{digits}</handshake>"));
    (component, answer)
}

fn connected(server: &mut Server, shard: usize, name: &str) -> Client {
    let (component, answer) = shake(server, shard, name);
    assert_eq!(answer, "<handshake/>");
    component
}

fn reload(server: &mut Server, settings: Settings) {
    let generation = Arc::new(Generation {
        settings: Arc::new(settings),
        certificates: Arc::new(AnyCertificate),
        dialler: Arc::new(NoNetwork),
    });
    for shard in 0..SHARDS {
        server.post(shard, Post::Reload(Arc::clone(&generation)));
    }
    server.run();
}

fn message(from: &str, to: &str, body: &str) -> String {
    format!("<message from='{from}' to='{to}' type='chat'><body>{body}</body></message>")
}

/// `Who owns what` in lib.rs: on whatever shard the connection was accepted.
#[test]
fn stanzas_flow_both_ways_from_every_shard() {
    for shard in 0..SHARDS {
        let mut server = server();
        let irc = connected(&mut server, shard, IRC);
        let juliet = server.log_in(0, "juliet", "balcony");
        server.say(
            &juliet,
            "<message to='#verona%irc@irc.example.org'><body>hark</body></message>",
        );
        let got = irc.take();
        assert!(got.contains("from='juliet@example.org/balcony'"), "{got}");
        assert!(got.contains("<body>hark</body>"), "{got}");
        let answer = message(
            "#verona%irc@irc.example.org/romeo",
            "juliet@example.org/balcony",
            "so",
        );
        server.say(&irc, &answer);
        let got = juliet.take();
        assert!(
            got.contains("from='#verona%irc@irc.example.org/romeo'"),
            "{got}"
        );
        assert!(got.contains("<body>so</body>"), "{got}");
    }
}

#[test]
fn components_write_to_each_other_and_to_the_server() {
    let mut server = server();
    let irc = connected(&mut server, 0, IRC);
    let rooms = connected(&mut server, 1, "rooms.example.net");
    server.say(
        &irc,
        &message("a@irc.example.org", "b@rooms.example.net", "hark"),
    );
    assert!(rooms.take().contains("<body>hark</body>"));
    let ping = "<iq from='irc.example.org' to='example.org' id='p' type='get'>\
                <ping xmlns='urn:xmpp:ping'/></iq>";
    let answer = server.say(&irc, ping);
    assert!(
        answer.contains("type='result'") && answer.contains("id='p'"),
        "{answer}"
    );
}

#[test]
fn order_is_kept_in_both_directions() {
    let mut server = server();
    let irc = connected(&mut server, 3, IRC);
    let juliet = server.log_in(0, "juliet", "balcony");
    server.say(&juliet, "<presence/>");
    juliet.take();
    let many = |from: &str, to: &str| -> String {
        (0..200)
            .map(|n| message(from, to, &format!("m{n}.")))
            .collect()
    };
    server.say(
        &juliet,
        &many("juliet@example.org/balcony", "a@irc.example.org"),
    );
    let to_irc = irc.take();
    server.say(&irc, &many("a@irc.example.org", "juliet@example.org"));
    for got in [to_irc, juliet.take()] {
        let places: Vec<_> = (0..200).map(|n| got.find(&format!(">m{n}."))).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted());
    }
}

/// A component that is not there: no answer of an account, nor of another server.
#[test]
fn what_is_sent_to_one_that_is_not_connected_comes_back() {
    let mut server = server();
    let juliet = server.log_in(0, "juliet", "balcony");
    let answer = server.say(
        &juliet,
        "<message to='a@irc.example.org' id='1'><body>x</body></message>",
    );
    assert!(answer.contains("<remote-server-timeout"), "{answer}");
    assert!(
        answer.contains("type='wait'") && answer.contains("id='1'"),
        "{answer}"
    );
    let irc = connected(&mut server, 0, IRC);
    server.say(&irc, "</stream:stream>");
    assert!(irc.take().is_empty() && irc.is_dropped());
    let answer = server.say(
        &juliet,
        "<iq to='irc.example.org' id='2' type='get'><a xmlns='b'/></iq>",
    );
    assert!(answer.contains("<remote-server-timeout"), "{answer}");
}

#[test]
fn a_second_stream_is_refused_while_the_first_is_there() {
    let mut server = server();
    let first = connected(&mut server, 0, IRC);
    let (second, answer) = shake(&mut server, 1, IRC);
    assert!(answer.contains("<conflict"), "{answer}");
    assert!(!answer.contains("<handshake"), "{answer}");
    assert_eq!(first.take(), " ", "TCP finds out if it is gone");
    server.say(&second, "</stream:stream>");
    let juliet = server.log_in(0, "juliet", "balcony");
    server.say(
        &juliet,
        "<message to='a@irc.example.org'><body>hark</body></message>",
    );
    assert!(first.take().contains("hark"), "the first is still served");
    server.say(&first, "</stream:stream>");
    connected(&mut server, 2, IRC);
}

#[test]
fn a_reload_brings_components_and_ends_those_that_are_gone() {
    let mut server = server();
    let irc = connected(&mut server, 0, IRC);
    let rooms = connected(&mut server, 0, "rooms.example.net");
    reload(
        &mut server,
        with_components(&["rooms.example.net", "sms.example.org"]),
    );
    let end = irc.take();
    assert!(
        end.contains("<host-gone") && end.ends_with("</stream:stream>"),
        "{end}"
    );
    assert_eq!(rooms.take(), "");
    connected(&mut server, 3, "sms.example.org");
    let component = server.connect_from(0, Peer::Component);
    let answer = server.say(
        &component,
        "<stream:stream xmlns='jabber:component:accept' \
         xmlns:stream='http://etherx.jabber.org/streams' to='irc.example.org'>",
    );
    assert!(answer.contains("<host-unknown"), "{answer}");
}

/// RFC 6120 §4.9.3.12. One whose handshake was taken by the shard that it came to, before that of its
/// domain has heard of the change, is not let in either.
#[test]
fn a_component_whose_secret_is_changed_is_ended() {
    let mut server = server();
    let irc = connected(&mut server, 0, IRC);
    let rooms = connected(&mut server, 1, "rooms.example.net");
    let mut settings = with_components(&[IRC, "rooms.example.net"]);
    let name = Domain::parse(IRC).unwrap();
    let component = settings.components.get_mut(&name).unwrap();
    Arc::make_mut(component).secret = Secret::new("mustard");
    reload(&mut server, settings);
    let end = irc.take();
    assert!(
        end.contains("<not-authorized") && end.ends_with("</stream:stream>"),
        "{end}"
    );
    assert_eq!(rooms.take(), "", "its secret is the same");
    let router = &mut server.shards[0].router;
    let refused =
        router.component_opened(Slots::default().insert(()), &name, &Secret::new("sesame"));
    assert_eq!(
        refused.unwrap_err().condition,
        StreamCondition::NotAuthorized
    );
}

/// RFC 6121 §3, §4: to an account a component's address is that of any remote contact.
#[test]
fn presence_goes_to_and_fro_as_with_a_remote_contact() {
    let mut server = server();
    let irc = connected(&mut server, 0, IRC);
    let juliet = server.log_in(0, "juliet", "balcony");
    server.say(
        &juliet,
        "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq><presence/>",
    );
    server.say(&juliet, "<presence to='irc.example.org' type='subscribe'/>");
    let got = irc.take();
    assert!(
        got.contains("type='subscribe'") && got.contains("from='juliet@example.org'"),
        "{got}"
    );
    server.say(
        &irc,
        "<presence from='irc.example.org' to='juliet@example.org' type='subscribed'/>\
         <presence from='irc.example.org' to='juliet@example.org' type='subscribe'/>",
    );
    server.say(
        &juliet,
        "<presence to='irc.example.org' type='subscribed'/>",
    );
    let got = irc.take();
    assert!(got.contains("type='subscribed'"), "{got}");
    assert!(
        got.contains("from='juliet@example.org/balcony'"),
        "her presence: {got}"
    );
    server.say(&juliet, "</stream:stream>");
    let got = irc.take();
    assert!(got.contains("type='unavailable'"), "{got}");

    let juliet = server.log_in(0, "juliet", "phone");
    server.say(&juliet, "<presence/>");
    let got = irc.take();
    assert!(
        got.contains("type='probe'") && got.contains("from='juliet@example.org'"),
        "{got}"
    );
    assert!(got.contains("from='juliet@example.org/phone'"), "{got}");
    server.say(
        &irc,
        "<presence from='irc.example.org' to='juliet@example.org'/>",
    );
    assert!(juliet.take().contains("<presence from='irc.example.org'"));
    let probe = "<presence from='irc.example.org' to='juliet@example.org' type='probe'/>";
    let answer = server.say(&irc, probe);
    assert!(
        answer.contains("from='juliet@example.org/phone'"),
        "{answer}"
    );
}

/// What it does not read costs bounded memory, slows down who writes to it, and ends its stream.
#[test]
fn one_that_does_not_read_is_waited_for_and_then_given_up() {
    let mut server = server();
    let irc = connected(&mut server, 0, IRC);
    irc.wire.lock().unwrap().room = Some(0);
    let juliet = server.log_in(0, "juliet", "balcony");
    let text = "x".repeat(4_000);
    let flood: String = (0..500)
        .map(|n| {
            format!("<message to='a@irc.example.org' id='m{n}.'><body>{text}</body></message>")
        })
        .collect();
    server.say(&juliet, &flood);
    server.pass(Duration::from_secs(1));
    let unread = juliet.wire.lock().unwrap().sent.len();
    assert!(
        unread > 2 * OUTPUT_HOLD_BYTES,
        "she is not read meanwhile: {unread}"
    );
    // It reads some: as much again is taken from her.
    irc.wire.lock().unwrap().room = Some(300_000);
    server.news();
    server.run();
    assert!(juliet.wire.lock().unwrap().sent.len() < unread);
    server.pass(COMPONENT_STALL_WAIT - Duration::from_secs(1));
    assert_eq!(juliet.take(), "", "nothing was lost so far");
    server.pass(Duration::from_secs(1));
    let errors = juliet.take();
    assert!(errors.contains("<remote-server-timeout"), "{errors}");
    irc.wire.lock().unwrap().room = None;
    server.news();
    server.run();
    let got = irc.take();
    assert!(got.contains("<resource-constraint"), "{}", got.len());
    let numbers: Vec<usize> = (0..500)
        .filter(|n| got.contains(&format!("id='m{n}.'")))
        .collect();
    assert!(numbers.is_sorted() && !numbers.is_empty());
    assert_eq!(
        juliet.wire.lock().unwrap().sent.len(),
        0,
        "she is read again"
    );
}
