//! The threads that hash passwords.
