//! `cargo fuzz run segment`: see `varve_fuzz::segment`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::segment(data));
