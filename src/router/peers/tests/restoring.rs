//! Messages that waited when the server ended.

use super::*;
use crate::storage::Row;
use crate::storage::peer_queue::PeerMessage;

/// What is in the store of a server that juliet has sent three messages by, and that was killed.
fn killed() -> Vec<PeerMessage> {
    let (mut before, juliet) = site();
    for id in ["1", "2", "3"] {
        before.send(juliet, message(id));
    }
    before.run_store();
    let messages = peer_queue::all(before.store.db()).unwrap();
    assert_eq!(messages.len(), 3);
    messages
}

/// The server after its start: `later` is how much later it is.
fn restarted(messages: &[PeerMessage], later: Duration) -> (Site, Seat) {
    let (mut site, juliet) = site();
    let mut batch = crate::storage::Batch::default();
    let rows = messages.iter().cloned().map(Box::new);
    batch.rows.extend(rows.map(Row::PeerQueued));
    site.store.commit(vec![(0, batch)]);
    let wall = &mut site.router.now.wall;
    *wall = crate::clock::Wall::from_micros(wall.micros() + later.as_micros() as u64);
    site.router.restore_peer_messages(messages.to_vec());
    (site, juliet)
}

#[test]
fn what_waited_when_the_server_ended_goes_on_in_its_order_and_before_newer_ones() {
    let (mut site, juliet) = restarted(&killed(), Duration::ZERO);
    site.send(juliet, message("4"));
    site.run_store();
    assert_eq!(stored(&site), 4);
    let link = dialled(&mut site);
    let conn = connected(&mut site, link);
    let text = received(&mut site, conn);
    let places = ["id='1'", "id='2'", "id='3'", "id='4'"].map(|id| text.find(id).expect(id));
    assert!(places.is_sorted(), "{text}");
    assert_eq!(stored(&site), 0);
}

/// The wall goes on while the server is down.
#[test]
fn what_was_restored_goes_back_when_its_time_is_over_since_it_first_came() {
    let half = Duration::from_secs(1800);
    let (mut site, juliet) = restarted(&killed(), half);
    let link = dialled(&mut site);
    wait(&mut site, half - Duration::from_secs(1));
    site.router.link_failed(link, failure(false));
    site.router.work();
    assert_eq!(site.take(juliet), "");
    wait(&mut site, Duration::from_secs(1));
    let back = site.take(juliet);
    assert_eq!(back.matches("<remote-server-timeout ").count(), 3, "{back}");
    assert!(back.contains("it is not there</text>"), "{back}");
    site.run_store();
    assert_eq!(stored(&site), 0);
}

#[test]
fn what_is_too_old_at_the_start_goes_back_and_nobody_is_dialled_for_it() {
    let (mut site, juliet) = restarted(&killed(), Duration::from_secs(3600));
    site.router.work();
    let back = site.take(juliet);
    assert_eq!(back.matches("<remote-server-timeout ").count(), 3, "{back}");
    assert!(back.contains("</text>"), "{back}");
    assert!(site.router.out.dials.is_empty());
    site.run_store();
    assert_eq!(stored(&site), 0);
}

/// RFC 6121 §8.5.3.2.1: an error for a resource that is not there is dropped. It is not kept for later
/// and not shown to another resource, either.
#[test]
fn what_goes_back_to_a_resource_that_is_gone_is_dropped() {
    let mut messages = killed();
    for message in &mut messages {
        let from = Jid::parse("juliet@example.org/garden").unwrap();
        message.stanza.from = Some(from);
    }
    let (mut site, juliet) = restarted(&messages, Duration::from_secs(3600));
    site.router.work();
    site.run_store();
    assert_eq!(site.take(juliet), "");
    assert_eq!(stored(&site), 0);
    assert!(site.router.out.dials.is_empty(), "no error about an error");
}

#[test]
fn what_a_domain_sent_that_may_talk_no_more_goes_back() {
    let messages = killed();
    let (mut site, juliet) = site();
    set(&mut site, |s2s| s2s.enabled = false);
    site.router.restore_peer_messages(messages);
    site.router.work();
    let back = site.take(juliet);
    assert_eq!(
        back.matches("<remote-server-not-found ").count(),
        3,
        "{back}"
    );
    assert!(site.router.out.dials.is_empty());
    site.run_store();
}

#[test]
fn what_a_domain_sent_that_is_not_served_any_more_is_dropped() {
    let mut messages = killed();
    for message in &mut messages {
        message.local = crate::jid::Domain::parse("gone.example").unwrap();
        message.stanza.from = Some(Jid::parse("juliet@gone.example/balcony").unwrap());
    }
    let (mut site, _) = restarted(&messages, Duration::ZERO);
    site.router.work();
    site.run_store();
    assert_eq!(stored(&site), 0);
    assert!(site.router.out.dials.is_empty());
}

#[test]
fn what_is_for_a_domain_that_is_ours_since_is_delivered() {
    let mut messages = killed();
    for message in &mut messages {
        message.remote = crate::jid::Domain::parse("example.org").unwrap();
        message.stanza.to = Some(Jid::parse("juliet@example.org/balcony").unwrap());
    }
    let (mut site, juliet) = restarted(&messages, Duration::ZERO);
    site.router.work();
    assert_eq!(site.take(juliet).matches("<message").count(), 3);
    site.run_store();
    assert_eq!(stored(&site), 3, "what comes of it may not be committed");
    wait(&mut site, HANDOFF_RETRY);
    site.run_store();
    assert_eq!(stored(&site), 0);
    assert!(site.router.out.dials.is_empty());
}
