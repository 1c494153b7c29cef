//! `cargo fuzz run label_bytes`: see `varve_fuzz::label_bytes`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::label_bytes(data));
