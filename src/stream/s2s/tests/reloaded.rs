//! What a reload means for streams that are open.

use super::*;
use crate::config::S2sPeer;
use crate::jid::DomainList;

fn list(names: &[&str]) -> DomainList {
    let mut list = DomainList::default();
    for name in names {
        list.add(name).unwrap();
    }
    list
}

impl End {
    /// Puts other settings in force.
    fn reload(&mut self, s2s: S2s) -> String {
        self.reload_to(s2s, false)
    }

    fn reload_to(&mut self, s2s: S2s, is_elsewhere: bool) -> String {
        let mut settings = (*self.settings).clone();
        for domain in settings.domains.values_mut() {
            Arc::make_mut(domain).s2s = s2s.clone();
        }
        settings.s2s = s2s;
        settings.generation += 1;
        self.settings = Arc::new(settings);
        self.on(Event::Reloaded { is_elsewhere })
    }
}

/// Two servers whose stream stands, by certificates.
fn connected() -> Wire {
    let mut wire = Wire::new(S2s::default(), S2s::default());
    wire.run();
    assert!(wire.a.is_ready());
    wire
}

/// The same, by dialback.
fn called_back() -> Wire {
    let mut wire = Wire::new(lenient(), lenient());
    for end in [&mut wire.a, &mut wire.b] {
        end.judge.trusts = false;
    }
    wire.run();
    wire.verify();
    assert!(wire.a.is_ready());
    wire
}

#[test]
fn a_peer_that_policy_accepts_as_before_notices_nothing() {
    for mut wire in [connected(), called_back()] {
        let same = wire.a.settings.s2s.clone();
        for end in [&mut wire.a, &mut wire.b] {
            assert_eq!(end.reload(same.clone()), "");
        }
        assert_eq!(wire.b.hear(MESSAGE), "");
        assert!(matches!(wire.b.asked.last(), Some(Action::FromPeer(..))));
        assert!(wire.a.is_ready());
    }
}

/// `s2s.deny`, `s2s.allow`, `s2s.secure_auth`, `s2s.secure_domains`, `s2s.enabled`.
#[test]
fn a_peer_that_policy_refuses_now_hears_why_whoever_has_opened_the_stream() {
    let deny = S2s {
        deny: list(&[A, B]),
        ..S2s::default()
    };
    let allow = S2s {
        allow: list(&["c.example"]),
        ..S2s::default()
    };
    let off = S2s {
        enabled: false,
        ..S2s::default()
    };
    let listed = S2s {
        secure_domains: list(&[A, B]),
        ..lenient()
    };
    for (by_dialback, s2s, option) in [
        (false, deny, "s2s.deny"),
        (false, allow, "s2s.allow"),
        (false, off, "s2s.enabled"),
        (true, S2s::default(), "s2s.secure_auth"),
        (true, listed, "s2s.secure_domains"),
    ] {
        for is_dialled in [true, false] {
            let mut wire = match by_dialback {
                true => called_back(),
                false => connected(),
            };
            let end = match is_dialled {
                true => &mut wire.a,
                false => &mut wire.b,
            };
            let said = end.reload(s2s.clone());
            assert!(said.contains("<policy-violation "), "{said}");
            assert!(said.contains(option), "{said}");
            assert!(end.is_over && !end.is_ready());
            let is_told = |action: &Action| match is_dialled {
                true => matches!(action, Action::LinkEnded(_)),
                false => matches!(action, Action::PeerClosed(_)),
            };
            assert!(end.asked.iter().any(is_told));
            // What it says then reaches nobody.
            let before = end.asked.len();
            end.hear(MESSAGE);
            let after = &end.asked[before..];
            assert!(!after.iter().any(|it| matches!(it, Action::FromPeer(..))));
        }
    }
}

/// `[s2s.peer."name"]`: what is pinned decides alone.
#[test]
fn a_key_that_is_pinned_now_is_looked_for_in_what_the_peer_has_shown() {
    let peer = S2sPeer {
        pins: vec![Pin::from([7; 32])],
        ..S2sPeer::default()
    };
    let pinned = S2s {
        peers: BTreeMap::from([A, B].map(|name| (domain(name), peer.clone()))),
        ..S2s::default()
    };
    let mut wire = connected();
    for end in [&mut wire.a, &mut wire.b] {
        let said = end.reload(pinned.clone());
        assert!(said.contains("<policy-violation "), "{said}");
    }
}

/// `s2s.dane`: nobody has asked for TLSA records before, or they are a day old.
#[test]
fn what_the_dns_decides_is_decided_on_the_next_stream() {
    let dane = S2s {
        dane: true,
        ..S2s::default()
    };
    let mut wire = connected();
    let said = wire.b.reload(dane.clone());
    assert_eq!(said, "</stream:stream>");
    // What is on its way is still taken.
    assert_eq!(wire.b.hear(MESSAGE), "");
    assert!(matches!(wire.b.asked.last(), Some(Action::FromPeer(..))));
    let Role::Dialled(dialled) = &mut wire.a.stream.role else {
        panic!("it was dialled");
    };
    dialled.dns = PeerDns::Unknown;
    assert_eq!(wire.a.reload(dane), "</stream:stream>");
    assert!(matches!(wire.a.asked.last(), Some(Action::LinkEnded(_))));
}

/// `[s2s.peer."name"] address`.
#[test]
fn a_stream_that_would_lead_elsewhere_now_is_closed() {
    let mut wire = connected();
    let said = wire.a.reload_to(S2s::default(), true);
    assert_eq!(said, "</stream:stream>");
    assert!(!wire.a.is_ready() && wire.a.failure().is_none());
}

/// A certificate that no authority vouches for any more leaves room for dialback, which was not tried.
#[test]
fn what_another_proof_could_mend_is_proven_on_the_next_stream() {
    let mut wire = connected();
    wire.b.judge.trusts = false;
    assert_eq!(wire.b.reload(lenient()), "</stream:stream>");
}

/// The key was offered when dialback would have done.
#[test]
fn a_key_that_is_verified_after_a_reload_counts_only_if_it_still_may() {
    let mut wire = Wire::new(lenient(), lenient());
    for end in [&mut wire.a, &mut wire.b] {
        end.judge.trusts = false;
    }
    wire.run();
    assert_eq!(wire.b.reload(S2s::default()), "");
    let (asked, ..) = wire.b.to_verify().unwrap();
    let checked = Checked::Answered(Answer::Valid);
    let said = wire.b.on(Event::Verified(asked, checked));
    assert!(said.contains("type='error'"), "{said}");
    assert!(wire.b.stream.source().is_none());
}

/// `Who owns what` in lib.rs: on its way to another shard it hears nothing.
#[test]
fn a_stream_that_has_missed_a_reload_makes_up_for_it() {
    let mut wire = called_back();
    let mut settings = (*wire.b.settings).clone();
    settings.generation += 1;
    for domain in settings.domains.values_mut() {
        Arc::make_mut(domain).s2s = S2s::default();
    }
    wire.b.settings = Arc::new(settings);
    let mut slots = Slots::default();
    let said = wire.b.on(Event::Placed(slots.insert(())));
    assert!(said.contains("<policy-violation "), "{said}");
}

/// What is being negotiated is judged when that is due, by what is in force then.
#[test]
fn a_stream_that_nobody_is_proven_on_goes_on() {
    let mut wire = Wire::new(S2s::default(), S2s::default());
    wire.a.on(Event::Begin);
    for end in [&mut wire.a, &mut wire.b] {
        assert_eq!(end.reload(S2s::default()), "");
        assert!(!end.is_over);
    }
}
