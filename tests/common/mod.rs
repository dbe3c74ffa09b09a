//! What the tests that drive the real program share: a [`server::Server`] in a directory of its
//! own, and [`client::Client`], which speaks raw XMPP to it. Nothing here sleeps; whatever waits
//! has a deadline.

// Each test program uses its share of this.
#![allow(dead_code)]

pub mod authority;
pub mod cast;
pub mod client;
pub mod component;
pub mod memory;
#[path = "../../src/dns/testing.rs"]
pub mod names;
pub mod network;
pub mod offer;
pub mod pattern;
pub mod peer;
pub mod roster;
pub mod scram;
pub mod script;
pub mod server;
pub mod site;
pub mod wire;
