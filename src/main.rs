//! The program. All of it is in the library, where tests reach it, but for the allocator, which a
//! program chooses for itself and for all that it links.

fn main() -> std::process::ExitCode {
    stanzad::cli::main()
}

/// jemalloc, in place of `malloc` too, so that OpenSSL and SQLite use it: sessions that come and go
/// leave fewer holes between what stays, and what one thread frees of another's takes no lock.
#[cfg(feature = "jemalloc")]
mod allocator {
    use tikv_jemallocator::Jemalloc;

    #[global_allocator]
    static ALLOCATOR: Jemalloc = Jemalloc;

    /// How jemalloc is set (jemalloc(3), "TUNING"); the environment's `MALLOC_CONF` goes before it.
    /// Pages that nobody uses go back to the system within a second: by default that takes ten, and an
    /// operator would see the memory of sessions that have left. It costs less than can be measured.
    // SAFETY: jemalloc declares `malloc_conf` as a weak `const char *`, which it reads and never
    // writes; a reference to an array is a plain pointer to its first byte, is never null, and here
    // points to bytes that end with a NUL and live as long as the program.
    #[expect(unsafe_code, reason = "jemalloc finds it by name")]
    #[unsafe(export_name = "malloc_conf")]
    #[used]
    static SETTINGS: &[u8; 20] = b"dirty_decay_ms:1000\0";
}
