use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::clock::Wall;
use crate::sasl::Credentials;
use crate::storage::WriterCore;

const PLENTY: u64 = 1 << 20;

fn jid(text: &str) -> BareJid {
    BareJid::parse(text).unwrap()
}

fn juliet() -> BareJid {
    jid("juliet@example.org")
}

fn nurse() -> BareJid {
    jid("nurse@example.org")
}

fn romeo() -> BareJid {
    jid("romeo@example.net")
}

fn add(core: &WriterCore, account: &BareJid) -> i64 {
    let credentials = Credentials::default();
    accounts::create(core.db(), account, &credentials, Wall::default())
        .unwrap()
        .id
}

/// A store with juliet's account.
fn store() -> (WriterCore, i64) {
    let core = WriterCore::memory(&[7; 32]).unwrap();
    let id = add(&core, &juliet());
    (core, id)
}

fn set(core: &WriterCore, id: i64, contact: &BareJid, name: &str, groups: &[&str]) -> Item {
    let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
    let name = Some(name).filter(|name| !name.is_empty());
    set_item(core.db(), id, contact, name, &groups, PLENTY)
        .unwrap()
        .unwrap()
}

fn state(core: &WriterCore, contact: &BareJid, new: State) -> Option<Item> {
    set_state(core.db(), &juliet(), contact, new, None).unwrap()
}

const LISTED: State = State::LISTED;

/// RFC 6121 §2.3.2, §2.4.1.
#[test]
fn an_item_is_read_as_it_was_set_last() {
    let (core, id) = store();
    assert_eq!(listed(core.db(), id).unwrap(), Listed::default());
    let first = set(
        &core,
        id,
        &nurse(),
        "Nurse",
        &["Servants", "\"K\u{f6}nig\"\\"],
    );
    assert_eq!(first.state, LISTED);
    assert_eq!(item(core.db(), id, &nurse()).unwrap(), Some(first.clone()));
    let second = set(&core, id, &nurse(), "", &[]);
    assert!(second.version > first.version);
    assert_eq!((second.name.as_deref(), second.groups.len()), (None, 0));
    let roster = listed(core.db(), id).unwrap();
    assert_eq!(roster.version, second.version);
    assert_eq!(roster.items, [second]);
}

/// RFC 6121 §2.1.5: a roster set does not touch subscriptions.
#[test]
fn name_and_state_are_set_apart() {
    let (core, id) = store();
    set(&core, id, &nurse(), "Nurse", &["Servants"]);
    let both = LISTED.with(State::TO).with(State::FROM);
    let pushed = state(&core, &nurse(), both).unwrap();
    assert_eq!(pushed.name.as_deref(), Some("Nurse"));
    assert_eq!(pushed.groups, ["Servants"]);
    assert_eq!(pushed.state, both);
    let renamed = set(&core, id, &nurse(), "Angelica", &[]);
    assert_eq!(renamed.state, both);
    assert!(renamed.version > pushed.version);
}

/// RFC 6121 §2.6.3: what leads to no push is no new version.
#[test]
fn only_what_clients_see_counts_and_is_pushed() {
    let (core, id) = store();
    let version = |core: &WriterCore| versions(core.db(), id).unwrap().version;
    assert_eq!(state(&core, &romeo(), State::PENDING_IN), None, "a request");
    assert_eq!(version(&core), 0);
    assert!(listed(core.db(), id).unwrap().items.is_empty());
    let pushed = state(&core, &romeo(), LISTED.with(State::FROM)).unwrap();
    assert_eq!(pushed.version, version(&core));
    let again = LISTED.with(State::FROM).with(State::PENDING_IN);
    assert_eq!(state(&core, &romeo(), again), None);
    assert_eq!(version(&core), pushed.version);
    let asks = again.with(State::PENDING_OUT);
    assert_eq!(
        state(&core, &romeo(), asks).unwrap().version,
        pushed.version + 1
    );
    let approved = asks.with(State::APPROVED);
    assert_eq!(state(&core, &romeo(), approved).unwrap().state, approved);
    assert_eq!(state(&core, &romeo(), approved), None, "as it was");
}

/// RFC 6121 §2.5.2: with the item its name and groups go, and clients are told.
#[test]
fn an_item_that_is_removed_is_pushed_once() {
    let (core, id) = store();
    set(&core, id, &nurse(), "Nurse", &["Servants"]);
    let removed = state(&core, &nurse(), State::NONE).unwrap();
    assert_eq!(
        (removed.state, removed.name.as_deref()),
        (State::NONE, None)
    );
    assert_eq!(item(core.db(), id, &nurse()).unwrap(), None);
    assert_eq!(state(&core, &nurse(), State::NONE), None);
    assert_eq!(versions(core.db(), id).unwrap().version, removed.version);
    // An entity that goes on waiting for an answer is no item any more.
    set(&core, id, &romeo(), "Romeo", &["Lovers"]);
    let waiting = state(&core, &romeo(), State::PENDING_IN).unwrap();
    assert_eq!(waiting, gone(romeo(), removed.version + 2));
    let row = item(core.db(), id, &romeo()).unwrap().unwrap();
    assert_eq!((row.state, row.name), (State::PENDING_IN, None));
    assert!(row.groups.is_empty());
}

/// RFC 6121 §3.1.3.
#[test]
fn a_request_is_kept_while_it_waits_and_no_longer() {
    let (core, id) = store();
    let db = core.db();
    let ask = |contact: &BareJid, new, request: Option<&[u8]>| {
        set_state(db, &juliet(), contact, new, request).unwrap()
    };
    ask(&romeo(), State::PENDING_IN, Some(b"<status>Hi</status>"));
    ask(&nurse(), State::PENDING_IN, Some(b""));
    let waiting = |max| requests(db, &juliet(), max).unwrap();
    assert_eq!(
        waiting(9),
        [
            (nurse(), b"".to_vec()),
            (romeo(), b"<status>Hi</status>".to_vec())
        ]
    );
    assert_eq!(waiting(1).len(), 1);
    // It stays when the user makes an item of the contact, and when nothing new is given.
    set(&core, id, &romeo(), "Romeo", &[]);
    ask(
        &romeo(),
        LISTED.with(State::PENDING_IN).with(State::TO),
        None,
    );
    assert_eq!(waiting(9)[1].1, b"<status>Hi</status>");
    ask(&romeo(), LISTED.with(State::FROM), Some(b"late"));
    ask(&nurse(), State::NONE, None);
    assert!(waiting(9).is_empty());
    ask(&romeo(), LISTED.with(State::PENDING_IN), None);
    assert!(waiting(9).is_empty(), "the old one is gone");
}

#[test]
fn requests_of_strangers_come_in_the_order_of_the_roster_changes_between_them() {
    let (core, id) = store();
    let ask = |contact: &BareJid| {
        set_state(core.db(), &juliet(), contact, State::PENDING_IN, Some(b"x")).unwrap();
    };
    ask(&romeo());
    set(&core, id, &jid("paris@example.org"), "", &[]);
    ask(&nurse());
    ask(&romeo());
    let order: Vec<BareJid> = requests(core.db(), &juliet(), 9)
        .unwrap()
        .into_iter()
        .map(|(contact, _)| contact)
        .collect();
    assert_eq!(order, [romeo(), nurse()]);
}

/// RFC 6121 §2.6.3: the final result of all modifications to each item, in their order.
#[test]
fn changes_since_a_version_are_each_item_once_and_in_order() {
    let (core, id) = store();
    let since = set(&core, id, &nurse(), "Nurse", &[]).version;
    let tybalt = jid("tybalt@example.org");
    set(&core, id, &romeo(), "Romeo", &[]);
    set(&core, id, &tybalt, "Tybalt", &[]);
    let renamed = set(&core, id, &romeo(), "My Romeo", &[]);
    let removed = state(&core, &tybalt, State::NONE).unwrap();
    let found = changes(core.db(), id, since).unwrap().unwrap();
    assert_eq!(found.items, [renamed, removed.clone()]);
    assert_eq!(found.listed, 2);
    let none = changes(core.db(), id, removed.version).unwrap().unwrap();
    assert!(none.items.is_empty());
    // It comes back: the note of its removal would undo that.
    let back = set(&core, id, &tybalt, "", &[]);
    let found = changes(core.db(), id, removed.version).unwrap().unwrap();
    assert_eq!(found.items, [back]);
}

/// RFC 6121 §2.6.3: "the server cannot associate the version ID with any previous version".
#[test]
fn a_version_that_was_never_given_out_is_unknown() {
    let (core, id) = store();
    assert!(changes(core.db(), id, 0).unwrap().is_some(), "nothing yet");
    assert_eq!(changes(core.db(), id, 1).unwrap(), None);
    let version = set(&core, id, &nurse(), "", &[]).version;
    assert_eq!(changes(core.db(), id, 0).unwrap(), None);
    assert_eq!(changes(core.db(), id, version + 1).unwrap(), None);
    assert_eq!(changes(core.db(), id, u64::MAX).unwrap(), None);
}

#[test]
fn only_the_newest_removals_are_remembered() {
    let (core, id) = store();
    let max = ROSTER_REMOVALS_MAX as usize;
    let contact = |n: usize| jid(&format!("c{n}@example.org"));
    for n in 0..max + 2 {
        set(&core, id, &contact(n), "", &[]);
    }
    let before = versions(core.db(), id).unwrap().version;
    let mut versions = Vec::new();
    for n in 0..max {
        versions.push(state(&core, &contact(n), State::NONE).unwrap().version);
    }
    let all = changes(core.db(), id, before).unwrap().unwrap();
    assert_eq!((all.items.len(), all.listed), (max, 2));
    state(&core, &contact(max), State::NONE).unwrap();
    assert_eq!(changes(core.db(), id, before).unwrap(), None);
    // The first removal is forgotten; whoever has seen it misses nothing.
    let rest = changes(core.db(), id, versions[0]).unwrap().unwrap();
    assert_eq!((rest.items.len(), rest.listed), (max, 1));
    let kept: i64 = core
        .db()
        .connection()
        .query_row("SELECT count(*) FROM roster_removed", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, i64::from(ROSTER_REMOVALS_MAX));
}

#[test]
fn names_and_groups_are_bounded_in_bytes_together() {
    let (core, id) = store();
    let set = |contact: &BareJid, name: &str, max| {
        let set = set_item(core.db(), id, contact, Some(name), &[], max).unwrap();
        set.is_some()
    };
    // "[]" is what an item without groups costs.
    assert!(set(&nurse(), "12345678", 10));
    assert!(!set(&nurse(), "123456789", 10));
    assert!(!set(&romeo(), "1", 12));
    assert!(set(&romeo(), "1", 13));
    assert!(set(&nurse(), "1234567", 5), "what gets shorter is let in");
    assert_eq!(
        listed(core.db(), id).unwrap().items[0].name.as_deref(),
        Some("1234567")
    );
    let version = versions(core.db(), id).unwrap().version;
    assert!(!set(&nurse(), "1234567890", 10));
    assert_eq!(versions(core.db(), id).unwrap().version, version);
}

#[test]
fn accounts_have_rosters_and_versions_of_their_own() {
    let (core, id) = store();
    let other = add(&core, &nurse());
    let mine = set(&core, id, &romeo(), "Romeo", &[]);
    let theirs = set(&core, other, &romeo(), "Montague", &[]);
    assert_ne!(mine.version, theirs.version);
    assert_eq!(listed(core.db(), id).unwrap().items, [mine]);
    assert_eq!(listed(core.db(), other).unwrap().items, [theirs]);
    assert_eq!(states(core.db(), &juliet()).unwrap(), [(romeo(), LISTED)]);
    assert!(states(core.db(), &romeo()).unwrap().is_empty());
    let nobody = set_state(core.db(), &romeo(), &juliet(), LISTED, None);
    assert_eq!(nobody, Err(StoreError::NotFound));
}

#[test]
fn a_deleted_account_leaves_nothing_and_its_versions_mean_nothing_to_its_successor() {
    let (core, id) = store();
    let version = set(&core, id, &nurse(), "Nurse", &[]).version;
    set(&core, id, &romeo(), "", &[]);
    state(&core, &romeo(), State::NONE);
    accounts::delete(core.db(), &juliet()).unwrap();
    for table in ["roster", "roster_item", "roster_removed"] {
        let sql = format!("SELECT count(*) FROM {table}");
        let left: i64 = core
            .db()
            .connection()
            .query_row(&sql, [], |row| row.get(0))
            .unwrap();
        assert_eq!(left, 0, "{table}");
    }
    let id = add(&core, &juliet());
    for _ in 0..5 {
        set(&core, id, &nurse(), "Nurse", &[]);
    }
    assert_eq!(changes(core.db(), id, version).unwrap(), None);
}

#[test]
fn rows_that_no_version_has_written_are_errors() {
    let (core, id) = store();
    set(&core, id, &nurse(), "Nurse", &["Servants"]);
    for (column, value) in [
        ("groups", "'Servants'"),
        ("groups", "'[1]'"),
        ("groups", "'{}'"),
        ("contact", "'a@b@c'"),
        ("state", "96"),
        ("state", "-1"),
        ("state", "288"),
        ("version", "-1"),
    ] {
        let connection = core.db().connection();
        connection.execute_batch("SAVEPOINT damage").unwrap();
        let sql = format!("UPDATE roster_item SET {column} = {value}");
        connection.execute(&sql, []).unwrap();
        let read = listed(core.db(), id);
        assert!(
            matches!(read, Err(StoreError::Malformed(_))),
            "{sql}: {read:?}"
        );
        connection
            .execute_batch("ROLLBACK TO damage; RELEASE damage")
            .unwrap();
    }
    assert_eq!(listed(core.db(), id).unwrap().items.len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Name(u8, String, Vec<String>),
    State(u8, u8),
    Remove(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (
            0..9u8,
            "[a-c&'\"]{0,3}",
            prop::collection::vec("[x-z]{1,2}", 0..3)
        )
            .prop_map(|(who, name, groups)| Step::Name(who, name, groups)),
        (0..9u8, 0..64u8).prop_map(|(who, bits)| Step::State(who, bits)),
        (0..9u8).prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 0..60)
}

/// What a client keeps of a roster.
fn replay(kept: &mut BTreeMap<BareJid, Item>, pushed: &Item) {
    if pushed.state.is_listed() {
        kept.insert(pushed.contact.clone(), pushed.clone());
    } else {
        kept.remove(&pushed.contact);
    }
}

/// What clients see of an item, in which a request that waits is not.
fn seen(items: impl IntoIterator<Item = Item>) -> Vec<Item> {
    let seen = |mut item: Item| {
        item.state = item.state.shown();
        item
    };
    items.into_iter().map(seen).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// RFC 6121 §2.6: a client that has seen all pushes, and one that has kept any earlier version and
    /// gets the changes since, both have the roster that a third one gets whole. Versions rise.
    #[test]
    fn pushes_over_an_older_list_give_the_newest(steps in steps()) {
        let (core, id) = store();
        let mut live = BTreeMap::new();
        let mut past: Vec<(u64, BTreeMap<BareJid, Item>)> = vec![(0, BTreeMap::new())];
        for step in steps {
            let contact = |who: u8| jid(&format!("c{who}@example.org"));
            let pushed = match step {
                Step::Name(who, name, groups) => {
                    let name = Some(name).filter(|name| !name.is_empty());
                    set_item(core.db(), id, &contact(who), name.as_deref(), &groups, PLENTY)
                }
                Step::State(who, bits) => {
                    let new = State::from_bits(bits);
                    set_state(core.db(), &juliet(), &contact(who), new, Some(b"hi"))
                }
                Step::Remove(who) => {
                    set_state(core.db(), &juliet(), &contact(who), State::NONE, None)
                }
            };
            if let Some(pushed) = pushed.unwrap() {
                replay(&mut live, &pushed);
                prop_assert!(pushed.version > past.last().unwrap().0);
                past.push((pushed.version, live.clone()));
            }
        }
        let whole = listed(core.db(), id).unwrap();
        prop_assert_eq!(whole.version, past.last().unwrap().0);
        let whole = seen(whole.items);
        prop_assert_eq!(seen(live.into_values()), whole.clone());
        for (version, mut kept) in past {
            match changes(core.db(), id, version).unwrap() {
                Some(changes) => {
                    prop_assert_eq!(changes.listed, whole.len());
                    prop_assert!(changes.items.is_sorted_by(|a, b| a.version < b.version));
                    changes.items.iter().for_each(|item| replay(&mut kept, item));
                    prop_assert_eq!(seen(kept.into_values()), whole.clone());
                }
                // The roster had no version yet.
                None => prop_assert_eq!(version, 0),
            }
        }
    }
}
