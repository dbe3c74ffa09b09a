//! The patterns themselves: each rule of them, and what breaks it.

use crate::common::pattern::{Words, fill, matches, matches_all, stanza};

const OWN: &str = "juliet@example.com/balcony";

fn check(pattern: &str, seen: &str) -> Result<(), String> {
    matches(&stanza(pattern), &stanza(seen), OWN, &mut Words::new())
}

#[test]
fn attributes_match_in_any_order_and_no_other_may_be_there() {
    check("<presence a='1' b='2'/>", "<presence b='2' a='1'/>").unwrap();
    check("<presence a='1'/>", "<presence a='1' b='2'/>").unwrap_err();
    check("<presence a='1' b='2'/>", "<presence a='1'/>").unwrap_err();
    check("<presence a='1'/>", "<presence a='2'/>").unwrap_err();
}

#[test]
fn white_space_in_a_text_counts_and_that_between_elements_does_not() {
    check(
        "<message> <body>a b</body> </message>",
        "<message><body>a b</body></message>",
    )
    .unwrap();
    check(
        "<message><body>a b</body></message>",
        "<message><body>a  b</body></message>",
    )
    .unwrap_err();
    check(
        "<message><body> a</body></message>",
        "<message><body>a</body></message>",
    )
    .unwrap_err();
}

#[test]
fn children_match_in_order_unless_others_may_be_there() {
    let seen = "<query><a/><b/><c/></query>";
    check("<query><a/><b/><c/></query>", seen).unwrap();
    check("<query><b/><a/><c/></query>", seen).unwrap_err();
    check("<query><a/><b/></query>", seen).unwrap_err();
    check("<query><a/><b/><c/><d/></query>", seen).unwrap_err();
    check("<query><c/><a/><d:others/></query>", seen).unwrap();
    check("<query><c/><a/><b/><d:unordered/></query>", seen).unwrap();
    check("<query><c/><a/><d:unordered/></query>", seen).unwrap_err();
    check("<query><c/><a/><b/><b/><d:unordered/></query>", seen).unwrap_err();
    check("<query><e/><d:others/></query>", seen).unwrap_err();
    check("<query><a/><a/><d:others/></query>", seen).unwrap_err();
}

#[test]
fn namespaces_count() {
    check("<query xmlns='a'/>", "<query xmlns='b'/>").unwrap_err();
    check("<query xmlns='a'/>", "<x:query xmlns:x='a'/>").unwrap();
}

#[test]
fn words_stand_for_one_value() {
    let mut words = Words::new();
    let pattern = stanza("<query ver='{one}'/>");
    matches(&pattern, &stanza("<query ver='7'/>"), OWN, &mut words).unwrap();
    matches(&pattern, &stanza("<query ver='7'/>"), OWN, &mut words).unwrap();
    matches(&pattern, &stanza("<query ver='8'/>"), OWN, &mut words).unwrap_err();
    let sent = fill(&pattern, &words);
    assert_eq!(sent.attribute("ver"), Some("7"));
}

#[test]
fn words_for_kinds_of_values() {
    check("<a b='{utc}'/>", "<a b='2002-09-10T23:08:25Z'/>").unwrap();
    check("<a b='{utc}'/>", "<a b='2002-09-10T23:08:25.123Z'/>").unwrap();
    check("<a b='{utc}'/>", "<a b='2002-09-10T23:08:25'/>").unwrap_err();
    check("<a b='{utc}'/>", "<a b='20020910T23:08:25'/>").unwrap_err();
    check("<a b='{number}'/>", "<a b='903'/>").unwrap();
    check("<a b='{number}'/>", "<a b='-1'/>").unwrap_err();
    check("<a b='{any}'/>", "<a b=''/>").unwrap_err();
    check("<a>{any}</a>", "<a>x</a>").unwrap();
}

#[test]
fn what_a_server_may_add_is_not_compared() {
    check("<message/>", "<message xml:lang='en'/>").unwrap();
    check("<message xml:lang='en'/>", "<message/>").unwrap_err();
    check("<iq id='1'/>", "<iq id='1' from='juliet@example.com'/>").unwrap();
    check("<iq id='1'/>", "<iq id='1' from='romeo@example.net'/>").unwrap_err();
    check("<presence/>", "<presence from='juliet@example.com'/>").unwrap_err();
    let text = "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>no</text>";
    check("<error/>", &format!("<error>{text}</error>")).unwrap();
}

#[test]
fn each_pattern_needs_a_stanza_of_its_own() {
    let all = |patterns: &[&str], seen: &[&str]| {
        let parse = |texts: &[&str]| texts.iter().map(|one| stanza(one)).collect::<Vec<_>>();
        matches_all(&parse(patterns), &parse(seen), OWN, &mut Words::new())
    };
    all(&["<a/>", "<b/>"], &["<b/>", "<a/>"]).unwrap();
    all(&["<a/>", "<a/>"], &["<a/>", "<b/>"]).unwrap_err();
    all(&["<a/>"], &["<a/>", "<a/>"]).unwrap_err();
    all(&["<a/>", "<a/>"], &["<a/>"]).unwrap_err();
}
