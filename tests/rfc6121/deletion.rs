//! What is left of an account that is deleted: nothing, at its contacts neither.

use stanzad::xml::Element;

use crate::common::cast::Cast;
use crate::common::client::text;
use crate::common::roster::{self, Seed};
use crate::common::server::{PASSWORD, Server, add_offline, site};
use crate::states;

const JULIET: &str = "juliet@example.org";

/// Contacts in all relations to juliet: name, her side, theirs.
const CONTACTS: [(&str, &str, &str); 5] = [
    ("romeo@example.org", "Both", "Both"),
    ("benvolio@example.net", "To", "From"),
    ("nurse@example.org", "From", "To"),
    (
        "mercutio@example.net",
        "None + Pending In",
        "None + Pending Out",
    ),
    (
        "tybalt@example.org",
        "None + Pending Out",
        "None + Pending In",
    ),
];

fn server() -> Server {
    let site = site("");
    add_offline(&site, &["benvolio@example.net", "mercutio@example.net"]);
    let mut seeds: Vec<Seed> = Vec::new();
    for (contact, hers, theirs) in CONTACTS {
        seeds.push(states::State::named(hers).seed(JULIET, contact));
        seeds.push(states::State::named(theirs).seed(contact, JULIET));
    }
    roster::sow(&site, seeds.iter());
    Server::start_in(site)
}

fn kinds(heard: &[Element]) -> Vec<&str> {
    heard
        .iter()
        .filter(|one| one.name == "presence")
        .filter_map(|one| one.attribute("type"))
        .collect()
}

fn store(cast: &mut Cast<'_>, by: &str, payload: &str) {
    cast.send(by, format!("<iq type='set' id='store'>{payload}</iq>"));
    let heard = cast.heard(by);
    let answer = heard
        .iter()
        .find(|one| one.attribute("id") == Some("store"));
    let answer = answer.expect("it is answered");
    assert_eq!(answer.attribute("type"), Some("result"), "{}", text(answer));
}

/// RFC 6121 §3.2, §3.3, §4.5.2: contacts see an account go for good, as if it had taken back all its
/// subscriptions; whoever gets its name next finds nothing of it.
#[test]
fn a_deleted_account_leaves_its_contacts_and_no_row() {
    let mut server = server();
    let accounts: Vec<&str> = CONTACTS.iter().map(|(contact, ..)| *contact).collect();
    let homes: Vec<String> = accounts
        .iter()
        .map(|contact| format!("{contact}/home"))
        .collect();
    {
        let mut all = accounts.clone();
        all.push(JULIET);
        let mut cast = Cast::new(&server, &all);
        let balcony = format!("{JULIET}/balcony");
        cast.enter_available(&balcony);
        store(
            &mut cast,
            &balcony,
            "<vCard xmlns='vcard-temp'><FN>Juliet</FN></vCard>",
        );
        store(
            &mut cast,
            &balcony,
            "<query xmlns='jabber:iq:private'><a xmlns='urn:example:a'/></query>",
        );
        cast.leave(&balcony);
        cast.enter(&homes[0]);
        cast.send(
            &homes[0],
            format!("<message to='{JULIET}' type='chat'><body>Lady,</body></message>"),
        );
        cast.leave(&homes[0]);
    }
    let mut cast = Cast::new(&server, &accounts);
    for home in &homes {
        cast.enter_available(home);
    }
    cast.forget();
    let mut juliet = crate::common::client::Client::login(&server, &format!("{JULIET}/balcony"));
    juliet.send("<presence><priority>-1</priority></presence>");
    juliet.until_settled();
    cast.hush();
    cast.forget();
    let ended = server.run(&["account", "delete", JULIET], "");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    let expected: [&[&str]; 5] = [
        &["unavailable", "unsubscribe", "unsubscribed"],
        &["unsubscribe"],
        &["unavailable", "unsubscribed"],
        &["unsubscribed"],
        &["unsubscribe"],
    ];
    for ((home, expected), (contact, ..)) in homes.iter().zip(expected).zip(CONTACTS) {
        let mut heard = Vec::new();
        while kinds(&heard).len() < expected.len() {
            let next = cast.next(home);
            heard.push(next.unwrap_or_else(|| panic!("{contact} hears no more than {heard:?}")));
        }
        heard.extend(cast.heard(home));
        let mut found = kinds(&heard);
        found.sort_unstable();
        assert_eq!(found, expected, "{contact}");
        let roster = cast.take_roster(home);
        let query = roster.find("jabber:iq:roster", "query").unwrap();
        for item in query.elements() {
            let (subscription, ask, approved) = states::shown(item);
            assert_eq!(
                (&*subscription, ask, approved),
                ("none", None, false),
                "{contact}"
            );
        }
    }
    // Her successor.
    server.add(JULIET, PASSWORD);
    let balcony = format!("{JULIET}/balcony");
    let mut hers = Cast::new(&server, &[JULIET]);
    hers.enter(&balcony);
    let roster = hers.take_roster(&balcony);
    let query = roster.find("jabber:iq:roster", "query").unwrap();
    assert_eq!(query.elements().count(), 0, "{}", text(&roster));
    hers.send(&balcony, "<presence/>");
    let own = hers.next(&balcony).expect("her own presence");
    assert!(
        own.name == "presence" && own.attribute("type").is_none(),
        "{}",
        text(&own)
    );
    hers.hush();
    let more = hers.heard(&balcony);
    assert!(more.is_empty(), "{more:?}");
    hers.send(
        &balcony,
        "<iq type='get' id='v'><vCard xmlns='vcard-temp'/></iq>",
    );
    let answer = hers.next(&balcony).expect("an answer");
    let vcard = answer.find("vcard-temp", "vCard").expect("a vCard");
    assert_eq!(vcard.elements().count(), 0, "{}", text(&answer));
    drop((cast, hers, juliet));
    let ended = server.run(&["account", "delete", JULIET], "");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    server.stop();
    no_row_of_nobody(&server);
}

/// No table has a row of an account that is not there, or one about her on its way.
fn no_row_of_nobody(server: &Server) {
    let path = server.site.path("data").join(roster::DATABASE);
    let database = rusqlite::Connection::open(path).unwrap();
    let mut tables = database
        .prepare(
            "SELECT m.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
             WHERE m.type = 'table' AND c.name = 'account'",
        )
        .unwrap();
    let tables = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let tables: Vec<String> = tables.map(Result::unwrap).collect();
    assert!(tables.len() > 3, "{tables:?}");
    for table in tables {
        let sql =
            format!("SELECT count(*) FROM {table} WHERE account NOT IN (SELECT id FROM account)");
        let count: i64 = database.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 0, "{table}");
    }
    let hers = "SELECT count(*) FROM handoff WHERE sender = ?1 OR recipient = ?1";
    let count: i64 = database
        .query_row(hers, [JULIET], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 0, "handoff");
}
