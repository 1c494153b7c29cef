//! `cargo fuzz run influx`: see `varve_fuzz::influx`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::influx(data));
