//! One who writes too much, and the others.

use std::sync::Arc;

use super::*;
use crate::clock::Wall;
use crate::config::{ComponentSettings, DomainSettings, Secret};
use crate::jid::{Domain, Jid};
use crate::limits::{PEER_QUEUE_STANZAS_MAX, PEER_REFUSED_PAUSE};
use crate::router::delivery::Routed;
use crate::router::peers::Failure;
use crate::router::settlement::Ticket;
use crate::router::testing::{Site, stanza};
use crate::xml::{Element, Payload};

/// What a sender is told of a stanza, if it does not wait: the text of the error.
fn send(site: &mut Site, from: &str, to: &str, text: &str) -> Option<String> {
    let mut message = stanza(Kind::Message, Type::Chat, Some(to));
    let body = Element::new(crate::ns::CLIENT, "body").with_text(text);
    message.payload = Payload::from_elements(&[body]);
    send_stanza(site, from, message)
}

fn send_stanza(site: &mut Site, from: &str, mut stanza: Stanza) -> Option<String> {
    stanza.from = Some(Jid::parse(from).unwrap());
    let before = site.router.peers.shares.all.held.stanzas;
    site.router
        .send_by_link(Routed::new(stanza, Ticket::none()));
    let is_held = site.router.peers.shares.all.held.stanzas > before;
    let told = std::mem::take(&mut site.router.out.work);
    if is_held {
        assert!(told.is_empty(), "it does not come back");
        return None;
    }
    // Nobody is told of an answer that does not get through.
    let error = told.front().map_or(String::new(), |told| {
        String::from_utf8_lossy(told.stanza.payload.bytes()).into_owned()
    });
    assert!(error.is_empty() || error.contains("<resource-constraint "));
    Some(error)
}

/// What the shares say is what the links hold.
fn check(site: &Site) {
    let peers = &site.router.peers;
    assert_eq!(peers.shares.all.held, peers.held);
    let mut sum = Share::default();
    for share in peers.shares.by_sender.values() {
        sum.held.stanzas += share.held.stanzas;
        sum.held.bytes += share.held.bytes;
        sum.links += share.links;
    }
    assert_eq!(sum, peers.shares.all);
    assert_eq!(sum.links, peers.links.len() - peers.spares.len());
}

/// Everything that waits comes back, and nobody has anything then.
fn end(mut site: Site) {
    for link in std::mem::take(&mut site.router.out.dials) {
        let failure = Failure {
            condition: Condition::RemoteServerNotFound,
            text: "it is not there".to_owned(),
            is_final: true,
        };
        site.router.link_failed(link, failure);
    }
    site.router.out.work.clear();
    check(&site);
    assert_eq!(site.router.peers.shares.all, Share::default());
    assert!(site.router.peers.shares.by_sender.is_empty());
    site.router.now.mono = site.router.now.mono + PEER_REFUSED_PAUSE;
    site.router.do_links();
    assert_eq!(site.router.peers.links.len(), 0);
    assert!(site.router.peers.spares.is_empty());
}

const MERCUTIO: &str = "mercutio@example.org/street";
const JULIET: &str = "juliet@example.org/balcony";

/// A name of a wildcard.
fn name(n: usize) -> String {
    format!("romeo@d{n}.example.net")
}

#[test]
fn who_writes_to_ever_more_names_has_an_eighth_of_the_links_and_others_have_the_rest() {
    let mut site = Site::new(&[]);
    let mut count = 0;
    let told = loop {
        if let Some(told) = send(&mut site, MERCUTIO, &name(count), "hail") {
            break told;
        }
        count += 1;
    };
    assert_eq!(count, PEER_LINKS_MAX / (PEER_SHARE_WAITING + 1));
    assert!(told.contains("too many other servers"), "{told}");
    assert_eq!(site.router.peers.links.len(), count, "none is made for it");
    assert_eq!(site.router.out.dials.len(), count);
    for n in 0..1000 {
        let to = format!("romeo@e{n}.example.com");
        assert_eq!(send(&mut site, JULIET, &to, "hark"), None);
    }
    // And to the very same servers.
    for n in 0..count {
        assert_eq!(send(&mut site, JULIET, &name(n), "hark"), None);
    }
    check(&site);
    end(site);
}

#[test]
fn who_sends_ever_more_has_an_eighth_of_the_bytes_and_others_have_the_rest() {
    let mut site = Site::new(&[]);
    let text = "x".repeat(100_000);
    let mut count = 0;
    let told = loop {
        if let Some(told) = send(&mut site, MERCUTIO, &name(count), &text) {
            break told;
        }
        count += 1;
    };
    assert!(told.contains("you sent waits for other servers"), "{told}");
    let share = PEER_HELD_BYTES_MAX / (PEER_SHARE_WAITING + 1);
    let held = site.router.peers.held.bytes;
    assert!(
        held <= share && held + 2 * text.len() > share,
        "{held} of {share}"
    );
    for n in 0..20 {
        assert_eq!(send(&mut site, JULIET, &name(n), &text), None);
    }
    check(&site);
    end(site);
}

#[test]
fn one_servers_queue_is_shared_as_well() {
    let mut site = Site::new(&[]);
    let to = name(0);
    let mut count = 0;
    let told = loop {
        if let Some(told) = send(&mut site, MERCUTIO, &to, "hail") {
            break told;
        }
        count += 1;
    };
    assert_eq!(count, PEER_QUEUE_STANZAS_MAX / 2);
    assert!(told.contains("waits for that server"), "{told}");
    for _ in 0..100 {
        assert_eq!(send(&mut site, JULIET, &to, "hark"), None);
    }
    end(site);
}

/// Sybils: however many flood, and in whatever order, who writes little is heard.
#[test]
fn the_flood_of_many_never_makes_what_another_one_writes_bounce() {
    let mut random = 7u64;
    let mut draw = move |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) as usize % below
    };
    for floods in [1, 3, 30] {
        let mut site = Site::new(&[]);
        let texts = ["hail".to_owned(), "x".repeat(60_000)];
        let mut bounced = 0;
        for n in 0..3_000 {
            let from = format!("m{}@example.org/street", draw(floods));
            let kind = texts[draw(2)].as_str();
            let to = match draw(3) {
                0 => name(draw(3)),
                _ => name(n),
            };
            bounced += usize::from(send(&mut site, &from, &to, kind).is_some());
            if n % 50 == 0 {
                let to = format!("romeo@e{n}.example.com");
                assert_eq!(send(&mut site, JULIET, &to, "hark"), None, "{floods}");
            }
            if n % 500 == 0 {
                assert_eq!(send(&mut site, JULIET, &name(0), "hark"), None, "{floods}");
            }
        }
        assert!(bounced > 500, "{floods} flood: {bounced}");
        check(&site);
        end(site);
    }
}

/// XEP-0114: a component makes up as many addresses as it likes.
#[test]
fn a_component_is_one_sender_and_a_resource_is_none() {
    let mut site = Site::new(&[]);
    let of = |site: &Site, from: &str| {
        let mut message = stanza(Kind::Message, Type::Chat, Some("romeo@example.net"));
        message.from = Some(Jid::parse(from).unwrap());
        site.router.sender_of(&message)
    };
    let mut settings = (*site.router.settings).clone();
    let name = Domain::parse("irc.example.org").unwrap();
    let component = ComponentSettings {
        domain: Arc::new(DomainSettings::new(name.clone())),
        secret: Secret::new("secret"),
        stanza_bytes_max: 10_000,
    };
    settings.components.insert(name, Arc::new(component));
    site.router.settings = Arc::new(settings);
    assert_eq!(
        of(&site, "a@irc.example.org/x"),
        of(&site, "irc.example.org")
    );
    assert_eq!(of(&site, JULIET), of(&site, "juliet@example.org/chamber"));
    assert_ne!(of(&site, JULIET), of(&site, MERCUTIO));
    assert_ne!(of(&site, JULIET), of(&site, "example.org"));
}

/// Who asks an account from ever more names keeps it from answering, but not from speaking.
#[test]
fn what_is_drawn_out_of_an_account_counts_apart() {
    let mut site = Site::new(&[]);
    let mut count = 0;
    loop {
        let answer = stanza(Kind::Iq, Type::Result, Some(&name(count)));
        if send_stanza(&mut site, JULIET, answer).is_some() {
            break;
        }
        count += 1;
    }
    for n in 0..100 {
        assert_eq!(send(&mut site, JULIET, &name(count + n), "hark"), None);
    }
    let answer = stanza(Kind::Iq, Type::Result, Some(&name(0)));
    assert_eq!(send_stanza(&mut site, MERCUTIO, answer), None);
    end(site);
}

/// The first who needs a link does not pay for all who need it after.
#[test]
fn a_link_counts_to_that_of_its_senders_who_has_the_fewest() {
    let mut site = Site::new(&[]);
    for n in 0..10 {
        send(&mut site, MERCUTIO, &name(n), "hail");
    }
    site.router.out.dials.clear();
    for n in 0..10 {
        send(&mut site, JULIET, &name(n), "hark");
    }
    let links = |site: &Site, from: &str| {
        let from = Jid::parse(from).unwrap();
        let number = site.router.placement.number_of(from.bare_str());
        site.router.peers.shares.of(Sender(number)).links
    };
    assert_eq!((links(&site, MERCUTIO), links(&site, JULIET)), (5, 5));
    assert_eq!(
        site.router.out.dials.len(),
        5,
        "their turn comes with hers, if it has not come"
    );
    check(&site);
    let keys: Vec<Key> = site.router.peers.links().map(|(key, _)| key).collect();
    site.router.out.dials = keys;
    end(site);
}

/// A link that rests with nothing to send makes room, the oldest first.
#[test]
fn links_that_nobody_needs_count_to_nobody_and_make_room() {
    let mut site = Site::new(&[]);
    for n in 0..PEER_LINKS_MAX + 100 {
        assert_eq!(send(&mut site, MERCUTIO, &name(n), "hail"), None, "{n}");
        for link in std::mem::take(&mut site.router.out.dials) {
            let failure = Failure {
                condition: Condition::RemoteServerNotFound,
                text: "it is not there".to_owned(),
                is_final: true,
            };
            site.router.link_failed(link, failure);
        }
        site.router.out.work.clear();
    }
    check(&site);
    let peers = &site.router.peers;
    assert_eq!(peers.links.len(), PEER_LINKS_MAX);
    let is_known = |n: usize| {
        let domains = ["example.org", &format!("d{n}.example.net")];
        let [local, remote] = domains.map(|name| Domain::parse(name).unwrap());
        peers.by_domains.contains_key(&(local, remote))
    };
    assert!(!is_known(0) && !is_known(99) && is_known(100) && is_known(PEER_LINKS_MAX + 99));
    end(site);
}

/// The store has kept them: they are never turned away, and count.
#[test]
fn what_waited_when_the_server_ended_counts_to_who_sent_it() {
    let mut site = Site::new(&[]);
    let share = PEER_LINKS_MAX / (PEER_SHARE_WAITING + 1);
    let messages = (0..share + 100).map(|n| {
        let mut message = stanza(Kind::Message, Type::Chat, Some(&name(n)));
        message.from = Some(Jid::parse(MERCUTIO).unwrap());
        let to = message.to.clone().unwrap();
        crate::storage::peer_queue::PeerMessage {
            id: n as i64 + 1,
            local: Domain::parse("example.org").unwrap(),
            remote: to.to_domain(),
            came: Wall::default(),
            stanza: message,
        }
    });
    site.router.restore_peer_messages(messages.collect());
    assert_eq!(site.router.peers.held.stanzas, share + 100);
    check(&site);
    assert!(send(&mut site, MERCUTIO, &name(share + 200), "hail").is_some());
    assert_eq!(send(&mut site, JULIET, &name(share + 200), "hark"), None);
    end(site);
}

/// Strangers have the server dial by claiming domains.
#[test]
fn strangers_have_a_share_of_the_links_too() {
    let mut site = Site::new(&[]);
    let ask = |site: &mut Site, n: usize| {
        let domains = ["example.org", &format!("d{n}.example.net")];
        let [local, remote] = domains.map(|name| Domain::parse(name).unwrap());
        site.router.link_for_ask(local, remote).is_some()
    };
    let count = (0..).take_while(|n| ask(&mut site, *n)).count();
    assert_eq!(count, PEER_LINKS_MAX / (PEER_SHARE_WAITING + 1));
    assert!(ask(&mut site, 0), "that link is there");
    assert_eq!(send(&mut site, JULIET, &name(count), "hark"), None);
    end(site);
}
