//! `cargo fuzz run histograms`: see `varve_fuzz::histograms`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::histograms(data));
