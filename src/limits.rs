//! Bounds on everything that a peer can make grow, each with its unit and reason.
