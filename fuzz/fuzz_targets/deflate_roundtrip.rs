//! What is compressed is read again: see `pillion_deflate::fuzz_roundtrip`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pillion_deflate::fuzz_roundtrip(input));
