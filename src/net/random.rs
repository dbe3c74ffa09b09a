//! Chance, and the name of the library that it comes from.

/// Fills a buffer with random bytes from OpenSSL's generator, which needs no system call.
///
/// # Panics
/// If the operating system gives no seed: nothing secure can be done then.
pub fn fill_random(buffer: &mut [u8]) {
    openssl::rand::rand_bytes(buffer).expect("the operating system seeds the random generator");
}

/// The OpenSSL in use, as it names itself.
pub fn openssl_version() -> &'static str {
    openssl::version::version()
}
