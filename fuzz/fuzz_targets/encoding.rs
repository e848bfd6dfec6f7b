//! Any bytes in any encoding: see `pillion_input::parse::check::encoding`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(e) = pillion_input::parse::check::encoding(input) {
        panic!("{e}");
    }
});
