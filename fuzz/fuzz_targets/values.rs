//! `cargo fuzz run values`: see `varve_fuzz::values`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::values(data));
