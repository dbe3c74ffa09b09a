//! Counters of what the process did.
