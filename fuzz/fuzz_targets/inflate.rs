//! `cargo fuzz run inflate`: see `varve_fuzz::inflate`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::inflate(data));
