//! Streams to other servers that are being made, of one who wants ever more and of the others.

use std::sync::Arc;

use super::*;
use crate::limits::{DIAL_WAIT, DIALS_MAX};
use crate::shard::testing::servers::{Network, lenient_settings};

/// Says what has them dial so many names of a wildcard.
fn flood(names: std::ops::Range<usize>) -> String {
    names
        .map(|n| chat(&format!("tybalt@d{n}.example.net"), "hail"))
        .collect()
}

#[test]
fn who_writes_to_ever_more_names_keeps_no_other_ones_stream_waiting() {
    let network = Arc::new(Network::default());
    let mut server = Server::in_network(1, lenient_settings(), Arc::<Network>::clone(&network));
    let mercutio = server.log_in(0, "romeo", "street");
    let juliet = server.log_in(0, "juliet", "balcony");
    server.say(&mercutio, &flood(0..1_000));
    assert_eq!(network.take().len(), DIALS_MAX / 4 * 3);
    server.say(&juliet, &chat("nurse@verona.example", "hark"));
    let dialled = network.take();
    let names: Vec<&str> = dialled.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["verona.example"]);
    // Nor for what the other one has asked for first: it is tried in her turn.
    server.say(&juliet, &chat("nurse@d900.example.net", "hark"));
    let dialled = network.take();
    let names: Vec<&str> = dialled.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["d900.example.net"]);
    // The others have their turn when those before them have come to nothing.
    server.pass(DIAL_WAIT);
    let then = network.take();
    assert!(
        !then.is_empty() && then.len() <= DIALS_MAX / 4 * 3,
        "{}",
        then.len()
    );
    assert!(then.iter().all(|(name, _)| name != "d900.example.net"));
}
