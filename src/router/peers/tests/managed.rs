//! Streams with stream management (XEP-0198), in both directions.

use super::*;
use crate::limits::{PEER_REQUEST_DELAY, PEER_STREAM_STEADY, PEER_UNACKNOWLEDGED_STANZAS_MAX};

const REQUEST: &str = "<r xmlns='urn:xmpp:sm:3'/>";

/// A stream that counts.
impl Scene {
    fn counting() -> Scene {
        Scene::with(Some(LinkNews::Enabling))
    }

    /// The same, once the first message is acknowledged.
    fn enabled() -> Scene {
        let mut scene = Scene::counting();
        scene.news(LinkNews::Enabled);
        scene.news(LinkNews::Acknowledged(1));
        scene.site.run_store();
        scene.written();
        scene
    }

    fn written(&mut self) -> String {
        written(&mut self.site, self.conn)
    }

    fn open(&self) -> usize {
        self.site.open(self.juliet)
    }

    fn held(&self) -> Held {
        self.site.router.peers.held
    }
}

fn ids(text: &str) -> Vec<&str> {
    let parts = text.split("id='").skip(1);
    parts.map(|part| part.split('\'').next().unwrap()).collect()
}

/// `Settlement` in lib.rs.
#[test]
fn a_message_is_settled_and_its_row_goes_when_it_is_acknowledged() {
    let mut scene = Scene::counting();
    scene.news(LinkNews::Enabled);
    scene.send(message("2"));
    scene.site.run_store();
    assert_eq!(ids(&scene.written()), ["1", "2"]);
    assert_eq!((stored(&scene.site), scene.open()), (1, 1));
    scene.news(LinkNews::Acknowledged(1));
    scene.site.run_store();
    assert_eq!((stored(&scene.site), scene.open()), (0, 1));
    scene.news(LinkNews::Acknowledged(2));
    assert_eq!(scene.open(), 0);
    assert_eq!(scene.held(), Held::default());
}

#[test]
fn a_row_that_is_committed_while_its_message_is_on_its_way_goes_with_the_acknowledgement() {
    let (mut site, juliet) = site();
    site.send(juliet, message("1"));
    let link = dialled(&mut site);
    let mut conns = Slots::default();
    let conn = connection(&mut site, &mut conns);
    site.router.link_news(link, conn, LinkNews::Enabling);
    site.router.link_ready(link, conn);
    site.run_store();
    assert_eq!((stored(&site), site.open(juliet)), (1, 0));
    site.router.link_news(link, conn, LinkNews::Acknowledged(1));
    site.run_store();
    assert_eq!(stored(&site), 0);
}

/// XEP-0198 §3, §4.
#[test]
fn the_peer_is_asked_after_a_while_and_not_before_it_has_enabled() {
    let mut scene = Scene::counting();
    wait(&mut scene.site, PEER_REQUEST_DELAY * 2);
    assert!(!scene.written().contains(REQUEST));
    scene.news(LinkNews::Enabled);
    assert_eq!(scene.written(), REQUEST);
    wait(&mut scene.site, PEER_REQUEST_DELAY * 2);
    assert_eq!(scene.written(), "", "one request at a time");
    scene.send(message("2"));
    scene.news(LinkNews::Acknowledged(1));
    let due = scene.site.router.links_due().unwrap();
    scene.site.router.now.mono = due;
    scene.site.router.work();
    assert!(scene.written().ends_with(REQUEST));
    scene.news(LinkNews::Acknowledged(2));
    scene.site.run_store();
}

#[test]
fn what_a_broken_stream_leaves_open_is_sent_again_in_front_of_what_waits() {
    let mut scene = Scene::enabled();
    let mut presence = stanza(Kind::Presence, Type::Subscribe, Some("romeo@example.net"));
    presence.id = Some("3".into());
    scene.send(message("2"));
    // Presence is of the account.
    presence.from = Some(Jid::parse("juliet@example.org").unwrap());
    let routed = Routed::new(presence, Ticket::none());
    scene.site.router.route(routed);
    scene.site.router.work();
    scene.send(message("4"));
    assert_eq!(ids(&scene.written()), ["2", "3", "4"]);
    scene.news(LinkNews::Acknowledged(2));
    scene.site.router.link_ended(scene.link, scene.conn);
    scene.send(message("5"));
    scene.site.run_store();
    assert_eq!((scene.open(), stored(&scene.site)), (0, 2));
    // A restart at this moment would send them in the same order.
    let messages = peer_queue::all(scene.site.store.db()).unwrap();
    let in_store = messages.iter().map(|it| it.stanza.id.as_deref());
    assert_eq!(in_store.collect::<Vec<_>>(), [Some("4"), Some("5")]);
    assert_eq!(dialled(&mut scene.site), scene.link);
    scene.conn = connection(&mut scene.site, &mut scene.conns);
    scene.site.router.link_ready(scene.link, scene.conn);
    let text = received(&mut scene.site, scene.conn);
    assert_eq!(ids(&text)[..3], ["3", "4", "5"]);
    assert_eq!(stored(&scene.site), 0);
}

#[test]
fn a_request_on_a_broken_stream_goes_back_and_is_not_sent_twice() {
    let mut scene = Scene::enabled();
    let mut request = stanza(Kind::Iq, Type::Set, Some(ROMEO));
    request.id = Some("7".into());
    scene.send(request);
    scene.send(message("8"));
    assert_eq!(ids(&scene.written()), ["7", "8"]);
    scene.next_stream();
    let back = scene.site.take(scene.juliet);
    assert!(back.contains("id='7'"), "{back}");
    assert!(back.contains("<remote-server-timeout "), "{back}");
    assert!(
        back.contains("before it said that it has this</text>"),
        "{back}"
    );
    assert_eq!(ids(&scene.written()), ["8"]);
    scene.site.run_store();
}

/// Without stream management again, as the next server may be without it: it is pinged instead.
#[test]
fn the_next_stream_need_not_count() {
    let mut scene = Scene::enabled();
    scene.send(message("2"));
    scene.written();
    scene.next_stream();
    scene.site.run_store();
    assert_eq!((scene.open(), stored(&scene.site)), (0, 1));
    let text = received(&mut scene.site, scene.conn);
    assert_eq!(ids(&text)[0], "2");
    assert_eq!((scene.open(), stored(&scene.site)), (0, 0));
    assert_eq!(scene.held(), Held::default());
}

#[test]
fn a_peer_that_does_without_is_pinged_about_what_it_was_sent() {
    let mut scene = Scene::counting();
    scene.send(message("2"));
    scene.news(LinkNews::Failed);
    let text = received(&mut scene.site, scene.conn);
    assert_eq!(ids(&text)[..2], ["1", "2"]);
    assert_eq!((scene.open(), stored(&scene.site)), (0, 0));
    assert_eq!(scene.held(), Held::default());
    wait(&mut scene.site, Duration::from_secs(3_000));
    assert!(scene.site.router.out.ends.is_empty(), "nothing is owed");
}

/// XEP-0198 §6.
#[test]
fn an_acknowledgement_of_what_was_not_sent_ends_the_stream() {
    let mut scene = Scene::enabled();
    scene.send(message("2"));
    scene.news(LinkNews::Acknowledged(3));
    let ends = std::mem::take(&mut scene.site.router.out.ends);
    let [(conn, error)] = &ends[..] else {
        panic!("{ends:?}");
    };
    assert_eq!(*conn, scene.conn);
    let mut text = Vec::new();
    error.write(&mut text);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("handled-count-too-high"), "{text}");
    scene.site.router.link_ended(scene.link, scene.conn);
    scene.site.run_store();
}

#[test]
fn a_peer_that_does_not_answer_is_given_up_in_time_and_once() {
    for is_enabled in [false, true] {
        let mut scene = Scene::counting();
        if is_enabled {
            scene.news(LinkNews::Enabled);
        }
        let seconds = Duration::from_secs(60);
        wait(&mut scene.site, PEER_REQUEST_DELAY);
        wait(&mut scene.site, seconds - PEER_REQUEST_DELAY * 2);
        assert!(scene.site.router.out.ends.is_empty());
        wait(&mut scene.site, PEER_REQUEST_DELAY * 2);
        let ends = std::mem::take(&mut scene.site.router.out.ends);
        assert_eq!(ends.len(), 1, "{is_enabled}");
        assert_eq!(ends[0].0, scene.conn);
        assert_eq!(
            ends[0].1.condition,
            crate::stanza::StreamCondition::ConnectionTimeout
        );
        wait(&mut scene.site, PEER_REQUEST_DELAY);
        assert!(scene.site.router.out.ends.is_empty());
        scene.written();
        scene.next_stream();
        assert_eq!(ids(&scene.written()), ["1"]);
        scene.site.run_store();
    }
}

/// RFC 6120 §3.3: a peer that takes streams and ends them is not dialled all the time.
#[test]
fn streams_that_end_soon_again_and_again_are_made_ever_more_seldom() {
    let mut scene = Scene::enabled();
    scene.send(message("2"));
    scene.site.router.link_ended(scene.link, scene.conn);
    assert_eq!(dialled(&mut scene.site), scene.link);
    scene.conn = connection(&mut scene.site, &mut scene.conns);
    scene.news(LinkNews::Enabling);
    scene.site.router.link_ready(scene.link, scene.conn);
    scene.send(message("3"));
    scene.site.router.link_ended(scene.link, scene.conn);
    scene.site.router.work();
    assert!(scene.site.router.out.dials.is_empty());
    wait(&mut scene.site, PEER_RETRY_FIRST);
    assert_eq!(dialled(&mut scene.site), scene.link);
    scene.conn = connection(&mut scene.site, &mut scene.conns);
    scene
        .site
        .router
        .link_news(scene.link, scene.conn, LinkNews::Enabling);
    scene.site.router.link_ready(scene.link, scene.conn);
    scene.site.router.now.mono = scene.site.router.now.mono + PEER_STREAM_STEADY;
    scene.site.router.link_ended(scene.link, scene.conn);
    scene.site.router.work();
    assert_eq!(dialled(&mut scene.site), scene.link, "that one lasted");
    scene.site.run_store();
}

#[test]
fn no_more_is_sent_than_may_be_unacknowledged_and_the_rest_follows() {
    let mut scene = Scene::enabled();
    let many = PEER_UNACKNOWLEDGED_STANZAS_MAX + 10;
    let mut sent = 0;
    for n in 0..many {
        let mut chat = message(&n.to_string());
        chat.from = Some(Jid::parse("juliet@example.org/balcony").unwrap());
        scene.site.router.route(Routed::new(chat, Ticket::none()));
        scene.site.router.work();
        sent += ids(&scene.written()).len();
    }
    assert_eq!(sent, PEER_UNACKNOWLEDGED_STANZAS_MAX);
    assert_eq!(scene.held().stanzas, many);
    scene.news(LinkNews::Acknowledged(1 + 20));
    assert_eq!(ids(&scene.written()).len(), 10);
    scene.site.run_store();
    assert_eq!(scene.held().stanzas, many - 20);
}

// --- what peers send

struct Inbound {
    site: Site,
    juliet: Seat,
    conn: Key,
    source: Key,
}

impl Inbound {
    fn new() -> Inbound {
        let (mut site, juliet) = site();
        let mut conns = Slots::default();
        let conn = connection(&mut site, &mut conns);
        let source = site.router.peer_opened(conn);
        Inbound {
            site,
            juliet,
            conn,
            source,
        }
    }

    fn news(&mut self, news: PeerNews) -> String {
        self.site.router.peer_news(self.source, news);
        written(&mut self.site, self.conn)
    }

    fn chat(&mut self, to: &str) {
        let mut chat = stanza(Kind::Message, Type::Chat, Some(to));
        chat.from = Some(Jid::parse(ROMEO).unwrap());
        self.site.router.from_peer(self.source, chat, 100);
    }
}

fn acks(text: &str) -> Vec<&str> {
    text.split("h='")
        .skip(1)
        .map(|part| part.split('\'').next().unwrap())
        .collect()
}

/// XEP-0198 §4: stanzas before `<enable/>` do not count, and those that are settled do.
#[test]
fn a_peer_is_told_how_much_is_settled() {
    let mut inbound = Inbound::new();
    inbound.chat("juliet@example.org");
    assert_eq!(inbound.news(PeerNews::Request), "", "it is not enabled");
    let enabled = inbound.news(PeerNews::Enable);
    assert!(enabled.starts_with("<enabled "), "{enabled}");
    assert!(!enabled.contains("resume"), "{enabled}");
    inbound.site.router.work();
    inbound.chat("juliet@example.org");
    inbound.news(PeerNews::Stanza(10));
    inbound.site.router.work();
    assert_eq!(acks(&inbound.news(PeerNews::Request)), ["2"]);
    assert!(inbound.site.take(inbound.juliet).contains("<message"));
}

#[test]
fn an_answer_waits_a_moment_for_what_is_being_settled_and_the_rest_follows() {
    let mut inbound = Inbound::new();
    inbound.news(PeerNews::Enable);
    // This account has to be loaded first.
    inbound.chat("nurse@example.org");
    inbound.site.router.work();
    assert_eq!(inbound.news(PeerNews::Request), "");
    let due = inbound
        .site
        .router
        .links_due()
        .expect("it is looked at again");
    inbound.site.router.now.mono = due;
    inbound.site.router.work();
    assert_eq!(acks(&written(&mut inbound.site, inbound.conn)), ["0"]);
    inbound.site.run_store();
    inbound.site.router.work();
    assert_eq!(acks(&written(&mut inbound.site, inbound.conn)), ["1"]);
    assert!(inbound.site.router.peers.owed.is_empty());
}

#[test]
fn a_peer_whose_stream_is_closed_is_told_what_it_need_not_send_again() {
    let mut inbound = Inbound::new();
    inbound.news(PeerNews::Enable);
    inbound.chat("juliet@example.org");
    inbound.site.router.work();
    assert_eq!(acks(&inbound.news(PeerNews::Close)), ["1"]);
    assert_eq!(inbound.news(PeerNews::Close), "", "that is no news");
}
