//! Any bytes from a server: see `pillion_lumberjack::fuzz_acks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pillion_lumberjack::fuzz_acks(input));
