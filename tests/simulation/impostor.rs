//! Somebody who connects to a server and claims the domain of the other one, without being able to prove
//! it: nothing that he sends may reach anybody (RFC 6120 §13.5, XEP-0220 §1.1).

use std::net::{Ipv4Addr, SocketAddr};

use crate::links::End;
use crate::network::CLIENT_HELLO;
use crate::servers::DOMAINS;
use crate::world::{Event, World};

/// What he shows in handshakes, if anything.
const CERTIFICATE: &[u8] = b"elsewhere.example";

/// How far he is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Clear,
    Proceeding,
    Encrypted,
    Judged,
    Accepted,
    Done,
}

pub struct Impostor {
    near: usize,
    far: usize,
    victim: usize,
    stage: Stage,
    heard: Vec<u8>,
}

impl Impostor {
    fn claim(&self) -> &'static str {
        DOMAINS[1 - self.victim]
    }

    fn header(&self) -> String {
        format!(
            "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
             xmlns:db='jabber:server:dialback' from='{}' to='{}' version='1.0'>",
            self.claim(),
            DOMAINS[self.victim]
        )
    }

    /// What he says next, having heard that.
    fn next(&mut self, number: u64, uses_external: bool) -> Option<Vec<u8>> {
        let heard = String::from_utf8_lossy(&self.heard).into_owned();
        let has = |what: &str| heard.contains(what);
        let (claim, victim) = (self.claim(), DOMAINS[self.victim]);
        let message = format!(
            "<message from='e@{claim}/desk' to='{}@{victim}' type='chat' id='x{number}'>\
             <body>Trust me</body></message>",
            ["a", "e"][self.victim]
        );
        let (stage, says) = match self.stage {
            Stage::Clear if has("</stream:features>") => (
                Stage::Proceeding,
                b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>".to_vec(),
            ),
            Stage::Proceeding if has("<proceed") => {
                let mut says = CLIENT_HELLO.to_vec();
                says.extend_from_slice(self.header().as_bytes());
                (Stage::Encrypted, says)
            }
            Stage::Encrypted if has("</stream:features>") && uses_external => (
                Stage::Judged,
                b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>"
                    .to_vec(),
            ),
            Stage::Encrypted if has("</stream:features>") => (
                Stage::Judged,
                format!("<db:result from='{claim}' to='{victim}'>{number:064x}</db:result>")
                    .into_bytes(),
            ),
            Stage::Judged if has("<success") => (Stage::Accepted, self.header().into_bytes()),
            Stage::Judged if has("<failure") || has("<db:result") => {
                (Stage::Done, message.into_bytes())
            }
            Stage::Accepted if has("</stream:features>") => (Stage::Done, message.into_bytes()),
            _ => return None,
        };
        self.stage = stage;
        self.heard.clear();
        Some(says)
    }
}

impl World {
    /// Somebody connects to a server and claims to be the other one.
    pub fn send_impostor(&mut self) {
        let victim = self.chance.index(self.servers.len());
        let near = self.ends.len();
        let shown = match self.chance.one_in(2) {
            true => vec![CERTIFICATE.to_vec()],
            false => Vec::new(),
        };
        let number = u16::try_from(near).unwrap();
        let address = |net| SocketAddr::from((Ipv4Addr::new(10, net, 0, 9), number));
        let far = near + 1;
        let own = End::of_impostor(self.chance.split(), far, address(4));
        self.ends.push(own);
        self.push_accepting(victim, near, shown, false, address(5));
        self.impostors.push(Impostor {
            near,
            far,
            victim,
            stage: Stage::Clear,
            heard: Vec::new(),
        });
        self.count("impostors");
        self.note(|| format!("an impostor turns to {} by end {far}", DOMAINS[victim]));
        let index = self.impostors.len() - 1;
        let header = self.impostors[index].header();
        self.says(index, header.into_bytes());
    }

    fn says(&mut self, index: usize, bytes: Vec<u8>) {
        let far = self.impostors[index].far;
        let at = self.arrival_at_peer(self.impostors[index].near);
        self.at(at, Event::Carry(far, bytes));
    }

    /// Bytes for an impostor arrive.
    pub fn impostor_hears(&mut self, near: usize, bytes: &[u8]) {
        let mut all = self.impostors.iter_mut();
        if let Some(index) = all.position(|impostor| impostor.near == near) {
            self.impostors[index].heard.extend_from_slice(bytes);
            let pause = self.chance.within(0..=20);
            self.after(pause, Event::Impostor(index));
        }
    }

    /// An impostor does what he does next.
    pub fn impostor_acts(&mut self, index: usize) {
        let number = self.number();
        let uses_external = self.chance.one_in(2);
        let impostor = &mut self.impostors[index];
        let Some(says) = impostor.next(number, uses_external) else {
            return;
        };
        let (far, is_done) = (impostor.far, impostor.stage == Stage::Done);
        self.says(index, says);
        if is_done {
            self.count("impostors refused");
            let pause = self.chance.within(200..=3_000);
            self.after(pause, Event::PeerHang(far, false));
        }
    }
}
