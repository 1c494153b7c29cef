//! `cargo fuzz run remote_write_v2`: see `varve_fuzz::remote_write_v2`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::remote_write_v2(data));
