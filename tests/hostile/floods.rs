//! Sessions that send as much as the server takes, and one kind that never reads.

use std::time::Instant;

use crate::Ground;
use crate::wire::{Flooder, Origin, flood};

/// Sessions of a flood.
pub const FLOODERS: usize = 20;

fn sessions(ground: &Ground, origin: Origin) -> Vec<Flooder> {
    (0..FLOODERS)
        .filter_map(|number| Some(Flooder::new(ground.attacker(origin, number).ok()?)))
        .collect()
}

/// Stanzas just below `c2s.stanza_bytes_max`, each of which is answered by an error.
pub fn large(ground: &Ground, origin: Origin, until: Instant) -> u64 {
    let body = "x".repeat(255 * 1024);
    let stanza = format!(
        "<iq type='get' id='l' to='example.org'><query xmlns='urn:example:none'>{body}</query></iq>"
    );
    flood(&mut sessions(ground, origin), until, |_| {
        stanza.clone().into_bytes()
    })
}

/// Presence to all and to honest sessions.
pub fn presence(ground: &Ground, origin: Origin, until: Instant) -> u64 {
    let mut number = 0;
    flood(&mut sessions(ground, origin), until, |_| {
        number += 1;
        let to = &ground.honest[number % ground.honest.len()];
        format!("<presence><status>{number}</status></presence><presence to='{to}'/>").into_bytes()
    })
}

/// Roster sets: each is a commit, and a push to all interested resources.
pub fn roster(ground: &Ground, origin: Origin, until: Instant) -> u64 {
    let mut number = 0;
    flood(&mut sessions(ground, origin), until, |_| {
        number += 1;
        format!(
            "<iq type='set' id='r{number}'><query xmlns='jabber:iq:roster'>\
             <item jid='c{}@example.net' name='{number}'/></query></iq>",
            number % 1000
        )
        .into_bytes()
    })
}

/// Half of the sessions are written to by the others and never read.
pub fn unread(ground: &Ground, origin: Origin, until: Instant) -> u64 {
    let named = |number: usize| ground.attacker_named(origin, number, &format!("deaf{number}"));
    let deaf: Vec<_> = (0..FLOODERS / 2).filter_map(|n| named(n).ok()).collect();
    let mut writing = sessions(ground, origin);
    writing.truncate(FLOODERS / 2);
    let body = "x".repeat(16 * 1024);
    let blows = flood(&mut writing, until, |index| {
        let number = index % deaf.len().max(1);
        let to = format!("{}/deaf{number}", Ground::account(number));
        format!("<message type='headline' to='{to}'><body>{body}</body></message>").into_bytes()
    });
    drop(deaf);
    blows
}

/// One stanza in each session, byte by byte; a minute between two would be no other thing for the
/// server, which has no time that a stanza must end in.
pub fn slow(ground: &Ground, origin: Origin, until: Instant) -> u64 {
    let start = "<message type='headline'><body>";
    let mut bytes = start.bytes().chain(std::iter::repeat(b'x'));
    let (mut sent, mut stanza) = (vec![0; FLOODERS], Vec::new());
    flood(&mut sessions(ground, origin), until, |index| {
        if sent[index] == stanza.len() {
            stanza.extend(bytes.next());
        }
        sent[index] += 1;
        vec![stanza[sent[index] - 1]]
    })
}
