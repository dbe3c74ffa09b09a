//! Which edges an execution takes: counted where they are, and handed to afl++ at its end.
//!
//! The runtime of afl++ has a function that is called for each edge, which took half of the time of
//! the parser's target. The other counters of LLVM are bytes that the code increments itself
//! (SanitizerCoverage's `inline-8bit-counters`); the runtime does not know these, so they are copied
//! to where it would count.

use std::ffi::c_uint;
use std::ptr::{copy_nonoverlapping, null_mut, write_bytes};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

static FIRST: AtomicPtr<u8> = AtomicPtr::new(null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    /// Shared with afl-fuzz once the runtime is initialized.
    static __afl_area_ptr: *mut u8;
    /// How large that is to be.
    static mut __afl_final_loc: c_uint;
}

/// Called for each object file, each time with the counters of all, before the runtime asks for the
/// memory that it shares.
#[unsafe(no_mangle)]
unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    let count = stop.addr() - start.addr();
    FIRST.store(start, Relaxed);
    COUNT.store(count, Relaxed);
    // SAFETY: constructors run one after the other, and afterwards nobody writes it.
    unsafe { __afl_final_loc = c_uint::try_from(count).unwrap_or(c_uint::MAX) };
}

/// Sets all counters to zero.
pub fn forget() {
    // SAFETY: these are all counters, and there is no other thread.
    unsafe { write_bytes(FIRST.load(Relaxed), 0, COUNT.load(Relaxed)) };
}

/// Tells afl++ what was counted.
pub fn hand_over() {
    // SAFETY: the runtime has as much memory as `__afl_final_loc` has asked for.
    unsafe { copy_nonoverlapping(FIRST.load(Relaxed), __afl_area_ptr, COUNT.load(Relaxed)) };
}
