//! Any bytes as the answer to a `_bulk` request: see `pillion_output::elasticsearch::fuzz_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pillion_output::elasticsearch::fuzz_answer(input));
