use super::*;
use crate::jid::Jid;
use crate::limits::{
    INBOX_ANSWER_BYTES_MAX, INBOX_BYTES_MAX, INBOX_STANZAS_MAX, UNSETTLED_STANZAS_MAX,
};
use crate::router::account::Standing;
use crate::router::loading::loaded;
use crate::router::testing::{Site, record, stanza};
use crate::storage::StoreError;
use crate::storage::roster::State;
use crate::xml::{Element, Payload};

/// What a stanza comes to, as a cell of the table: who gets it, or what the sender gets.
fn outcome(kind: Kind, type_: Type, to: &str) -> String {
    let mut site = Site::new(&[]);
    let romeo = site.bind("romeo@example.org", "orchard", None);
    site.account("disabled@example.org", Standing::Known(record(false)));
    site.account("nobody@example.org", Standing::Unknown);
    site.account("absent@example.org", Standing::Known(record(true)));
    let seats = [
        ("high", site.bind("juliet@example.org", "high", Some(5))),
        ("zero", site.bind("juliet@example.org", "zero", Some(0))),
        (
            "negative",
            site.bind("juliet@example.org", "negative", Some(-1)),
        ),
        (
            "connected",
            site.bind("juliet@example.org", "connected", None),
        ),
    ];
    site.send(romeo, stanza(kind, type_, Some(to)));
    site.run_store();
    site.fail_links();
    site.run_store();
    assert_eq!(site.open(romeo), 0, "every stanza is settled");
    let mut got = Vec::new();
    for (name, seat) in seats {
        let written = site.take(seat);
        if !written.is_empty() {
            assert!(written.contains("from='romeo@example.org"), "{written}");
            got.push(name);
        }
    }
    let answer = site.take(romeo);
    if let Some((_, rest)) = answer.split_once("type='error'><error ") {
        let (_, rest) = rest.split_once("'><").unwrap();
        return rest.split_once(' ').unwrap().0.to_owned();
    }
    assert_eq!(answer, "");
    match got.is_empty() {
        true => "-".to_owned(),
        false => got.join("+"),
    }
}

/// RFC 6121 §8.5.
#[test]
fn each_type_goes_where_the_rules_for_each_kind_of_address_say() {
    const BARE: &str = "juliet@example.org";
    const BUSY: &str = "juliet@example.org/connected";
    const GONE: &str = "juliet@example.org/gone";
    const ABSENT: &str = "absent@example.org";
    const NOBODY: &str = "nobody@example.org";
    const DISABLED: &str = "disabled@example.org";
    let refused = "service-unavailable";
    let all = "high+zero+negative";
    // To: bare JID, connected resource, resource that is not, account without a session,
    // unknown account, disabled account.
    for (kind, type_, cells) in [
        (
            Kind::Message,
            Type::Normal,
            ["high+zero", "connected", refused, refused, refused, refused],
        ),
        (
            Kind::Message,
            Type::Chat,
            [
                "high+zero",
                "connected",
                "high+zero",
                refused,
                refused,
                refused,
            ],
        ),
        (
            Kind::Message,
            Type::Groupchat,
            [refused, "connected", refused, refused, refused, refused],
        ),
        (
            Kind::Message,
            Type::Headline,
            ["high+zero", "connected", "-", "-", "-", "-"],
        ),
        (
            Kind::Message,
            Type::Error,
            ["-", "connected", "-", "-", "-", "-"],
        ),
        (
            Kind::Presence,
            Type::Available,
            [all, "connected", "-", "-", "-", "-"],
        ),
        (
            Kind::Presence,
            Type::Unavailable,
            [all, "connected", "-", "-", "-", "-"],
        ),
        (Kind::Presence, Type::Probe, ["-", "-", "-", "-", "-", "-"]),
        (
            Kind::Iq,
            Type::Get,
            [refused, refused, refused, refused, refused, refused],
        ),
        (
            Kind::Iq,
            Type::Set,
            [refused, refused, refused, refused, refused, refused],
        ),
        (
            Kind::Iq,
            Type::Result,
            ["-", "connected", "-", "-", "-", "-"],
        ),
        (
            Kind::Iq,
            Type::Error,
            ["-", "connected", "-", "-", "-", "-"],
        ),
    ] {
        for (to, expected) in [BARE, BUSY, GONE, ABSENT, NOBODY, DISABLED]
            .iter()
            .zip(cells)
        {
            assert_eq!(
                outcome(kind, type_, to),
                expected,
                "{kind:?} {type_:?} to {to}"
            );
        }
    }
}

/// RFC 6120 §10.4, §10.5.
#[test]
fn what_is_for_other_domains_takes_their_link_and_ours_answers_for_itself() {
    for to in ["juliet@example.net", "example.net"] {
        for (kind, type_, expected) in [
            (Kind::Message, Type::Chat, "remote-server-not-found"),
            (Kind::Message, Type::Error, "-"),
            (Kind::Iq, Type::Get, "remote-server-not-found"),
            (Kind::Iq, Type::Result, "-"),
            (Kind::Presence, Type::Available, "remote-server-not-found"),
        ] {
            let came_to = outcome(kind, type_, to);
            assert_eq!(came_to, expected, "{kind:?} {type_:?} to {to}");
        }
    }
    assert_eq!(
        outcome(Kind::Message, Type::Chat, "example.org"),
        "service-unavailable"
    );
    assert_eq!(
        outcome(Kind::Iq, Type::Get, "example.org"),
        "service-unavailable"
    );
    assert_eq!(outcome(Kind::Presence, Type::Available, "example.org"), "-");
}

/// RFC 6120 §8.1.2.1.
#[test]
fn a_sender_is_stamped_and_another_one_refused() {
    let mut site = Site::new(&[]);
    let romeo = site.bind("romeo@example.org", "orchard", None);
    let juliet = site.bind("juliet@example.org", "balcony", Some(0));
    for own in [
        None,
        Some("romeo@example.org"),
        Some("romeo@example.org/orchard"),
    ] {
        let mut chat = stanza(Kind::Message, Type::Chat, Some("juliet@example.org"));
        chat.from = own.map(|own| crate::jid::Jid::parse(own).unwrap());
        site.send(romeo, chat);
        let got = site.take(juliet);
        assert!(got.contains("from='romeo@example.org/orchard'"), "{got}");
    }
    for other in [
        "juliet@example.org",
        "romeo@example.org/garden",
        "example.org",
    ] {
        let mut chat = stanza(Kind::Message, Type::Chat, Some("juliet@example.org"));
        chat.from = Some(crate::jid::Jid::parse(other).unwrap());
        let error = site.router.outbound(romeo.session, chat, 100).unwrap_err();
        assert_eq!(error.condition, StreamCondition::InvalidFrom);
    }
}

/// RFC 6121 §8.5.3.1.
#[test]
fn a_request_reaches_a_resource_that_shares_presence_with_who_asks() {
    let mut site = Site::new(&[]);
    let romeo = site.bind("romeo@example.org", "orchard", None);
    let juliet = site.bind("juliet@example.org", "balcony", None);
    let garden = site.bind("juliet@example.org", "garden", None);
    let ask = || stanza(Kind::Iq, Type::Get, Some("juliet@example.org/balcony"));
    site.send(romeo, ask());
    site.run_store();
    assert!(site.take(romeo).contains("<service-unavailable "));
    assert_eq!(site.take(juliet), "");
    // A subscription the other way says nothing of her.
    site.contact("juliet@example.org", "romeo@example.org", State::TO);
    site.send(romeo, ask());
    site.run_store();
    assert!(site.take(romeo).contains("<service-unavailable "));
    site.contact("juliet@example.org", "romeo@example.org", State::FROM);
    site.send(romeo, ask());
    assert!(site.take(juliet).starts_with("<iq "));
    site.contact("juliet@example.org", "romeo@example.org", State::NONE);
    let hello = stanza(Kind::Presence, Type::Available, Some("romeo@example.org"));
    site.send(juliet, hello);
    site.send(romeo, ask());
    assert!(site.take(juliet).starts_with("<iq "));
    // Only the resource that said hello is known to be there.
    let to_garden = stanza(Kind::Iq, Type::Get, Some("juliet@example.org/garden"));
    site.send(romeo, to_garden);
    site.run_store();
    assert!(site.take(romeo).ends_with("</error></iq>"));
    site.send(garden, ask());
    assert!(site.take(juliet).starts_with("<iq "));
    assert_eq!(site.take(garden), "");
}

/// RFC 6120 §10.3.
#[test]
fn a_message_without_an_address_is_for_the_account_itself() {
    let mut site = Site::new(&[]);
    let romeo = site.bind("romeo@example.org", "orchard", None);
    let other = site.bind("romeo@example.org", "garden", Some(0));
    site.send(romeo, stanza(Kind::Message, Type::Chat, None));
    assert!(site.take(other).contains(" to='romeo@example.org'"));
}

/// RFC 6121 §4.2.2, §4.5.2.
#[test]
fn presence_tells_the_accounts_own_available_resources() {
    let mut site = Site::new(&[]);
    let first = site.bind("romeo@example.org", "orchard", None);
    let second = site.bind("romeo@example.org", "garden", None);
    site.send(first, stanza(Kind::Presence, Type::Available, None));
    assert!(
        site.take(first)
            .contains("from='romeo@example.org/orchard'")
    );
    assert_eq!(site.take(second), "", "it is not available itself");
    site.send(second, stanza(Kind::Presence, Type::Available, None));
    assert!(site.take(first).contains("from='romeo@example.org/garden'"));
    site.send(second, stanza(Kind::Presence, Type::Unavailable, None));
    assert!(site.take(first).contains("type='unavailable'"));
    let session = site.router.sessions.get(second.session).unwrap();
    assert_eq!(session.presence, None);
}

#[test]
fn stanzas_for_an_account_that_is_loading_wait_in_order_within_a_bound() {
    let mut site = Site::new(&[]);
    let romeo = site.bind("romeo@example.org", "orchard", None);
    for _ in 0..INBOX_STANZAS_MAX {
        let headline = stanza(Kind::Message, Type::Headline, Some("new@example.org"));
        site.send(romeo, headline);
    }
    assert_eq!(site.router.out.reads.len(), 1, "the store is asked once");
    assert_eq!(site.open(romeo), INBOX_STANZAS_MAX);
    site.send(
        romeo,
        stanza(Kind::Message, Type::Chat, Some("new@example.org")),
    );
    let refused = site.take(romeo);
    assert!(refused.contains("<resource-constraint "), "{refused}");
    site.answer_read(Ok(loaded(None)));
    assert_eq!(site.open(romeo), 0, "all are settled");
}

/// RFC 6120 §8.2.3: who has asked is answered, however many stanzas wait.
#[test]
fn the_servers_answers_wait_for_an_account_beyond_the_bound_of_what_others_send() {
    let mut site = Site::new(&[]);
    let romeo = site.bind("romeo@example.org", "orchard", None);
    let to = "new@example.org";
    for _ in 0..INBOX_STANZAS_MAX {
        site.send(romeo, stanza(Kind::Message, Type::Headline, Some(to)));
    }
    let answer = stanza(Kind::Iq, Type::Result, Some("new@example.org/home"));
    site.router.inbound(Routed::new(answer, Ticket::none()));
    let key = site.router.accounts.find(to).unwrap();
    let inbox = &site.router.accounts.get(key).unwrap().inbox;
    assert_eq!(inbox.len(), INBOX_STANZAS_MAX + 1);
    site.answer_read(Ok(loaded(None)));
    assert_eq!(site.open(romeo), 0);
}

/// The same of bytes. Found by `tests/simulation.rs`: an error was lost behind a flood of headlines.
#[test]
fn the_servers_answers_wait_for_an_account_behind_all_bytes_that_others_send() {
    let mut site = Site::new(&[]);
    let romeo = site.bind("romeo@example.org", "orchard", None);
    let to = "new@example.org";
    let mut large = stanza(Kind::Message, Type::Headline, Some(to));
    let text = "x".repeat(INBOX_BYTES_MAX / 4);
    large.payload = Payload::from_elements(&[Element::new("urn:x", "x").with_text(text)]);
    while site.take(romeo).is_empty() {
        site.send(romeo, large.clone());
    }
    let waiting = site.open(romeo);
    assert_eq!(waiting, 3, "the fourth is refused");
    let mut answer = stanza(Kind::Message, Type::Error, Some("new@example.org/home"));
    answer.payload = large.payload;
    site.router.inbound(Routed::new(answer, Ticket::none()));
    let key = site.router.accounts.find(to).unwrap();
    assert_eq!(site.router.accounts.get(key).unwrap().inbox.len(), 4);
    site.answer_read(Ok(loaded(None)));
    assert_eq!(site.open(romeo), 0);
}

/// RFC 6120 §8.2.3. Found by `tests/simulation.rs`: a client was not answered, since others had said much
/// to its account.
#[test]
fn the_answers_of_clients_wait_for_an_account_beyond_the_bound_of_what_others_send() {
    let mut site = Site::new(&[]);
    let romeo = site.bind("romeo@example.org", "orchard", None);
    let juliet = site.bind("juliet@example.org", "balcony", None);
    let account = site.router.accounts.find("juliet@example.org").unwrap();
    site.router.accounts.get_mut(account).unwrap().is_changing = true;
    let to = |kind, type_| stanza(kind, type_, Some("juliet@example.org/balcony"));
    for _ in 0..INBOX_STANZAS_MAX {
        site.send(romeo, to(Kind::Message, Type::Headline));
    }
    site.send(romeo, to(Kind::Iq, Type::Result));
    site.send(romeo, to(Kind::Iq, Type::Error));
    site.send(romeo, to(Kind::Iq, Type::Get));
    let refused = site.take(romeo);
    assert_eq!(refused.matches("<iq ").count(), 1, "{refused}");
    assert!(refused.contains("<resource-constraint "), "{refused}");
    site.router.accounts.get_mut(account).unwrap().is_changing = false;
    site.router.no_longer_busy(account);
    site.router.work();
    let got = site.take(juliet);
    assert_eq!(got.matches("<iq ").count(), 2, "{got}");
    assert_eq!(
        got.matches("urn:example:test").count(),
        INBOX_STANZAS_MAX + 2
    );
    assert_eq!(site.open(romeo), 0);
}

/// RFC 6120 §8.2.3, §8.3.3.18: an answer that has no room leaves an error in its place.
#[test]
fn an_answer_that_is_too_large_to_wait_comes_as_an_error() {
    let mut site = Site::new(&[]);
    let romeo = site.bind("romeo@example.org", "orchard", None);
    let juliet = site.bind("juliet@example.org", "balcony", None);
    let account = site.router.accounts.find("juliet@example.org").unwrap();
    site.router.accounts.get_mut(account).unwrap().is_changing = true;
    let mut answer = stanza(Kind::Iq, Type::Result, Some("juliet@example.org/balcony"));
    let text = "x".repeat(INBOX_BYTES_MAX / 4);
    answer.payload = Payload::from_elements(&[Element::new("urn:x", "x").with_text(text)]);
    for _ in 0..7 {
        site.send(romeo, answer.clone());
    }
    let inbox = |site: &Site| {
        let inbox = &site.router.accounts.get(account).unwrap().inbox;
        (inbox.len(), inbox.bytes())
    };
    let (stanzas, bytes) = inbox(&site);
    assert!(stanzas == 7 && bytes <= INBOX_ANSWER_BYTES_MAX, "{bytes}");
    // Answers that nobody has asked for stay within the bound, and leave room for the server's own.
    answer.payload = Payload::empty();
    while inbox(&site).1 + answer.size() + 100 < INBOX_ANSWER_BYTES_MAX {
        site.send(romeo, answer.clone());
    }
    for _ in 0..10 {
        site.send(romeo, answer.clone());
    }
    assert!(inbox(&site).1 <= INBOX_ANSWER_BYTES_MAX);
    let before = inbox(&site).0;
    answer.from = Some(Jid::parse("example.org").unwrap());
    site.router.inbound(Routed::new(answer, Ticket::none()));
    assert_eq!(inbox(&site).0, before + 1);
    site.router.accounts.get_mut(account).unwrap().is_changing = false;
    site.router.no_longer_busy(account);
    site.router.work();
    let got = site.take(juliet);
    assert_eq!(got.matches("<resource-constraint ").count(), 2);
    let error =
        "<iq from='romeo@example.org/orchard' to='juliet@example.org/balcony' id='7' type='error'>";
    assert_eq!(got.matches(error).count(), 2);
    assert_eq!(site.open(romeo), 0);
}

#[test]
fn a_store_that_cannot_load_an_account_is_an_error_to_who_waits_and_is_asked_again() {
    let mut site = Site::new(&[]);
    let romeo = site.bind("romeo@example.org", "orchard", None);
    let chat = || stanza(Kind::Message, Type::Chat, Some("new@example.org"));
    site.send(romeo, chat());
    site.answer_read(Err(StoreError::Stopped));
    assert!(site.take(romeo).contains("<internal-server-error "));
    assert_eq!(site.open(romeo), 0);
    site.send(romeo, chat());
    assert_eq!(site.router.out.reads.len(), 1);
    site.answer_read(Ok(loaded(Some(record(true)))));
    assert!(site.take(romeo).contains("<service-unavailable "));
}

/// `Backpressure` in lib.rs.
#[test]
fn a_session_with_too_many_open_stanzas_is_not_read_until_some_are_settled() {
    let mut site = Site::new(&[]);
    let romeo = site.bind("romeo@example.org", "orchard", None);
    for n in 0..=UNSETTLED_STANZAS_MAX {
        let to = format!("new{}@example.org", n % 2);
        site.send(romeo, stanza(Kind::Message, Type::Headline, Some(&to)));
    }
    assert!(site.router.holds_reading(romeo.session));
    assert!(site.router.out.resumed.is_empty());
    site.answer_read(Ok(loaded(None)));
    assert!(!site.router.holds_reading(romeo.session));
    assert_eq!(site.router.out.resumed, [romeo.conn]);
    site.answer_read(Ok(loaded(None)));
    assert_eq!(site.open(romeo), 0);
}

/// RFC 6120 §4.9.3.17.
#[test]
fn a_session_that_does_not_read_is_ended() {
    let mut site = Site::new(&[]);
    let romeo = site.bind("romeo@example.org", "orchard", None);
    let juliet = site.bind("juliet@example.org", "balcony", Some(0));
    let output = site.router.out.outputs.append(juliet.conn).unwrap();
    output.resize(OUTPUT_BYTES_MAX, b' ');
    site.send(
        romeo,
        stanza(Kind::Message, Type::Chat, Some("juliet@example.org")),
    );
    assert!(site.router.sessions.get(juliet.session).is_none());
    let (conn, error) = &site.router.out.ends[0];
    assert_eq!(
        (*conn, error.condition),
        (juliet.conn, StreamCondition::ResourceConstraint)
    );
}
