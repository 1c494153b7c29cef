//! `cargo fuzz run scrape`: see `varve_fuzz::scrape`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::scrape(data));
