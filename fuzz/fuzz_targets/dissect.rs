//! A tokenizer and a text: see `pillion_process::check::dissect`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pillion_process::check::dissect(input));
