//! Any body of a `_bulk` request: see `pillion_receive::fuzz_bulk`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pillion_receive::fuzz_bulk(input));
