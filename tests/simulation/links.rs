//! Connections between servers: made by their own diallers, over a network that may break at any point,
//! with a DNS that may not answer.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use stanzad::clock::Mono;
use stanzad::dns::{Failure, Found, Kind, Question, Refused, Target, Tlsa, Verdict};
use stanzad::net::transport::Transport;
use stanzad::shard::{Accepted, Dialler, Peer, Post};
use stanzad::slots::Key;
use stanzad::stream::peer_facts::{PeerFacts, PeerQuestion};
use stanzad::stream::policy::s2s::{Fault, Shown};
use stanzad::stream::{Certificates, Origin};

use crate::chance::Chance;
use crate::faults::Lenience;
use crate::network::{Role, SimulatedTransport, Wire};
use crate::servers::DOMAINS;
use crate::sockets::Socket;
use crate::world::{Event, Phase, Sender, World};

/// The numbers of streams between servers begin here; those of clients are below.
const STREAMS: u64 = 1 << 40;
/// What the socket of such a connection takes.
const ROOM: u64 = 60_000;
/// A connection that a break has cut may be noticed so much later, in milliseconds.
const UNNOTICED_MILLIS_MAX: u64 = 4_000;

/// One end of a connection between servers.
pub struct End {
    pub wire: Wire,
    /// Whose end it is; none for an impostor's.
    pub server: Option<usize>,
    pub other: usize,
    pub registered: Option<(u32, usize)>,
    address: SocketAddr,
    is_pump_due: bool,
    /// When the last of what it has sent arrives.
    arrives_last: u64,
    /// Its end was told to the other one.
    is_told: bool,
    /// What is on its way never arrives.
    pub is_cut: bool,
    accepted: Option<SimulatedTransport>,
    /// It is the end of the server that has opened the connection.
    pub is_dialled: bool,
    /// Its server has dropped it without a word.
    is_dropped: bool,
}

/// The network between servers.
pub struct Links {
    dials: Arc<Mutex<Dials>>,
    /// Nobody is reached until then.
    out_until: u64,
    /// While nobody is reached, who tries is not refused but hears nothing.
    is_silent: bool,
    /// Nothing moves until then.
    stalled_until: u64,
    /// Until when somebody was not reached, or something was lost.
    broken_until: Option<u64>,
    /// Since when nothing is lost any more.
    pub healed_at: u64,
}

struct Dials {
    chance: Chance,
    made: Vec<Dial>,
    count: u16,
    /// Some fail at once.
    fails: bool,
    has_failed: bool,
}

struct Dial {
    server: usize,
    target: usize,
    wire: Wire,
    address: SocketAddr,
    is_direct: bool,
}

impl End {
    fn new(wire: Wire, server: Option<usize>, other: usize, address: SocketAddr) -> End {
        End {
            wire,
            server,
            other,
            registered: None,
            address,
            is_pump_due: false,
            arrives_last: 0,
            is_told: false,
            is_cut: false,
            accepted: None,
            is_dialled: false,
            is_dropped: false,
        }
    }

    /// Whether the connection ended here in such a way that what was on its way may be lost.
    pub fn is_broken(&self) -> bool {
        self.is_cut || self.is_dropped
    }

    /// The end of somebody who is no server.
    pub fn of_impostor(chance: Chance, other: usize, address: SocketAddr) -> End {
        End::new(Wire::new(chance, 1), None, other, address)
    }
}

impl Links {
    pub fn new(chance: Chance) -> Links {
        Links {
            dials: Arc::new(Mutex::new(Dials {
                chance,
                made: Vec::new(),
                count: 0,
                fails: false,
                has_failed: false,
            })),
            out_until: 0,
            is_silent: false,
            stalled_until: 0,
            broken_until: None,
            healed_at: u64::MAX,
        }
    }

    /// Whether somebody may not have been reached then or later.
    pub fn is_broken_since(&self, since: u64) -> bool {
        self.broken_until.is_some_and(|until| until >= since)
    }

    /// Nothing is lost any more.
    pub fn heal(&mut self, now: u64) {
        self.healed_at = now;
    }

    pub fn dialler(&self, server: usize, has_certificates: bool) -> Arc<dyn Dialler> {
        Arc::new(SimulatedDialler {
            server,
            has_certificates,
            dials: Arc::clone(&self.dials),
        })
    }
}

/// The dialler of one server.
struct SimulatedDialler {
    server: usize,
    has_certificates: bool,
    dials: Arc<Mutex<Dials>>,
}

impl Dialler for SimulatedDialler {
    fn dial(
        &self,
        address: SocketAddr,
        _local: &str,
        _remote: &str,
        is_direct: bool,
    ) -> io::Result<(Box<dyn Transport>, u64)> {
        let mut dials = self.dials.lock().unwrap();
        if dials.fails && dials.chance.one_in(3) {
            dials.has_failed = true;
            return Err(ErrorKind::NetworkUnreachable.into());
        }
        let target = target_of(address);
        let shown = certificate(target, self.has_certificates);
        let (chance, room) = (
            dials.chance.split(),
            dials.chance.within(200..=ROOM) as usize,
        );
        let wire = Wire::between_servers(chance, room, Role::Receiving, shown, is_direct);
        // Each connection has an address of its own, by which the world knows it.
        dials.count += 1;
        let count = dials.count;
        let address = SocketAddr::from((Ipv4Addr::new(10, 2, 0, self.server as u8), count));
        let transport = SimulatedTransport::new(wire.clone(), address);
        dials.made.push(Dial {
            server: self.server,
            target,
            wire,
            address,
            is_direct,
        });
        Ok((Box::new(transport), STREAMS + u64::from(count)))
    }
}

/// What a server shows in handshakes.
fn certificate(server: usize, has_certificates: bool) -> Vec<Vec<u8>> {
    match has_certificates {
        true => vec![DOMAINS[server].as_bytes().to_vec()],
        false => Vec::new(),
    }
}

fn address_of(server: usize) -> IpAddr {
    IpAddr::from(Ipv4Addr::new(10, 1, 0, server as u8))
}

fn target_of(address: SocketAddr) -> usize {
    let servers = 0..DOMAINS.len();
    servers
        .into_iter()
        .find(|server| address_of(*server) == address.ip())
        .unwrap()
}

/// Certificates enough for the made-up TLS.
pub struct MadeUpCertificates {
    pub lenience: Lenience,
}

impl Certificates for MadeUpCertificates {
    fn has_certificate(&self, _domain: &str) -> bool {
        true
    }

    fn client_identities(&self, _domain: &str, _chain: &[Vec<u8>]) -> Vec<String> {
        Vec::new()
    }

    fn peer(&self, question: &PeerQuestion<'_>) -> PeerFacts {
        let leaf = question.chain.der().first().map_or(&[][..], Vec::as_slice);
        let is_known = DOMAINS.iter().any(|domain| domain.as_bytes() == leaf);
        let is_lenient = self.lenience.is_lenient();
        let worthless = PeerFacts::worthless(question.dns);
        PeerFacts {
            shown: Shown {
                chain: match is_known || is_lenient {
                    true => Ok(()),
                    false => Err(Fault::SelfSigned),
                },
                names_peer: leaf == question.remote.as_str().as_bytes() || is_lenient,
                ..worthless.shown
            },
            ..worthless
        }
    }
}

impl World {
    /// The network between servers begins to have its faults.
    pub fn begin_links(&mut self) {
        if !self.is_federated() {
            return;
        }
        self.links.dials.lock().unwrap().fails = self.character.has_breaks;
        let pause = self.chance.within(500..=4_000);
        self.after(pause, Event::Disturb);
    }

    /// From here on nothing breaks, though what has waited may not have gone its way yet.
    pub fn heal_links(&mut self) {
        self.links.dials.lock().unwrap().fails = false;
        self.links.out_until = self.links.out_until.min(self.now);
        self.links.stalled_until = self.links.stalled_until.min(self.now);
    }

    /// A shard asks the DNS where a server is.
    pub fn resolve(&mut self, shard: u32, link: Key, question: Question) -> Result<(), Refused> {
        let mut found = Found {
            domain: question.domain.clone(),
            verdict: Verdict::NotOffered,
            targets: Vec::new(),
            lookups: Vec::new(),
        };
        let known = DOMAINS
            .iter()
            .position(|domain| **domain == question.domain);
        let has_trouble = self.character.has_breaks && self.phase == Phase::Busy;
        if has_trouble && known.is_some() && self.chance.one_in(6) {
            self.not_reached();
            if self.chance.one_in(2) {
                return Err(Refused::Full);
            }
            found.verdict = Verdict::Failed(Failure::TimedOut);
        } else if let Some(server) = known {
            found.verdict = Verdict::Targets;
            let kind = self.chance.pick(&[Kind::StartTls, Kind::DirectTls]);
            for kind in [kind, Kind::StartTls] {
                found.targets.push(target(server, kind));
            }
        }
        let answer = Post::Resolved(link, Box::new(found));
        self.deliver(Sender::Resolver, shard, vec![answer]);
        Ok(())
    }

    /// Takes what the diallers have begun.
    pub fn take_dials(&mut self) {
        let (made, has_failed) = {
            let mut dials = self.links.dials.lock().unwrap();
            (
                std::mem::take(&mut dials.made),
                std::mem::take(&mut dials.has_failed),
            )
        };
        if has_failed {
            self.not_reached();
        }
        for dial in made {
            self.count("links dialled");
            let near = self.ends.len();
            self.by_address.insert(dial.address, Socket::Peer(near));
            let mut end = End::new(dial.wire, Some(dial.server), near + 1, dial.address);
            end.is_dialled = true;
            self.ends.push(end);
            self.live_ends.push(near);
            let shown = certificate(dial.server, self.character.has_certificates);
            let number = u16::try_from(near).unwrap();
            let from = Ipv4Addr::new(10, 3, 0, dial.server as u8);
            let address = SocketAddr::from((from, number));
            self.push_accepting(dial.target, near, shown, dial.is_direct, address);
            self.look_at_end(near);
        }
    }

    /// The other end of a connection that was begun.
    pub fn push_accepting(
        &mut self,
        server: usize,
        near: usize,
        shown: Vec<Vec<u8>>,
        is_direct: bool,
        address: SocketAddr,
    ) {
        let far = self.ends.len();
        let (chance, room) = (self.chance.split(), self.chance.within(200..=ROOM) as usize);
        let wire = Wire::between_servers(chance, room, Role::Initiating, shown, is_direct);
        let mut end = End::new(wire.clone(), Some(server), near, address);
        end.accepted = Some(SimulatedTransport::new(wire, address));
        self.by_address.insert(address, Socket::Peer(far));
        self.ends.push(end);
        self.live_ends.push(far);
        let at = self.now + self.chance.delay();
        self.at(at, Event::Reach(far));
    }

    /// A connection arrives, unless nobody can be reached.
    pub fn reach(&mut self, far: usize) {
        let Some(target) = self.ends[far].server else {
            return;
        };
        let near = self.ends[far].other;
        let is_out = self.now < self.links.out_until;
        let is_away = self.now < self.servers[target].is_away_until;
        if is_out || is_away || self.phase >= Phase::Stopping {
            self.not_reached();
            self.ends[far].accepted = None;
            self.live_ends.retain(|end| *end != far);
            if !(is_out && self.links.is_silent) {
                let pause = self.chance.delay();
                self.after(pause, Event::PeerHang(near, true));
            }
            return;
        }
        let Some(transport) = self.ends[far].accepted.take() else {
            return;
        };
        let address = self.ends[far].address;
        let now = Mono::from_millis(self.now);
        let server = &self.servers[target];
        if server
            .throttle
            .connect(address.ip(), now, u64::MAX)
            .is_err()
        {
            self.violated("a server may not connect".to_owned());
            return;
        }
        let shard = server.base + self.chance.index(server.shards as usize) as u32;
        let accepted = Accepted {
            transport: Box::new(transport),
            origin: Origin {
                stream: STREAMS * 2 + far as u64,
                address,
                accepted: now,
            },
            peer: Peer::Server,
        };
        self.deliver(
            Sender::Listener,
            shard,
            vec![Post::Accepted(Box::new(accepted))],
        );
    }

    // --- bytes under way

    pub fn look_at_ends(&mut self) {
        self.take_dials();
        for index in self.live_ends.clone() {
            self.look_at_end(index);
        }
    }

    fn look_at_end(&mut self, index: usize) {
        self.note_crossings(index);
        let end = &self.ends[index];
        let (has_news, misuse) = {
            let ends = end.wire.ends();
            (ends.has_news(), ends.misuse)
        };
        if let Some(misuse) = misuse {
            self.violated(format!("end {index} of a link: {misuse}"));
        }
        if has_news && !self.ends[index].is_pump_due {
            self.ends[index].is_pump_due = true;
            let pause = self.chance.within(0..=4);
            self.after(pause, Event::Pump(index));
        }
    }

    /// The network takes some of what a server has sent.
    pub fn pump(&mut self, index: usize) {
        let stalled_until = self.links.stalled_until;
        if self.now < stalled_until {
            return self.at(stalled_until, Event::Pump(index));
        }
        self.ends[index].is_pump_due = false;
        let is_part = self.chance.one_in(3);
        let (bytes, has_room, is_over, is_dropped) = {
            let mut ends = self.ends[index].wire.ends();
            let most = ends.sent.len() as u64;
            let count = match most {
                1.. if is_part => self.chance.within(1..=most),
                most => most,
            };
            let bytes: Vec<u8> = ends.sent.drain(..count as usize).collect();
            let is_dropped = ends.is_gone && !ends.is_shut;
            (bytes, ends.takes_room(), ends.is_over(), is_dropped)
        };
        if has_room {
            self.edge(Socket::Peer(index), false);
        }
        let other = self.ends[index].other;
        if !bytes.is_empty() {
            let bytes = self.counted_wrongly(index, bytes);
            self.hash(&bytes);
            let at = self.arrival_at_peer(index);
            self.at(at, Event::Carry(other, bytes));
        }
        if !is_over {
            return self.look_at_end(index);
        }
        self.live_ends.retain(|end| *end != index);
        if !std::mem::replace(&mut self.ends[index].is_told, true) {
            // Who drops a connection without a word resets it.
            if is_dropped && !self.ends[index].is_cut {
                self.note(|| format!("end {index} of a link is dropped"));
                self.ends[index].is_dropped = true;
                self.loses();
            }
            let at = self.arrival_at_peer(index);
            self.at(at, Event::PeerHang(other, is_dropped));
        }
    }

    pub fn arrival_at_peer(&mut self, index: usize) -> u64 {
        let at = self.now + self.chance.delay();
        let end = &mut self.ends[index];
        end.arrives_last = end.arrives_last.max(at);
        end.arrives_last
    }

    /// Bytes arrive at an end.
    pub fn carry(&mut self, index: usize, bytes: &[u8]) {
        let end = &self.ends[index];
        if end.is_cut || end.wire.ends().is_gone {
            return;
        }
        if end.server.is_none() {
            return self.impostor_hears(index, bytes);
        }
        end.wire.ends().arrived.extend(bytes);
        self.edge(Socket::Peer(index), false);
    }

    /// The other end's FIN arrives, or its RST.
    pub fn peer_hangs(&mut self, index: usize, is_reset: bool) {
        let end = &mut self.ends[index];
        if end.is_cut && !is_reset {
            return;
        }
        {
            let mut ends = end.wire.ends();
            ends.is_finished = true;
            ends.is_reset |= is_reset;
        }
        self.edge(Socket::Peer(index), true);
    }

    /// At rest: no bytes wait between servers.
    pub fn check_links_at_rest(&mut self) {
        let mut wrong = Vec::new();
        for index in &self.live_ends {
            let waiting = self.ends[*index].wire.ends().waiting();
            if waiting != [0; 3] && self.ends[*index].server.is_some() {
                wrong.push(format!(
                    "bytes wait for ever at end {index} of a link, arrived, read and sent: {waiting:?}"
                ));
            }
        }
        wrong.into_iter().for_each(|what| self.violated(what));
    }

    // --- breaks

    /// Somebody is not reached now.
    fn not_reached(&mut self) {
        let broken = &mut self.links.broken_until;
        *broken = (*broken).max(Some(self.now));
    }

    /// Something is lost that is on its way now or in a while.
    fn loses(&mut self) {
        let until = Some(self.now + UNNOTICED_MILLIS_MAX);
        self.links.broken_until = self.links.broken_until.max(until);
    }

    /// Something happens to the network between servers.
    pub fn disturb(&mut self) {
        if self.phase != Phase::Busy {
            return;
        }
        let pause = self.chance.within(300..=6_000);
        self.after(pause, Event::Disturb);
        let has_breaks = self.character.has_breaks;
        match self.chance.within(0..=9) {
            // It is slow for a while.
            0..=1 => {
                self.count("links stalled");
                self.links.stalled_until = self.now + self.chance.within(100..=3_000);
            }
            2..=5 if has_breaks => {
                let conns: Vec<usize> = self.live_ends.clone();
                if !conns.is_empty() {
                    let index = conns[self.chance.index(conns.len())];
                    self.cut_link(index);
                }
            }
            6..=7 if has_breaks => {
                let pause = self.chance.within(200..=9_000);
                self.part_servers(pause);
            }
            8 => self.send_impostor(),
            _ => {}
        }
    }

    /// The servers do not reach each other for a while.
    pub fn part_servers(&mut self, pause: u64) {
        self.count("outages");
        self.links.is_silent = self.chance.one_in(3);
        self.links.out_until = self.now + pause;
        self.note(|| format!("the servers do not reach each other for {pause} ms"));
        self.not_reached();
        for index in self.live_ends.clone() {
            self.cut_link(index);
        }
    }

    /// A connection is lost with all that is on its way, which its ends notice some time later.
    pub fn cut_link(&mut self, index: usize) {
        let other = self.ends[index].other;
        if self.ends[index].is_cut || self.ends[index].server.is_none() {
            return;
        }
        self.count("links cut");
        self.note(|| format!("ends {index} and {other} of a link are cut off"));
        for end in [index, other] {
            self.ends[end].is_cut = true;
            let pause = match self.chance.one_in(3) {
                true => self.chance.within(0..=UNNOTICED_MILLIS_MAX),
                false => self.chance.delay(),
            };
            self.after(pause, Event::PeerHang(end, true));
        }
        self.loses();
    }

    /// A server was killed: its connections are no more, and it is not reached for a while.
    pub fn links_after_crash(&mut self, server: usize) {
        if !self.is_federated() {
            return;
        }
        let away = self.now + self.chance.within(0..=6_000);
        self.servers[server].is_away_until = away;
        self.loses();
        self.crossings.killed(server, self.now);
        self.servers[server].asked.clear();
        for index in self.live_ends.clone() {
            let end = &self.ends[index];
            let is_its = end.server == Some(server) || self.ends[end.other].server == Some(server);
            if is_its {
                self.cut_link(index);
            }
            if self.ends[index].server == Some(server) {
                self.ends[index].registered = None;
                self.ends[index].accepted = None;
                self.live_ends.retain(|end| *end != index);
            }
        }
    }
}

fn target(server: usize, kind: Kind) -> Target {
    Target {
        kind,
        host: format!("xmpp.{}", DOMAINS[server]),
        port: match kind {
            Kind::StartTls => 5269,
            Kind::DirectTls => 5270,
        },
        priority: 0,
        weight: 0,
        addresses: vec![address_of(server)],
        is_srv_secure: false,
        is_address_secure: false,
        tlsa: Tlsa::None,
        failure: None,
    }
}
