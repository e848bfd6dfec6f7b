//! Any YAML as a condition: see `pillion_process::check::condition`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pillion_process::check::condition(input));
