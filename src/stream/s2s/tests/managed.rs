//! What is said of stream management (XEP-0198), by who has opened the stream and by who was dialled.

use super::*;
use crate::router::peers::{LinkNews, PeerNews};

const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3'/>";
const ENABLED: &str = "<enabled xmlns='urn:xmpp:sm:3'/>";
const REQUEST: &str = "<r xmlns='urn:xmpp:sm:3'/>";
const FEATURE: &str = "<sm xmlns='urn:xmpp:sm:3'/>";

/// Two servers, the first of which has proven itself by its certificate.
fn proven() -> Wire {
    let mut wire = Wire::new(S2s::default(), S2s::default());
    wire.run();
    assert!(wire.a.is_ready());
    wire
}

fn link_news(end: &mut End) -> Vec<LinkNews> {
    let asked = std::mem::take(&mut end.asked);
    asked
        .into_iter()
        .filter_map(|action| match action {
            Action::LinkNews(_, news) => Some(news),
            _ => None,
        })
        .collect()
}

fn peer_news(end: &mut End) -> Vec<PeerNews> {
    let asked = std::mem::take(&mut end.asked);
    asked
        .into_iter()
        .filter_map(|action| match action {
            Action::PeerNews(_, news) => Some(news),
            _ => None,
        })
        .collect()
}

/// XEP-0198 §3.
#[test]
fn who_dials_asks_for_it_where_it_is_offered_and_before_stanzas_flow() {
    let mut wire = proven();
    assert!(wire.b.said.contains(FEATURE), "{}", wire.b.said);
    assert_eq!(wire.a.said.matches(ENABLE).count(), 1);
    let place = |wanted: fn(&Action) -> bool| wire.a.asked.iter().position(wanted).unwrap();
    let enabling = place(|action| matches!(action, Action::LinkNews(_, LinkNews::Enabling)));
    assert!(enabling < place(|action| matches!(action, Action::LinkReady(_))));
    assert_eq!(peer_news(&mut wire.b), [PeerNews::Enable]);
    assert_eq!(link_news(&mut wire.a), [LinkNews::Enabling]);
    assert_eq!(wire.a.hear(ENABLED), "");
    assert_eq!(link_news(&mut wire.a), [LinkNews::Enabled]);
    assert_eq!(wire.a.hear("<a xmlns='urn:xmpp:sm:3' h='4'/>"), "");
    assert_eq!(link_news(&mut wire.a), [LinkNews::Acknowledged(4)]);
    assert_eq!(wire.b.hear(REQUEST), "");
    assert_eq!(peer_news(&mut wire.b), [PeerNews::Request]);
}

#[test]
fn who_proves_itself_by_dialback_asks_for_it_too() {
    let mut wire = Wire::untrusting();
    assert!(!wire.a.said.contains(ENABLE), "nothing is proven yet");
    wire.verify();
    assert!(wire.a.is_ready());
    assert!(wire.a.said.ends_with(ENABLE), "{}", wire.a.said);
    assert_eq!(peer_news(&mut wire.b), [PeerNews::Enable]);
}

/// XEP-0288: it counts what comes the other way, too.
#[test]
fn who_has_dialled_counts_what_comes_back() {
    let mut wire = proven();
    assert!(wire.a.stream.source().is_some(), "both ways");
    wire.a.asked.clear();
    wire.a.hear(ENABLED);
    wire.a.hear(REQUEST);
    assert_eq!(
        peer_news(&mut wire.a),
        [PeerNews::Enabled, PeerNews::Request]
    );
}

/// XEP-0198 §3: "unexpected-request".
#[test]
fn it_is_refused_before_a_proof_and_a_second_time() {
    let mut wire = Wire::untrusting();
    let answer = wire.b.hear(ENABLE);
    assert!(answer.contains("<unexpected-request"), "{answer}");
    assert!(peer_news(&mut wire.b).is_empty());
    let mut wire = proven();
    wire.b.asked.clear();
    let answer = wire.b.hear(ENABLE);
    assert!(answer.starts_with("<failed"), "{answer}");
    assert!(answer.contains("<unexpected-request"), "{answer}");
    assert!(peer_news(&mut wire.b).is_empty());
    let answer = wire
        .b
        .hear("<resume xmlns='urn:xmpp:sm:3' h='0' previd='x'/>");
    assert!(answer.contains("<item-not-found"), "{answer}");
    assert!(!wire.b.is_over);
}

#[test]
fn a_peer_that_fails_to_enable_it_is_sent_stanzas_all_the_same() {
    let mut wire = proven();
    wire.a.asked.clear();
    let failed = "<failed xmlns='urn:xmpp:sm:3'><unexpected-request \
                  xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";
    assert_eq!(wire.a.hear(failed), "");
    assert_eq!(link_news(&mut wire.a), [LinkNews::Failed]);
    assert!(wire.a.is_ready());
}

/// RFC 6120 §4.9.3.24.
#[test]
fn what_has_no_sense_ends_the_stream() {
    for nonsense in [
        ENABLED,
        "<a xmlns='urn:xmpp:sm:3' h='0'/>",
        "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='x'/>",
        "<x xmlns='urn:xmpp:sm:3'/>",
    ] {
        let mut wire = proven();
        // Only `<a/>` has sense on a stream where it is enabled.
        let answer = match nonsense.starts_with("<a ") {
            true => {
                let mut wire = Wire::untrusting();
                wire.b.hear(nonsense)
            }
            false => wire.b.hear(nonsense),
        };
        assert!(answer.contains("<unsupported-stanza-type"), "{answer}");
    }
}

/// What the router never sees counts for the peer.
#[test]
fn a_stanza_that_is_answered_at_once_counts() {
    let mut wire = proven();
    wire.b.asked.clear();
    let bad = "<iq type='get' id='1' from='juliet@a.example/x' to='b.example'/>";
    wire.b.hear(bad);
    let news = peer_news(&mut wire.b);
    assert!(matches!(news[..], [PeerNews::Stanza(_)]), "{news:?}");
}

/// A domain that is served to clients alone.
#[test]
fn a_second_pair_of_a_domain_that_talks_to_no_others_is_refused() {
    let mut wire = proven();
    let own = domain("shut.example");
    let mut shut = DomainSettings::new(own.clone());
    shut.s2s.enabled = false;
    let mut settings = (*wire.b.settings).clone();
    settings.domains.insert(own, Arc::new(shut));
    wire.b.settings = Arc::new(settings);
    let key = "<db:result xmlns:db='jabber:server:dialback' from='a.example' to='shut.example'>k</db:result>";
    let answer = wire.b.hear(key);
    assert!(answer.contains("<item-not-found"), "{answer}");
    assert!(wire.b.to_verify().is_none());
}
