//! Stream Management (XEP-0198 1.6.3), without a stream to count on.
//!
//! [`Nonza`] is what is said, [`Unacknowledged`] keeps what was sent until the peer has handled it, and
//! [`Handled`] tells the peer what we have handled. Counters are as wide as a stream is long; only on
//! the wire they are modulo 2^32 (§4).
//!
//! "Handled" is settled (`Settlement` in lib.rs). What is settled is counted where tickets come
//! back (`router::settlement::Unsettled`), since sessions count it whether they have stream
//! management or not; [`Handled`] makes `h` of its settled prefix and decides when to say it.
//!
//! Left out: where to come back to (`location`) is read but never offered, since every listener serves.

mod handled;
mod nonza;
mod unacknowledged;

pub use handled::Handled;
pub use nonza::{Malformed, Nonza};
pub use unacknowledged::{Bounds, Cadence, TooHigh, Unacknowledged};

#[cfg(test)]
mod tests;
