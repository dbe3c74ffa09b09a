//! Counts deliveries of presence a second of one core, to contacts that are online on the same
//! shard.
//!
//! The load is an account with 50 or 1,000 mutual contacts: it changes its presence, or goes and
//! comes back, when it probes all of them and hears of all. Turns follow each other at once, as they
//! do in the server. It serves the bounds of a turn's broadcast (`Order of a turn` in lib.rs):
//! a delivery must cost the same in a large roster as in a small one.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use stanzad::jid::BareJid;
use stanzad::router::roster::Roster;
use stanzad::stanza::{Kind, Stanza, Type};
use stanzad::storage::roster::State;
use stanzad::xml::{Element, Payload};

use crate::site::{Seat, Site};

const OWNER: &str = "juliet@example.org";

fn contact(number: usize) -> String {
    format!("contact{number}@example.org")
}

/// Juliet's session, whose contacts are all there and see each other's presence with her.
fn circle(contacts: usize) -> (Site, Seat) {
    let mut site = Site::new(1);
    let mutual = State::from_bits(State::TO.bits() | State::FROM.bits() | State::LISTED.bits());
    let bare = |jid: &str| BareJid::parse(jid).expect("an address");
    let juliet = site.arrive(OWNER);
    let mut roster = Vec::new();
    for number in 0..contacts {
        site.arrive(&contact(number));
        set_roster(&mut site, &contact(number), &[(bare(OWNER), mutual)]);
        roster.push((bare(&contact(number)), mutual));
    }
    set_roster(&mut site, OWNER, &roster);
    (site, juliet)
}

fn set_roster(site: &mut Site, jid: &str, contacts: &[(BareJid, State)]) {
    let accounts = &mut site.routers[0].accounts;
    let key = accounts.find(jid).expect("an account with a session");
    let account = accounts.get_mut(key).expect("it was just found");
    account.roster = Some(Roster::new(contacts));
}

/// Sends presence, and lets turns follow until all contacts have it. `see` is given what is written
/// to each connection in each turn.
fn tell(site: &mut Site, from: Seat, presence: &Stanza, mut see: impl FnMut(&[u8])) {
    site.send(from, presence.clone());
    site.drain(0, &mut see);
    while site.routers[0].has_fanout() {
        let router = &mut site.routers[0];
        router.begin_turn(router.now);
        router.fan_out();
        router.work();
        site.drain(0, &mut see);
    }
    let router = &mut site.routers[0];
    router.begin_turn(router.now);
}

/// How many presence stanzas are delivered when somebody says this.
fn deliveries(site: &mut Site, from: Seat, presence: &Stanza) -> usize {
    let mut count = 0;
    tell(site, from, presence, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        count += text.matches("<presence ").count();
    });
    count
}

/// Keeps the optimizer from finding out that nobody reads what is written.
fn see(bytes: &[u8]) {
    black_box(bytes);
}

pub fn benches(criterion: &mut Criterion) {
    let words = [
        Element::new("jabber:client", "show").with_text("away"),
        Element::new("jabber:client", "status").with_text("On the balcony"),
        Element::new("jabber:client", "priority").with_text("5"),
    ];
    let available = Stanza::new(
        Kind::Presence,
        Type::Available,
        Payload::from_elements(&words),
    );
    let unavailable = Stanza::new(Kind::Presence, Type::Unavailable, Payload::empty());
    let mut group = criterion.benchmark_group("fan-out");
    for contacts in [50, 1000] {
        let (mut site, juliet) = circle(contacts);
        // She gets a copy of her own, and all answer her probes when she comes back.
        assert_eq!(deliveries(&mut site, juliet, &available), contacts + 1);
        assert_eq!(deliveries(&mut site, juliet, &unavailable), contacts + 1);
        assert_eq!(deliveries(&mut site, juliet, &available), 2 * contacts + 1);
        group.throughput(Throughput::Elements(contacts as u64));
        group.bench_function(BenchmarkId::new("change of presence", contacts), |b| {
            b.iter(|| tell(&mut site, juliet, &available, see));
        });
        group.bench_function(BenchmarkId::new("go and come back", contacts), |b| {
            b.iter(|| {
                tell(&mut site, juliet, &unavailable, see);
                tell(&mut site, juliet, &available, see);
            });
        });
    }
    group.finish();
}
