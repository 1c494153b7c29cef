//! `cargo fuzz run tsdb`: see `varve_fuzz::tsdb`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::tsdb(data));
