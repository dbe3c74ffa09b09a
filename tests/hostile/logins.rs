//! Wrong logins by PLAIN and SCRAM, as many as eight threads can bring, for names that nobody has: an
//! account of its own would be shut after ten.

use std::io::{self, Write};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Ground;
use crate::common::client::header;
use crate::wire::{Origin, Tls, hear, plain, secured};

/// Threads that guess. Each login takes a round trip or two, and each stream a handshake.
const THREADS: usize = 8;

/// Guesses a password by PLAIN: each costs the server as many rounds of hashing as a right one.
pub fn by_plain(ground: &Ground, origin: Origin, until: Instant) -> u64 {
    guess(ground, origin, until, |stream, number| {
        plain(stream, &format!("guess{number}"), "wrong")
    })
}

/// Guesses by SCRAM-SHA-256 (RFC 5802): the proof is made up, which costs nothing.
pub fn by_scram(ground: &Ground, origin: Origin, until: Instant) -> u64 {
    guess(ground, origin, until, |stream, number| {
        let first = STANDARD.encode(format!("n,,n=guess{number},r=fyko+d2lbbFg"));
        write!(
            stream,
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>{first}</auth>"
        )?;
        if hear(stream, &["</challenge>", "</failure>"])? == 1 {
            return Ok(false);
        }
        let last = STANDARD.encode("c=biws,r=fyko+d2lbbFg,p=AAAA");
        write!(
            stream,
            "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{last}</response>"
        )?;
        Ok(hear(stream, &["<success", "</failure>"])? == 0)
    })
}

fn guess(
    ground: &Ground,
    origin: Origin,
    until: Instant,
    login: impl Fn(&mut Tls, usize) -> io::Result<bool> + Sync,
) -> u64 {
    let login = &login;
    let work = |thread: usize| {
        let (mut number, mut blows) = (thread, 0);
        while Instant::now() < until {
            number += THREADS;
            let Ok(mut stream) = opened(ground, origin, number) else {
                // Counts too: the server has had to refuse it.
                blows += 1;
                continue;
            };
            while Instant::now() < until {
                match login(&mut stream, number) {
                    Ok(is_in) => assert!(!is_in, "a wrong password is taken"),
                    Err(_) => break,
                }
                number += THREADS;
                blows += 1;
            }
        }
        blows
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || work(thread)))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    })
}

fn opened(ground: &Ground, origin: Origin, number: usize) -> io::Result<Tls> {
    let mut stream = secured(origin.address(number), ground.c2s_tls)?;
    stream.write_all(header("example.org").as_bytes())?;
    hear(&mut stream, &["</stream:features>"])?;
    Ok(stream)
}
