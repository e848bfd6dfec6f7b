//! Any bytes as a message of the Common Event Format: see `pillion_process::check::cef`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    for modern in [false, true] {
        let text = [b"CEF:", input].concat();
        if let Err(e) = pillion_process::check::cef(&text, modern) {
            panic!("{e}");
        }
    }
});
