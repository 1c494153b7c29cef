//! `cargo fuzz run batches`: see `varve_fuzz::batches`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::batches(data));
