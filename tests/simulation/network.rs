//! A simulated connection: bytes in pieces of random size, TLS that is made up.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard};

use stanzad::net::transport::{Buffers, Read, TlsFacts, Transport};
use stanzad::sasl::scram::Bindings;

use crate::chance::Chance;
use crate::crossings::Scanner;

/// What a client sends to begin the made-up handshake.
pub const CLIENT_HELLO: &[u8] = b"\x16\x03hello";
/// What another server is answered. A client that is no server needs none.
pub const SERVER_HELLO: &[u8] = b"\x16\x03there";
/// What a SCRAM exchange with `-PLUS` binds to.
pub const EXPORTER: &[u8] = b"exported keying material of 32 by";

/// A server's end of a connection, and what lies between it and the network.
#[derive(Clone)]
pub struct Wire(Arc<Mutex<Ends>>);

/// Both directions of a connection, as the operating system would hold them.
pub struct Ends {
    chance: Chance,
    /// Bytes that have arrived at the server.
    pub arrived: VecDeque<u8>,
    /// Bytes that the made-up TLS has taken from the socket and not given to the server: no edge
    /// tells of them any more.
    decrypted: VecDeque<u8>,
    /// The client's FIN has arrived.
    pub is_finished: bool,
    /// The client's RST has arrived.
    pub is_reset: bool,
    /// Bytes that the server has sent and the client has not read.
    pub sent: VecDeque<u8>,
    /// Bytes that the transport has taken and the socket has not.
    inside: Vec<u8>,
    /// What the server has offered to another one, taken or not.
    pub offered: Scanner,
    /// Bytes of that which the transport has taken.
    taken: u64,
    /// Bytes that the server has read.
    pub read: u64,
    room: usize,
    /// The server was told that the socket takes no more.
    wants_room: bool,
    is_shutting: bool,
    /// The server's FIN follows what was sent.
    pub is_shut: bool,
    /// The server has dropped the connection.
    pub is_gone: bool,
    tls: Tls,
    role: Role,
    /// What the other end shows in the handshake: whatever is taken for its certificate.
    shown: Vec<Vec<u8>>,
    /// The last bytes written, to find elements that are cut apart.
    tail: Vec<u8>,
    /// A `<success/>` was written.
    pub is_success_written: bool,
    /// Something was done to the transport that its contract forbids.
    pub misuse: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    Clear,
    Handshaking,
    Established,
}

/// Who is at the other end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Client,
    /// A server that has opened the connection.
    Initiating,
    /// A server to which it was opened.
    Receiving,
}

/// The server's end of a [`Wire`].
pub struct SimulatedTransport {
    wire: Wire,
    peer: SocketAddr,
}

impl Wire {
    pub fn new(chance: Chance, room: usize) -> Wire {
        Wire(Arc::new(Mutex::new(Ends {
            chance,
            arrived: VecDeque::new(),
            decrypted: VecDeque::new(),
            is_finished: false,
            is_reset: false,
            sent: VecDeque::new(),
            inside: Vec::new(),
            offered: Scanner::default(),
            taken: 0,
            read: 0,
            room,
            wants_room: false,
            is_shutting: false,
            is_shut: false,
            is_gone: false,
            tls: Tls::Clear,
            role: Role::Client,
            shown: Vec::new(),
            tail: Vec::new(),
            is_success_written: false,
            misuse: None,
        })))
    }

    /// A server's end of a connection with another one, which shows that in the handshake.
    pub fn between_servers(
        chance: Chance,
        room: usize,
        role: Role,
        shown: Vec<Vec<u8>>,
        is_direct: bool,
    ) -> Wire {
        let wire = Wire::new(chance, room);
        {
            let mut ends = wire.ends();
            ends.role = role;
            ends.shown = shown;
            if is_direct {
                ends.begin_handshake();
            }
        }
        wire
    }

    pub fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap()
    }
}

impl SimulatedTransport {
    pub fn new(wire: Wire, peer: SocketAddr) -> SimulatedTransport {
        SimulatedTransport { wire, peer }
    }
}

impl Ends {
    /// Whether the client has something to read, be it the end.
    pub fn has_news(&self) -> bool {
        !self.sent.is_empty() || self.is_over()
    }

    /// Whether the client will read nothing more.
    pub fn is_over(&self) -> bool {
        self.sent.is_empty() && (self.is_shut || self.is_gone)
    }

    /// Whether there is an edge now that the client has read: after a write that was blocked, and
    /// not before a third of the buffer is free (`sk_stream_is_writeable` of Linux).
    pub fn takes_room(&mut self) -> bool {
        let has_edge = self.wants_room && self.sent.len() * 3 <= self.room * 2;
        self.wants_room &= !has_edge;
        has_edge
    }

    /// The socket has room for so much at least from now on.
    pub fn widen(&mut self, room: usize) {
        self.room = self.room.max(room);
    }

    fn begin_handshake(&mut self) {
        self.tls = Tls::Handshaking;
        if self.role == Role::Receiving {
            self.sent.extend(CLIENT_HELLO);
        }
    }

    fn push_inside(&mut self) {
        let count = self.inside.len().min(self.room - self.sent.len());
        self.sent.extend(self.inside.drain(..count));
        if self.inside.is_empty() && self.is_shutting {
            self.is_shut = true;
        }
    }

    /// Bytes that have arrived and were not read, that TLS holds, and that were sent and not taken.
    pub fn waiting(&self) -> [usize; 3] {
        let sent = self.sent.len() + self.inside.len();
        [self.arrived.len(), self.decrypted.len(), sent]
    }

    /// Looks for `<success`, which may be cut apart by partial writes.
    fn watch(&mut self, bytes: &[u8]) {
        const NEEDLE: &[u8] = b"<success";
        if self.is_success_written {
            return;
        }
        self.tail.extend_from_slice(bytes);
        if self.tail.windows(NEEDLE.len()).any(|seen| seen == NEEDLE) {
            self.is_success_written = true;
        }
        let keep = self.tail.len().saturating_sub(NEEDLE.len() - 1);
        self.tail.drain(..keep);
    }
}

impl Transport for SimulatedTransport {
    fn read(&mut self, buffers: &mut Buffers) -> io::Result<Read> {
        let mut ends = self.wire.ends();
        if ends.is_reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if ends.tls == Tls::Handshaking {
            let expected = match ends.role {
                Role::Client | Role::Initiating => CLIENT_HELLO,
                Role::Receiving => SERVER_HELLO,
            };
            if ends.arrived.len() < expected.len() {
                return Ok(if ends.is_finished {
                    Read::End
                } else {
                    Read::Blocked
                });
            }
            let hello: Vec<u8> = ends.arrived.drain(..expected.len()).collect();
            if hello != expected {
                return Err(ErrorKind::InvalidData.into());
            }
            if ends.role == Role::Initiating {
                ends.sent.extend(SERVER_HELLO);
            }
            ends.tls = Tls::Established;
            return Ok(Read::Established(Box::new(TlsFacts {
                version: "TLSv1.3",
                cipher: "TLS_AES_256_GCM_SHA384".to_owned(),
                group: "X25519".to_owned(),
                bindings: Bindings {
                    exporter: Some(EXPORTER.to_vec()),
                    end_point: None,
                },
                peer_chain: ends.shown.clone(),
                ..TlsFacts::default()
            })));
        }
        let ends = &mut *ends;
        let bytes = match ends.tls {
            Tls::Established => {
                if ends.decrypted.is_empty() {
                    ends.decrypted.append(&mut ends.arrived);
                }
                &mut ends.decrypted
            }
            _ => &mut ends.arrived,
        };
        if bytes.is_empty() {
            return Ok(match ends.is_finished {
                true => Read::End,
                false => Read::Blocked,
            });
        }
        let most = bytes.len().min(buffers.plain.len()) as u64;
        // Often all there is, as a real socket would give it.
        let count = match ends.chance.one_in(2) {
            true => most,
            false => ends.chance.within(1..=most),
        } as usize;
        let (front, back) = bytes.as_slices();
        let middle = front.len().min(count);
        buffers.plain[..middle].copy_from_slice(&front[..middle]);
        buffers.plain[middle..count].copy_from_slice(&back[..count - middle]);
        bytes.drain(..count);
        ends.read += count as u64;
        Ok(Read::Data(count))
    }

    fn readable(&mut self, _closed: bool) {}

    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        let mut ends = self.wire.ends();
        let ends = &mut *ends;
        if ends.role != Role::Client {
            ends.offered.look(ends.taken, plain);
        }
        if plain.is_empty() {
            ends.misuse = Some("nothing was written");
        }
        if ends.tls == Tls::Handshaking && ends.role == Role::Client {
            ends.misuse = Some("clear text was written during the handshake");
        }
        if ends.tls == Tls::Handshaking {
            // It waits for TLS.
            return Ok(0);
        }
        if ends.is_reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if ends.is_shutting {
            return Err(ErrorKind::BrokenPipe.into());
        }
        ends.push_inside();
        let room = ends.room - ends.sent.len();
        if !ends.inside.is_empty() || room == 0 {
            ends.wants_room = true;
            return Ok(0);
        }
        let wanted = ends.chance.within(1..=plain.len() as u64) as usize;
        let direct = wanted.min(room);
        ends.sent.extend(&plain[..direct]);
        // Under TLS a whole record is taken though the socket takes but a part of it.
        let keeps_rest = ends.tls == Tls::Established && ends.chance.one_in(2);
        let taken = if keeps_rest {
            wanted.min(direct + 16 * 1024)
        } else {
            direct
        };
        ends.inside.extend_from_slice(&plain[direct..taken]);
        ends.watch(&plain[..taken]);
        ends.taken += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<bool> {
        let mut ends = self.wire.ends();
        if ends.is_reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        ends.push_inside();
        let is_done = ends.inside.is_empty();
        if !is_done {
            ends.wants_room = true;
        }
        Ok(is_done)
    }

    fn start_tls(&mut self, domain: Option<&str>) -> io::Result<()> {
        let mut ends = self.wire.ends();
        if ends.tls != Tls::Clear || !ends.inside.is_empty() || domain.is_none() {
            ends.misuse = Some("a handshake was begun where none may");
        }
        ends.begin_handshake();
        Ok(())
    }

    fn is_securing(&self) -> bool {
        self.wire.ends().tls == Tls::Handshaking
    }

    fn shutdown(&mut self) {
        let mut ends = self.wire.ends();
        ends.is_shutting = true;
        ends.push_inside();
    }

    fn has_buffered(&self) -> bool {
        false
    }

    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn raw_fd(&self) -> Option<RawFd> {
        None
    }
}

impl Drop for SimulatedTransport {
    fn drop(&mut self) {
        self.wire.ends().is_gone = true;
    }
}
