//! Any bytes as a configuration: see `pillion_config::check::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(e) = pillion_config::check::fuzz(input) {
        panic!("{e}");
    }
});
