//! `cargo fuzz run scrape_config`: see `varve_fuzz::scrape_config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::scrape_config(data));
