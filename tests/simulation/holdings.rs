//! What links hold of stanzas for other servers, counted one by one: no more than `limits.rs` allows, and as
//! much as the server itself believes.

use std::collections::HashMap;

use stanzad::limits::{
    PEER_HELD_BYTES_MAX, PEER_HELD_STANZAS_MAX, PEER_LINKS_MAX, PEER_QUEUE_BYTES_MAX,
    PEER_QUEUE_STANZAS_MAX, PEER_UNACKNOWLEDGED_BYTES_MAX, PEER_UNACKNOWLEDGED_STANZAS_MAX,
};
use stanzad::router::Router;
use stanzad::router::peers::{Link, LinkState};
use stanzad::slots::Key;
use stanzad::stanza::Stanza;

use crate::servers::DOMAINS;
use crate::world::World;

/// What was seen of each link in the last turn of its shard.
#[derive(Default)]
pub struct Holdings(HashMap<(u32, Key), Seen>);

/// What a link holds.
#[derive(Clone, Copy, Default)]
struct Seen {
    sent: Weight,
    /// How much came back in front of the queue, on top of what may wait there, since a stream broke or
    /// the server was started anew (XEP-0198 §4, `Settlement` in lib.rs).
    came_back: Weight,
    /// It waited for its next try.
    is_resting: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Weight {
    stanzas: usize,
    bytes: usize,
}

impl Weight {
    fn of<'a>(stanzas: impl Iterator<Item = &'a Stanza>) -> Weight {
        stanzas.fold(Weight::default(), |sum, stanza| {
            sum.plus(Weight {
                stanzas: 1,
                bytes: stanza.size(),
            })
        })
    }

    fn plus(self, other: Weight) -> Weight {
        Weight {
            stanzas: self.stanzas + other.stanzas,
            bytes: self.bytes + other.bytes,
        }
    }

    fn minus(self, other: Weight) -> Weight {
        Weight {
            stanzas: self.stanzas.saturating_sub(other.stanzas),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    fn is_within(self, other: Weight) -> bool {
        self.stanzas <= other.stanzas && self.bytes <= other.bytes
    }
}

const QUEUE_MAX: Weight = Weight {
    stanzas: PEER_QUEUE_STANZAS_MAX,
    bytes: PEER_QUEUE_BYTES_MAX,
};
const UNACKNOWLEDGED_MAX: Weight = Weight {
    stanzas: PEER_UNACKNOWLEDGED_STANZAS_MAX,
    bytes: PEER_UNACKNOWLEDGED_BYTES_MAX,
};
const HELD_MAX: Weight = Weight {
    stanzas: PEER_HELD_STANZAS_MAX,
    bytes: PEER_HELD_BYTES_MAX,
};

/// After a turn of a shard, which has that number among those of all servers.
pub fn check(router: &Router, shard: u32, world: &mut World) {
    let mut all = Weight::default();
    let mut links = 0;
    for (key, link) in router.peers.links() {
        links += 1;
        // It gave back what came until this turn, if it begins its next try in it.
        let before = world.holdings.0.get(&(shard, key));
        let has_rested = is_resting(link) || before.is_some_and(|before| before.is_resting);
        if has_rested && DOMAINS.contains(&link.remote.as_str()) {
            let server = world.server_of_shard(shard);
            world.crossings.rests(server, world.now);
        }
        all = all.plus(check_link((shard, key), link, world));
    }
    if links > PEER_LINKS_MAX {
        world.violated(format!("shard {shard} has {links} links"));
    }
    if !all.is_within(HELD_MAX) {
        let Weight { stanzas, bytes } = all;
        world.violated(format!(
            "the links of shard {shard} hold {stanzas} stanzas, {bytes} bytes"
        ));
    }
    let (stanzas, bytes) = router.peers.held();
    let counted = Weight {
        stanzas,
        bytes: world.held(bytes),
    };
    if counted != all {
        world.violated(format!(
            "the links of shard {shard} count {stanzas} stanzas, {} bytes, though they hold {}, {}",
            counted.bytes, all.stanzas, all.bytes
        ));
    }
}

fn is_resting(link: &Link) -> bool {
    matches!(link.state(), LinkState::Resting(..))
}

/// A link holds no more than it may; how much that is.
fn check_link(place: (u32, Key), link: &Link, world: &mut World) -> Weight {
    let queued = Weight::of(link.queued());
    let sent = Weight::of(link.unacknowledged());
    let before = world.holdings.0.get(&place).copied();
    let came_back = match before {
        Some(before) => before.came_back.plus(before.sent.minus(sent)),
        // What was stored waits again when a server starts.
        None => queued,
    };
    if !queued.is_within(QUEUE_MAX.plus(came_back)) {
        world.violated(format!(
            "{} stanzas, {} bytes wait for {}",
            queued.stanzas, queued.bytes, link.remote
        ));
    }
    // A single one that is larger has place all the same.
    if sent.stanzas > 1 && !sent.is_within(UNACKNOWLEDGED_MAX) {
        world.violated(format!(
            "{} stanzas, {} bytes for {} are not acknowledged",
            sent.stanzas, sent.bytes, link.remote
        ));
    }
    let came_back = match queued.is_within(QUEUE_MAX) {
        true => Weight::default(),
        false => came_back,
    };
    let seen = Seen {
        sent,
        came_back,
        is_resting: is_resting(link),
    };
    world.holdings.0.insert(place, seen);
    queued.plus(sent)
}

/// When nothing is on its way, links hold nothing, and nobody waits for what other servers have sent.
pub fn check_quiet(router: &Router, world: &mut World) {
    for (_, link) in router.peers.links() {
        let (queued, sent) = (link.queued().count(), link.unacknowledged().count());
        if queued > 0 {
            let remote = &link.remote;
            world.violated(format!("{queued} stanzas wait for ever for {remote}"));
        }
        if sent > 0 {
            let remote = &link.remote;
            world.violated(format!(
                "{sent} stanzas for {remote} are never acknowledged"
            ));
        }
    }
    let unsettled = router.peers.unsettled();
    if unsettled > 0 {
        world.violated(format!(
            "{unsettled} stanzas of the other server are never settled"
        ));
    }
}
