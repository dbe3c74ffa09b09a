//! Names of XML namespaces, each beside the document that registers it.

/// RFC 6120 §4.8.1.
pub const STREAM: &str = "http://etherx.jabber.org/streams";
/// RFC 6120 §4.8.2: the content namespace of client streams.
pub const CLIENT: &str = "jabber:client";
/// RFC 6120 §4.8.2: the content namespace of server streams.
pub const SERVER: &str = "jabber:server";
/// XEP-0114 §3: the content namespace of the streams of components.
pub const COMPONENT: &str = "jabber:component:accept";
/// XEP-0220.
pub const DIALBACK: &str = "jabber:server:dialback";
/// XEP-0220 §2.4.2.
pub const DIALBACK_FEATURE: &str = "urn:xmpp:features:dialback";
/// XEP-0288 §2.2.
pub const BIDI: &str = "urn:xmpp:bidi";
/// XEP-0288 §2.1.
pub const BIDI_FEATURE: &str = "urn:xmpp:features:bidi";
/// XEP-0198.
pub const STREAM_MANAGEMENT: &str = "urn:xmpp:sm:3";
/// RFC 6120 §4.9.2.
pub const STREAM_ERROR: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// RFC 6120 §8.3.2.
pub const STANZA_ERROR: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// RFC 6120 §5.
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// RFC 6120 §6.
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// RFC 6120 §7.
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// RFC 3921 §3, kept as an empty step for old clients.
pub const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
/// RFC 6121 §2.
pub const ROSTER: &str = "jabber:iq:roster";
/// RFC 6121 §2.6.1.
pub const ROSTER_VERSIONING: &str = "urn:xmpp:features:rosterver";
/// XEP-0440.
pub const CHANNEL_BINDING: &str = "urn:xmpp:sasl-cb:0";
/// XEP-0478.
pub const STREAM_LIMITS: &str = "urn:xmpp:stream-limits:0";
/// XEP-0030 §3.
pub const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
/// XEP-0030 §4.
pub const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
/// XEP-0203 §2.
pub const DELAY: &str = "urn:xmpp:delay";
/// XEP-0199.
pub const PING: &str = "urn:xmpp:ping";
/// XEP-0334.
pub const HINTS: &str = "urn:xmpp:hints";
/// XEP-0085.
pub const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
/// XEP-0359.
pub const STANZA_IDS: &str = "urn:xmpp:sid:0";
/// XEP-0092.
pub const VERSION: &str = "jabber:iq:version";
/// Entity Capabilities (XEP-0115).
pub const CAPS: &str = "http://jabber.org/protocol/caps";
/// Data Forms (XEP-0004).
pub const DATA_FORMS: &str = "jabber:x:data";
/// What a server tells of itself (XEP-0128, XEP-0157).
pub const SERVER_INFO: &str = "http://jabber.org/network/serverinfo";
/// Last Activity (XEP-0012).
pub const LAST: &str = "jabber:iq:last";
/// Entity Time (XEP-0202).
pub const TIME: &str = "urn:xmpp:time";
/// Private XML Storage (XEP-0049).
pub const PRIVATE: &str = "jabber:iq:private";
/// vCards (XEP-0054).
pub const VCARD: &str = "vcard-temp";
/// RFC 6121 §3.4.
pub const PRE_APPROVAL: &str = "urn:xmpp:features:pre-approval";
/// Namespaces in XML 1.0 §3.
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// Namespaces in XML 1.0 §3.
pub const XMLNS: &str = "http://www.w3.org/2000/xmlns/";
