//! `cargo fuzz run deletion`: see `varve_fuzz::deletion`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::deletion(data));
