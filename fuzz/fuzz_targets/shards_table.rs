//! Any bytes as the table of a board: see `pillion_shards::read_table`. What is believed can be written, and is read back.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (table, _) = pillion_shards::read_table(input);
    if let Some(text) = pillion_shards::table_text(&table) {
        assert_eq!(pillion_shards::read_table(text.as_bytes()), (table, None));
    }
});
