//! Stanzas over which the other server ends its streams.

use super::*;
use crate::limits::PEER_STANZA_STREAMS_MAX;

const ENABLED: &str = "<r xmlns='urn:xmpp:sm:3'/>";

/// The other server, which ends each stream with an error when it comes to what it does not like.
struct Picky {
    scene: Scene,
    /// What it has received on the present stream.
    count: u32,
    /// All that it has received.
    received: Vec<String>,
    /// Who is not liked.
    disliked: fn(&str) -> bool,
    streams: usize,
}

impl Picky {
    fn new(disliked: fn(&str) -> bool) -> Picky {
        let mut scene = Scene::with(Some(LinkNews::Enabling));
        set(&mut scene.site, |s2s| s2s.message_wait_seconds = 1_000_000);
        scene.news(LinkNews::Enabled);
        Picky {
            scene,
            count: 0,
            received: Vec::new(),
            disliked,
            streams: 1,
        }
    }

    /// Reads what was written, and says so or not. False if that has ended the stream.
    fn read(&mut self, says_so: bool) -> bool {
        let text = written(&mut self.scene.site, self.scene.conn);
        let ids = text.split(" id='").skip(1);
        for id in ids.map(|part| part.split('\'').next().unwrap()) {
            if (self.disliked)(id) {
                self.end("policy-violation");
                return false;
            }
            self.count += 1;
            self.received.push(id.to_owned());
        }
        if says_so || text.contains(ENABLED) {
            self.scene.news(LinkNews::Acknowledged(self.count));
        }
        true
    }

    fn end(&mut self, condition: &str) {
        let scene = &mut self.scene;
        if let Some(objection) = Objection::new(condition, "no") {
            scene.site.router.peer_objected(scene.conn, &objection);
        }
        scene.site.router.link_ended(scene.link, scene.conn);
        scene.site.run_store();
    }

    /// The next stream, if there is something to be sent.
    fn next(&mut self) -> bool {
        let scene = &mut self.scene;
        while scene.site.router.out.dials.is_empty() {
            let link = scene.site.router.peers.get(scene.link);
            if link.is_none_or(|link| link.queue.is_empty()) {
                return false;
            }
            scene.site.router.now.mono = scene.site.router.links_due().unwrap();
            scene.site.router.work();
        }
        assert_eq!(dialled(&mut scene.site), scene.link);
        scene.conn = connection(&mut scene.site, &mut scene.conns);
        for news in [LinkNews::Enabling, LinkNews::Enabled] {
            scene.news(news);
        }
        scene.site.router.link_ready(scene.link, scene.conn);
        self.count = 0;
        self.streams += 1;
        true
    }

    /// Streams are made and used as long as something is left. `quiet`: it acknowledges nothing before
    /// it is asked.
    fn all(&mut self, mut quiet: impl FnMut() -> bool) {
        loop {
            let goes_on = self.read(!quiet());
            if !goes_on && !self.next() {
                return;
            }
            if goes_on {
                let link = self.scene.site.router.peers.get(self.scene.link);
                if link.is_some_and(|link| link.queue.is_empty() && link.held() == Held::default())
                {
                    return;
                }
                wait(&mut self.scene.site, PEER_REQUEST_DELAY);
            }
        }
    }

    /// The ids of what came back to juliet, and all of it.
    fn back(&mut self) -> (Vec<String>, String) {
        self.scene.site.run_store();
        let text = self.scene.site.take(self.scene.juliet);
        let ids = text.split(" id='").skip(1);
        let ids = ids.map(|part| part.split('\'').next().unwrap().to_owned());
        (ids.collect(), text)
    }
}

/// RFC 6120 §8.3.3.12. Its row goes, and its sender is not kept waiting.
#[test]
fn a_stanza_over_which_streams_end_goes_back_and_the_next_is_sent() {
    let mut picky = Picky::new(|id| id == "2");
    assert!(picky.read(true));
    picky.scene.send(message("2"));
    picky.scene.send(message("3"));
    picky.all(|| false);
    let (back, text) = picky.back();
    assert_eq!(back, ["2"]);
    assert!(text.contains("<policy-violation "), "{text}");
    assert!(
        text.contains("over this: policy-violation no</text>"),
        "{text}"
    );
    assert_eq!(picky.received, ["1", "3"]);
    assert_eq!(stored(&picky.scene.site), 0);
    assert_eq!(picky.scene.site.open(picky.scene.juliet), 0);
    // On the first it was not alone, so that stream says nothing of it; the last has taken the third.
    assert_eq!(picky.streams, 2 + PEER_STANZA_STREAMS_MAX as usize);
}

/// What cannot be read there (RFC 6120 §4.9.3.13) is told by another condition than what is not wanted.
#[test]
fn the_sender_is_told_what_kind_of_error_it_was() {
    for (condition, told) in [
        ("policy-violation", "<policy-violation "),
        ("not-well-formed", "<bad-request "),
        ("invalid-xml", "<bad-request "),
        ("undefined-condition", "<bad-request "),
    ] {
        let mut picky = Picky::new(|_| false);
        for _ in 0..PEER_STANZA_STREAMS_MAX {
            assert_eq!(picky.back().0, [""; 0]);
            picky.end(condition);
            picky.next();
        }
        let (back, text) = picky.back();
        assert_eq!(back, ["1"]);
        assert!(text.contains(told), "{text}");
    }
}

/// RFC 6120 §4.9.3: it restarts, has no room, or is elsewhere.
#[test]
fn an_error_that_is_about_the_server_itself_blames_nothing() {
    for condition in [
        "system-shutdown",
        "reset",
        "resource-constraint",
        "conflict",
    ] {
        let mut picky = Picky::new(|_| false);
        for _ in 0..PEER_STANZA_STREAMS_MAX * 2 {
            picky.end(condition);
            assert!(picky.next());
        }
        picky.all(|| false);
        assert_eq!(picky.back().0, [""; 0]);
        assert_eq!(picky.received, ["1"]);
    }
}

/// What nobody objects to is never blamed, arrives, and keeps its order; all else goes back.
#[test]
fn whatever_is_acknowledged_when_none_but_the_disliked_go_back() {
    for seed in 1..=300_u64 {
        let mut state = seed;
        let mut chance = move |of: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % of
        };
        // Those of one digit are liked; of the others every one whose last is 7.
        let mut picky = Picky::new(|id| id.ends_with('7') && id.len() > 1);
        let mut sent = vec!["1".to_owned()];
        for n in 0..3 + chance(20) {
            let id = (10 + n * 10 + [1, 2, 3, 7][chance(4) as usize]).to_string();
            picky.scene.send(message(&id));
            sent.push(id);
            if chance(3) == 0 && !picky.read(chance(2) == 0) {
                picky.next();
            }
        }
        picky.all(|| chance(2) == 0);
        let (mut back, _) = picky.back();
        back.sort();
        let (mut disliked, liked): (Vec<_>, Vec<_>) =
            sent.into_iter().partition(|id| (picky.disliked)(id));
        disliked.sort();
        assert_eq!(back, disliked, "seed {seed}");
        // At least once, and none for the first time behind one that came later.
        let mut first: Vec<String> = Vec::new();
        for id in &picky.received {
            if !first.contains(id) {
                first.push(id.clone());
            }
        }
        assert_eq!(first, liked, "seed {seed}");
        let link = picky.scene.site.router.peers.get(picky.scene.link);
        assert!(link.is_none_or(|link| link.singly == 0), "seed {seed}");
    }
}
