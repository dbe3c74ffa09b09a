use super::super::Failure;
use crate::jid::Domain;
use crate::limits::OUTPUT_HOLD_BYTES;
use crate::router::testing::{Seat, Site, stanza};
use crate::slots::{Key, Slots};
use crate::stanza::{Condition, Kind, Type};

const ROMEO: &str = "romeo@example.net/orchard";

/// A server whose juliet writes to romeo, and streams with romeo's server.
struct Scene {
    site: Site,
    juliet: Seat,
    conns: Slots<()>,
}

impl Scene {
    fn new() -> Scene {
        let mut site = Site::new(&[]);
        let juliet = site.bind("juliet@example.org", "balcony", Some(0));
        let mut conns = Slots::default();
        // Not one of the sessions' keys.
        for _ in 0..100 {
            conns.insert(());
        }
        Scene {
            site,
            juliet,
            conns,
        }
    }

    fn send(&mut self, id: &str) {
        let mut message = stanza(Kind::Message, Type::Chat, Some(ROMEO));
        message.id = Some(id.into());
        self.site.send(self.juliet, message);
    }

    fn stream(&mut self) -> Key {
        let key = self.conns.insert(());
        self.site.router.out.outputs.open(key, Vec::new());
        key
    }

    fn open(&mut self, conn: Key) {
        let [local, remote] = domains();
        self.site.router.pair_open(local, remote, conn);
    }

    fn close(&mut self, conn: Key) {
        self.site.router.out.outputs.close(conn);
        let [local, remote] = domains();
        self.site.router.pair_closed(local, remote, conn);
    }

    /// The ids of what was written to a stream.
    fn written(&mut self, conn: Key) -> Vec<String> {
        let bytes = self.site.router.out.outputs.bytes(conn).to_vec();
        self.site.router.out.outputs.consume(conn, bytes.len());
        let text = String::from_utf8(bytes).unwrap();
        let ids = text.split(" id='").skip(1);
        ids.map(|rest| rest.split('\'').next().unwrap().to_owned())
            .collect()
    }

    fn dialled(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.site.router.out.dials)
    }
}

fn domains() -> [Domain; 2] {
    ["example.org", "example.net"].map(|name| Domain::parse(name).unwrap())
}

/// XEP-0288.
#[test]
fn what_is_sent_to_a_server_that_has_opened_a_stream_goes_by_it() {
    let mut scene = Scene::new();
    let conn = scene.stream();
    scene.open(conn);
    scene.send("1");
    assert_eq!(scene.written(conn), ["1"]);
    assert_eq!(scene.dialled(), []);
    scene.close(conn);
    assert_eq!(scene.dialled().len(), 1, "that was not said to be received");
    scene.send("2");
    assert_eq!(scene.dialled(), []);
    scene.site.run_store();
}

/// Both servers dial at the same time: RFC 6120 §10.1.
#[test]
fn one_stream_writes_until_it_ends_and_then_the_next_goes_on_in_order() {
    let mut scene = Scene::new();
    for id in ["1", "2"] {
        scene.send(id);
    }
    let link = scene.dialled().remove(0);
    let (accepted, dialled) = (scene.stream(), scene.stream());
    scene.open(accepted);
    assert_eq!(scene.written(accepted), ["1", "2"]);
    // The dialled one comes later, or fails: the link has a stream.
    scene.site.router.link_ready(link, dialled);
    let failure = Failure {
        condition: Condition::RemoteServerTimeout,
        text: String::new(),
        is_final: true,
    };
    scene.site.router.link_failed(link, failure);
    scene.send("3");
    assert_eq!(scene.written(accepted), ["3"]);
    // The peer reads nothing for a while, then the stream ends with stanzas waiting.
    let room = scene.site.router.out.outputs.append(accepted).unwrap();
    room.resize(OUTPUT_HOLD_BYTES + 1, b' ');
    for id in ["4", "5"] {
        scene.send(id);
    }
    assert_eq!(scene.written(dialled), [""; 0]);
    scene.close(accepted);
    assert_eq!(scene.dialled(), []);
    scene.send("6");
    // From the first that was not said to be received.
    assert_eq!(scene.written(dialled), ["1", "2", "3", "4", "5", "6"]);
    scene.site.router.link_ended(link, dialled);
    scene.send("7");
    assert_eq!(scene.dialled().len(), 1);
    scene.site.run_store();
}

#[test]
fn a_stream_that_stands_by_and_ends_changes_nothing() {
    let mut scene = Scene::new();
    let (first, second) = (scene.stream(), scene.stream());
    scene.open(first);
    scene.open(first);
    scene.open(second);
    scene.send("1");
    scene.close(second);
    scene.send("2");
    assert_eq!(scene.written(first), ["1", "2"]);
    // Room in the output of a connection that writes has what waits go on.
    scene
        .site
        .router
        .out
        .outputs
        .append(first)
        .unwrap()
        .resize(OUTPUT_HOLD_BYTES + 1, b' ');
    scene.send("3");
    assert_eq!(scene.written(first), [""; 0]);
    scene.site.router.stream_writable(first);
    assert_eq!(scene.written(first), ["3"]);
    scene.close(first);
    assert!(scene.site.router.peers.writers.by_domains.is_empty());
    assert!(scene.site.router.peers.writers.by_connection.is_empty());
    scene.site.run_store();
}
