//! Any bytes as the note of a shard: see `pillion_registry::note::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(e) = pillion_registry::note::fuzz(input) {
        panic!("{e}");
    }
});
