//! `cargo fuzz run times`: see `varve_fuzz::times`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::times(data));
