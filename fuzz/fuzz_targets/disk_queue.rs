//! Any bytes as a segment of the disk queue: see `pillion_queue::disk::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(e) = pillion_queue::disk::fuzz(input) {
        panic!("{e}");
    }
});
