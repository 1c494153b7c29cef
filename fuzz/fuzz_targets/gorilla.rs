//! `cargo fuzz run gorilla`: see `varve_fuzz::gorilla`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::gorilla(data));
