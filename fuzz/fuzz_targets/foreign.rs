//! Any bytes as a registry that another process wrote: see `pillion_registry::foreign::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(e) = pillion_registry::foreign::fuzz(input) {
        panic!("{e}");
    }
});
