//! Any bytes as what a Redis server answers: see `pillion_output::redis::fuzz_answers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pillion_output::redis::fuzz_answers(input));
