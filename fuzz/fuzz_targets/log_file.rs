//! `cargo fuzz run log_file`: see `varve_fuzz::log_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::log_file(data));
