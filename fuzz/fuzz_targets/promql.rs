//! `cargo fuzz run promql`: see `varve_fuzz::promql`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::promql(data));
