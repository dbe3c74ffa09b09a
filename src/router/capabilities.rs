//! What clients can do, by the hash in their presence (XEP-0115): looked up once for all that have the
//! same client, since the hash proves the answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::limits::{CAPABILITIES_BYTES_MAX, CAPABILITIES_MAX};
use crate::stanza::capabilities::{Capabilities, CapsHash};

/// The verified capabilities that a shard knows, the oldest forgotten first above the bound.
#[derive(Debug, Default)]
pub struct KnownCapabilities {
    known: HashMap<(CapsHash, Box<str>), Arc<Capabilities>>,
    order: VecDeque<(CapsHash, Box<str>)>,
    bytes: usize,
}

impl KnownCapabilities {
    /// What stands behind a hash, if somebody has proven it.
    pub fn find(&self, hash: CapsHash, ver: &str) -> Option<Arc<Capabilities>> {
        self.known.get(&(hash, Box::from(ver))).cloned()
    }

    /// Keeps capabilities for others with the same hash, if they have that hash indeed (§5.4, items
    /// 3.7 to 3.9) and nothing else has it by a trick. They are given back if they have it.
    pub fn prove(
        &mut self,
        hash: CapsHash,
        ver: &str,
        capabilities: Capabilities,
    ) -> Option<Arc<Capabilities>> {
        if capabilities.ver(hash) != ver {
            return None;
        }
        if let Some(known) = self.find(hash, ver) {
            return Some(known);
        }
        let proven = Arc::new(capabilities);
        if !proven.is_unmistakable() {
            return Some(proven);
        }
        let key = (hash, Box::from(ver));
        self.bytes += proven.weight();
        self.order.push_back(key.clone());
        self.known.insert(key, Arc::clone(&proven));
        while self.known.len() > CAPABILITIES_MAX || self.bytes > CAPABILITIES_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(forgotten) = self.known.remove(&oldest) {
                self.bytes -= forgotten.weight();
            }
        }
        Some(proven)
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ns;
    use crate::xml::Element;

    fn capabilities(n: usize) -> Capabilities {
        let feature = Element::new(ns::DISCO_INFO, "feature").attr("var", format!("f{n}"));
        Capabilities::parse(&Element::new(ns::DISCO_INFO, "query").child(feature)).unwrap()
    }

    /// XEP-0115 §5.4, item 3.9.
    #[test]
    fn what_does_not_have_the_hash_is_not_kept() {
        let mut known = KnownCapabilities::default();
        let ver = capabilities(1).ver(CapsHash::Sha1);
        assert!(known.prove(CapsHash::Sha1, &ver, capabilities(2)).is_none());
        assert!(known.find(CapsHash::Sha1, &ver).is_none());
        assert!(known.prove(CapsHash::Sha1, &ver, capabilities(1)).is_some());
        let found = known.find(CapsHash::Sha1, &ver).unwrap();
        assert_eq!(*found, capabilities(1));
        assert!(known.find(CapsHash::Sha256, &ver).is_none());
    }

    /// XEP-0115 §9.3: the string is the same, so the hash is.
    #[test]
    fn what_has_the_hash_of_others_by_a_trick_is_not_kept_for_them() {
        let parse = |children: &str| {
            let xml = format!("<query xmlns='{}'>{children}</query>", ns::DISCO_INFO);
            let payload = crate::xml::Payload::from_canonical(xml.into_bytes()).unwrap();
            Capabilities::parse(&payload.element(&payload.children()[0])).unwrap()
        };
        let client = "<identity category='client' type='pc' name='Exodus'/>";
        let features = ["http://jabber.org/protocol/muc", "urn:xmpp:a", "urn:xmpp:b"];
        let feature = |var: &str| format!("<feature var='{var}'/>");
        let honest = parse(&format!("{client}{}", features.map(feature).concat()));
        let ver = honest.ver(CapsHash::Sha1);
        let [muc, a, b] = features;
        for forged in [
            // A feature less: it is the type of a form.
            format!(
                "{client}{}{}<x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'>\
                 <value>{b}</value></field></x>",
                feature(muc),
                feature(a),
            ),
            // A feature less: it is an identity.
            format!(
                "{client}<identity category='http:' type='' xml:lang='jabber.org' \
                 name='protocol/muc'/>{}{}",
                feature(a),
                feature(b),
            ),
            // No identity: it is a feature.
            format!(
                "{}{}",
                feature("client/pc//Exodus"),
                features.map(feature).concat()
            ),
        ] {
            let forged = parse(&forged);
            assert_eq!(forged.ver(CapsHash::Sha1), ver);
            let mut known = KnownCapabilities::default();
            let own = known.prove(CapsHash::Sha1, &ver, forged.clone());
            assert_eq!(own.as_deref(), Some(&forged), "for who says it, it is true");
            assert!(known.find(CapsHash::Sha1, &ver).is_none());
        }
        let mut known = KnownCapabilities::default();
        known.prove(CapsHash::Sha1, &ver, honest).unwrap();
        assert!(known.find(CapsHash::Sha1, &ver).is_some());
    }

    #[test]
    fn the_oldest_are_forgotten_above_the_bound() {
        let mut known = KnownCapabilities::default();
        for n in 0..CAPABILITIES_MAX + 10 {
            let ver = capabilities(n).ver(CapsHash::Sha1);
            known.prove(CapsHash::Sha1, &ver, capabilities(n));
        }
        assert_eq!(known.len(), CAPABILITIES_MAX);
        let first = capabilities(0).ver(CapsHash::Sha1);
        assert!(known.find(CapsHash::Sha1, &first).is_none());
        let expected: usize = (10..CAPABILITIES_MAX + 10)
            .map(|n| capabilities(n).weight())
            .sum();
        assert_eq!(known.bytes, expected);
    }
}
