mod blaming;
mod managed;
mod now_local;
mod pinged;
mod resting;
mod restoring;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::S2s;
use crate::jid::Jid;
use crate::limits::{
    HANDOFF_RETRY, PEER_REQUEST_DELAY, PEER_REQUEST_WAIT, PEER_RETRY_FIRST, UNSETTLED_STANZAS_MAX,
};
use crate::router::testing::{Seat, Site, stanza};
use crate::slots::Slots;
use crate::stanza::{Kind, Type};
use crate::storage::{StoreError, peer_queue};

const ROMEO: &str = "romeo@example.net/orchard";

fn site() -> (Site, Seat) {
    let mut site = Site::new(&[]);
    let seat = site.bind("juliet@example.org", "balcony", Some(0));
    (site, seat)
}

fn message(id: &str) -> Stanza {
    let mut message = stanza(Kind::Message, Type::Chat, Some(ROMEO));
    message.id = Some(id.into());
    message
}

/// The only link for which a stream is to be made.
fn dialled(site: &mut Site) -> Key {
    let dials = std::mem::take(&mut site.router.out.dials);
    let [link] = dials[..] else {
        panic!("{dials:?}");
    };
    link
}

/// A connection to another server, and what was written to it.
fn connection(site: &mut Site, conns: &mut Slots<()>) -> Key {
    // Not one of the sessions' keys.
    let key = (0..100).map(|_| conns.insert(())).last().unwrap();
    site.router.out.outputs.open(key, Vec::new());
    key
}

/// The link's stream is there: its connection.
fn connected(site: &mut Site, link: Key) -> Key {
    let conn = connection(site, &mut Slots::default());
    site.router.link_ready(link, conn);
    conn
}

fn written(site: &mut Site, conn: Key) -> String {
    let bytes = site.router.out.outputs.bytes(conn).to_vec();
    site.router.out.outputs.consume(conn, bytes.len());
    String::from_utf8(bytes).unwrap()
}

/// Juliet's server, with a stream to Romeo's by which a first message has gone.
struct Scene {
    site: Site,
    juliet: Seat,
    link: Key,
    conns: Slots<()>,
    conn: Key,
}

impl Scene {
    /// `news` comes before the stream is ready.
    fn with(news: Option<LinkNews>) -> Scene {
        let (mut site, juliet) = site();
        site.send(juliet, message("1"));
        site.run_store();
        let link = dialled(&mut site);
        let mut conns = Slots::default();
        let conn = connection(&mut site, &mut conns);
        let mut scene = Scene {
            site,
            juliet,
            link,
            conns,
            conn,
        };
        if let Some(news) = news {
            scene.news(news);
        }
        scene.site.router.link_ready(link, conn);
        scene
    }

    fn news(&mut self, news: LinkNews) {
        self.site.router.link_news(self.link, self.conn, news);
        self.site.router.work();
    }

    fn send(&mut self, stanza: Stanza) {
        self.site.send(self.juliet, stanza);
    }

    /// The stream ends, and a new one is ready at once.
    fn next_stream(&mut self) {
        self.site.router.link_ended(self.link, self.conn);
        self.site.router.work();
        assert_eq!(dialled(&mut self.site), self.link);
        self.conn = connection(&mut self.site, &mut self.conns);
        self.site.router.link_ready(self.link, self.conn);
    }
}

/// The peer receives what was written to a stream, and says so on another one when it is pinged.
fn received(site: &mut Site, conn: Key) -> String {
    wait(site, PEER_REQUEST_DELAY);
    let text = written(site, conn);
    let pings = pings(&text);
    assert!(!pings.is_empty(), "it is pinged: {text}");
    for ping in pings {
        answer(site, ping, Type::Result, "example.net");
    }
    site.run_store();
    text
}

/// The ids of the pings that were written.
fn pings(text: &str) -> Vec<&str> {
    let parts = text.split("id='receipt-").skip(1);
    parts.filter_map(|part| part.split('\'').next()).collect()
}

/// Somebody answers a ping, on a stream on which it has proven its domain.
fn answer(site: &mut Site, ping: &str, type_: Type, from: &str) {
    let mut answer = stanza(Kind::Iq, type_, Some("example.org"));
    answer.payload = crate::xml::Payload::empty();
    answer.from = Some(Jid::parse(from).unwrap());
    answer.id = Some(format!("receipt-{ping}").into());
    let source = site.router.peer_opened(Slots::default().insert(()));
    site.router.from_peer(source, answer, 100);
    site.router.work();
    site.router.peer_closed(source);
}

fn failure(is_final: bool) -> Failure {
    Failure {
        condition: match is_final {
            true => Condition::RemoteServerNotFound,
            false => Condition::RemoteServerTimeout,
        },
        text: "it is not there".to_owned(),
        is_final,
    }
}

fn stored(site: &Site) -> usize {
    peer_queue::all(site.store.db()).unwrap().len()
}

fn wait(site: &mut Site, time: Duration) {
    site.router.now.mono = site.router.now.mono + time;
    site.router.work();
}

/// Changes the options of each domain.
fn set(site: &mut Site, change: impl Fn(&mut S2s)) {
    let mut settings = (*site.router.settings).clone();
    for domain in settings.domains.values_mut() {
        change(&mut Arc::make_mut(domain).s2s);
    }
    site.router.settings = Arc::new(settings);
}

/// RFC 6120 §10.1, §10.4.
#[test]
fn what_is_sent_to_another_server_waits_for_its_stream_and_leaves_in_order() {
    let (mut site, juliet) = site();
    for id in ["1", "2"] {
        site.send(juliet, message(id));
    }
    let link = dialled(&mut site);
    assert_eq!(site.open(juliet), 2);
    let conn = connected(&mut site, link);
    site.send(juliet, message("3"));
    let text = received(&mut site, conn);
    let places: Vec<usize> = ["id='1'", "id='2'", "id='3'"]
        .map(|id| text.find(id).expect(id))
        .to_vec();
    assert!(places.is_sorted(), "{text}");
    assert!(text.contains("from='juliet@example.org/balcony'"), "{text}");
    site.run_store();
    assert_eq!((site.open(juliet), stored(&site)), (0, 0));
    assert!(site.router.out.dials.is_empty());
}

/// `Settlement` in lib.rs.
#[test]
fn a_message_that_waits_is_settled_by_its_row_and_the_row_goes_with_it() {
    let (mut site, juliet) = site();
    site.send(juliet, message("1"));
    let mut request = stanza(Kind::Iq, Type::Get, Some(ROMEO));
    request.id = Some("2".into());
    site.send(juliet, request);
    site.run_store();
    assert_eq!(site.open(juliet), 1, "of the request nothing is stored");
    assert_eq!(stored(&site), 1);
    let link = dialled(&mut site);
    let conn = connected(&mut site, link);
    site.run_store();
    assert_eq!((site.open(juliet), stored(&site)), (0, 1));
    received(&mut site, conn);
    assert_eq!(stored(&site), 0);
}

#[test]
fn requests_and_presence_come_back_when_nobody_is_reached_and_messages_wait_on() {
    let (mut site, juliet) = site();
    site.send(juliet, stanza(Kind::Iq, Type::Get, Some(ROMEO)));
    site.send(juliet, message("9"));
    site.run_store();
    let link = dialled(&mut site);
    site.router.link_failed(link, failure(false));
    site.router.work();
    let told = site.take(juliet);
    assert!(told.contains("<remote-server-timeout "), "{told}");
    assert!(told.contains("it is not there"), "{told}");
    assert_eq!(told.matches("<error ").count(), 1, "{told}");
    // Until it is tried again, who asks hears it at once.
    site.send(juliet, stanza(Kind::Iq, Type::Get, Some(ROMEO)));
    assert!(site.take(juliet).contains("<remote-server-timeout "));
    site.send(juliet, message("10"));
    assert!(site.router.out.dials.is_empty());
    wait(&mut site, PEER_RETRY_FIRST);
    assert_eq!(dialled(&mut site), link);
    let conn = connected(&mut site, link);
    assert_eq!(written(&mut site, conn).matches("<message ").count(), 2);
}

#[test]
fn all_come_back_from_a_server_that_does_not_exist() {
    let (mut site, juliet) = site();
    site.send(juliet, message("1"));
    site.run_store();
    let link = dialled(&mut site);
    site.router.link_failed(link, failure(true));
    site.run_store();
    assert!(site.take(juliet).contains("<remote-server-not-found "));
    assert_eq!(stored(&site), 0);
    // For a while it is not looked for again.
    site.send(juliet, message("2"));
    assert!(site.take(juliet).contains("<remote-server-not-found "));
    wait(&mut site, PEER_REFUSED_PAUSE);
    site.send(juliet, message("3"));
    dialled(&mut site);
    site.run_store();
}

/// A domain with `s2s.enabled = false` cannot reach out.
#[test]
fn a_domain_that_talks_to_no_others_sends_nothing_and_tells_why() {
    let (mut site, juliet) = site();
    set(&mut site, |s2s| s2s.enabled = false);
    for (kind, type_) in [
        (Kind::Message, Type::Chat),
        (Kind::Presence, Type::Available),
        (Kind::Iq, Type::Get),
    ] {
        site.send(juliet, stanza(kind, type_, Some(ROMEO)));
        let told = site.take(juliet);
        assert!(told.contains("<remote-server-not-found "), "{told}");
        assert!(told.contains("s2s.enabled = false"), "{told}");
    }
    assert!(site.router.out.dials.is_empty());
    assert_eq!((stored(&site), site.open(juliet)), (0, 0));
}

#[test]
fn what_has_waited_for_too_long_comes_back() {
    let (mut site, juliet) = site();
    site.send(juliet, stanza(Kind::Iq, Type::Get, Some(ROMEO)));
    site.send(juliet, message("1"));
    site.run_store();
    let link = dialled(&mut site);
    assert!(site.router.links_due().is_some());
    wait(&mut site, PEER_REQUEST_WAIT);
    assert_eq!(
        site.take(juliet).matches("<remote-server-timeout ").count(),
        1
    );
    let message_wait = site
        .router
        .domain("example.org")
        .unwrap()
        .s2s
        .message_wait_seconds;
    site.router.link_failed(link, failure(false));
    wait(&mut site, Duration::from_secs(message_wait));
    site.run_store();
    assert_eq!(
        site.take(juliet).matches("<remote-server-timeout ").count(),
        1
    );
    assert_eq!((stored(&site), site.open(juliet)), (0, 0));
}

#[test]
fn a_stream_that_ends_is_made_anew_by_the_next_stanza() {
    let (mut site, juliet) = site();
    site.send(juliet, message("1"));
    let link = dialled(&mut site);
    let conn = connected(&mut site, link);
    received(&mut site, conn);
    site.router.link_ended(link, conn);
    site.router.work();
    assert!(
        site.router.out.dials.is_empty(),
        "nobody has anything to say"
    );
    site.send(juliet, message("2"));
    dialled(&mut site);
    site.run_store();
}

/// RFC 6120 §10.4: a peer's stanzas are settled as clients' are, and hold its socket.
#[test]
fn a_peers_stanzas_are_delivered_and_hold_its_stream_while_they_are_unsettled() {
    let (mut site, juliet) = site();
    let mut conns = Slots::default();
    let conn = connection(&mut site, &mut conns);
    let source = site.router.peer_opened(conn);
    let mut chat = stanza(Kind::Message, Type::Chat, Some("juliet@example.org"));
    chat.from = Some(Jid::parse(ROMEO).unwrap());
    site.router.from_peer(source, chat.clone(), 100);
    site.router.work();
    assert!(
        site.take(juliet)
            .contains("from='romeo@example.net/orchard'")
    );
    for _ in 0..=UNSETTLED_STANZAS_MAX {
        site.router.from_peer(source, chat.clone(), 100);
    }
    assert!(site.router.holds_peer(source));
    site.router.work();
    assert!(!site.router.holds_peer(source));
    assert!(site.router.out.resumed.contains(&conn));
    site.router.peer_closed(source);
    assert!(!site.router.holds_peer(source));
}

/// The error to a remote sender goes by the link to its server.
#[test]
fn what_a_peer_is_answered_goes_to_its_server() {
    let (mut site, _) = site();
    let mut conns = Slots::default();
    let conn = connection(&mut site, &mut conns);
    let source = site.router.peer_opened(conn);
    let mut request = stanza(Kind::Iq, Type::Get, Some("example.org"));
    request.from = Some(Jid::parse(ROMEO).unwrap());
    site.router.from_peer(source, request, 100);
    site.router.work();
    let link = dialled(&mut site);
    let to = connection(&mut site, &mut conns);
    site.router.link_ready(link, to);
    let answer = written(&mut site, to);
    assert!(
        answer.contains("to='romeo@example.net/orchard'"),
        "{answer}"
    );
    assert!(answer.contains("<service-unavailable "), "{answer}");
}

/// `s2s.message_wait_seconds`: a message has as long as the first try takes, and no longer if its time
/// is over by then.
#[test]
fn a_message_whose_time_is_over_comes_back_with_the_failure_of_the_try_that_it_waits_for() {
    let (mut site, juliet) = site();
    set(&mut site, |s2s| s2s.message_wait_seconds = 1);
    site.send(juliet, message("1"));
    site.run_store();
    let link = dialled(&mut site);
    wait(&mut site, Duration::from_secs(2));
    assert_eq!(site.take(juliet), "");
    site.send(juliet, message("2"));
    site.run_store();
    site.router.link_failed(link, failure(false));
    site.run_store();
    let told = site.take(juliet);
    assert!(told.contains("it is not there"), "{told}");
    assert!(
        told.contains("id='1'") && !told.contains("id='2'"),
        "{told}"
    );
    // The other one's time is over before the next try.
    wait(&mut site, Duration::from_secs(1));
    site.run_store();
    assert!(site.take(juliet).contains("id='2'"));
    assert_eq!((stored(&site), site.open(juliet)), (0, 0));
}

#[test]
fn a_link_that_nobody_needs_is_forgotten() {
    let (mut site, juliet) = site();
    site.send(juliet, message("1"));
    let link = dialled(&mut site);
    let conn = connected(&mut site, link);
    wait(&mut site, PEER_REQUEST_DELAY);
    let text = written(&mut site, conn);
    answer(&mut site, pings(&text)[0], Type::Result, "example.net");
    site.router.link_ended(link, conn);
    assert_eq!(site.router.peers.links().count(), 1);
    wait(&mut site, crate::limits::PEER_LINK_IDLE);
    assert_eq!(site.router.peers.links().count(), 0);
    // The row is committed only now, when its link is no more.
    site.run_store();
    site.run_store();
    assert_eq!(stored(&site), 0);

    site.send(juliet, stanza(Kind::Iq, Type::Get, Some(ROMEO)));
    let link = dialled(&mut site);
    site.router.link_failed(link, failure(true));
    site.router.work();
    assert_eq!(
        site.router.peers.links().count(),
        1,
        "it is known to be refused"
    );
    wait(&mut site, PEER_REFUSED_PAUSE);
    assert_eq!(site.router.peers.links().count(), 0);
}

/// A row that outlived its message would be sent again after a restart.
#[test]
fn a_row_that_could_not_be_deleted_is_deleted_later() {
    let (mut site, juliet) = site();
    site.send(juliet, message("1"));
    site.run_store();
    assert_eq!(stored(&site), 1);
    let link = dialled(&mut site);
    let conn = connected(&mut site, link);
    wait(&mut site, PEER_REQUEST_DELAY);
    let text = written(&mut site, conn);
    answer(&mut site, pings(&text)[0], Type::Result, "example.net");
    let batch = &mut site.router.out.batch;
    assert_eq!(std::mem::take(&mut batch.rows).len(), 1);
    let last = batch.last_row;
    site.router.rows_answered(last, &Err(StoreError::Full));
    site.run_store();
    assert_eq!(stored(&site), 1);
    wait(&mut site, HANDOFF_RETRY);
    site.run_store();
    assert_eq!(stored(&site), 0);
}
