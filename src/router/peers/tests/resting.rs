//! Links that rest, and what ends that.

use super::*;

/// Two servers that do not reach each other for a while would each refuse to verify the other's keys until
/// they are reached themselves.
#[test]
fn a_server_that_rests_is_asked_about_a_key_all_the_same_unless_it_is_refused() {
    for (is_final, is_tried) in [(false, true), (true, false)] {
        let (mut site, juliet) = site();
        site.send(juliet, message("1"));
        let link = dialled(&mut site);
        site.router.link_failed(link, failure(is_final));
        let [local, remote] =
            ["example.org", "example.net"].map(|name| Domain::parse(name).unwrap());
        let found = site.router.link_for_ask(local, remote);
        assert_eq!(found, is_tried.then_some((link, None)));
        assert_eq!(site.router.out.dials.len(), usize::from(is_tried));
        site.router.work();
        site.run_store();
    }
}

/// What it is answered, errors and presence, does not wait while its link rests.
#[test]
fn a_server_that_has_reached_us_is_tried_again_at_once() {
    for (is_final, is_tried) in [(false, true), (true, false)] {
        let (mut site, juliet) = site();
        let [local, remote] =
            ["example.org", "example.net"].map(|name| Domain::parse(name).unwrap());
        let ask = || stanza(Kind::Iq, Type::Get, Some(ROMEO));
        site.send(juliet, ask());
        let link = dialled(&mut site);
        site.router.link_failed(link, failure(is_final));
        site.router.work();
        site.take(juliet);
        site.router.peer_reached_us(local, remote);
        assert!(site.router.out.dials.is_empty(), "nothing waits");
        site.send(juliet, ask());
        assert_eq!(site.router.out.dials.len(), usize::from(is_tried));
        assert_eq!(site.take(juliet).is_empty(), is_tried);
        site.router.link_failed(link, failure(true));
        site.router.work();
    }
}

/// Found by `tests/simulation.rs`: what was sent when the rest was over waited until its time was.
#[test]
fn a_server_that_has_rested_with_nothing_to_send_is_tried_by_the_next_stanza() {
    let (mut site, juliet) = site();
    let ask = || stanza(Kind::Iq, Type::Get, Some(ROMEO));
    site.send(juliet, ask());
    let link = dialled(&mut site);
    wait(&mut site, Duration::from_secs(1));
    site.router.link_failed(link, failure(true));
    wait(&mut site, PEER_REQUEST_WAIT - Duration::from_secs(1));
    wait(&mut site, Duration::from_secs(2));
    site.take(juliet);
    site.send(juliet, ask());
    let link = dialled(&mut site);
    site.router.link_failed(link, failure(true));
    site.router.work();
}

/// A reload may have lifted what kept us from that server: what is sent next finds out, and so does what
/// waits.
#[test]
fn the_end_of_all_rests_has_each_server_tried_at_once() {
    let ask = || stanza(Kind::Iq, Type::Get, Some(ROMEO));
    for is_final in [false, true] {
        let (mut site, juliet) = site();
        site.send(juliet, ask());
        let link = dialled(&mut site);
        site.router.link_failed(link, failure(is_final));
        site.router.work();
        site.take(juliet);
        site.router.end_rests();
        assert!(site.router.out.dials.is_empty(), "nothing waits");
        site.send(juliet, ask());
        assert_eq!(site.take(juliet), "");
        assert_eq!(dialled(&mut site), link);
        site.router.link_failed(link, failure(true));
        site.router.work();
    }
    let (mut site, juliet) = site();
    site.send(juliet, message("1"));
    let link = dialled(&mut site);
    site.router.link_failed(link, failure(false));
    site.router.end_rests();
    assert_eq!(dialled(&mut site), link, "a message waits");
    site.router.link_failed(link, failure(true));
    site.run_store();
    assert_eq!(stored(&site), 0);
}

/// Nobody needs it then, and it goes when its rest would have been over.
#[test]
fn a_link_whose_rest_was_ended_is_forgotten_in_time() {
    let (mut site, juliet) = site();
    site.send(juliet, stanza(Kind::Iq, Type::Get, Some(ROMEO)));
    let link = dialled(&mut site);
    site.router.link_failed(link, failure(true));
    site.router.end_rests();
    wait(&mut site, PEER_REFUSED_PAUSE);
    assert_eq!(site.router.peers.links().count(), 0);
}
