//! XML that is made to cost its reader more than its writer, before and after the login.

use std::io::{Read, Write};
use std::time::Instant;

use crate::Ground;
use crate::common::client::header;
use crate::wire::{Origin, connect};

/// Bombs, each of which has to end its stream.
fn bombs(bytes_max: usize) -> Vec<String> {
    let repeated = |part: &dyn Fn(usize) -> String| {
        let mut bomb = String::from("<message");
        for number in 0.. {
            let next = part(number);
            if bomb.len() + next.len() + 12 > bytes_max {
                break;
            }
            bomb.push_str(&next);
        }
        bomb
    };
    let namespaces = repeated(&|number| format!(" xmlns:n{number}='urn:{number}'"));
    let attributes = repeated(&|number| format!(" a{number}='{number}'"));
    let depth = repeated(&|number| {
        if number == 0 {
            ">".into()
        } else {
            "<a>".to_owned()
        }
    });
    let name = format!("<{}", "n".repeat(bytes_max - 12));
    let mut laughs = String::from("<!DOCTYPE m [<!ENTITY l0 'ha'>");
    for level in 1..10 {
        let below = format!("&l{};", level - 1).repeat(10);
        laughs.push_str(&format!("<!ENTITY l{level} '{below}'>"));
    }
    vec![
        format!("{namespaces}/>"),
        format!("{attributes}/>"),
        depth,
        format!("{name}/>"),
        format!("{laughs}]><m>&l9;</m>"),
        "<!DOCTYPE m [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><m>&x;</m>".into(),
        "<message><body>&x;</body></message>".into(),
        format!("<!--{}-->", "-a".repeat(1000)),
        format!("<?php {}?>", "x".repeat(1000)),
    ]
}

/// Before the login, up to the 10 KiB that an element may have then.
pub fn before_login(ground: &Ground, origin: Origin, until: Instant) -> u64 {
    let bombs = bombs(10 * 1024);
    let mut blows = 0;
    while Instant::now() < until {
        let bomb = &bombs[blows % bombs.len()];
        let Ok(mut socket) = connect(origin.address(blows), ground.c2s) else {
            continue;
        };
        let thrown = format!("{}{bomb}", header("example.org"));
        // The server may have closed the connection before it has taken all.
        let _ = socket.write_all(thrown.as_bytes());
        ends(&mut socket, bomb);
        blows += 1;
    }
    blows as u64
}

/// In sessions, up to the 256 KiB of a stanza.
pub fn after_login(ground: &Ground, origin: Origin, until: Instant) -> u64 {
    let bombs = bombs(256 * 1024);
    let mut blows = 0;
    while Instant::now() < until {
        let bomb = &bombs[blows % bombs.len()];
        let Ok(mut stream) = ground.attacker(origin, blows) else {
            continue;
        };
        let _ = stream.write_all(bomb.as_bytes());
        ends(&mut stream, bomb);
        blows += 1;
    }
    blows as u64
}

/// The stream ends: by the peer's end or reset, and not by our patience.
fn ends(stream: &mut impl Read, bomb: &str) {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                let is_silent = error.kind() == std::io::ErrorKind::WouldBlock;
                assert!(!is_silent, "taken: {}", &bomb[..bomb.len().min(100)]);
                return;
            }
        }
    }
}
