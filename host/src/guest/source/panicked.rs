//! What Rust does once a guest has panicked: about ten functions between the trap and the line that panicked, which say
//! nothing that the message of the panic has not said.

/// The most functions that are looked at.
const FUNCTIONS: usize = 32;

/// The functions that a panic comes through, by how their names begin.
const PANICS: [&str; 5] = [
    "core::panicking::",
    "std::panicking::",
    "__rustc::rust_begin_unwind",
    "rust_begin_unwind",
    "rust_panic",
];
/// Others on the way from there to the trap.
const ENDS: [&str; 7] = [
    "__rustc::rust_panic",
    "__rustc::__rust_start_panic",
    "__rustc::__rust_abort",
    "__rust_start_panic",
    "__rust_abort",
    "panic_abort::",
    "std::process::abort",
];
/// The one of the C library that traps in the end, where there is one.
const ABORT: &str = "abort";

/// How many functions to leave out, given all of a backtrace from the innermost one on. None where nothing has panicked,
/// as where a guest aborts by itself, and none where there are no others.
pub(super) fn depth(functions: impl Iterator<Item = String>) -> usize {
    let mut panicked = false;
    for (number, function) in functions.take(FUNCTIONS).enumerate() {
        let begins = |names: &[&str]| names.iter().any(|name| function.starts_with(name));
        let panics = begins(&PANICS);
        if !(panics || begins(&ENDS) || is_of_system(&function) || function == ABORT) {
            return match panicked {
                true => number,
                false => 0,
            };
        }
        panicked |= panics;
    }
    0
}

/// The part of the standard library that differs by system, whose place in it has changed before.
fn is_of_system(function: &str) -> bool {
    let ends = ["abort", "__rust_end_short_backtrace"];
    function.starts_with("std::sys") && ends.iter().any(|end| function.contains(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the trap on.
    const PANIC: [&str; 11] = [
        "abort",
        "std::sys::pal::wasi::helpers::abort_internal",
        "std::process::abort",
        "__rustc::__rust_abort",
        "__rustc::__rust_start_panic",
        "__rustc::rust_panic",
        "std::panicking::panic_with_hook",
        "std::panicking::panic_handler::{closure#0}",
        "std::sys::backtrace::__rust_end_short_backtrace::<std::panicking::panic_handler::{closure#0}, !>",
        "__rustc::rust_begin_unwind",
        "core::panicking::panic_fmt",
    ];

    fn depth_of(parts: &[&[&str]]) -> usize {
        depth(parts.concat().into_iter().map(str::to_owned))
    }

    #[test]
    fn what_rust_does_after_a_panic_is_left_out() {
        let guest = ["<hello::Hello as fanfare_guest::app::App>::handle", "main"];
        assert_eq!(depth_of(&[&PANIC, &guest]), PANIC.len());
        // What called the panic says what it was about.
        let checked = ["core::panicking::panic", "core::option::unwrap_failed"];
        assert_eq!(depth_of(&[&PANIC, &checked, &guest]), PANIC.len() + 1);
        // Only at the innermost end.
        assert_eq!(depth_of(&[&["dlmalloc"], &PANIC, &guest]), 0);
        assert_eq!(depth_of(&[&PANIC, &guest, &PANIC]), PANIC.len());
    }

    #[test]
    fn nothing_else_is_left_out() {
        assert_eq!(depth_of(&[]), 0);
        // There would be nothing left.
        assert_eq!(depth_of(&[&PANIC]), 0);
        assert_eq!(depth_of(&[&PANIC[..]; 10]), 0);
        for others in [
            // A guest that aborts by itself, and one in C.
            &["abort", "std::process::abort", "hello::handle"][..],
            &["abort", "__assert_fail", "handle"],
            &["abort", "std::terminate()", "handle()"],
            &["runtime.abort", "runtime.panic", "main.handle"],
            &["hello::handle", "core::panicking::panic_fmt"],
        ] {
            assert_eq!(depth_of(&[others]), 0, "{others:?}");
        }
    }
}
