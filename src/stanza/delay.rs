//! Delayed Delivery (XEP-0203): when a stanza was sent that comes later.

use crate::clock::Wall;
use crate::jid::Jid;
use crate::ns;
use crate::xml::Element;

/// The child that says that `from` sent the stanza at that time, or kept it since (XEP-0203 §2).
pub fn delay(from: &Jid, at: Wall) -> Element {
    Element::new(ns::DELAY, "delay")
        .attr("from", from.as_str())
        .attr("stamp", at.date_time())
}
