//! Any bytes as checkpoint, log and old registry: see `pillion_registry::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(e) = pillion_registry::fuzz(input) {
        panic!("{e}");
    }
});
