//! Sockets and what guards them: TLS, certificates, and limits per address.

pub mod transport;
