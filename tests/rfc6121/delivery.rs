//! Who gets a stanza that is sent to an account (RFC 6121 §8.5): table 1 cell by cell, and presence
//! and IQs in the same way.

use std::fmt::Write;

use crate::common::cast::Cast;
use crate::common::client::{error_of, text};
use crate::common::roster::{self, Seed};
use crate::common::server::{Server, add_offline, site};

/// What becomes of a message, by the letters of table 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// O: it is stored for later.
    Stored,
    /// E: it comes back with `service-unavailable`.
    Returned,
    /// S: it is ignored in silence.
    Ignored,
    /// D: the resource of the address gets it, or the only one there is.
    Delivered,
    /// A: all resources that are not negative get it.
    All,
}

use Fate::{All, Delivered, Ignored, Returned, Stored};

impl Fate {
    fn letter(self) -> char {
        match self {
            Stored => 'O',
            Returned => 'E',
            Ignored => 'S',
            Delivered => 'D',
            All => 'A',
        }
    }
}

const TYPES: [&str; 4] = ["normal", "chat", "groupchat", "headline"];

/// A row of table 1: what the RFC allows for each of [`TYPES`], and what this server does.
struct Line {
    to: &'static str,
    allowed: [&'static str; 4],
    ours: [Fate; 4],
}

/// A block of table 1: the priorities of the resources there are.
struct Block {
    condition: &'static str,
    /// None is an account that does not exist.
    resources: Option<&'static [(&'static str, i8)]>,
    lines: &'static [Line],
}

/// RFC 6121 §8.5.4, table 1. Where it leaves a choice, a message to the account goes to all
/// resources that are not negative, waits if there is none, and comes back where it cannot wait.
const TABLE: [Block; 5] = [
    Block {
        condition: "ACCOUNT DOES NOT EXIST",
        resources: None,
        lines: &[
            Line {
                to: "bare",
                allowed: ["S/E", "S/E", "E", "S"],
                ours: [Returned, Returned, Returned, Ignored],
            },
            Line {
                to: "full",
                allowed: ["S/E", "S/E", "S/E", "S/E"],
                ours: [Returned, Returned, Returned, Ignored],
            },
        ],
    },
    Block {
        condition: "ACCOUNT EXISTS, BUT NO ACTIVE RESOURCES",
        resources: Some(&[]),
        lines: &[
            Line {
                to: "bare",
                allowed: ["O/E", "O/E", "E", "S"],
                ours: [Stored, Stored, Returned, Ignored],
            },
            Line {
                to: "full (no match)",
                allowed: ["S/E", "O/E", "S/E", "S/E"],
                ours: [Returned, Stored, Returned, Ignored],
            },
        ],
    },
    Block {
        condition: "1+ NEGATIVE RESOURCES BUT ZERO NON-NEGATIVE RESOURCES",
        resources: Some(&[("match", -1), ("other", -128)]),
        lines: &[
            Line {
                to: "bare",
                allowed: ["O/E", "O/E", "E", "S"],
                ours: [Stored, Stored, Returned, Ignored],
            },
            Line {
                to: "full match",
                allowed: ["D", "D", "D", "D"],
                ours: [Delivered, Delivered, Delivered, Delivered],
            },
            Line {
                to: "full no match",
                allowed: ["S/E", "O/E", "S/E", "S/E"],
                ours: [Returned, Stored, Returned, Ignored],
            },
        ],
    },
    Block {
        condition: "1 NON-NEGATIVE RESOURCE",
        resources: Some(&[("match", 0), ("other", -1)]),
        lines: &[
            Line {
                to: "bare",
                allowed: ["D", "D", "E", "D"],
                ours: [Delivered, Delivered, Returned, Delivered],
            },
            Line {
                to: "full match",
                allowed: ["D", "D", "D", "D"],
                ours: [Delivered, Delivered, Delivered, Delivered],
            },
            Line {
                to: "full no match",
                allowed: ["S/E", "D", "S/E", "S/E"],
                ours: [Returned, Delivered, Returned, Ignored],
            },
        ],
    },
    Block {
        condition: "1+ NON-NEGATIVE RESOURCES",
        resources: Some(&[("match", 0), ("high", 127), ("negative", -1)]),
        lines: &[
            Line {
                to: "bare",
                allowed: ["M/A", "M/A*", "E", "A"],
                ours: [All, All, Returned, All],
            },
            Line {
                to: "full match",
                allowed: ["D", "D/A*", "D", "D"],
                ours: [Delivered, Delivered, Delivered, Delivered],
            },
            Line {
                to: "full no match",
                allowed: ["S/E", "M/A*", "S/E", "S/E"],
                ours: [Returned, All, Returned, Ignored],
            },
        ],
    },
];

impl Block {
    fn account(&self, number: usize) -> String {
        format!("juliet{number}@example.org")
    }

    /// The resources that get what has this fate.
    fn recipients(&self, fate: Fate) -> Vec<&'static str> {
        let resources = self.resources.unwrap_or_default();
        match fate {
            Delivered => vec!["match"],
            All => {
                let takes = resources.iter().filter(|(_, priority)| *priority >= 0);
                takes.map(|(resource, _)| *resource).collect()
            }
            Stored | Returned | Ignored => Vec::new(),
        }
    }
}

const SENDER: &str = "romeo@example.org/orchard";

/// A server with an account for each block that has one.
fn server() -> Server {
    let site = site("");
    let accounts: Vec<String> = (TABLE.iter().enumerate())
        .filter(|(_, block)| block.resources.is_some())
        .map(|(number, block)| block.account(number))
        .collect();
    add_offline(
        &site,
        &accounts.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    Server::start_in(site)
}

/// The sender and the resources of a block, connected.
fn cast<'a>(server: &'a Server, block: &Block, account: &str) -> Cast<'a> {
    let mut cast = Cast::new(server, &["romeo@example.org", account]);
    cast.enter(SENDER);
    for (resource, priority) in block.resources.unwrap_or_default() {
        let jid = format!("{account}/{resource}");
        cast.enter(&jid);
        cast.send(
            &jid,
            format!("<presence><priority>{priority}</priority></presence>"),
        );
    }
    cast.forget();
    cast
}

/// Whether a message with this type and address has its fate; `id` names the cell.
fn check(
    cast: &mut Cast<'_>,
    block: &Block,
    account: &str,
    to: &str,
    type_: &str,
    fate: Fate,
) -> String {
    let id = format!("{type_}-{}", to.replace(' ', "-"));
    let address = match to {
        "bare" => account.to_owned(),
        "full match" => format!("{account}/match"),
        _ => format!("{account}/gone"),
    };
    let mut problems = String::new();
    cast.send(
        SENDER,
        format!("<message to='{address}' type='{type_}' id='{id}'><body>{to}</body></message>"),
    );
    let back = cast.heard(SENDER);
    let returned = back.iter().filter(|one| one.attribute("id") == Some(&id));
    let conditions: Vec<String> = returned.map(error_of).collect();
    let wanted: &[&str] = match fate {
        Returned => &["service-unavailable"],
        _ => &[],
    };
    if conditions != wanted || back.len() != wanted.len() {
        let back: Vec<String> = back.iter().map(text).collect();
        write!(problems, " its sender hears {back:?}").unwrap();
    }
    let recipients = block.recipients(fate);
    for (resource, _) in block.resources.unwrap_or_default() {
        let heard = cast.heard(&format!("{account}/{resource}"));
        let wanted = usize::from(recipients.contains(resource));
        // The address is not rewritten (§8.5.2.1.1).
        let right = heard.iter().all(|one| {
            one.name == "message"
                && one.attribute("to") == Some(&address)
                && one.attribute("id") == Some(&id)
        });
        if heard.len() != wanted || !right {
            let heard: Vec<String> = heard.iter().map(text).collect();
            write!(problems, " {resource} hears {heard:?}").unwrap();
        }
    }
    problems
}

/// Which messages wait: a resource that takes messages is available now.
fn stored(cast: &mut Cast<'_>, account: &str) -> Vec<String> {
    let jid = format!("{account}/late");
    cast.enter(&jid);
    cast.send(&jid, "<presence/>");
    let heard = cast.heard(&jid);
    let messages = heard.iter().filter(|one| one.name == "message");
    messages
        .map(|one| {
            assert!(
                one.find("urn:xmpp:delay", "delay").is_some(),
                "{}",
                text(one)
            );
            one.attribute("id").unwrap_or_default().to_owned()
        })
        .collect()
}

/// [message-type-deliver] RFC 6121 §8.5.4, table 1.
#[test]
fn messages_go_where_table_1_has_them() {
    let server = server();
    let mut problems = String::new();
    for (number, block) in TABLE.iter().enumerate() {
        let account = block.account(number);
        let mut cast = cast(&server, block, &account);
        let mut waiting = Vec::new();
        for line in block.lines {
            for (type_, fate) in TYPES.iter().zip(line.ours) {
                let found = check(&mut cast, block, &account, line.to, type_, fate);
                if !found.is_empty() {
                    let cell = format!("{}: {} {type_}", block.condition, line.to);
                    writeln!(problems, "{cell} is not {fate:?}:{found}").unwrap();
                }
                if fate == Stored {
                    waiting.push(format!("{type_}-{}", line.to.replace(' ', "-")));
                }
            }
        }
        if block.resources.is_some() {
            let found = stored(&mut cast, &account);
            if found != waiting {
                writeln!(
                    problems,
                    "{}: {found:?} wait in place of {waiting:?}",
                    block.condition
                )
                .unwrap();
            }
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
}

/// What this server does is what the table allows.
#[test]
fn choices_are_within_table_1() {
    for block in &TABLE {
        for line in block.lines {
            for (allowed, ours) in line.allowed.iter().zip(line.ours) {
                let place = format!("{}: {}", block.condition, line.to);
                assert!(allowed.contains(ours.letter()), "{place}: {ours:?}");
            }
        }
    }
}

/// [message-type-deliver] RFC 6121 §8.5.1 to §8.5.3: errors are never answered and never wait; a
/// resource that is named gets them.
#[test]
fn messages_of_type_error_reach_nobody_but_the_resource_they_name() {
    let server = server();
    for (number, block) in TABLE.iter().enumerate() {
        let account = block.account(number);
        let mut cast = cast(&server, block, &account);
        for to in ["bare", "full match", "full no match"] {
            let exists = block.resources.is_some_and(|all| !all.is_empty());
            let fate = match to {
                "full match" if exists => Delivered,
                _ => Ignored,
            };
            let problems = check(&mut cast, block, &account, to, "error", fate);
            assert_eq!(problems, "", "{} {to}", block.condition);
        }
        if block.resources.is_some() {
            assert!(
                stored(&mut cast, &account).is_empty(),
                "{}",
                block.condition
            );
        }
    }
}

/// RFC 6121 §8.5.2.2, §8.5.3.1: a resource that is connected but not available counts only if it
/// is named.
#[test]
fn a_connected_resource_gets_messages_by_its_name_alone() {
    let server = server();
    let block = &TABLE[1];
    let account = block.account(1);
    let mut cast = cast(&server, block, &account);
    let jid = format!("{account}/match");
    cast.enter(&jid);
    for type_ in TYPES {
        cast.send(
            SENDER,
            format!("<message to='{jid}' type='{type_}' id='full'/>"),
        );
        assert_eq!(cast.heard(&jid).len(), 1, "{type_}");
        cast.send(
            SENDER,
            format!("<message to='{account}' type='{type_}' id='b'><body>b</body></message>"),
        );
        assert!(cast.heard(&jid).is_empty(), "{type_}");
    }
    assert_eq!(stored(&mut cast, &account), ["b", "b"]);
}

/// [presence-notype] [presence-unavailable] RFC 6121 §8.5.1, §8.5.2.1.2, §8.5.2.2.2, §8.5.3.
#[test]
fn presence_goes_to_available_resources_or_the_one_that_is_named() {
    let server = server();
    for (number, block) in TABLE.iter().enumerate() {
        let account = block.account(number);
        let mut cast = cast(&server, block, &account);
        let connected = format!("{account}/connected");
        if block.resources.is_some() {
            cast.enter(&connected);
        }
        for (kind, type_) in [("", "available"), (" type='unavailable'", "unavailable")] {
            let place = format!("{} {type_}", block.condition);
            for (to, resource) in [
                (account.clone(), None),
                (format!("{account}/match"), Some("match")),
                (format!("{account}/gone"), Some("gone")),
            ] {
                cast.send(SENDER, format!("<presence to='{to}'{kind}/>"));
                for (one, _) in block.resources.unwrap_or_default() {
                    let heard = cast.heard(&format!("{account}/{one}"));
                    let wanted = usize::from(resource.is_none_or(|named| named == *one));
                    assert_eq!(heard.len(), wanted, "{place}: {to}: {one} {heard:?}");
                    assert!(heard.iter().all(|one| one.attribute("to") == Some(&to)));
                }
                assert!(cast.heard(SENDER).is_empty(), "{place}: {to}");
            }
            if block.resources.is_some() {
                assert!(cast.heard(&connected).is_empty(), "{place}");
                cast.send(SENDER, format!("<presence to='{connected}'{kind}/>"));
                assert_eq!(cast.heard(&connected).len(), 1, "{place}");
            }
        }
    }
}

/// RFC 6121 §8.5.1, §8.5.2.1.3, §8.5.2.2.3, §8.5.3.2.3: the server answers for an account, whose
/// clients see none of it.
#[test]
fn requests_to_accounts_are_answered_by_the_server() {
    let server = server();
    for (number, block) in TABLE.iter().enumerate() {
        let account = block.account(number);
        let mut cast = cast(&server, block, &account);
        for to in [account.clone(), format!("{account}/gone")] {
            for type_ in ["get", "set"] {
                cast.send(
                    SENDER,
                    format!("<iq type='{type_}' to='{to}' id='q'><a xmlns='urn:example:a'/></iq>"),
                );
                let heard = cast.heard(SENDER);
                let place = format!("{} {to} {type_}: {heard:?}", block.condition);
                assert_eq!(heard.len(), 1, "{place}");
                assert_eq!(error_of(&heard[0]), "service-unavailable", "{place}");
                assert_eq!(heard[0].attribute("from"), Some(&*to), "{place}");
            }
            // Nothing answers an answer (RFC 6120 §8.2.3).
            cast.send(SENDER, format!("<iq type='result' to='{to}' id='r'/>"));
            assert!(cast.heard(SENDER).is_empty(), "{to}");
        }
        for (resource, _) in block.resources.unwrap_or_default() {
            let heard = cast.heard(&format!("{account}/{resource}"));
            assert!(heard.is_empty(), "{} {heard:?}", block.condition);
        }
    }
}

/// RFC 6121 §8.5.3.1: a request reaches a resource only from those who may know of it: contacts with
/// a subscription and those who have got directed presence. Answers reach it from everybody.
#[test]
fn requests_reach_a_resource_from_those_who_see_its_presence() {
    let site = site("");
    let relations = [
        ("mercutio@example.net", "from", true),
        ("tybalt@example.net", "both", true),
        ("nurse@example.net", "to", false),
        ("benvolio@example.net", "none", false),
    ];
    let juliet = "juliet@example.org";
    let accounts = relations.map(|(account, ..)| account);
    let seeds = relations.map(|(contact, subscription, _)| Seed {
        from: ["from", "both"].contains(&subscription),
        to: ["to", "both"].contains(&subscription),
        ..Seed::new(juliet, contact)
    });
    add_offline(&site, &accounts);
    roster::sow(&site, seeds.iter());
    let server = Server::start_in(site);
    let mut all = vec![juliet];
    all.extend(accounts);
    let mut cast = Cast::new(&server, &all);
    let balcony = "juliet@example.org/balcony";
    cast.enter(balcony);
    cast.send(balcony, "<presence/>");
    cast.forget();
    let ask = |cast: &mut Cast<'_>, by: &str| {
        let asked = format!("<iq type='get' to='{balcony}' id='q'><a xmlns='urn:example:a'/></iq>");
        cast.send(by, asked);
        let (back, got) = (cast.heard(by), cast.heard(balcony));
        for error in &back {
            assert_eq!(error_of(error), "service-unavailable", "{by}");
            assert_eq!(error.attribute("from"), Some(balcony));
        }
        assert_eq!(back.len() + got.len(), 1, "{by}: {back:?} {got:?}");
        got.len() == 1
    };
    for (account, subscription, may) in relations {
        let by = format!("{account}/home");
        cast.enter(&by);
        assert_eq!(ask(&mut cast, &by), may, "{subscription}");
        cast.send(&by, format!("<iq type='result' to='{balcony}' id='r'/>"));
        assert_eq!(cast.heard(balcony).len(), 1, "{subscription}");
        if !may {
            cast.send(balcony, format!("<presence to='{by}'/>"));
            cast.forget();
            assert!(
                ask(&mut cast, &by),
                "{subscription}, with directed presence"
            );
            cast.send(balcony, format!("<presence to='{by}' type='unavailable'/>"));
            cast.forget();
            assert!(
                !ask(&mut cast, &by),
                "{subscription}, after directed presence"
            );
        }
    }
}
