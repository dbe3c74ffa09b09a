//! What a stream's features offer, in words that a test can compare.

use stanzad::ns;
use stanzad::xml::Element;

/// The mechanisms, in order.
pub fn mechanisms(features: &Element) -> Vec<String> {
    let offered = features.find(ns::SASL, "mechanisms");
    let names = offered.into_iter().flat_map(Element::elements);
    names.map(Element::text).collect()
}

/// The types of channel binding (XEP-0440), in order.
pub fn bindings(features: &Element) -> Vec<String> {
    let offered = features.find(ns::CHANNEL_BINDING, "sasl-channel-binding");
    let types = offered.into_iter().flat_map(Element::elements);
    types
        .map(|binding| binding.attribute("type").unwrap().to_owned())
        .collect()
}

/// STARTTLS and the mechanisms: `STARTTLS!` where it is required.
pub fn describe(features: &Element) -> String {
    let starttls = features.find(ns::TLS, "starttls").map(|starttls| {
        match starttls.find(ns::TLS, "required") {
            Some(_) => "STARTTLS!".to_owned(),
            None => "STARTTLS".to_owned(),
        }
    });
    let words: Vec<String> = starttls.into_iter().chain(mechanisms(features)).collect();
    words.join(" ")
}
