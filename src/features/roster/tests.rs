use super::*;
use crate::router::testing::{Seat, Site, record};
use crate::storage::accounts;

static FEATURES: &[&Feature] = &[&FEATURE];

/// Juliet's account, in memory and in a store, and her balcony.
struct Scene {
    site: Site,
    balcony: Seat,
}

const JULIET: &str = "juliet@example.org";

impl Scene {
    fn new() -> Scene {
        let mut site = Site::new(FEATURES);
        site.create(JULIET);
        let jid = BareJid::parse(JULIET).unwrap();
        let record = accounts::find(site.store.db(), &jid).unwrap().unwrap();
        site.account(JULIET, Standing::Known(record));
        let balcony = site.bind(JULIET, "balcony", None);
        Scene { site, balcony }
    }

    /// Sends an IQ; the store is not asked yet.
    fn send(&mut self, from: Seat, id: &str, type_: Type, query: Element) {
        let mut iq = Stanza::new(Kind::Iq, type_, Payload::from_elements(&[query]));
        iq.id = Some(id.into());
        self.site.send(from, iq);
    }

    /// What an IQ is answered with.
    fn ask(&mut self, from: Seat, type_: Type, query: Element) -> String {
        self.send(from, "1", type_, query);
        self.site.run_store();
        self.site.take(from)
    }

    fn get(&mut self, from: Seat, ver: Option<&str>) -> String {
        self.ask(from, Type::Get, with_ver(ver))
    }

    fn set(&mut self, from: Seat, item: Element) -> String {
        self.ask(from, Type::Set, query_of([item]))
    }

    fn state(&self, contact: &str) -> State {
        let accounts = &self.site.router.accounts;
        let account = accounts.get(accounts.find(JULIET).unwrap()).unwrap();
        account.roster.as_ref().unwrap().state(contact)
    }
}

fn with_ver(ver: Option<&str>) -> Element {
    let query = Element::new(ns::ROSTER, "query");
    match ver {
        Some(ver) => query.attr("ver", ver),
        None => query,
    }
}

fn query_of(items: impl IntoIterator<Item = Element>) -> Element {
    let query = Element::new(ns::ROSTER, "query");
    items.into_iter().fold(query, Element::child)
}

fn item(jid: &str) -> Element {
    Element::new(ns::ROSTER, "item").attr("jid", jid)
}

fn named(jid: &str, name: &str, groups: &[&str]) -> Element {
    let group = |name: &&str| Element::new(ns::ROSTER, "group").with_text(*name);
    let item = item(jid).attr("name", name);
    groups.iter().map(group).fold(item, Element::child)
}

fn removal(jid: &str) -> Element {
    item(jid).attr("subscription", "remove")
}

/// The value of the last `ver` in what was heard.
fn ver(heard: &str) -> String {
    let (_, after) = heard.rsplit_once(" ver='").expect(heard);
    after.split('\'').next().unwrap().to_owned()
}

#[track_caller]
fn in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            panic!("{part:?} is not in {rest:?}, of {text}");
        };
        rest = after;
    }
}

/// RFC 6121 §2.1.4, §2.3.2.
#[test]
fn what_was_set_is_in_the_roster() {
    let mut scene = Scene::new();
    let balcony = scene.balcony;
    let empty = scene.get(balcony, None);
    in_order(
        &empty,
        &["id='1' type='result'><query xmlns='jabber:iq:roster' ver='0'/></iq>"],
    );
    let heard = scene.set(
        balcony,
        named("Nurse@Example.org", "Nurse", &["Servants", "Old"]),
    );
    let pushed = "<item jid='nurse@example.org' subscription='none' name='Nurse'>\
                  <group>Servants</group><group>Old</group></item></query></iq>";
    in_order(
        &heard,
        &["type='set'><query", pushed, "id='1' type='result'/>"],
    );
    assert_eq!(scene.state("nurse@example.org"), State::LISTED);
    let whole = scene.get(balcony, None);
    in_order(
        &whole,
        &["type='result'", &format!("ver='{}'", ver(&heard)), pushed],
    );
}

/// RFC 6121 §2.1.2: what clients must not set is not looked at.
#[test]
fn clients_set_neither_subscription_nor_ask_nor_approved() {
    let mut scene = Scene::new();
    let balcony = scene.balcony;
    scene.get(balcony, None);
    let wild = item("nurse@example.org")
        .attr("subscription", "both")
        .attr("ask", "subscribe")
        .attr("approved", "true");
    let heard = scene.set(balcony, wild);
    in_order(
        &heard,
        &["<item jid='nurse@example.org' subscription='none'/>"],
    );
    assert_eq!(scene.state("nurse@example.org"), State::LISTED);
}

/// RFC 6121 §2.2: only who has asked for the roster is pushed to, and §2.1.6: all of them are.
#[test]
fn pushes_go_to_those_that_asked_for_the_roster() {
    let mut scene = Scene::new();
    let balcony = scene.balcony;
    let phone = scene.site.bind(JULIET, "phone", Some(0));
    let tablet = scene.site.bind(JULIET, "tablet", Some(0));
    scene.get(phone, Some(""));
    let heard = scene.set(balcony, item("nurse@example.org"));
    assert!(!heard.contains("<query"), "{heard}");
    let pushed = scene.site.take(phone);
    in_order(
        &pushed,
        &["<iq to='juliet@example.org/phone' ", "type='set'"],
    );
    assert_eq!(scene.site.take(tablet), "");
}

/// RFC 6121 §2.3.3, §2.5.3, RFC 6120 §8.3.3.8: each wrong set, and that it changes nothing.
#[test]
fn a_wrong_set_has_the_error_of_the_rfc() {
    let mut scene = Scene::new();
    let balcony = scene.balcony;
    let before = ver(&scene.get(balcony, None));
    let long = "x".repeat(1024);
    let fits = "x".repeat(1023);
    let many: Vec<String> = (0..33).map(|n| format!("g{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let nurse = "nurse@example.org";
    for (items, condition, type_) in [
        (vec![], "bad-request", "modify"),
        (
            vec![item(nurse), item("a@example.org")],
            "bad-request",
            "modify",
        ),
        (
            vec![Element::new(ns::ROSTER, "item")],
            "bad-request",
            "modify",
        ),
        (
            vec![Element::new("urn:x", "item").attr("jid", nurse)],
            "bad-request",
            "modify",
        ),
        (
            vec![item("nurse@example.org/kitchen")],
            "bad-request",
            "modify",
        ),
        (vec![item("nurse@")], "jid-malformed", "modify"),
        (vec![item("")], "jid-malformed", "modify"),
        (vec![named(nurse, "", &["A", "A"])], "bad-request", "modify"),
        // Composed and decomposed: they look the same.
        (
            vec![named(nurse, "", &["\u{e9}", "e\u{301}"])],
            "bad-request",
            "modify",
        ),
        (vec![named(nurse, &long, &[])], "not-acceptable", "modify"),
        (
            vec![named(nurse, "", &["A", ""])],
            "not-acceptable",
            "modify",
        ),
        (vec![named(nurse, "", &[&long])], "not-acceptable", "modify"),
        (vec![named(nurse, "", &many)], "not-acceptable", "modify"),
        (vec![item("Juliet@example.org")], "not-allowed", "cancel"),
        (vec![removal(nurse)], "item-not-found", "modify"),
        (vec![removal(JULIET)], "item-not-found", "modify"),
    ] {
        let shown = format!("{items:?}");
        let heard = scene.ask(balcony, Type::Set, query_of(items));
        let error = format!("<error type='{type_}'><{condition} ");
        assert!(heard.contains(&error), "{heard} to {shown}");
        assert!(!heard.contains("type='set'"), "{heard}");
    }
    assert_eq!(ver(&scene.get(balcony, None)), before);
    let heard = scene.set(balcony, named(nurse, &fits, &["a", "A", &fits]));
    assert!(heard.contains("type='result'"), "{heard}");
}

/// RFC 6121 §2.1.3.
#[test]
fn a_get_with_an_item_is_a_bad_request() {
    let mut scene = Scene::new();
    let heard = scene.ask(scene.balcony, Type::Get, query_of([item("a@example.org")]));
    assert!(heard.contains("<bad-request "), "{heard}");
}

/// RFC 6121 §2.5.2.
#[test]
fn a_removal_is_pushed_and_done_once() {
    let mut scene = Scene::new();
    let balcony = scene.balcony;
    scene.get(balcony, None);
    let set = scene.set(balcony, item("nurse@example.org"));
    let removed = scene.set(balcony, removal("nurse@example.org"));
    in_order(
        &removed,
        &[
            "<item jid='nurse@example.org' subscription='remove'/>",
            "type='result'/>",
        ],
    );
    assert!(ver(&removed).parse::<u64>().unwrap() > ver(&set).parse().unwrap());
    assert_eq!(scene.state("nurse@example.org"), State::NONE);
    let again = scene.set(balcony, removal("nurse@example.org"));
    assert!(again.contains("<item-not-found "), "{again}");
}

/// RFC 6121 §2.6.3: an empty result, then each change once, in order.
#[test]
fn an_older_version_is_brought_up_to_date_by_pushes() {
    let mut scene = Scene::new();
    let balcony = scene.balcony;
    scene.get(balcony, None);
    scene.set(balcony, item("romeo@example.net"));
    let kept = ver(&scene.set(balcony, item("tybalt@example.org")));
    scene.set(balcony, item("bill@example.org"));
    scene.set(balcony, removal("tybalt@example.org"));
    let newest = ver(&scene.set(balcony, named("bill@example.org", "Bill", &[])));
    let phone = scene.site.bind(JULIET, "phone", None);
    let heard = scene.get(phone, Some(&kept));
    in_order(
        &heard,
        &[
            "id='1' type='result'/>",
            "type='set'",
            "<item jid='tybalt@example.org' subscription='remove'/>",
            "type='set'",
            &format!(
                "ver='{newest}'><item jid='bill@example.org' subscription='none' name='Bill'/>"
            ),
        ],
    );
    assert_eq!(heard.matches("<iq ").count(), 3, "{heard}");
    assert!(!heard.contains("romeo"), "{heard}");
    let heard = scene.get(phone, Some(&newest));
    assert!(heard.ends_with(" id='1' type='result'/>"), "{heard}");
    assert_eq!(heard.matches("<iq ").count(), 1, "{heard}");
    // It gets pushes from then on.
    scene.set(balcony, item("nurse@example.org"));
    assert!(scene.site.take(phone).contains("nurse@example.org"));
}

/// RFC 6121 §2.6.2, §2.6.3.
#[test]
fn a_version_that_the_server_cannot_place_gets_the_whole_roster() {
    let mut scene = Scene::new();
    let balcony = scene.balcony;
    scene.get(balcony, None);
    let newest = ver(&scene.set(balcony, item("nurse@example.org")));
    let next = (newest.parse::<u64>().unwrap() + 1).to_string();
    let zeros = format!("00{newest}");
    for ver in [
        "",
        "ver7",
        "-1",
        "0",
        &next,
        &zeros,
        "99999999999999999999999",
    ] {
        let heard = scene.get(balcony, Some(ver));
        assert!(
            heard.contains("<item jid='nurse@example.org'"),
            "{ver}: {heard}"
        );
        assert!(heard.contains(&format!("ver='{newest}'")), "{ver}: {heard}");
    }
}

/// RFC 6121 §2.6.3: whichever is the shorter answer.
#[test]
fn more_changes_than_half_of_the_roster_are_sent_as_the_whole() {
    let mut scene = Scene::new();
    let balcony = scene.balcony;
    let contact = |n: usize| format!("c{n}@example.org");
    let mut vers = vec!["0".to_owned()];
    scene.get(balcony, None);
    for n in 0..2 * FEW + 10 {
        vers.push(ver(&scene.set(balcony, item(&contact(n)))));
    }
    let phone = scene.site.bind(JULIET, "phone", None);
    let pushes = |heard: &str| heard.matches("type='set'").count();
    let behind = |count: usize| vers[vers.len() - 1 - count].clone();
    for count in [0, 1, FEW, FEW + 5] {
        let heard = scene.get(phone, Some(&behind(count)));
        assert_eq!(pushes(&heard), count, "{heard}");
        assert!(heard.contains("id='1' type='result'/>"), "{heard}");
    }
    let heard = scene.get(phone, Some(&behind(FEW + 6)));
    assert_eq!(pushes(&heard), 0);
    assert_eq!(heard.matches("<item ").count(), 2 * FEW + 10);
}

/// `Commit first` in lib.rs, RFC 6121 §2.6.3: two resources change the roster at once, and a third
/// asks for it: each hears what it would have heard had they come one after another.
#[test]
fn results_and_pushes_come_in_the_order_of_commits() {
    let mut scene = Scene::new();
    let balcony = scene.balcony;
    let phone = scene.site.bind(JULIET, "phone", None);
    let tablet = scene.site.bind(JULIET, "tablet", None);
    scene.get(balcony, None);
    scene.get(phone, None);
    scene.send(
        balcony,
        "first",
        Type::Set,
        query_of([item("a@example.org")]),
    );
    scene.send(tablet, "get", Type::Get, with_ver(None));
    scene.send(
        phone,
        "second",
        Type::Set,
        query_of([item("b@example.org")]),
    );
    assert_eq!(
        scene.site.router.out.batch.changes.len(),
        1,
        "one at a time"
    );
    scene.site.run_store();
    let heard = [balcony, phone, tablet].map(|seat| scene.site.take(seat));
    in_order(
        &heard[0],
        &["a@example.org", "id='first' type='result'", "b@example.org"],
    );
    in_order(
        &heard[1],
        &[
            "a@example.org",
            "b@example.org",
            "id='second' type='result'",
        ],
    );
    // The snapshot has the first; the push of the second comes after it.
    in_order(
        &heard[2],
        &[
            "id='get' type='result'",
            "a@example.org",
            "type='set'",
            "b@example.org",
        ],
    );
    assert_eq!(heard[2].matches("a@example.org").count(), 1, "{}", heard[2]);
}

/// RFC 6120 §10.1: a refusal does not wait behind what its client has asked for later.
#[test]
fn answers_to_a_client_come_in_the_order_of_its_requests() {
    let mut scene = Scene::new();
    let balcony = scene.balcony;
    let phone = scene.site.bind(JULIET, "phone", None);
    scene.get(balcony, None);
    // All in one turn.
    for (seat, id, query) in [
        (balcony, "1", query_of([removal("none@example.org")])),
        (phone, "2", query_of([item("a@example.org")])),
        (balcony, "3", query_of([item("b@example.org")])),
    ] {
        let payload = Payload::from_elements(&[query]);
        let mut iq = Stanza::new(Kind::Iq, Type::Set, payload);
        iq.id = Some(id.into());
        scene.site.router.outbound(seat.session, iq, 100).unwrap();
    }
    scene.site.run_store();
    in_order(
        &scene.site.take(balcony),
        &[
            "id='1' type='error'",
            "a@example.org",
            "b@example.org",
            "id='3' type='result'",
        ],
    );
}

/// RFC 6121 §2.1.5, §2.2; RFC 6120 §13.11: whether it exists, is online or not.
#[test]
fn others_learn_nothing_of_a_roster_and_do_not_change_it() {
    let mut scene = Scene::new();
    let romeo = scene.site.bind("romeo@example.org", "orchard", Some(0));
    scene
        .site
        .account("tybalt@example.org", Standing::Known(record(true)));
    scene.site.account("ghost@example.org", Standing::Unknown);
    for name in ["juliet", "tybalt", "ghost"] {
        for (type_, condition) in [(Type::Get, "service-unavailable"), (Type::Set, "forbidden")] {
            let payload = Payload::from_elements(&[query_of([item("paris@example.org")])]);
            let mut iq = Stanza::new(Kind::Iq, type_, payload);
            iq.id = Some("1".into());
            iq.to = Some(Jid::parse(&format!("{name}@example.org")).unwrap());
            scene.site.send(romeo, iq);
            scene.site.run_store();
            let heard = scene.site.take(romeo);
            assert!(heard.contains(&format!("<{condition} ")), "{name}: {heard}");
        }
    }
    assert_eq!(scene.state("paris@example.org"), State::NONE);
    assert_eq!(scene.site.take(scene.balcony), "");
}

/// RFC 6121 §2.1.6: nobody but the server pushes.
#[test]
fn what_looks_like_a_push_reaches_no_other_account() {
    let mut scene = Scene::new();
    let balcony = scene.balcony;
    let romeo = scene.site.bind("romeo@example.org", "orchard", Some(0));
    for to in [
        "juliet@example.org/balcony",
        "juliet@example.org/none",
        "x@remote.example/y",
    ] {
        let payload = Payload::from_elements(&[query_of([item("tybalt@example.org")])]);
        let mut iq = Stanza::new(Kind::Iq, Type::Set, payload);
        iq.id = Some("1".into());
        iq.to = Some(Jid::parse(to).unwrap());
        scene.site.send(romeo, iq);
        let heard = scene.site.take(romeo);
        assert!(heard.contains("<forbidden "), "{to}: {heard}");
        assert_eq!(scene.site.take(balcony), "");
    }
}

/// XEP-0175 §3.
#[test]
fn anonymous_users_have_an_empty_roster_and_keep_it_so() {
    let mut scene = Scene::new();
    let anon = scene.site.bind("anon@example.org", "web", None);
    let accounts = &mut scene.site.router.accounts;
    let key = accounts.find("anon@example.org").unwrap();
    accounts.get_mut(key).unwrap().standing = Standing::Anonymous;
    let heard = scene.get(anon, Some(""));
    assert!(
        heard.contains("type='result'><query xmlns='jabber:iq:roster'/>"),
        "{heard}"
    );
    let heard = scene.set(anon, item("nurse@example.org"));
    assert!(heard.contains("<not-allowed "), "{heard}");
    let heard = scene.set(anon, removal("nurse@example.org"));
    assert!(heard.contains("<not-allowed "), "{heard}");
}

/// A fault of ours is told as one, and not as a rule for somebody else.
#[test]
fn a_roster_that_is_not_loaded_is_not_changed() {
    let mut scene = Scene::new();
    let accounts = &mut scene.site.router.accounts;
    let key = accounts.find(JULIET).unwrap();
    accounts.get_mut(key).unwrap().roster = None;
    let heard = scene.set(scene.balcony, item("nurse@example.org"));
    assert!(heard.contains("<internal-server-error "), "{heard}");
}

#[test]
fn a_full_roster_takes_no_more_contacts_but_changes_of_those_it_has() {
    let mut scene = Scene::new();
    let balcony = scene.balcony;
    let mut settings = (*scene.site.router.settings).clone();
    settings.limits.roster_items_max = 2;
    scene.site.router.settings = settings.into();
    scene.set(balcony, item("a@example.org"));
    scene.set(balcony, item("b@example.org"));
    let heard = scene.set(balcony, item("c@example.org"));
    assert!(
        heard.contains("<error type='wait'><policy-violation "),
        "{heard}"
    );
    let heard = scene.set(balcony, named("a@example.org", "A", &[]));
    assert!(heard.contains("type='result'"), "{heard}");
    scene.set(balcony, removal("a@example.org"));
    let heard = scene.set(balcony, item("c@example.org"));
    assert!(heard.contains("type='result'"), "{heard}");
}

/// The bound that lets a whole roster go out in one stanza.
#[test]
fn names_and_groups_of_all_contacts_are_bounded_together() {
    let mut scene = Scene::new();
    let balcony = scene.balcony;
    let groups: Vec<String> = (0..31).map(|n| format!("{n:0>1000}")).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let mut taken = 0_u64;
    let refused = loop {
        let contact = format!("c{taken}@example.org");
        let heard = scene.set(balcony, named(&contact, "", &groups));
        if heard.contains("type='error'") {
            break heard;
        }
        taken += 1;
    };
    assert!(refused.contains("<policy-violation "), "{refused}");
    assert_eq!(taken, ROSTER_TEXT_BYTES_MAX / (31 * 1003 + 1));
    let heard = scene.set(balcony, item("romeo@example.org"));
    assert!(heard.contains("type='result'"), "a short one fits: {heard}");
}

#[test]
fn a_store_that_fails_changes_nothing_and_is_an_error() {
    let mut scene = Scene::new();
    let balcony = scene.balcony;
    scene.get(balcony, None);
    scene.send(balcony, "1", Type::Set, query_of([item("a@example.org")]));
    scene.site.answer_change(Err(StoreError::Full));
    assert!(scene.site.take(balcony).contains("<resource-constraint "));
    assert_eq!(scene.state("a@example.org"), State::NONE);
    scene.send(balcony, "2", Type::Get, with_ver(None));
    scene.site.answer_read(Err(StoreError::Stopped));
    assert!(scene.site.take(balcony).contains("<internal-server-error "));
    let heard = scene.set(balcony, item("a@example.org"));
    assert!(heard.contains("type='result'"), "{heard}");
}

/// The successor on the same resource has not asked for the roster.
#[test]
fn a_session_that_ends_while_it_asks_leaves_its_interest_to_nobody() {
    let mut scene = Scene::new();
    let balcony = scene.balcony;
    scene.send(balcony, "1", Type::Get, with_ver(Some("0")));
    scene.site.router.session_closed(balcony.session);
    let successor = scene.site.bind(JULIET, "balcony", None);
    scene.site.run_store();
    assert_eq!(scene.site.take(successor), "");
    let heard = scene.set(successor, item("a@example.org"));
    assert!(!heard.contains("<query"), "{heard}");
}

#[test]
fn an_item_costs_no_more_markup_than_is_allowed_for() {
    let longest = Item {
        contact: BareJid::parse("a").unwrap(),
        state: State::LISTED
            .with(State::PENDING_OUT)
            .with(State::APPROVED)
            .with(State::FROM),
        name: Some("n".to_owned()),
        groups: vec!["g".to_owned()],
        version: 1,
    };
    let bytes = roster::item_element(&longest).to_bytes();
    let own = b" xmlns='jabber:iq:roster'<group>g</group>an".len();
    assert!((bytes.len() - own) as u64 <= crate::limits::ROSTER_MARKUP_BYTES);
    // What groups cost escaped, compared with what they cost in the store.
    assert!("<group>&apos;</group>".len() <= 6 * "\"'\",".len());
}

#[test]
fn the_stream_says_that_it_knows_versions_once_somebody_is_logged_in() {
    let site = Site::new(FEATURES);
    let domain = site.router.domain("example.org").unwrap();
    for authenticated in [false, true] {
        let context = StreamFeatureContext {
            pipeline: &site.router.pipeline,
            domain,
            authenticated,
            stanza_bytes_max: 10_000,
        };
        let mut out = Vec::new();
        write(&context, &mut out);
        let offered = "<ver xmlns='urn:xmpp:features:rosterver'/>";
        assert_eq!(out == offered.as_bytes(), authenticated);
    }
}
