//! Counts messages a second of one core, from a parsed stanza to the bytes that are ready for the
//! recipient's connection, and back to the settled ticket.
//!
//! The load is a chat message between two sessions: of one shard, or of two, with the posts that go
//! there and back (both shards on this one thread, so what waking the other thread costs is not in
//! it). It serves the choice of one owner an account and messages between shards
//! (`Who owns what` in lib.rs): the difference is what a message to another shard costs in CPU
//! time.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use stanzad::post::{Address, Gates, Load, Mailbox, mailbox};
use stanzad::router::effects::RouterPost;
use stanzad::shard::Post;
use stanzad::stanza::Stanza;

use crate::payload::chat;
use crate::site::{Seat, Site};

/// Two shards and the mailbox of each.
struct Pair {
    site: Site,
    mailboxes: Vec<(Address<Post>, Mailbox<Post>)>,
    posts: Vec<Post>,
}

impl Pair {
    fn new() -> Pair {
        let mailbox = |_| mailbox(Load::new(usize::MAX, usize::MAX, Gates::default()), || {});
        Pair {
            site: Site::new(2),
            mailboxes: (0..2).map(mailbox).collect(),
            posts: Vec::new(),
        }
    }

    /// Sends what one shard has for the other, which takes it in its next turn.
    fn carry(&mut self, from: usize) {
        let to = 1 - from;
        let posts: Vec<RouterPost> = self.site.routers[from].out.take_posts(to);
        let (address, mailbox) = &mut self.mailboxes[to];
        address.send(posts.into_iter().map(Post::Router).collect());
        mailbox.drain(usize::MAX, &mut self.posts);
        let router = &mut self.site.routers[to];
        for post in self.posts.drain(..) {
            if let Post::Router(post) = post {
                router.post(post);
            }
        }
        router.work();
    }

    /// A message from a session of shard 0, whose recipient and ticket need two turns.
    fn message(&mut self, from: Seat, stanza: Stanza) {
        self.site.send(from, stanza);
        self.carry(0);
        self.carry(1);
    }
}

/// Keeps the optimizer from finding out that nobody reads what is written.
fn see(bytes: &[u8]) {
    black_box(bytes);
}

fn assert_delivered(site: &mut Site, from: Seat, to: Seat) {
    assert!(
        site.unsent(to).contains("<body>Art thou"),
        "{}",
        site.unsent(to)
    );
    let sender = site.routers[from.shard].sessions.get(from.session);
    assert_eq!(sender.map(|session| session.unsettled.open()), Some(0));
    site.drain(to.shard, see);
}

pub fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    group.throughput(Throughput::Elements(1));

    let mut site = Site::new(1);
    let juliet = site.arrive("juliet@example.org");
    let romeo = site.arrive("romeo@example.org");
    for (name, to) in [
        ("to the full JID", "romeo@example.org/balcony"),
        ("to the bare JID", "romeo@example.org"),
    ] {
        let stanza = chat(None, to);
        site.send(juliet, stanza.clone());
        assert_delivered(&mut site, juliet, romeo);
        group.bench_function(name, |b| {
            b.iter(|| {
                site.send(juliet, stanza.clone());
                site.drain(0, see);
            });
        });
    }

    let mut pair = Pair::new();
    let (near, far) = (pair.site.name_on(0, "near"), pair.site.name_on(1, "far"));
    let near = pair.site.arrive(&near);
    let stanza = chat(None, &format!("{far}/balcony"));
    let far = pair.site.arrive(&far);
    pair.message(near, stanza.clone());
    assert_delivered(&mut pair.site, near, far);
    group.bench_function("to another shard", |b| {
        b.iter(|| {
            pair.message(near, stanza.clone());
            pair.site.drain(far.shard, see);
        });
    });
    group.finish();
}
