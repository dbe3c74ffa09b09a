//! Sockets and what guards them: TLS, certificates, and limits, of each address and of the process.

pub mod arrivals;
pub mod bucket;
pub mod certificate;
mod dh_parameters;
pub mod open_files;
pub mod probe;
pub mod random;
pub mod throttle;
pub mod tls;
mod tls_facts;
pub mod tls_stream;
pub mod transport;

#[cfg(test)]
mod testing;
