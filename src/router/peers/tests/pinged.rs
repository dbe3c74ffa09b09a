//! Streams without stream management, whose peers are pinged (XEP-0199 §4.3).

use super::*;
use crate::limits::{PEER_HELD_BYTES_MAX, PEER_PINGS_UNANSWERED_MAX};
use crate::stanza::StreamCondition;
use crate::xml::{Element, Payload};

/// A stream on which nothing is counted.
impl Scene {
    fn new() -> Scene {
        Scene::with(None)
    }

    /// The same, with a peer that was heard to answer.
    fn known() -> Scene {
        let mut scene = Scene::new();
        received(&mut scene.site, scene.conn);
        scene
    }

    /// What is written up to that time.
    fn heard(&mut self, time: Duration) -> String {
        wait(&mut self.site, time);
        written(&mut self.site, self.conn)
    }

    fn answer(&mut self, ping: &str) {
        answer(&mut self.site, ping, Type::Result, "example.net");
    }
}

fn half() -> Duration {
    Duration::from_secs(crate::config::S2s::default().ack_timeout_seconds) / 2
}

/// `Settlement` in lib.rs. Before the first answer its sender does not wait for what may never
/// come.
#[test]
fn a_message_is_settled_and_its_row_goes_when_it_is_received() {
    let mut scene = Scene::new();
    assert_eq!(scene.site.open(scene.juliet), 0);
    let text = scene.heard(PEER_REQUEST_DELAY);
    assert!(
        text.contains("<iq from='example.org' to='example.net' id='receipt-")
            && text.ends_with("type='get'><ping xmlns='urn:xmpp:ping'/></iq>"),
        "{text}"
    );
    assert_eq!(stored(&scene.site), 1);
    scene.answer(pings(&text)[0]);
    scene.site.run_store();
    assert_eq!(stored(&scene.site), 0);
    assert_eq!(scene.heard(half() * 4), "", "it is quiet");

    scene.send(message("2"));
    assert_eq!(scene.site.open(scene.juliet), 1);
    let text = scene.heard(PEER_REQUEST_DELAY);
    // A server that knows no pings has received what came before.
    answer(&mut scene.site, pings(&text)[0], Type::Error, "example.net");
    assert_eq!(scene.site.open(scene.juliet), 0);
    assert_eq!(scene.site.router.peers.held, Held::default());
}

#[test]
fn what_a_broken_stream_leaves_open_is_sent_again_and_requests_go_back() {
    let mut scene = Scene::known();
    scene.send(message("2"));
    let text = scene.heard(PEER_REQUEST_DELAY);
    scene.answer(pings(&text)[0]);
    scene.send(message("3"));
    let mut request = stanza(Kind::Iq, Type::Get, Some(ROMEO));
    request.id = Some("4".into());
    scene.send(request);
    scene.send(message("5"));
    scene.next_stream();
    let back = scene.site.take(scene.juliet);
    assert!(back.contains("id='4'") && back.contains("<remote-server-timeout "));
    scene.site.run_store();
    assert_eq!(stored(&scene.site), 2);
    let text = received(&mut scene.site, scene.conn);
    let places = ["id='3'", "id='5'", "receipt-"].map(|id| text.find(id).expect(id));
    assert!(places.is_sorted() && !text.contains("id='2'") && !text.contains("id='4'"));
    assert_eq!(stored(&scene.site), 0);
    assert_eq!(scene.site.open(scene.juliet), 0);
}

#[test]
fn an_answer_of_somebody_else_or_to_something_else_says_nothing() {
    let mut scene = Scene::known();
    scene.send(message("2"));
    let text = scene.heard(PEER_REQUEST_DELAY);
    let ping = pings(&text)[0];
    for (ping, from) in [
        (ping, "example.com"),
        (ping, ROMEO),
        (ping, "romeo@example.net"),
        ("0000000000000000", "example.net"),
        (&ping[1..], "example.net"),
        (&format!("0{ping}"), "example.net"),
    ] {
        answer(&mut scene.site, ping, Type::Result, from);
        assert_eq!(scene.site.open(scene.juliet), 1, "{ping} {from}");
    }
    // Not an answer either, or not to the server.
    for (type_, to) in [
        (Type::Get, "example.org"),
        (Type::Result, "juliet@example.org/balcony"),
    ] {
        let mut other = stanza(Kind::Iq, type_, Some(to));
        other.from = Some(Jid::parse("example.net").unwrap());
        other.id = Some(format!("receipt-{ping}").into());
        let source = scene.site.router.peer_opened(scene.conn);
        scene.site.router.from_peer(source, other, 100);
        scene.site.router.work();
    }
    // A client of our own.
    let mut own = stanza(Kind::Iq, Type::Result, Some("example.org"));
    own.id = Some(format!("receipt-{ping}").into());
    scene.send(own);
    assert_eq!(scene.site.open(scene.juliet), 1);
    scene.answer(ping);
    assert_eq!(scene.site.open(scene.juliet), 0);
}

/// Two servers that ping each other would go on for ever.
#[test]
fn nobody_is_asked_about_the_answer_to_a_ping() {
    let mut scene = Scene::known();
    let ping = Element::new(crate::ns::PING, "ping");
    let mut theirs = stanza(Kind::Iq, Type::Get, Some("example.org"));
    theirs.payload = Payload::from_elements(&[ping]);
    theirs.from = Some(Jid::parse("example.net").unwrap());
    theirs.id = Some("p".into());
    assert!(is_aside(&theirs));
    let source = scene.site.router.peer_opened(scene.conn);
    scene.site.router.from_peer(source, theirs, 100);
    let text = scene.heard(PEER_REQUEST_DELAY * 10);
    assert!(
        text.contains("id='p' type='result'") || text.contains("id='p'"),
        "{text}"
    );
    assert!(pings(&text).is_empty(), "{text}");
    assert!(!scene.site.router.awaits_receipt(scene.conn));
    // What a user is answered may get lost like anything else.
    scene.send(stanza(Kind::Iq, Type::Result, Some(ROMEO)));
    assert!(scene.site.router.awaits_receipt(scene.conn));
    received(&mut scene.site, scene.conn);
}

#[test]
fn a_peer_that_has_answered_and_stops_to_is_given_up() {
    let mut scene = Scene::known();
    scene.send(message("2"));
    let text = scene.heard(PEER_REQUEST_DELAY) + &scene.heard(half());
    assert_eq!(pings(&text).len(), 2);
    assert!(scene.site.router.out.ends.is_empty());
    scene.heard(half());
    let ends = std::mem::take(&mut scene.site.router.out.ends);
    let [(conn, error)] = &ends[..] else {
        panic!("{ends:?}");
    };
    assert_eq!(*conn, scene.conn);
    assert_eq!(error.condition, StreamCondition::ConnectionTimeout);
    scene.heard(half());
    assert!(scene.site.router.out.ends.is_empty(), "once");
    scene.next_stream();
    assert!(received(&mut scene.site, scene.conn).contains("id='2'"));
}

#[test]
fn a_peer_that_answers_no_pings_is_neither_given_up_nor_held_up() {
    let mut scene = Scene::new();
    let many = 3_000;
    let mut text = String::new();
    for n in 0..many {
        let mut chat = message(&n.to_string());
        chat.from = Some(Jid::parse("juliet@example.org/balcony").unwrap());
        scene.site.router.route(Routed::new(chat, Ticket::none()));
        scene.site.router.work();
        text += &written(&mut scene.site, scene.conn);
    }
    assert_eq!(text.matches("<message ").count(), 1 + many);
    assert_eq!(pings(&text).len(), 1);
    for n in 1..=PEER_PINGS_UNANSWERED_MAX {
        let text = scene.heard(half());
        assert_eq!(
            pings(&text).len(),
            usize::from(n < PEER_PINGS_UNANSWERED_MAX)
        );
    }
    assert!(scene.site.router.out.ends.is_empty());
    assert_eq!(scene.site.router.peers.held, Held::default());
    scene.site.run_store();
    assert_eq!(stored(&scene.site), 0);
    scene.send(message("last"));
    assert!(scene.heard(half()).contains("id='last'"));
    assert_eq!(scene.site.open(scene.juliet), 0);
    scene.site.router.link_ended(scene.link, scene.conn);
    scene.site.router.work();
    assert!(scene.site.router.out.dials.is_empty(), "nothing waits");
}

/// What all links hold together, with what is not received.
#[test]
fn what_is_kept_has_its_bounds() {
    let mut scene = Scene::known();
    let body = Element::new(crate::ns::CLIENT, "body").with_text("x".repeat(200_000));
    let mut large = message("2");
    large.from = Some(Jid::parse("juliet@example.org/balcony").unwrap());
    large.payload = Payload::from_elements(&[body]);
    for _ in 0..200 {
        let routed = Routed::new(large.clone(), Ticket::none());
        scene.site.router.route(routed);
        scene.site.router.work();
        let room = scene.site.router.out.outputs.len(scene.conn);
        scene.site.router.out.outputs.consume(scene.conn, room);
        assert!(scene.site.router.peers.held.bytes <= PEER_HELD_BYTES_MAX);
    }
    let link = scene.site.router.peers.get(scene.link).unwrap();
    let kept = link.sent_by(scene.conn).unwrap().bytes();
    assert!(
        kept <= crate::limits::PEER_UNACKNOWLEDGED_BYTES_MAX,
        "{kept}"
    );
    // The rest of her share waits, and what is beyond it has gone back.
    assert!(kept > 1_000_000, "{kept}");
    scene.site.run_store();
}

/// XEP-0288: the stream that writes is pinged, and one that stands by is not.
#[test]
fn a_stream_that_takes_over_begins_with_what_the_first_has_left_open() {
    let mut scene = Scene::known();
    let accepted = connection(&mut scene.site, &mut scene.conns);
    let [local, remote] = ["example.org", "example.net"].map(|name| Domain::parse(name).unwrap());
    scene.site.router.pair_open(local, remote, accepted);
    scene.send(message("2"));
    let text = scene.heard(PEER_REQUEST_DELAY);
    assert_eq!(pings(&text).len(), 1);
    assert_eq!(written(&mut scene.site, accepted), "");
    scene.site.router.link_ended(scene.link, scene.conn);
    scene.site.router.work();
    assert!(scene.site.router.out.dials.is_empty());
    let again = received(&mut scene.site, accepted);
    assert!(again.contains("id='2'"), "{again}");
    // Too late: that one is counted already.
    scene.answer(pings(&text)[0]);
    assert_eq!(scene.site.open(scene.juliet), 0);
}

/// Who counts on one stream and is pinged on the next is told of by the one that is there.
#[test]
fn how_a_server_says_what_it_has_received_is_known() {
    let told = |scene: &Scene| {
        let peers = &scene.site.router.peers;
        let of = peers.receipts_of(&Domain::parse("example.net").unwrap());
        let of: Vec<_> = of.iter().map(|(local, it)| (local.as_str(), *it)).collect();
        assert!(of.iter().all(|(local, _)| *local == "example.org"));
        let by = peers.receipts_by(scene.conn);
        assert_eq!(of.first().map(|(_, it)| *it), by);
        by
    };
    let mut scene = Scene::with(None);
    assert_eq!(told(&scene), Some(Receipts::Unknown));
    received(&mut scene.site, scene.conn);
    assert_eq!(told(&scene), Some(Receipts::Pings));
    scene.site.router.link_ended(scene.link, scene.conn);
    assert_eq!(scene.site.router.peers.receipts_by(scene.conn), None);
    let mut scene = Scene::with(Some(LinkNews::Enabling));
    assert_eq!(told(&scene), Some(Receipts::Unknown));
    scene.news(LinkNews::Enabled);
    assert_eq!(told(&scene), Some(Receipts::Acknowledgements));
    scene.news(LinkNews::Acknowledged(1));
    scene.site.run_store();
    let mut scene = Scene::with(None);
    let link = scene.site.router.peers.links.get_mut(scene.link);
    link.unwrap().habit = Habit::Silent;
    assert_eq!(told(&scene), Some(Receipts::Neither));
    let elsewhere = Domain::parse("example.com").unwrap();
    assert_eq!(scene.site.router.peers.receipts_of(&elsewhere), []);
}
