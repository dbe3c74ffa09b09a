//! What all targets share: the loop that afl++ drives, replay, and how an input says where to cut.

mod documents;
#[cfg(afl)]
mod edges;
mod heap;
pub mod others;

pub use documents::read_documents;
pub use heap::peak_of;

/// Runs a target on the inputs that afl++ hands over in shared memory, in one process without end;
/// or, where files are named as arguments, on those: that is how a finding is replayed.
pub fn run(mut target: impl FnMut(&[u8])) {
    let files: Vec<_> = std::env::args_os().skip(1).collect();
    if files.is_empty() {
        fuzz(target);
        return;
    }
    for file in files {
        let input = std::fs::read(&file).expect("the input can be read");
        println!("{}: {} bytes", file.display(), input.len());
        target(&input);
    }
}

#[cfg(not(afl))]
fn fuzz(_: impl FnMut(&[u8])) {
    panic!("this was built without afl++ and can only replay files");
}

#[cfg(afl)]
fn fuzz(mut target: impl FnMut(&[u8])) {
    afl::drive(&mut target);
}

/// The interface of afl++ to targets that stay (its README.persistent_mode.md).
#[cfg(afl)]
mod afl {
    use std::ffi::{c_int, c_uint};
    use std::hint::black_box;
    use std::sync::atomic::AtomicI32;

    use crate::edges;

    /// Executions of a process before a new one is made, so that what leaks is given back.
    const EXECUTIONS_MAX: c_uint = 100_000;

    // By these texts in the file afl-fuzz recognizes what the target can do.
    static PERSISTENT: &str = "##SIG_AFL_PERSISTENT##\0";
    static DEFERRED: &str = "##SIG_AFL_DEFER_FORKSRV##\0";

    /// Tells the runtime that inputs are taken from shared memory; it writes 0 if there is none.
    #[unsafe(no_mangle)]
    #[allow(non_upper_case_globals)]
    static __afl_sharedmem_fuzzing: AtomicI32 = AtomicI32::new(1);

    unsafe extern "C" {
        static __afl_fuzz_ptr: *const u8;
        static __afl_fuzz_len: *const c_uint;
        safe fn __afl_manual_init();
        safe fn __afl_persistent_loop(executions: c_uint) -> c_int;
    }

    pub fn drive(target: &mut dyn FnMut(&[u8])) {
        black_box((PERSISTENT, DEFERRED));
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            edges::hand_over();
            tell(panic);
        }));
        __afl_manual_init();
        while __afl_persistent_loop(EXECUTIONS_MAX) != 0 {
            // SAFETY: between two calls of the loop both point to the input, which nobody changes.
            let input = unsafe {
                if __afl_fuzz_ptr.is_null() || __afl_fuzz_len.is_null() {
                    panic!("run it by afl-fuzz, or with files to replay as arguments");
                }
                std::slice::from_raw_parts(__afl_fuzz_ptr, *__afl_fuzz_len as usize)
            };
            edges::forget();
            target(input);
            edges::hand_over();
        }
    }
}

/// The first line of an input tells how the rest is cut: each of its characters is the length of a
/// piece, `!` for one byte, `"` for two and so on, over and over. So inputs stay text. `<` is a piece
/// that ends in front of the next `<`: where markup begins, a cut matters most.
pub fn pieces(input: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let at = input.iter().position(|byte| *byte == b'\n');
    let (lengths, document) = match at {
        Some(at) => (&input[..at], &input[at + 1..]),
        None => (&[][..], input),
    };
    let mut pieces = Vec::new();
    let mut rest = document;
    for length in lengths.iter().cycle() {
        let to_markup = || rest.iter().skip(1).position(|byte| *byte == b'<');
        let length = match length {
            b'<' => to_markup().map_or(rest.len(), |length| length + 1),
            length => usize::from(length.saturating_sub(b' ')).max(1),
        };
        if length >= rest.len() {
            break;
        }
        let (piece, behind) = rest.split_at(length);
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    (pieces, document)
}
