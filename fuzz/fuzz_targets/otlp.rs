//! `cargo fuzz run otlp`: see `varve_fuzz::otlp`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::otlp(data));
