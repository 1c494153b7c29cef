//! `cargo fuzz run exposition`: see `varve_fuzz::exposition`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::exposition(data));
