//! What peers prove themselves by, on streams of both directions.

use super::*;
use crate::config::S2sPeer;
use crate::dns::TlsaRecord;
use crate::net::certificate::{Pin, Vouched};
use crate::stream::policy::s2s::Means;

const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

fn key_from(remote: &str) -> String {
    format!("<db:result from='{remote}' to='b.example'>1234</db:result>")
}

fn with_dane(s2s: S2s) -> S2s {
    S2s { dane: true, ..s2s }
}

fn pinned() -> S2s {
    let peer = S2sPeer {
        pins: vec![Pin::from([7; 32])],
        ..S2sPeer::default()
    };
    let domains = [A, B].map(|name| (domain(name), peer.clone()));
    S2s {
        peers: BTreeMap::from(domains),
        ..lenient()
    }
}

/// One place, whose TLSA records can be used.
fn places() -> PeerDns {
    PeerDns::Places(vec![Vouched {
        host: Some("xmpp.a.example".to_owned()),
        tlsa: Some(vec![TlsaRecord {
            usage: 3,
            selector: 1,
            matching: 1,
            data: vec![7; 32],
        }]),
    }])
}

/// b.example, to which a.example has come with TLS; and what it answers to the header that follows.
fn secured(s2s: S2s) -> (End, String) {
    let mut b = End::accepting(s2s);
    b.hear(HEADER);
    b.hear(STARTTLS);
    b.on(established(A));
    let answer = b.hear(HEADER);
    (b, answer)
}

/// a.example, which has come to b.example, with or without TLS; b.example's header is there.
fn dialled(s2s: S2s, is_direct: bool, dns: PeerDns) -> End {
    let mut a = End::dialling_by(s2s, is_direct, dns);
    a.on(Event::Begin);
    if is_direct {
        a.on(established(B));
    }
    a.hear(ANSWER);
    a
}

impl End {
    fn means(&self) -> Vec<(String, Means)> {
        let proofs = self.stream.proofs();
        proofs
            .map(|proof| (proof.pair.remote.to_string(), proof.means))
            .collect()
    }

    fn lookups(&self) -> Vec<&str> {
        let mut found = Vec::new();
        for action in &self.asked {
            if let Action::LookUp(domain) = action {
                found.push(domain.as_str());
            }
        }
        found
    }
}

/// Issue 6: its certificate proves it, without a call back.
#[test]
fn a_peer_with_a_valid_certificate_that_offers_a_key_needs_no_call_back() {
    let (mut b, features) = secured(S2s::default());
    assert!(features.contains("EXTERNAL") && features.contains("<errors/>"));
    let answer = b.hear(&key_from(A));
    assert!(answer.contains("type='valid'"), "{answer}");
    assert!(b.to_verify().is_none());
    assert_eq!(b.means(), [(A.to_owned(), Means::Certificate)]);
    assert_eq!(b.hear(MESSAGE), "");
    assert!(matches!(b.asked.last(), Some(Action::FromPeer(..))));
    // The certificate does not name this one, and the settings leave no room for dialback.
    let answer = b.hear(&key_from("c.example"));
    assert!(
        answer.contains("type='error'") && answer.contains("<policy-violation"),
        "{answer}"
    );
    assert!(b.to_verify().is_none() && !b.is_over);
}

/// Issue 6: `secure_auth` rules how peers prove themselves, not how we do.
#[test]
fn we_prove_ourselves_by_dialback_where_external_is_not_offered() {
    let mut a = dialled(S2s::default(), true, PeerDns::Nothing);
    let said = a.hear("<stream:features/>");
    assert!(said.starts_with("<db:result "), "{said}");
    a.hear("<db:result xmlns:db='jabber:server:dialback' from='b.example' to='a.example' type='valid'/>");
    assert!(a.is_ready());
    assert_eq!(a.means(), [(B.to_owned(), Means::Certificate)]);
}

#[test]
fn external_that_is_refused_gives_way_to_dialback() {
    let mut a = dialled(S2s::default(), true, PeerDns::Nothing);
    let said = a.hear(
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
         <mechanism>EXTERNAL</mechanism></mechanisms></stream:features>",
    );
    assert!(said.contains("mechanism='EXTERNAL'"), "{said}");
    let said =
        a.hear("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>");
    assert!(said.starts_with("<db:result "), "{said}");
}

/// RFC 7590 §3.1, but only for who could not do without.
#[test]
fn a_server_that_does_not_offer_tls_is_not_asked_for_it_by_who_can_do_without() {
    let open = S2s {
        require_encryption: false,
        ..lenient()
    };
    let said = dialled(open.clone(), false, PeerDns::Nothing).hear("<stream:features/>");
    assert!(said.starts_with("<db:result "), "{said}");
    // RFC 7673 §4: secure TLSA records call for it, too.
    let mut a = dialled(with_dane(open), false, places());
    assert_eq!(a.hear("<stream:features/>"), STARTTLS);
    a.hear("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    assert!(a.is_over && a.failure().unwrap().is_final);
}

/// What is pinned decides alone, on streams of both directions.
#[test]
fn who_does_not_show_what_is_pinned_is_refused() {
    let (mut b, features) = secured(pinned());
    assert!(!features.contains("EXTERNAL"));
    let answer = b.hear(&key_from(A));
    assert!(answer.contains("<policy-violation"), "{answer}");
    assert!(b.to_verify().is_none());
    let mut a = dialled(pinned(), true, PeerDns::Nothing);
    let said = a.hear("<stream:features/>");
    assert!(!said.contains("db:result"), "{said}");
    assert!(a.failure().unwrap().text.contains("pins"));
}

/// RFC 7673 §3.4, §4.2.
#[test]
fn the_tlsa_records_of_the_place_that_was_dialled_decide_alone() {
    for (tlsa, trusts) in [(true, false), (false, true)] {
        let mut a = dialled(with_dane(S2s::default()), true, places());
        // What the records say of a chain is told by who holds it against them.
        (a.judge.tlsa, a.judge.trusts) = (tlsa, trusts);
        let said = a.hear("<stream:features/>");
        assert_eq!(said.starts_with("<db:result "), tlsa, "{said}");
        assert_eq!(a.failure().is_none(), tlsa);
    }
    // Nobody has asked for them yet: that there are none is not known.
    let mut a = dialled(with_dane(S2s::default()), true, PeerDns::Unknown);
    a.hear("<stream:features/>");
    assert!(a.failure().unwrap().text.contains("s2s.dane"));
    let mut a = dialled(S2s::default(), true, PeerDns::Unknown);
    assert!(a.hear("<stream:features/>").starts_with("<db:result "));
}

#[test]
fn with_dane_an_accepted_peer_waits_until_the_dns_has_been_asked_about_it() {
    for (dns, tlsa, means) in [
        (PeerDns::Unknown, true, None),
        (PeerDns::Nothing, false, Some(Means::Certificate)),
        (places(), false, None),
        (places(), true, Some(Means::Dane)),
    ] {
        let (mut b, answer) = secured(with_dane(lenient()));
        b.judge.tlsa = tlsa;
        assert!(!answer.contains("features"), "{answer}");
        assert_eq!(b.lookups(), [A]);
        // It may send what it likes meanwhile.
        assert!(!b.stream.takes_input());
        assert_eq!(b.hear(&key_from(A)), "");
        let features = b.on(Event::LookedUp(domain(A), dns));
        assert_eq!(features.contains("EXTERNAL"), means.is_some(), "{features}");
        let answer = b.hear("");
        assert_eq!(answer.contains("type='valid'"), means.is_some(), "{answer}");
        assert!(b.to_verify().is_none());
        let proven: Vec<_> = b.means().into_iter().map(|(_, means)| means).collect();
        assert_eq!(proven, Vec::from_iter(means));
    }
}

/// As many domains as a peer claims on a stream, each by what the DNS says of it.
#[test]
fn with_dane_keys_for_other_domains_wait_for_the_dns_too() {
    let (mut b, _) = secured(with_dane(lenient()));
    b.on(Event::LookedUp(domain(A), PeerDns::Nothing));
    assert_eq!(b.hear(&key_from("c.example")), "");
    assert_eq!(b.hear(&key_from("d.example")), "");
    assert_eq!(b.lookups(), [A, "c.example", "d.example"]);
    let refused = b.on(Event::LookedUp(domain("d.example"), places()));
    assert!(
        refused.contains("from='b.example' to='d.example' type='error'"),
        "{refused}"
    );
    let verified = b.on(Event::LookedUp(domain("c.example"), PeerDns::Nothing));
    assert_eq!(verified, "");
    assert_eq!(b.to_verify().unwrap().0, pair(B, "c.example"));
    // An answer that comes twice, or that nobody waits for, changes nothing.
    assert_eq!(
        b.on(Event::LookedUp(domain("d.example"), PeerDns::Nothing)),
        ""
    );
    // Without TLS the first thing is TLS.
    let mut b = End::accepting(with_dane(lenient()));
    assert!(b.hear(HEADER).contains("<starttls "));
    assert!(b.lookups().is_empty());
}

/// An answer on its way does not follow the stream to the shard of its first domain.
#[test]
fn what_waits_for_the_dns_when_the_stream_moves_is_asked_again() {
    let (mut b, _) = secured(with_dane(lenient()));
    b.on(Event::LookedUp(domain(A), PeerDns::Nothing));
    b.hear(&key_from("c.example"));
    assert!(b.hear(&key_from(A)).contains("type='valid'"));
    assert_eq!(b.lookups(), [A, "c.example", "c.example"]);
    b.on(Event::LookedUp(domain("c.example"), PeerDns::Nothing));
    assert_eq!(b.to_verify().unwrap().0, pair(B, "c.example"));
}

/// A key that is verified may be the first proof: no other is verified beside it.
#[test]
fn of_two_keys_that_waited_for_the_dns_one_is_verified_at_a_time() {
    let (mut b, _) = secured(with_dane(lenient()));
    b.judge.trusts = false;
    b.on(Event::LookedUp(domain(A), PeerDns::Nothing));
    for remote in ["c.example", "d.example"] {
        b.hear(&key_from(remote));
    }
    for remote in ["c.example", "d.example"] {
        b.on(Event::LookedUp(domain(remote), PeerDns::Nothing));
    }
    let verifies = |b: &End| {
        let is_verify = |action: &&Action| matches!(action, Action::Verify(_));
        b.asked.iter().filter(is_verify).count()
    };
    assert_eq!(verifies(&b), 1);
    let first = b.to_verify().unwrap().0;
    b.on(Event::Verified(first, Checked::Answered(Answer::Valid)));
    // What the DNS has said of the other was said elsewhere.
    b.on(Event::LookedUp(domain("d.example"), PeerDns::Nothing));
    assert_eq!(verifies(&b), 2);
}

#[test]
fn who_waits_for_the_dns_is_given_up_in_time() {
    let (mut b, _) = secured(with_dane(S2s::default()));
    b.now = b.stream.deadline(&b.settings).unwrap();
    assert!(b.on(Event::Deadline).contains("<connection-timeout "));
    assert_eq!(b.on(Event::LookedUp(domain(A), PeerDns::Nothing)), "");
}

fn at(seconds: u64) -> Wall {
    Wall::from_micros(seconds * 1_000_000)
}

/// RFC 6120 §13.7.2.3.
#[test]
fn a_stream_ends_with_the_certificate_that_it_rests_on() {
    let never = S2s {
        idle_seconds: 0,
        ..S2s::default()
    };
    let mut wire = Wire::new(never.clone(), never);
    for end in [&mut wire.a, &mut wire.b] {
        end.judge.ends = Some(500);
    }
    wire.run();
    for end in [&mut wire.a, &mut wire.b] {
        let due = end.stream.deadline(&end.settings).unwrap();
        assert_eq!(due, Mono::from_millis(1_000) + Duration::from_secs(501));
        // The clock was set back: there is still time.
        (end.now, end.wall) = (due, at(400));
        assert_eq!(end.on(Event::Deadline), "");
        let later = end.stream.deadline(&end.settings).unwrap();
        assert_eq!(later, due + Duration::from_secs(101));
        (end.now, end.wall) = (later, at(501));
        let said = end.on(Event::Deadline);
        assert!(said.contains("<reset ") && end.is_over, "{said}");
    }
    let ended = |action: &Action| matches!(action, Action::LinkEnded(_));
    assert!(wire.a.asked.iter().any(ended));
}

#[test]
fn a_stream_that_rests_on_dialback_outlives_the_certificate() {
    let never = S2s {
        idle_seconds: 0,
        ..lenient()
    };
    let mut wire = Wire::new(never.clone(), never);
    for end in [&mut wire.a, &mut wire.b] {
        (end.judge.trusts, end.judge.ends) = (false, Some(500));
    }
    wire.run();
    wire.verify();
    assert!(wire.a.is_ready() && wire.b.stream.source().is_some());
    assert_eq!(wire.a.stream.deadline(&wire.a.settings), None);
    assert_eq!(wire.b.stream.deadline(&wire.b.settings), None);
}

/// RFC 7590 §3.6.
#[test]
fn the_key_of_a_peer_that_is_proven_is_told_once() {
    for trusts in [true, false] {
        let mut wire = Wire::new(lenient(), lenient());
        for end in [&mut wire.a, &mut wire.b] {
            (end.judge.trusts, end.judge.key) = (trusts, Some(Pin::from([9; 32])));
        }
        wire.run();
        if !trusts {
            wire.verify();
        }
        for (end, expected) in [(&wire.a, pair(A, B)), (&wire.b, pair(B, A))] {
            let mut told = Vec::new();
            for action in &end.asked {
                if let Action::PeerKey(pair, key) = action {
                    told.push((pair.clone(), *key));
                }
            }
            assert_eq!(told, [(expected, Pin::from([9; 32]))]);
        }
    }
}
