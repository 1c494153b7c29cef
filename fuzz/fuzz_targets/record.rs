//! `cargo fuzz run record`: see `varve_fuzz::record`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::record(data));
