//! Damaged and hostile files, by mutation of real ones: what the fuzz target does, for a bounded time.

use pillion_registry::fuzz;
use proptest::prelude::*;

const LOG: &[u8] = br#"{"op":"set","id":1}
{"k":"filestream::jobs::native::5841252-65024","v":{"meta":{"source":"/x/logs/a.log","identifier_name":"native","more":[1]},"ttl":1800000000000,"updated":[713084901,1795459239],"cursor":{"offset":2991,"new":true},"pillion":["00000000000000000000000000000005",null,[[0,9,3,0,"0000000000000000"]]]}}
{"op":"set","id":2,"crc32":7}
{"k":"filebeat::logs::native::5841252-65024","v":{"offset":2991,"ttl":-1,"source":"/x/logs/a.log","timestamp":[658707069,18446744011573954816],"type":"log","meta":{"stream":"stdout"},"FileStateOS":{"inode":5841252,"device":65024}}}
{"op":"remove","id":3}
{"k":"filebeat::logs::native::5841252-65024"}
"#;
const CHECKPOINT: &[u8] = br#"[
{"_key":"filebeat::logs::path::/x","offset":2991,"ttl":-1,"source":"/x","timestamp":[658707069,1795459224],"type":"log","extra":{"a":[null,1.5e300]}},
{"_key":"httpjson::x","cursor":{"a":1}},
{"_key":"empty"}
]"#;
const OLD: &[u8] = br#"[{"source":"/p","offset":17,"FileStateOS":{"inode":3,"device":4},"timestamp":"2017-06-01T02:03:04.5Z","ttl":-1,"meta":null}]"#;

/// A file with some bytes replaced, removed or doubled.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let file = prop::sample::select(vec![LOG, CHECKPOINT, OLD]);
    let byte = prop_oneof![prop::sample::select(b"{}[]\",:\\0-9e\n\x00".to_vec()), any::<u8>()];
    let change = (any::<prop::sample::Index>(), 0..3u8, byte);
    (file, prop::collection::vec(change, 0..6)).prop_map(|(file, changes)| {
        let mut file = file.to_vec();
        for (at, how, byte) in changes {
            let at = at.index(file.len());
            match how {
                0 => file[at] = byte,
                1 => file.truncate(at.max(1)),
                _ => file.insert(at, byte),
            }
        }
        file
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(5000) })]

    #[test]
    fn what_is_understood_comes_back_the_same(file in damaged()) {
        prop_assert_eq!(fuzz(&file), Ok(()));
        prop_assert_eq!(pillion_registry::foreign::fuzz(&file), Ok(()));
    }
}

/// A number that isn't ours is the same to its last bit, however long and often it is read and written.
#[test]
fn numbers_of_others_keep_their_last_bit() {
    let checkpoint = String::from_utf8_lossy(CHECKPOINT);
    for number in ["10.5e300", "1.0500000000000001e301", "122.416294033786585", "5e-324", "0.30000000000000004"] {
        let file = checkpoint.replace("1.5e300", number);
        assert_eq!(fuzz(file.as_bytes()), Ok(()), "{number}");
    }
}
