//! Looking at a server's listener for components (XEP-0114), as far as a stranger gets.

use std::net::SocketAddr;
use std::time::Instant;

use super::Stop;
use super::talk::{Talk, Timed};
use crate::ns;
use crate::xml::attribute;

/// Opens a component's stream and ends it before the handshake, so that one that is connected is not
/// disturbed.
///
/// # Errors
/// The server does not answer in the name of the component.
pub fn component(address: SocketAddr, name: &str, deadline: Instant) -> Result<(), Stop> {
    let mut talk = Talk::new(Timed::connect(address, deadline)?);
    let mut header = format!(
        "<stream:stream xmlns='{}' xmlns:stream='http://etherx.jabber.org/streams'",
        ns::COMPONENT
    )
    .into_bytes();
    attribute(&mut header, "to", name);
    header.push(b'>');
    talk.say(&header, "the stream's header")?;
    let from = talk.header()?.from.unwrap_or_default();
    if from != name {
        // Who refuses says why.
        talk.top("the reason")?;
        return Err(Stop::Misnamed(from));
    }
    // Nobody waits for it any more.
    let _ = talk.say(b"</stream:stream>", "the end");
    Ok(())
}
