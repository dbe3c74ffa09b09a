//! Entity capabilities: what a disco#info result says, and the verification string that stands for it
//! (XEP-0115 §5).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::sha::{sha1, sha256, sha512};

use crate::ns;
use crate::xml::Element;

/// Identities and features that one disco#info result may have, each.
const ENTRIES_MAX: usize = 512;
/// Bytes of all that a result says.
const BYTES_MAX: usize = 32 * 1024;

/// The form that clients have (XEP-0232), as it begins in the verification string.
const SOFTWARE_INFO: &str = "urn:xmpp:dataforms:softwareinfo<";

/// A hash function of the `hash` attribute that this server verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CapsHash {
    /// `sha-1`, which everybody has (§9.1).
    Sha1,
    /// `sha-256`.
    Sha256,
    /// `sha-512`.
    Sha512,
}

impl CapsHash {
    /// The function of that registered name.
    pub fn parse(name: &str) -> Option<CapsHash> {
        match name {
            "sha-1" => Some(CapsHash::Sha1),
            "sha-256" => Some(CapsHash::Sha256),
            "sha-512" => Some(CapsHash::Sha512),
            _ => None,
        }
    }
}

/// What an entity is and can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Sorted, as are the features.
    identities: Vec<Identity>,
    features: Vec<Box<str>>,
    /// What the forms add to the verification string, in order.
    forms: Vec<String>,
}

/// An identity (XEP-0030 §3.1); in the order of fields identities are sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// As `client`.
    pub category: Box<str>,
    /// As `pc`.
    pub type_: Box<str>,
    /// Empty if it is not told.
    pub lang: Box<str>,
    /// For people; empty if it is not told.
    pub name: Box<str>,
}

/// A disco#info result that is not what XEP-0115 §5.4 calls well-formed, or too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IllFormed;

impl Capabilities {
    /// What a disco#info `<query/>` says.
    ///
    /// # Errors
    /// [`IllFormed`] if something stands there twice, if a `<` in it could stand for two things in the
    /// verification string (§9.3), or if it is too large.
    pub fn parse(query: &Element) -> Result<Capabilities, IllFormed> {
        let mut found = Capabilities::default();
        let mut form_types = Vec::new();
        for child in query.elements() {
            if child.is(ns::DISCO_INFO, "identity") {
                found.identities.push(Identity::parse(child));
            } else if child.is(ns::DISCO_INFO, "feature") {
                let var = child.attribute("var").ok_or(IllFormed)?;
                found.features.push(var.into());
            } else if child.is(ns::DATA_FORMS, "x")
                && let Some((form_type, text)) = form(child)?
            {
                form_types.push(form_type.clone());
                found.forms.push(text);
            }
            if found.identities.len() > ENTRIES_MAX || found.features.len() > ENTRIES_MAX {
                return Err(IllFormed);
            }
        }
        found.identities.sort_unstable();
        found.features.sort_unstable();
        // Each form begins with its type, so this is the order of types.
        found.forms.sort_unstable();
        form_types.sort_unstable();
        let is_twice = found.identities.windows(2).any(|two| two[0] == two[1])
            || found.features.windows(2).any(|two| two[0] == two[1])
            || form_types.windows(2).any(|two| two[0] == two[1]);
        let has_mark = |text: &str| text.contains('<');
        let is_ambiguous = found.features.iter().any(|feature| has_mark(feature))
            || found.identities.iter().any(|identity| {
                [
                    &identity.category,
                    &identity.type_,
                    &identity.lang,
                    &identity.name,
                ]
                .iter()
                .any(|text| has_mark(text))
            });
        if is_twice || is_ambiguous || found.string().len() > BYTES_MAX {
            return Err(IllFormed);
        }
        Ok(found)
    }

    /// Identities, sorted.
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// Whether it has a feature.
    pub fn has(&self, feature: &str) -> bool {
        self.features
            .binary_search_by(|own| (**own).cmp(feature))
            .is_ok()
    }

    /// The verification string: the value of `ver` (§5.1).
    pub fn ver(&self, hash: CapsHash) -> String {
        let text = self.string();
        match hash {
            CapsHash::Sha1 => STANDARD.encode(sha1(text.as_bytes())),
            CapsHash::Sha256 => STANDARD.encode(sha256(text.as_bytes())),
            CapsHash::Sha512 => STANDARD.encode(sha512(text.as_bytes())),
        }
    }

    /// Whether the verification string can be read in this way only, as far as what clients really say
    /// goes. It does not tell identities, features and forms apart (§9.3): a feature that looks like an
    /// identity could be one of an honest client, and the type of a form could be its last feature.
    pub fn is_unmistakable(&self) -> bool {
        let is_plain = |part: &str| !part.is_empty() && !part.contains(['/', ':']);
        let is_identity = |identity: &Identity| {
            let lang = &identity.lang;
            is_plain(&identity.category)
                && is_plain(&identity.type_)
                && (lang.is_empty() || is_plain(lang))
        };
        let looks_like_identity = |feature: &str| {
            let category = feature.split('/').next().unwrap_or_default();
            is_plain(category) && feature.matches('/').count() >= 3
        };
        self.identities.iter().all(is_identity)
            && !self.features.iter().any(|one| looks_like_identity(one))
            && self
                .forms
                .iter()
                .all(|form| form.starts_with(SOFTWARE_INFO))
    }

    /// Bytes that it takes in a cache, roughly.
    pub fn weight(&self) -> usize {
        self.string().len() + 16 * (self.features.len() + 4 * self.identities.len())
    }

    /// S of §5.1.
    fn string(&self) -> String {
        let mut text = String::new();
        for identity in &self.identities {
            let Identity {
                category,
                type_,
                lang,
                name,
            } = identity;
            for part in [category, "/", type_, "/", lang, "/", name, "<"] as [&str; 8] {
                text.push_str(part);
            }
        }
        for feature in &self.features {
            text.push_str(feature);
            text.push('<');
        }
        for form in &self.forms {
            text.push_str(form);
        }
        text
    }
}

impl Identity {
    fn parse(element: &Element) -> Identity {
        let attribute = |name| element.attribute(name).unwrap_or_default().into();
        Identity {
            category: attribute("category"),
            type_: attribute("type"),
            lang: attribute("xml:lang"),
            name: attribute("name"),
        }
    }
}

/// A form's type and what it adds to the string; none for one that is to be ignored (§5.4, item 3.6).
fn form(form: &Element) -> Result<Option<(String, String)>, IllFormed> {
    let fields = || {
        form.elements()
            .filter(|field| field.is(ns::DATA_FORMS, "field"))
    };
    let Some(type_field) = fields().find(|field| field.attribute("var") == Some("FORM_TYPE"))
    else {
        return Ok(None);
    };
    if type_field.attribute("type") != Some("hidden") {
        return Ok(None);
    }
    let types = values(type_field)?;
    let Some(form_type) = types.first().cloned() else {
        return Ok(None);
    };
    if types.iter().any(|other| *other != form_type) {
        return Err(IllFormed);
    }
    let mut rest = Vec::new();
    for field in fields() {
        let var = field.attribute("var").unwrap_or_default();
        if var == "FORM_TYPE" {
            continue;
        }
        if var.contains('<') {
            return Err(IllFormed);
        }
        let mut text = format!("{var}<");
        for value in values(field)? {
            text.push_str(&value);
            text.push('<');
        }
        rest.push((var.to_owned(), text));
    }
    rest.sort_unstable();
    let mut text = format!("{form_type}<");
    rest.iter().for_each(|(_, field)| text.push_str(field));
    Ok(Some((form_type, text)))
}

/// The values of a field, sorted.
fn values(field: &Element) -> Result<Vec<String>, IllFormed> {
    let mut values: Vec<String> = field
        .elements()
        .filter(|value| value.is(ns::DATA_FORMS, "value"))
        .map(Element::text)
        .collect();
    if values.iter().any(|value| value.contains('<')) {
        return Err(IllFormed);
    }
    values.sort_unstable();
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Payload;

    fn query(children: &str) -> Element {
        let xml =
            format!("<query xmlns='http://jabber.org/protocol/disco#info'>{children}</query>");
        let payload = Payload::from_canonical(xml.into_bytes()).unwrap();
        payload.element(&payload.children()[0])
    }

    fn ver(children: &str) -> Result<String, IllFormed> {
        Capabilities::parse(&query(children)).map(|caps| caps.ver(CapsHash::Sha1))
    }

    /// XEP-0115 §5.2.
    #[test]
    fn the_simple_example_has_its_hash() {
        let exodus = "<identity category='client' type='pc' name='Exodus 0.9.1'/>\
                      <feature var='http://jabber.org/protocol/muc'/>\
                      <feature var='http://jabber.org/protocol/disco#items'/>\
                      <feature var='http://jabber.org/protocol/caps'/>\
                      <feature var='http://jabber.org/protocol/disco#info'/>";
        assert_eq!(ver(exodus).unwrap(), "QgayPKawpkPSDYmwT/WM94uAlu0=");
    }

    const PSI: &str = "<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>\
         <identity xml:lang='el' category='client' name='\u{3a8} 0.11' type='pc'/>\
         <feature var='http://jabber.org/protocol/caps'/>\
         <feature var='http://jabber.org/protocol/disco#info'/>\
         <feature var='http://jabber.org/protocol/disco#items'/>\
         <feature var='http://jabber.org/protocol/muc'/>";
    const SOFTWARE: &str = "<x xmlns='jabber:x:data' type='result'>\
         <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>\
         <field var='ip_version' type='text-multi'><value>ipv6</value><value>ipv4</value></field>\
         <field var='os'><value>Mac</value></field>\
         <field var='os_version'><value>10.5.1</value></field>\
         <field var='software'><value>Psi</value></field>\
         <field var='software_version'><value>0.11</value></field></x>";

    /// XEP-0115 §5.3, in another order of values.
    #[test]
    fn the_complex_example_has_its_hash() {
        let both = format!("{PSI}{SOFTWARE}");
        assert_eq!(ver(&both).unwrap(), "q07IKJEyjvHSyhy//CH0CxmKi8w=");
        let caps = Capabilities::parse(&query(&both)).unwrap();
        assert!(caps.has("http://jabber.org/protocol/muc"));
        assert!(!caps.has("http://jabber.org/protocol/muc#x"));
    }

    /// XEP-0115 §5.4, items 3.3 to 3.6.
    #[test]
    fn what_stands_twice_is_ill_formed_and_a_form_without_a_type_is_ignored() {
        let feature = "<feature var='a'/><feature var='a'/>";
        let identity = "<identity category='c' type='t'/><identity type='t' category='c'/>";
        let forms = format!("{SOFTWARE}{SOFTWARE}");
        for twice in [feature, identity, &forms] {
            assert_eq!(ver(twice), Err(IllFormed), "{twice}");
        }
        let visible = SOFTWARE.replace("hidden", "text-single");
        assert_eq!(ver(&format!("{PSI}{visible}")), ver(PSI));
    }

    /// XEP-0115 §9.3: else two results would have one string.
    #[test]
    fn a_mark_within_a_name_is_ill_formed() {
        for poison in [
            "<feature var='a&lt;b'/>",
            "<identity category='c' type='t' name='x&lt;a'/>",
            "<x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'><value>a&lt;b</value></field></x>",
        ] {
            assert_eq!(ver(poison), Err(IllFormed), "{poison}");
        }
    }

    #[test]
    fn a_result_without_end_is_refused() {
        let many: String = (0..600).map(|n| format!("<feature var='f{n}'/>")).collect();
        assert_eq!(ver(&many), Err(IllFormed));
        let long = format!("<feature var='{}'/>", "x".repeat(BYTES_MAX));
        assert_eq!(ver(&long), Err(IllFormed));
    }
}
