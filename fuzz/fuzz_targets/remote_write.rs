//! `cargo fuzz run remote_write`: see `varve_fuzz::remote_write`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| varve_fuzz::remote_write(data));
