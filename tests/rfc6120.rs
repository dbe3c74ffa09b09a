//! RFC 6120 over real sockets: every feature of §15 that binds a server, and every condition of
//! §4.9.3, §6.5 and §8.3.3. The comment above a test names them in brackets, [`COVERED_ELSEWHERE`]
//! tells of the rest, and [`every_feature_and_condition_is_tested_or_explained`] compares both with
//! the lists of the RFC.

mod common;

#[path = "rfc6120/addressing.rs"]
mod addressing;
#[path = "rfc6120/binding.rs"]
mod binding;
#[path = "rfc6120/delivery.rs"]
mod delivery;
#[path = "rfc6120/ending.rs"]
mod ending;
#[path = "rfc6120/opening.rs"]
mod opening;
#[path = "rfc6120/sasl.rs"]
mod sasl;
#[path = "rfc6120/silence.rs"]
mod silence;
#[path = "rfc6120/stanzas.rs"]
mod stanzas;
#[path = "rfc6120/tls.rs"]
mod tls;
#[path = "rfc6120/xml.rs"]
mod xml;
