//! Sequence numbers of constant length, by which what arrives is told apart.

/// Bytes of a number as written.
pub const BYTES: usize = 16;

/// Above these bits a number tells which run it belongs to.
const RUN_SHIFT: u32 = 40;

/// The first number of this run.
pub fn first() -> u64 {
    u64::from(std::process::id()) << RUN_SHIFT
}

/// Whether a number is of this run. A server may have kept what an earlier run broke off.
pub fn is_of_this_run(sequence: u64) -> bool {
    sequence >> RUN_SHIFT == first() >> RUN_SHIFT
}

/// A number as it is sent.
pub fn written(sequence: u64) -> [u8; BYTES] {
    std::array::from_fn(|place| b"0123456789abcdef"[(sequence >> (60 - 4 * place)) as usize & 15])
}

/// A number as it has arrived.
pub fn read(written: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(written)
        .ok()
        .filter(|digits| digits.len() == BYTES)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Claims about numbers, run by `load check`.
pub fn check() {
    for sequence in [0, 1, 0x1234_5678_9abc_def0, u64::MAX] {
        assert_eq!(read(&written(sequence)), Some(sequence));
    }
    assert_eq!(read(b"12"), None);
    assert!(is_of_this_run(first() + 1));
}
