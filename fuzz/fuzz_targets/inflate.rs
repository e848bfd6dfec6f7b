//! Any compressed stream: see `pillion_deflate::fuzz_inflate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pillion_deflate::fuzz_inflate(input));
