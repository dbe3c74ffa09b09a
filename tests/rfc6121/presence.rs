//! Presence beyond the examples (RFC 6121 §4): every way in which a session ends.

use crate::common::cast::Cast;
use crate::common::client::{Client, text};
use crate::common::roster::{self, Seed};
use crate::common::server::{Server, site};

const JULIET: &str = "juliet@example.org";
const ROMEO: &str = "romeo@example.org/orchard";
const NURSE: &str = "nurse@example.org/hall";

/// A server where romeo sees juliet's presence, with what the conf file says besides.
fn server(conf: &str) -> Server {
    let site = site(conf);
    let seeds = [
        Seed {
            from: true,
            ..Seed::new(JULIET, "romeo@example.org")
        },
        Seed {
            to: true,
            ..Seed::new("romeo@example.org", JULIET)
        },
    ];
    roster::sow(&site, seeds.iter());
    Server::start_in(site)
}

/// romeo, who has a subscription, and the nurse, who gets directed presence.
fn audience(server: &Server) -> Cast<'_> {
    let accounts = [JULIET, "romeo@example.org", "nurse@example.org"];
    let mut cast = Cast::new(server, &accounts);
    cast.enter_available(ROMEO);
    cast.enter_available(NURSE);
    cast
}

/// A session of juliet that both see.
fn appear(server: &Server, cast: &mut Cast<'_>, resource: &str) -> Client {
    let mut juliet = Client::login(server, &format!("{JULIET}/{resource}"));
    juliet.send(format!("<presence/><presence to='{NURSE}'/>"));
    juliet.until_settled();
    cast.hush();
    for name in [ROMEO, NURSE] {
        let seen = cast.next(name).expect("she appears");
        assert_eq!(
            seen.attribute("from"),
            Some(&*juliet.jid),
            "{}",
            text(&seen)
        );
        assert_eq!(seen.attribute("type"), None);
    }
    juliet
}

/// Both see the session go, once.
fn is_gone(cast: &mut Cast<'_>, jid: &str, how: &str) {
    for name in [ROMEO, NURSE] {
        let seen = cast.next(name);
        let seen = seen.unwrap_or_else(|| panic!("{how}: {name} does not see her go"));
        assert_eq!(seen.name, "presence", "{how}: {}", text(&seen));
        assert_eq!(seen.attribute("type"), Some("unavailable"), "{how}");
        assert_eq!(seen.attribute("from"), Some(jid), "{how}");
    }
    cast.hush();
    for name in [ROMEO, NURSE] {
        let more = cast.heard(name);
        assert!(more.is_empty(), "{how}: {name} hears {more:?}");
    }
}

/// [presence-unavailable] RFC 6121 §4.5.2: "for any reason (either gracefully or ungracefully)".
#[test]
fn contacts_see_a_session_go_whatever_ends_it() {
    let server = server("");
    let mut cast = audience(&server);

    let mut juliet = appear(&server, &mut cast, "closed");
    juliet.send("</stream:stream>");
    juliet.closes();
    is_gone(&mut cast, &juliet.jid, "a closed stream");

    let juliet = appear(&server, &mut cast, "cut");
    let jid = juliet.jid.clone();
    drop(juliet);
    is_gone(&mut cast, &jid, "a cut connection");

    let mut juliet = appear(&server, &mut cast, "half");
    juliet.shutdown();
    is_gone(&mut cast, &juliet.jid, "a connection that says no more");

    let mut juliet = appear(&server, &mut cast, "wrong");
    juliet.send("<presence></message>");
    juliet.fails("not-well-formed");
    is_gone(&mut cast, &juliet.jid, "a stream error");

    let mut juliet = appear(&server, &mut cast, "forger");
    juliet.send("<message from='romeo@example.org' to='nurse@example.org'/>");
    juliet.fails("invalid-from");
    is_gone(&mut cast, &juliet.jid, "a forged address");

    let mut juliet = appear(&server, &mut cast, "unavailable");
    juliet.send("<presence type='unavailable'/>");
    juliet.until_settled();
    is_gone(&mut cast, &juliet.jid, "unavailable presence");
    juliet.send("</stream:stream>");
    juliet.closes();
    cast.hush();
    assert!(cast.heard(ROMEO).is_empty() && cast.heard(NURSE).is_empty());
}

/// [presence-unavailable] RFC 6121 §4.5.2, RFC 6120 §7.7.2.2: whichever session has to go.
#[test]
fn contacts_see_a_session_go_that_another_replaces() {
    let server = server("");
    let mut cast = audience(&server);
    let mut old = appear(&server, &mut cast, "balcony");
    let mut new = Client::authenticated(&server, JULIET);
    let answer = new.try_bind(Some("balcony"));
    if answer.attribute("type") == Some("result") {
        old.fails("conflict");
        is_gone(&mut cast, &old.jid, "a conflict");
    } else {
        cast.hush();
        assert!(cast.heard(ROMEO).is_empty() && cast.heard(NURSE).is_empty());
        old.send("</stream:stream>");
        is_gone(&mut cast, &old.jid, "the end of the one that stays");
    }
}

/// [presence-unavailable] RFC 6121 §4.5.2, RFC 6120 §4.6: it falls silent.
#[test]
fn contacts_see_a_session_go_that_does_not_answer() {
    let server = server("[c2s]\nidle_seconds = 1\nping_timeout_seconds = 1\n");
    let mut cast = audience(&server);
    let mut juliet = Client::login(&server, &format!("{JULIET}/silent"));
    juliet.send(format!("<presence/><presence to='{NURSE}'/>"));
    // The audience is never silent, since it asks all the time.
    while !server.sessions(Some(JULIET)).is_empty() {
        cast.hush();
    }
    for name in [ROMEO, NURSE] {
        let seen = cast.next(name).expect("she appears");
        assert_eq!(seen.attribute("type"), None, "{}", text(&seen));
    }
    is_gone(&mut cast, &juliet.jid, "silence");
}

/// [presence-unavailable] RFC 6121 §4.5.2: what the operator ends.
#[test]
fn contacts_see_a_session_go_that_the_operator_ends() {
    let server = server("");
    let mut cast = audience(&server);
    let juliet = appear(&server, &mut cast, "balcony");
    let ended = server.run(&["account", "disable", JULIET], "");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    is_gone(&mut cast, &juliet.jid, "a disabled account");
    let ended = server.run(&["account", "enable", JULIET], "");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    let juliet = appear(&server, &mut cast, "chamber");
    let ended = server.run(&["account", "passwd", JULIET], "0th3r-w0rds\n");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    if server.sessions(Some(JULIET)).is_empty() {
        is_gone(&mut cast, &juliet.jid, "a changed password");
    }
}
