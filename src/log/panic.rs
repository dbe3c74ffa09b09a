//! What is said before a panic ends the process: which stream was being handled, and where the code
//! was. Release builds abort on a panic (DESIGN §9), so nothing runs after this.

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::panic::PanicHookInfo;

thread_local! {
    static STREAM: Cell<u64> = const { Cell::new(0) };
}

/// Notes which stream this thread handles now; 0 for none.
pub fn handling(stream: u64) {
    STREAM.set(stream);
}

/// Writes panics to the log, with stream and backtrace. Standard error gets its message as before.
pub fn install() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        before(info);
    }));
}

fn report(info: &PanicHookInfo<'_>) {
    let message = match info.payload().downcast_ref::<&str>() {
        Some(message) => message,
        None => info
            .payload()
            .downcast_ref::<String>()
            .map_or("no message", String::as_str),
    };
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let stream = STREAM.get();
    let backtrace = Backtrace::force_capture();
    ::log::error!(stream = stream, place:% = place, message = message; "panic");
    // A line a frame: one field could not hold them.
    for line in backtrace.to_string().lines() {
        ::log::error!(frame = line.trim(); "panic backtrace");
    }
    ::log::logger().flush();
}
