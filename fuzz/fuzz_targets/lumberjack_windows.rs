//! Any bytes from a client: see `pillion_lumberjack::fuzz_windows`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pillion_lumberjack::fuzz_windows(input));
