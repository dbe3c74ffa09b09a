//! The security decisions about streams, each a pure function from settings and facts to a verdict
//! with its reason (`Verdicts` in lib.rs). What a stream does, its log line and `stanzad explain`
//! come from the same verdict, so that none of them can tell another story.

pub mod c2s;
pub mod s2s;
