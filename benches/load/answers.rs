//! What a client answers by itself: roster pushes, questions about its capabilities, and other
//! requests (RFC 6120 §8.2.3: each request must be answered).

use std::sync::OnceLock;

use openssl::hash::{MessageDigest, hash};

use crate::{roster, scanner, scram};

const NODE: &str = "https://load.example.org";
const IDENTITY: &str = "client/bot//load";
const FEATURES: [&str; 2] = [
    "http://jabber.org/protocol/caps",
    "http://jabber.org/protocol/disco#info",
];

/// The element with which presence tells capabilities (XEP-0115), as all of today's clients send
/// it. It is the same for all sessions, as with a popular client.
pub fn caps() -> String {
    let ver = verification();
    format!("<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='{NODE}' ver='{ver}'/>")
}

/// Presence of a client that has just come online.
pub fn initial_presence() -> String {
    format!("<presence><priority>5</priority>{}</presence>", caps())
}

/// The answer to a request; none to other stanzas.
pub fn answer(stanza: &[u8]) -> Option<String> {
    let attribute = |name| scanner::attribute(stanza, name);
    if scanner::name(stanza) != b"iq" || !matches!(attribute(b"type"), Some(b"get" | b"set")) {
        return None;
    }
    let written = |name, as_name| {
        let value = String::from_utf8_lossy(attribute(name).unwrap_or_default());
        let quote = if value.contains('\'') { '"' } else { '\'' };
        match attribute(name) {
            Some(_) => format!(" {as_name}={quote}{value}{quote}"),
            None => String::new(),
        }
    };
    let (id, to) = (written(b"id", "id"), written(b"from", "to"));
    let (kind, content) = if roster::is_push(stanza) {
        ("result", String::new())
    } else if scanner::contains(stanza, FEATURES[1].as_bytes()) {
        ("result", disco_info())
    } else {
        let error = "<error type='cancel'><service-unavailable \
             xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
        ("error", error.to_owned())
    };
    Some(format!("<iq type='{kind}'{id}{to}>{content}</iq>"))
}

/// What the hash in presence stands for (XEP-0115 §6.2).
fn disco_info() -> String {
    let features = FEATURES.map(|feature| format!("<feature var='{feature}'/>"));
    format!(
        "<query xmlns='{}' node='{NODE}#{}'><identity category='client' type='bot' name='load'/>\
         {}</query>",
        FEATURES[1],
        verification(),
        features.concat()
    )
}

fn verification() -> &'static str {
    static VERIFICATION: OnceLock<String> = OnceLock::new();
    VERIFICATION.get_or_init(|| verification_of(IDENTITY, &FEATURES))
}

/// The verification string of one identity and sorted features (XEP-0115 §5.1).
fn verification_of(identity: &str, features: &[&str]) -> String {
    let text = format!("{identity}<{}<", features.join("<"));
    let digest = hash(MessageDigest::sha1(), text.as_bytes()).expect("OpenSSL has SHA-1");
    scram::encode(&digest)
}

/// Claims about answers, run by `load check`; the hash is that of XEP-0115 §5.2.
pub fn check() {
    let features = [
        "http://jabber.org/protocol/caps",
        "http://jabber.org/protocol/disco#info",
        "http://jabber.org/protocol/disco#items",
        "http://jabber.org/protocol/muc",
    ];
    assert_eq!(
        verification_of("client/pc//Exodus 0.9.1", &features),
        "QgayPKawpkPSDYmwT/WM94uAlu0="
    );
    assert_eq!(answer(b"<iq type='result' id='1'/>"), None);
    assert_eq!(answer(b"<presence from='a@b'/>"), None);
    assert_eq!(
        answer(b"<iq type='set' id='7'><query xmlns='jabber:iq:roster'/></iq>").as_deref(),
        Some("<iq type='result' id='7'></iq>")
    );
    let asked = b"<iq type='get' from='example.org' id=\"it's\"><ping xmlns='urn:xmpp:ping'/></iq>";
    assert!(answer(asked).is_some_and(|answer| {
        answer.starts_with("<iq type='error' id=\"it's\" to='example.org'>")
    }));
}
