//! What waits for a domain that becomes one of ours.

use super::*;
use crate::config::DomainSettings;

/// A reload has made Romeo's domain ours, and he is here.
fn move_in(site: &mut Site) -> Seat {
    let name = Domain::parse("example.net").unwrap();
    let mut settings = (*site.router.settings).clone();
    settings
        .domains
        .insert(name.clone(), Arc::new(DomainSettings::new(name)));
    site.router.settings = Arc::new(settings);
    let romeo = site.bind("romeo@example.net", "orchard", Some(0));
    site.router.deliver_what_is_ours();
    site.router.end_rests();
    romeo
}

fn comes_in_order(site: &mut Site, romeo: Seat, ids: &[&str]) {
    site.run_store();
    let text = site.take(romeo);
    let places: Vec<usize> = ids
        .iter()
        .map(|id| text.find(&format!("id='{id}'")).expect(id))
        .collect();
    assert!(places.is_sorted(), "{text}");
    assert_eq!(text.matches("<message ").count(), ids.len(), "{text}");
    assert!(site.router.out.dials.is_empty(), "nobody is dialled");
}

/// Rows outlast the delivery here by some time, so that an end of the server in between loses nothing.
#[test]
fn what_rests_or_waits_for_a_stream_is_delivered_here_in_its_order() {
    for is_resting in [true, false] {
        let (mut site, juliet) = site();
        for id in ["1", "2"] {
            site.send(juliet, message(id));
        }
        site.run_store();
        let link = dialled(&mut site);
        if is_resting {
            site.router.link_failed(link, failure(false));
        }
        let romeo = move_in(&mut site);
        site.send(juliet, message("3"));
        comes_in_order(&mut site, romeo, &["1", "2", "3"]);
        assert_eq!(site.take(juliet), "");
        assert_eq!(stored(&site), 2);
        if !is_resting {
            site.router.link_failed(link, failure(false));
        }
        wait(&mut site, HANDOFF_RETRY);
        site.run_store();
        assert_eq!(stored(&site), 0);
        wait(&mut site, PEER_RETRY_FIRST * 2);
        assert_eq!(site.router.peers.links().count(), 0);
    }
}

/// The stream to who served the domain before ends at the reload. What nobody says was received
/// comes here, ahead of what had no room there.
#[test]
fn what_is_unacknowledged_comes_here_when_its_stream_ends() {
    let mut scene = Scene::with(Some(LinkNews::Enabling));
    scene.news(LinkNews::Enabled);
    scene.send(message("2"));
    let romeo = move_in(&mut scene.site);
    scene.site.router.link_ended(scene.link, scene.conn);
    comes_in_order(&mut scene.site, romeo, &["1", "2"]);
    assert_eq!(scene.site.take(scene.juliet), "");
    assert_eq!(scene.site.open(scene.juliet), 0, "all is settled");
}

/// Another shard had posted it before it heard of the reload.
#[test]
fn what_comes_late_from_another_shard_is_delivered_here() {
    let (mut site, _) = site();
    let romeo = move_in(&mut site);
    let mut late = message("1");
    late.from = Some(Jid::parse("juliet@example.org/balcony").unwrap());
    let late = Routed::new(late, Ticket::none());
    site.router.send_by_link(late);
    comes_in_order(&mut site, romeo, &["1"]);
    assert_eq!(site.router.peers.links().count(), 0);
}
