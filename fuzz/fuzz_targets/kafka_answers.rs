//! Any bytes as what a Kafka server answers: see `pillion_output::kafka::fuzz_answers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pillion_output::kafka::fuzz_answers(input));
