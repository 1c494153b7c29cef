//! `cargo fuzz run remote_read`: see `varve_fuzz::remote_read`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::remote_read(data));
