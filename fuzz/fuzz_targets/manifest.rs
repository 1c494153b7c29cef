//! `cargo fuzz run manifest`: see `varve_fuzz::manifest`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::manifest(data));
