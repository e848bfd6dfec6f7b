//! Any bytes through the parse chain: see `pillion_input::parse::check::container`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(e) = pillion_input::parse::check::container(input) {
        panic!("{e}");
    }
});
