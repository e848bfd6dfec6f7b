//! Any bytes as syslog messages, and through the parse chain: see `pillion_input::parse::check::syslog`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(e) = pillion_input::parse::check::syslog(input) {
        panic!("{e}");
    }
});
