//! Servers talk: real programs over real sockets and TLS on loopback, with real peers and with some that
//! a test plays. The modules have one matter each; `common::network` makes the network.

mod common;

#[path = "federation/bidirectional.rs"]
mod bidirectional;
#[path = "federation/messaging.rs"]
mod messaging;
#[path = "federation/negotiation.rs"]
mod negotiation;
#[path = "federation/restarts.rs"]
mod restarts;
