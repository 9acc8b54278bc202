//! Other ways into the kernel: i386 calls, x32 numbers, io_uring.

use crate::sandbox::require;
use crate::tracee::{Build, Traced, check, check_built};

#[test]
fn int_0x80_in_a_64_bit_program_is_decoded_as_i386() {
    check_built("int80", Build::Native);
}

#[test]
fn x32_numbers_do_not_confuse() {
    check_built("x32", Build::Native);
}

#[test]
fn socketcall_is_decoded() {
    check_built("socketcall", Build::I386);
}

#[test]
fn io_uring_is_denied_so_that_programs_fall_back() {
    check("io-uring");
}

#[test]
fn io_uring_when_allowed_is_said_to_be_unseen() {
    if require("io_uring allowed", Build::Native.needs()) {
        let traced = Traced::prepare("io-uring", Build::Native);
        let outcome = traced.run(&["--allow-io-uring"]);
        // A kernel without io_uring makes the tracee fall back here as well.
        let denied = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
        if denied.is_ok_and(|value| value.trim() == "0") {
            assert_eq!(outcome.said, [("unseen".to_owned(), b"io-uring".to_vec())]);
            assert!(outcome.finished.stderr().contains("io_uring"));
        }
        traced.assert_seen(&outcome);
    }
}
