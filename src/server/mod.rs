//! Start, reload and stop of the server; its control socket and privileges.

pub mod control;
pub mod privileges;
