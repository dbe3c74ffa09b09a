//! Entity Capabilities (XEP-0115 1.6.0): the server tells its own in the stream features, and learns
//! those of clients from their presence.
//!
//! A client is asked when nobody has proven its hash yet. Without a hash that this server verifies
//! (§5.4, item 2; §13), or with one that something else could have, too (§9.3), the answer holds for
//! that session alone. Legacy `ext` is not read, and annotations are passed on as they are (§8.4 is
//! optional).

use std::io::Write;
use std::sync::Arc;

use crate::ns;
use crate::router::Router;
use crate::router::ask::AskThen;
use crate::router::feature::{
    Disco, Feature, SessionEvent, SessionHook, Spec, StreamFeature, StreamFeatureContext, Target,
};
use crate::slots::Key;
use crate::stanza::capabilities::{Capabilities, CapsHash};
use crate::stanza::{Stanza, Type};
use crate::xml::{Element, Payload};

/// XEP-0115.
pub static FEATURE: Feature = Feature {
    specs: &[Spec {
        id: "XEP-0115",
        version: "1.6.0",
    }],
    disco: &[Disco {
        target: Target::Domain,
        var: ns::CAPS,
    }],
    session: &[SessionHook {
        event: SessionEvent::Presence,
        run: presence,
    }],
    stream_features: &[StreamFeature { write }],
    ..Feature::named("capabilities")
};

/// The software. An address where people read of it would stand here if there were one.
const NODE: &str = "stanzad";

/// The node by which a domain's own capabilities are asked for: the software and the hash (§6.2).
pub(super) fn node(info: &Element) -> String {
    format!("{NODE}#{}", own_ver(info))
}

fn own_ver(info: &Element) -> String {
    match Capabilities::parse(info) {
        Ok(own) => own.ver(CapsHash::Sha1),
        Err(_) => {
            debug_assert!(false, "what a domain says of itself is well-formed");
            String::new()
        }
    }
}

/// §6.3. Only once the client is let in: before that nobody asks.
fn write(context: &StreamFeatureContext<'_>, out: &mut Vec<u8>) {
    if !context.authenticated {
        return;
    }
    let info = || super::disco::info_of_domain(context.pipeline, context.domain);
    let ver = context.domain.ver.get_or_init(|| own_ver(&info()));
    // Writing to a vector cannot fail.
    let _ = write!(
        out,
        "<c xmlns='{}' hash='sha-1' node='{NODE}' ver='{ver}'/>",
        ns::CAPS
    );
}

/// What `<c/>` in a client's presence says.
struct Told {
    hash: Option<CapsHash>,
    ver: String,
    node: String,
}

fn told(stanza: &Stanza) -> Option<Told> {
    let c = stanza.payload.find_element(ns::CAPS, "c")?;
    Some(Told {
        hash: c.attribute("hash").and_then(CapsHash::parse),
        ver: c.attribute("ver")?.to_owned(),
        node: c.attribute("node")?.to_owned(),
    })
}

/// §5.4.
fn presence(router: &mut Router, key: Key) {
    let Some(session) = router.sessions.get_mut(key) else {
        return;
    };
    let Some(told) = session.presence.as_ref().and_then(|now| told(&now.stanza)) else {
        return;
    };
    let name = format!("{}#{}", told.node, told.ver);
    if session.asked_caps.as_deref() == Some(&name) {
        // It says the same with each presence.
        return;
    }
    session.asked_caps = Some(name.as_str().into());
    session.capabilities = None;
    if let Some(known) = told
        .hash
        .and_then(|hash| router.capabilities.find(hash, &told.ver))
    {
        session.capabilities = Some(known);
        return;
    }
    let query = Element::new(ns::DISCO_INFO, "query").attr("node", name.clone());
    let then: AskThen =
        Box::new(move |router, key, answer| learn(router, key, &told, &name, answer));
    router.ask(key, Payload::from_elements(&[query]), then);
}

fn learn(router: &mut Router, key: Key, told: &Told, name: &str, answer: &Stanza) {
    let query = answer.payload.find_element(ns::DISCO_INFO, "query");
    let (Type::Result, Some(query)) = (answer.type_, query) else {
        return;
    };
    let Ok(capabilities) = Capabilities::parse(&query) else {
        return;
    };
    let learned = match told.hash {
        Some(hash) => router.capabilities.prove(hash, &told.ver, capabilities),
        None => Some(Arc::new(capabilities)),
    };
    if let (Some(learned), Some(session)) = (learned, router.sessions.get_mut(key))
        // It may have told of others since.
        && session.asked_caps.as_deref() == Some(name)
    {
        session.capabilities = Some(learned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DomainSettings;
    use crate::jid::Jid;
    use crate::router::testing::{Seat, Site};
    use crate::stanza::Kind;

    static FEATURES: &[&Feature] = &[&FEATURE];
    static WITH_FORM: &[&Feature] = &[&FEATURE, &crate::features::contact_addresses::FEATURE];

    fn info(feature: &str) -> Element {
        let feature = Element::new(ns::DISCO_INFO, "feature").attr("var", feature);
        Element::new(ns::DISCO_INFO, "query").child(feature)
    }

    /// Sends presence with the capabilities of a client that has one feature.
    fn show(site: &mut Site, seat: Seat, feature: &str) {
        let ver = Capabilities::parse(&info(feature)).unwrap();
        let c = Element::new(ns::CAPS, "c")
            .attr("hash", "sha-1")
            .attr("node", "urn:example:client")
            .attr("ver", ver.ver(CapsHash::Sha1));
        let payload = Payload::from_elements(&[c]);
        site.send(seat, Stanza::new(Kind::Presence, Type::Available, payload));
    }

    fn answer(site: &mut Site, seat: Seat, number: u32, feature: &str) {
        let payload = Payload::from_elements(&[info(feature)]);
        let mut answer = Stanza::new(Kind::Iq, Type::Result, payload);
        answer.to = Some(Jid::parse("example.org").unwrap());
        answer.id = Some(format!("ask-{number}").into());
        site.send(seat, answer);
    }

    fn has(site: &Site, seat: Seat, feature: &str) -> bool {
        let session = site.router.sessions.get(seat.session).unwrap();
        let capabilities = session.capabilities.as_ref();
        capabilities.is_some_and(|capabilities| capabilities.has(feature))
    }

    /// XEP-0115 §1: what a client can do is what its last presence says.
    /// §5.1: a reload that changes what the domain says of itself changes the hash.
    #[test]
    fn the_hash_is_that_of_the_settings_at_hand() {
        let site = Site::new(WITH_FORM);
        let written = |domain: &DomainSettings| {
            let mut out = Vec::new();
            let context = StreamFeatureContext {
                pipeline: &site.router.pipeline,
                domain,
                authenticated: true,
                stanza_bytes_max: 10_000,
            };
            write(&context, &mut out);
            let ver = own_ver(&crate::features::disco::info_of_domain(
                context.pipeline,
                domain,
            ));
            let out = String::from_utf8(out).unwrap();
            assert!(out.contains(&format!(" ver='{ver}'")), "{out}");
            ver
        };
        let before = site.router.domain("example.org").unwrap();
        let mut after = DomainSettings::clone(before);
        let first = written(before);
        after.contact.abuse = vec!["xmpp:abuse@example.org".to_owned()];
        assert_ne!(written(&after), first);
        assert_eq!(written(before), first);
    }

    #[test]
    fn a_late_answer_does_not_bring_back_what_a_client_could_do_before() {
        let mut site = Site::new(FEATURES);
        let juliet = site.bind("juliet@example.org", "balcony", None);
        show(&mut site, juliet, "urn:example:old");
        show(&mut site, juliet, "urn:example:new");
        answer(&mut site, juliet, 2, "urn:example:new");
        answer(&mut site, juliet, 1, "urn:example:old");
        assert!(has(&site, juliet, "urn:example:new"));
        assert!(!has(&site, juliet, "urn:example:old"));
        // It was proven nevertheless.
        let nurse = site.bind("nurse@example.org", "kitchen", None);
        show(&mut site, nurse, "urn:example:old");
        assert!(has(&site, nurse, "urn:example:old"));
    }

    #[test]
    fn a_client_that_has_changed_can_do_nothing_until_it_has_answered() {
        let mut site = Site::new(FEATURES);
        let juliet = site.bind("juliet@example.org", "balcony", None);
        show(&mut site, juliet, "urn:example:old");
        answer(&mut site, juliet, 1, "urn:example:old");
        assert!(has(&site, juliet, "urn:example:old"));
        show(&mut site, juliet, "urn:example:new");
        assert!(!has(&site, juliet, "urn:example:old"));
    }
}
