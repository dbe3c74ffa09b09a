//! Chance, and the name of the library that it comes from.

/// Fills a buffer with random bytes from OpenSSL's generator, which needs no system call.
///
/// # Panics
/// If the operating system gives no seed: nothing secure can be done then.
pub fn fill_random(buffer: &mut [u8]) {
    openssl::rand::rand_bytes(buffer).expect("the operating system seeds the random generator");
}

/// Random bytes drawn ahead: a call of OpenSSL's generator costs some microseconds however little it is
/// asked for, and a login asks for a few ids and nonces.
pub struct RandomPool {
    bytes: [u8; 1024],
    /// Those before it are given out, and zero.
    next: usize,
}

impl Default for RandomPool {
    fn default() -> RandomPool {
        let bytes = [0; 1024];
        RandomPool {
            next: bytes.len(),
            bytes,
        }
    }
}

impl RandomPool {
    /// Fills a buffer with bytes that nobody else gets.
    ///
    /// # Panics
    /// As [`fill_random`].
    pub fn fill(&mut self, buffer: &mut [u8]) {
        if buffer.len() > self.bytes.len() {
            return fill_random(buffer);
        }
        if buffer.len() > self.bytes.len() - self.next {
            fill_random(&mut self.bytes);
            self.next = 0;
        }
        let given = &mut self.bytes[self.next..self.next + buffer.len()];
        buffer.copy_from_slice(given);
        // What was given out may be a secret of somebody's by now.
        given.fill(0);
        self.next += buffer.len();
    }
}

/// The OpenSSL in use, as it names itself.
pub fn openssl_version() -> &'static str {
    openssl::version::version()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_pool_gives_out_no_byte_twice_and_keeps_none() {
        let mut pool = RandomPool::default();
        let mut drawn = HashSet::new();
        // 1,024 is no multiple of 24: the rest before a refill is left out.
        for _ in 0..1_000 {
            let mut bytes = [0; 24];
            pool.fill(&mut bytes);
            assert!(drawn.insert(bytes), "drawn twice");
            assert!(pool.bytes[..pool.next].iter().all(|byte| *byte == 0));
        }
        let mut long = [0; 2_000];
        pool.fill(&mut long);
        assert!(long.iter().filter(|byte| **byte == 0).count() < 100);
    }
}
