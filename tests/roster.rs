//! The roster (RFC 6121 §2), against the real program: get, set, remove, pushes and versions.

mod common;

use std::collections::BTreeMap;

use common::client::{Client, error_of, text};
use common::server::{PASSWORD, Server, site, with_store};
use stanzad::jid::BareJid;
use stanzad::limits::ROSTER_TEXT_BYTES_MAX;
use stanzad::ns;
use stanzad::storage::roster::set_item;
use stanzad::storage::{Db, accounts};
use stanzad::xml::Element;

/// The roster's namespace.
const ROSTER: &str = "jabber:iq:roster";

/// What a client keeps of a roster: items by JID, and the version.
#[derive(Clone, Debug, Default, PartialEq)]
struct Kept {
    ver: Option<String>,
    items: BTreeMap<String, Element>,
}

impl Kept {
    /// Takes in the items of a result or a push.
    fn take(&mut self, query: &Element) {
        self.ver = query.attribute("ver").map(str::to_owned);
        for item in query.elements() {
            assert!(item.is(ROSTER, "item"), "{}", text(item));
            let jid = item.attribute("jid").unwrap().to_owned();
            match item.attribute("subscription") {
                Some("remove") => self.items.remove(&jid),
                _ => self.items.insert(jid, item.clone()),
            };
        }
    }

    fn jids(&self) -> Vec<&str> {
        self.items.keys().map(String::as_str).collect()
    }
}

/// The `<query/>` of a push, if it is one.
fn pushed<'a>(iq: &'a Element, to: &str) -> Option<&'a Element> {
    let query = iq.find(ROSTER, "query")?;
    if iq.name != "iq" || iq.attribute("type") != Some("set") {
        return None;
    }
    // §2.1.6.
    assert_eq!(iq.attribute("from"), None, "{}", text(iq));
    assert_eq!(iq.attribute("to"), Some(to), "{}", text(iq));
    assert_eq!(query.elements().count(), 1, "{}", text(iq));
    Some(query)
}

/// Sends an IQ, and gives its answer; pushes that come meanwhile are taken in.
fn ask(client: &mut Client, kept: &mut Kept, type_: &str, query: &str) -> Element {
    client.send(format!("<iq type='{type_}' id='ask'>{query}</iq>"));
    loop {
        let iq = client.stanza("iq");
        match pushed(&iq, &client.jid) {
            Some(query) => kept.take(query),
            None => {
                assert_eq!(iq.attribute("id"), Some("ask"), "{}", text(&iq));
                return iq;
            }
        }
    }
}

/// Asks for the roster, from the version that is kept.
fn get(client: &mut Client, kept: &mut Kept) -> Element {
    let ver = match &kept.ver {
        Some(ver) => format!(" ver='{ver}'"),
        None => String::new(),
    };
    let answer = ask(
        client,
        kept,
        "get",
        &format!("<query xmlns='{ROSTER}'{ver}/>"),
    );
    assert_eq!(
        answer.attribute("type"),
        Some("result"),
        "{}",
        text(&answer)
    );
    if let Some(query) = answer.find(ROSTER, "query") {
        kept.items.clear();
        kept.take(query);
    }
    answer
}

fn fresh(client: &mut Client) -> Kept {
    let mut kept = Kept::default();
    get(client, &mut kept);
    kept
}

/// Sets an item, given as its attributes and children.
fn set(client: &mut Client, kept: &mut Kept, attributes: &str, children: &str) -> Element {
    let item = format!("<item {attributes}>{children}</item>");
    ask(
        client,
        kept,
        "set",
        &format!("<query xmlns='{ROSTER}'>{item}</query>"),
    )
}

fn done(answer: &Element) {
    assert_eq!(answer.attribute("type"), Some("result"), "{}", text(answer));
    assert_eq!(answer.elements().count(), 0, "{}", text(answer));
}

/// Takes in what has been pushed by now, all that comes.
fn catch_up(client: &mut Client, kept: &mut Kept) {
    for iq in client.until_settled() {
        kept.take(pushed(&iq, &client.jid).expect("a push"));
    }
}

/// RFC 6121 §2.6.1: a stream feature, once somebody is logged in.
#[test]
fn versions_are_offered() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    let before = client.secure("example.org");
    assert!(before.find("urn:xmpp:features:rosterver", "ver").is_none());
    client.scram("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
    let after = client.open("example.org");
    assert!(after.find("urn:xmpp:features:rosterver", "ver").is_some());
}

/// RFC 6121 §2.1.4, §2.2, §2.3.2, §2.4.2, §2.5.2.
#[test]
fn interested_resources_follow_the_roster_and_others_hear_nothing() {
    let server = Server::start("");
    let mut balcony = Client::login(&server, "juliet@example.org/balcony");
    let mut chamber = Client::login(&server, "juliet@example.org/chamber");
    let mut garden = Client::available(&server, "juliet@example.org/garden");
    let mut nurse = Client::login(&server, "nurse@example.org/kitchen");
    let (mut here, mut there) = (fresh(&mut balcony), fresh(&mut chamber));
    fresh(&mut nurse);
    assert!(here.items.is_empty());

    let group = "<group>Servants</group><group>Kö &amp; nig</group>";
    done(&set(
        &mut balcony,
        &mut here,
        "jid='Nurse@example.org' name='Nurse'",
        group,
    ));
    catch_up(&mut chamber, &mut there);
    assert_eq!(here, there);
    let item = &here.items["nurse@example.org"];
    assert_eq!(item.attribute("name"), Some("Nurse"));
    assert_eq!(item.attribute("subscription"), Some("none"));
    let groups: Vec<String> = item.elements().map(Element::text).collect();
    assert_eq!(groups, ["Servants", "Kö & nig"]);

    // §2.4.1: an item is replaced as a whole.
    done(&set(
        &mut chamber,
        &mut there,
        "jid='nurse@example.org' name=''",
        "",
    ));
    catch_up(&mut balcony, &mut here);
    assert_eq!(here, there);
    assert_eq!(here.items["nurse@example.org"].attribute("name"), None);
    assert_eq!(here.items["nurse@example.org"].elements().count(), 0);

    done(&set(&mut balcony, &mut here, "jid='romeo@example.net'", ""));
    let remove = "jid='nurse@example.org' subscription='remove'";
    done(&set(&mut balcony, &mut here, remove, ""));
    catch_up(&mut chamber, &mut there);
    assert_eq!(here, there);
    assert_eq!(here.jids(), ["romeo@example.net"]);
    let again = set(&mut balcony, &mut here, remove, "");
    assert_eq!(error_of(&again), "item-not-found");

    assert_eq!(fresh(&mut garden), here);
    nurse.settle();
}

/// RFC 6121 §2.1.6: the server ignores what clients answer to pushes, errors too.
#[test]
fn answers_to_pushes_are_ignored() {
    let server = Server::start("");
    let mut balcony = Client::login(&server, "juliet@example.org/balcony");
    let mut kept = fresh(&mut balcony);
    balcony.send(format!(
        "<iq type='set' id='1'><query xmlns='{ROSTER}'><item jid='a@example.org'/></query></iq>"
    ));
    let push = balcony.stanza("iq");
    kept.take(pushed(&push, &balcony.jid).unwrap());
    let id = push.attribute("id").unwrap();
    done(&balcony.stanza("iq"));
    balcony.send(format!("<iq type='result' id='{id}'/>"));
    balcony.send(format!(
        "<iq type='error' id='{id}' to='juliet@example.org'><error type='cancel'>\
         <service-unavailable xmlns='{}'/></error></iq>",
        ns::STANZA_ERROR
    ));
    balcony.settle();
    assert_eq!(fresh(&mut balcony), kept);
}

/// RFC 6121 §2.3.3.
#[test]
fn wrong_sets_are_refused_with_the_errors_of_the_rfc() {
    let server = Server::start("");
    let mut client = Client::login(&server, "juliet@example.org/balcony");
    let mut kept = fresh(&mut client);
    let long = "x".repeat(1024);
    for (query, condition) in [
        (String::new(), "bad-request"),
        (
            "<item jid='a@example.org'/><item jid='b@example.org'/>".to_owned(),
            "bad-request",
        ),
        ("<item/>".to_owned(), "bad-request"),
        ("<item jid='@example.org'/>".to_owned(), "jid-malformed"),
        ("<item jid='a@example.org/b'/>".to_owned(), "bad-request"),
        ("<item jid='juliet@example.org'/>".to_owned(), "not-allowed"),
        (
            format!("<item jid='a@example.org' name='{long}'/>"),
            "not-acceptable",
        ),
        (
            "<item jid='a@example.org'><group/></item>".to_owned(),
            "not-acceptable",
        ),
        (
            format!("<item jid='a@example.org'><group>{long}</group></item>"),
            "not-acceptable",
        ),
        (
            "<item jid='a@example.org'><group>A</group><group>A</group></item>".to_owned(),
            "bad-request",
        ),
        (
            "<item jid='a@example.org' subscription='remove'/>".to_owned(),
            "item-not-found",
        ),
    ] {
        let query = format!("<query xmlns='{ROSTER}'>{query}</query>");
        let answer = ask(&mut client, &mut kept, "set", &query);
        assert_eq!(error_of(&answer), condition, "{query}");
    }
    assert!(kept.items.is_empty());
    assert!(fresh(&mut client).items.is_empty());
}

/// RFC 6121 §2.1.5, §2; RFC 6120 §13.10.2: forbidden, and alike for every name.
#[test]
fn nobody_reads_or_changes_the_roster_of_somebody_else() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let mut kept = fresh(&mut juliet);
    done(&set(&mut juliet, &mut kept, "jid='nurse@example.org'", ""));
    let mut tybalt = Client::login(&server, "tybalt@example.org/street");
    for name in [
        "juliet@example.org",
        "romeo@example.org",
        "ghost@example.org",
    ] {
        let mut answers = Vec::new();
        for (type_, content) in [("get", ""), ("set", "<item jid='tybalt@example.org'/>")] {
            tybalt.send(format!(
                "<iq type='{type_}' id='1' to='{name}'><query xmlns='{ROSTER}'>{content}</query></iq>"
            ));
            answers.push(error_of(&tybalt.stanza("iq")));
        }
        assert_eq!(answers, ["service-unavailable", "forbidden"], "{name}");
    }
    // What seems to be a push.
    for to in [
        "juliet@example.org/balcony",
        "juliet@example.org/none",
        "ghost@example.org/x",
    ] {
        tybalt.send(format!(
            "<iq type='set' id='1' to='{to}'><query xmlns='{ROSTER}'>\
             <item jid='tybalt@example.org'/></query></iq>"
        ));
        assert_eq!(error_of(&tybalt.stanza("iq")), "forbidden", "{to}");
    }
    juliet.settle();
    assert_eq!(fresh(&mut juliet), kept);
}

/// RFC 6121 §2.6.3: an empty result, then a push for each item that has changed, also when the server
/// was started anew in between.
#[test]
fn a_client_that_comes_back_gets_what_it_has_missed() {
    let mut server = Server::start("");
    let mut balcony = Client::login(&server, "juliet@example.org/balcony");
    let mut kept = fresh(&mut balcony);
    for name in ["a", "b", "c", "d"] {
        done(&set(
            &mut balcony,
            &mut kept,
            &format!("jid='{name}@example.org'"),
            "",
        ));
    }
    let old = kept.clone();
    for item in [
        "jid='b@example.org' name='Once'",
        "jid='b@example.org' name='Twice'",
        "jid='a@example.org' subscription='remove'",
        "jid='e@example.org'",
    ] {
        done(&set(&mut balcony, &mut kept, item, ""));
    }
    server.stop();
    server.start_again();

    let mut chamber = Client::login(&server, "juliet@example.org/chamber");
    let mut cache = old;
    let answer = get(&mut chamber, &mut cache);
    assert_eq!(answer.elements().count(), 0, "{}", text(&answer));
    let pushes = chamber.until_settled();
    let of = |iq: &Element| {
        let query = pushed(iq, "juliet@example.org/chamber").unwrap();
        let jid = query.elements().next().unwrap().attribute("jid").unwrap();
        (query.attribute("ver").unwrap().to_owned(), jid.to_owned())
    };
    let (vers, jids): (Vec<_>, Vec<_>) = pushes.iter().map(of).unzip();
    assert_eq!(jids, ["b@example.org", "a@example.org", "e@example.org"]);
    let vers: Vec<u64> = vers.iter().map(|ver| ver.parse().unwrap()).collect();
    assert!(vers.is_sorted_by(|a, b| a < b), "{vers:?}");
    for push in &pushes {
        cache.take(push.find(ROSTER, "query").unwrap());
    }
    assert_eq!(cache, kept);

    // Who is up to date gets nothing but the result.
    let answer = get(&mut chamber, &mut cache);
    assert_eq!(answer.elements().count(), 0);
    chamber.settle();
    // A version that is none gets the whole.
    let mut lost = Kept {
        ver: Some("ver14".to_owned()),
        ..Kept::default()
    };
    get(&mut chamber, &mut lost);
    assert_eq!(lost, kept);
}

/// `Commit first` in lib.rs: what was acknowledged survives `kill -9`, and nothing was pushed that
/// is lost.
#[test]
fn a_set_that_was_acknowledged_or_pushed_survives_kill() {
    let mut server = Server::start("");
    let mut balcony = Client::login(&server, "juliet@example.org/balcony");
    let mut chamber = Client::login(&server, "juliet@example.org/chamber");
    let (mut here, mut there) = (fresh(&mut balcony), fresh(&mut chamber));
    done(&set(&mut balcony, &mut here, "jid='gone@example.org'", ""));
    done(&set(
        &mut balcony,
        &mut here,
        "jid='gone@example.org' subscription='remove'",
        "",
    ));
    done(&set(
        &mut balcony,
        &mut here,
        "jid='nurse@example.org' name='Nurse'",
        "",
    ));
    catch_up(&mut chamber, &mut there);
    // One more, whose push is all that is waited for.
    balcony.send(format!(
        "<iq type='set' id='last'><query xmlns='{ROSTER}'>\
         <item jid='romeo@example.net'/></query></iq>"
    ));
    there.take(pushed(&chamber.stanza("iq"), &chamber.jid).unwrap());
    server.kill();
    server.start_again();
    let mut after = Client::login(&server, "juliet@example.org/balcony");
    let whole = fresh(&mut after);
    assert_eq!(whole, there);
    assert_eq!(whole.jids(), ["nurse@example.org", "romeo@example.net"]);
    // Versions go on from where they were.
    let mut cache = here;
    get(&mut after, &mut cache);
    catch_up(&mut after, &mut cache);
    assert_eq!(cache, there);
}

/// RFC 6121 §2.6.3: "in order of modification", for all resources, while all of them change it at once;
/// several accounts do not disturb each other.
#[test]
fn resources_that_change_the_roster_at_once_end_with_the_same_roster() {
    let server = Server::start("");
    let accounts = ["juliet", "romeo", "nurse"];
    std::thread::scope(|scope| {
        for account in accounts {
            let server = &server;
            scope.spawn(move || {
                let mut clients: Vec<(Client, Kept)> = (0..3)
                    .map(|n| {
                        let jid = format!("{account}@example.org/{n}");
                        let mut client = Client::login(server, &jid);
                        let kept = fresh(&mut client);
                        (client, kept)
                    })
                    .collect();
                for (n, (client, _)) in clients.iter_mut().enumerate() {
                    let mut burst = String::new();
                    for step in 0..20 {
                        let contact = (step * (n + 1)) % 5;
                        let end = match (step + n) % 3 {
                            0 => "subscription='remove'".to_owned(),
                            _ => format!("name='{n} {step}'"),
                        };
                        burst.push_str(&format!(
                            "<iq type='set' id='{step}'><query xmlns='{ROSTER}'>\
                             <item jid='{contact}@{account}.example' {end}/></query></iq>"
                        ));
                    }
                    client.send(burst);
                }
                // Each has its answers, in order, and then what the others did after that.
                for (client, kept) in &mut clients {
                    let mut answered = 0;
                    while answered < 20 {
                        let iq = client.stanza("iq");
                        match pushed(&iq, &client.jid) {
                            Some(query) => rises(kept, query),
                            None => {
                                assert_eq!(iq.attribute("id"), Some(&*answered.to_string()));
                                answered += 1;
                            }
                        }
                    }
                }
                let (mut last, whole) = {
                    let (client, _) = &mut clients[0];
                    let whole = fresh_between(client);
                    (Vec::new(), whole)
                };
                for (n, (client, kept)) in clients.iter_mut().enumerate() {
                    let heard = match n {
                        0 => whole.0.clone(),
                        _ => client.until_settled(),
                    };
                    for iq in heard {
                        rises(kept, pushed(&iq, &client.jid).unwrap());
                    }
                    last.push(kept.clone());
                }
                assert!(last.iter().all(|kept| *kept == whole.1), "{last:?}");
                assert!(
                    whole
                        .1
                        .jids()
                        .iter()
                        .all(|jid| jid.ends_with(&format!("{account}.example")))
                );
            });
        }
    });
}

/// Takes in a push whose version has to be a newer one.
fn rises(kept: &mut Kept, query: &Element) {
    let ver = |ver: Option<&str>| ver.unwrap().parse::<u64>().unwrap();
    assert!(ver(query.attribute("ver")) > ver(kept.ver.as_deref()));
    kept.take(query);
}

/// The pushes that come before the answer to a roster get, and the roster in it.
fn fresh_between(client: &mut Client) -> (Vec<Element>, Kept) {
    client.send(format!(
        "<iq type='get' id='whole'><query xmlns='{ROSTER}'/></iq>"
    ));
    let (mut before, mut kept) = (Vec::new(), Kept::default());
    loop {
        let iq = client.stanza("iq");
        if iq.attribute("id") == Some("whole") {
            kept.take(iq.find(ROSTER, "query").unwrap());
            return (before, kept);
        }
        before.push(iq);
    }
}

/// RFC 6120 §10.1: what is sent behind a set is handled behind it, in the same packet or not.
#[test]
fn stanzas_behind_a_set_are_handled_after_it() {
    let server = Server::start("");
    let mut client = Client::login(&server, "juliet@example.org/balcony");
    client.send(format!(
        "<iq type='set' id='1'><query xmlns='{ROSTER}'><item jid='a@example.org'/></query></iq>\
         <iq type='get' id='2'><query xmlns='{ROSTER}'/></iq>\
         <iq type='set' id='3'><query xmlns='{ROSTER}'>\
         <item jid='a@example.org' subscription='remove'/></query></iq>\
         <iq type='get' id='4'><query xmlns='{ROSTER}'/></iq>"
    ));
    let mut next = |id: &str| {
        let iq = client.stanza("iq");
        assert_eq!(iq.attribute("id"), Some(id), "{}", text(&iq));
        let query = iq.find(ROSTER, "query");
        query.map_or(0, |query| query.elements().count())
    };
    assert_eq!((next("1"), next("2")), (0, 1));
    // From the get on it is an interested resource.
    let push = client.stanza("iq");
    assert!(pushed(&push, "juliet@example.org/balcony").is_some());
    let mut next = |id: &str| {
        let iq = client.stanza("iq");
        assert_eq!(iq.attribute("id"), Some(id), "{}", text(&iq));
        let query = iq.find(ROSTER, "query");
        query.map_or(0, |query| query.elements().count())
    };
    assert_eq!((next("3"), next("4")), (0, 0));
}

/// The largest roster goes out in one stanza, and its owner's stream lives.
#[test]
fn the_largest_roster_can_be_read() {
    let site = site("[limits]\nroster_items_max = 5000\n");
    with_store(&site, |store| {
        let fill = |db: &Db| {
            let juliet = BareJid::parse("juliet@example.org").unwrap();
            let id = accounts::find(db, &juliet)?.unwrap().id;
            for n in 0..5000 {
                let contact = BareJid::parse(&format!("{n:0>60}@example.org")).unwrap();
                // Characters that are six times as long on the wire.
                let name = "'".repeat(72);
                let set = set_item(db, id, &contact, Some(&name), &[], ROSTER_TEXT_BYTES_MAX)?;
                assert!(set.is_some(), "{n} is too many");
            }
            Ok(())
        };
        store.change(fill).unwrap();
    });
    let server = Server::start_in(site);
    let mut client = Client::login(&server, "juliet@example.org/balcony");
    client.forget();
    let mut kept = fresh(&mut client);
    assert_eq!(kept.items.len(), 5000);
    assert!(client.raw.len() > 2_500_000, "{}", client.raw.len());
    let refused = set(&mut client, &mut kept, "jid='one@more.example'", "");
    assert_eq!(error_of(&refused), "policy-violation");
}

/// XEP-0175 §3.
#[test]
fn anonymous_users_have_no_contacts() {
    let server = Server::start("[auth]\nanonymous = true\n");
    let mut client = Client::secured(&server);
    client.auth("ANONYMOUS", b"");
    client.outcome().unwrap();
    client.open("example.org");
    client.bind(None);
    let mut kept = fresh(&mut client);
    assert_eq!(kept, Kept::default());
    let refused = set(&mut client, &mut kept, "jid='nurse@example.org'", "");
    assert_eq!(error_of(&refused), "not-allowed");
}

/// A new account of the same name is another one, whatever a client has kept.
#[test]
fn a_deleted_account_takes_its_roster_along() {
    let server = Server::start("");
    let mut client = Client::login(&server, "juliet@example.org/balcony");
    let mut kept = fresh(&mut client);
    done(&set(&mut client, &mut kept, "jid='nurse@example.org'", ""));
    let ended = server.run(&["account", "delete", "juliet@example.org"], "");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    client.fails("not-authorized");
    server.add("juliet@example.org", PASSWORD);
    let mut client = Client::login(&server, "juliet@example.org/balcony");
    let mut fresh_one = fresh(&mut client);
    assert!(fresh_one.items.is_empty());
    for name in ["x", "y", "z"] {
        done(&set(
            &mut client,
            &mut fresh_one,
            &format!("jid='{name}@example.org'"),
            "",
        ));
    }
    get(&mut client, &mut kept);
    assert_eq!(kept, fresh_one, "the whole, not what has changed");
}
