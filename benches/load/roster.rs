//! The stanzas of rosters and subscriptions (RFC 6121 §2, §3), as a client writes and reads them.

use crate::scanner;

/// The id of [`GET`], which its result has too.
pub const GET_ID: &[u8] = b"roster";
/// Asks for the roster, which also makes the session interested in pushes (RFC 6121 §2.2).
pub const GET: &[u8] = b"<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>";

const NAMESPACE: &[u8] = b"jabber:iq:roster";

/// Adds a contact, with a name and a group as people give them (RFC 6121 §2.3).
pub fn add(id: &str, jid: &str) -> String {
    let name = jid.split('@').next().unwrap_or(jid);
    format!(
        "<iq type='set' id='{id}'><query xmlns='jabber:iq:roster'><item jid='{jid}' \
         name='My friend {name}'><group>Friends</group></item></query></iq>"
    )
}

/// Removes a contact, and with it the subscriptions (RFC 6121 §2.5).
pub fn remove(id: &str, jid: &str) -> String {
    format!(
        "<iq type='set' id='{id}'><query xmlns='jabber:iq:roster'><item jid='{jid}' \
         subscription='remove'/></query></iq>"
    )
}

/// Presence of a type (RFC 6121 §3) to a contact's bare JID.
pub fn presence(kind: &str, to: &str) -> String {
    format!("<presence to='{to}' type='{kind}'/>")
}

/// Whether a stanza is a roster push (RFC 6121 §2.1.6).
pub fn is_push(stanza: &[u8]) -> bool {
    scanner::name(stanza) == b"iq"
        && scanner::attribute(stanza, b"type") == Some(b"set")
        && scanner::contains(stanza, NAMESPACE)
}

/// JID and subscription of each item in a roster result or push.
pub fn items(stanza: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    const ITEM: &[u8] = b"<item";
    let mut rest = stanza;
    std::iter::from_fn(move || {
        let item = &rest[scanner::find(rest, ITEM)?..];
        rest = &item[ITEM.len()..];
        let attribute = |name| scanner::attribute(item, name);
        let subscription = attribute(b"subscription").unwrap_or(b"none");
        Some((attribute(b"jid").unwrap_or_default(), subscription))
    })
}

/// Claims about rosters, run by `load check`.
pub fn check() {
    let push = b"<iq type='set' id='1'><query ver=\"3\" xmlns='jabber:iq:roster'>\
        <item jid='a@example.org' subscription='to'/><item name='B' jid=\"b@example.org\"><group>x\
        </group></item></query></iq>";
    assert!(is_push(push));
    assert!(!is_push(GET));
    let wanted: [(&[u8], &[u8]); 2] = [(b"a@example.org", b"to"), (b"b@example.org", b"none")];
    assert_eq!(items(push).collect::<Vec<_>>(), wanted);
    assert_eq!(items(b"<iq type='result' id='roster'/>").count(), 0);
}
