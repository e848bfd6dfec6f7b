//! Any bytes as what a server of the forward protocol answers: see `pillion_output::forward::fuzz_answers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pillion_output::forward::fuzz_answers(input));
