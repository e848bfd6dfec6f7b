//! The registry on the real file system: what real Filebeats wrote, and what we write for them.

#![expect(clippy::unwrap_used, reason = "a failing call is a failing test")]
#![expect(clippy::disallowed_methods, reason = "tests look at the real files and play the engine")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pillion_event::{Acked, Cursor, Guard, Incarnation};
use pillion_registry::{
    Entry, Error, FilestreamState, Identifier, Intent, Kind, LogState, LogWords, Opened, Options, Registry,
};
use pillion_world::World;

const LOG_717: &str = r#"{"k":"filebeat::logs::native::5841252-65024","v":{"offset":2991,"ttl":-1,"id":"native::5841252-65024","prev_id":"","source":"/x/logs/a.log","timestamp":[658707069,1795459224],"type":"log","FileStateOS":{"inode":5841252,"device":65024},"identifier_name":"native"}}"#;
const FILESTREAM_717: &str = r#"{"k":"filestream::jobs::native::5841252-65024","v":{"meta":{"source":"/x/logs/a.log","identifier_name":"native"},"ttl":1800000000000,"updated":[713084901,1795459239],"cursor":{"offset":2991}}}"#;
const FILESTREAM_96: &str = r#"{"k":"filestream::jobs::fingerprint::31a80c59","v":{"ttl":-1,"updated":[805240021,1795459255],"cursor":{"offset":2991,"eof":false},"meta":{"identifier_name":"fingerprint","fingerprint_len":0,"source":"/x/logs/a.log"}}}"#;
const NULL_CURSOR: &str = r#"{"k":"filestream::.global::native::7-8","v":{"ttl":-1,"updated":[0,18446744011573954816],"cursor":null,"meta":{"source":"/x/b","identifier_name":"native"}}}"#;
const OTHER_INPUT: &str = r#"{"k":"journald::LOCAL_SYSTEM_JOURNAL","v":{"cursor":{"position":"s=1"},"version":1}}"#;

fn open(dir: &Path) -> (Registry, Opened) {
    Registry::open(&World::real(), dir, &Options::default()).unwrap()
}

fn acked(key: &str, incarnation: Incarnation, offset: u64) -> Acked<Cursor> {
    Acked::by_target(Cursor { key: key.into(), incarnation, offset, guard: Default::default() })
}

/// A memlog store with these lines in its log.
fn store(dir: &Path, lines: &[&str]) {
    let home = dir.join("registry/filebeat");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("meta.json"), r#"{"version":"1"}"#).unwrap();
    let text: String =
        lines.iter().enumerate().map(|(n, l)| format!("{{\"op\":\"set\",\"id\":{}}}\n{l}\n", n + 1)).collect();
    fs::write(home.join("log.json"), text).unwrap();
}

fn log_text(dir: &Path) -> String {
    fs::read_to_string(dir.join("registry/filebeat/log.json")).unwrap()
}

fn new_log(path: &str, ino: u64) -> Entry {
    let words = LogWords { input_type: "log".into(), ..LogWords::default() };
    let state = LogState { ino, dev: 1, words: words.into() };
    let id = Identifier::Native { ino, dev: 1 };
    Entry::new(Kind::Log(state), "", &id, path.into(), Incarnation(u128::from(ino)))
}

#[test]
fn records_of_real_filebeats_are_read_and_written_back() {
    let dir = tempfile::tempdir().unwrap();
    let all = [LOG_717, FILESTREAM_717, FILESTREAM_96, NULL_CURSOR, OTHER_INPUT];
    store(dir.path(), &all);
    let (registry, opened) = open(dir.path());
    assert_eq!((opened.entries, opened.adopted, opened.fault_count, opened.torn), (4, 4, 0, None));
    let log = registry.get("filebeat::logs::native::5841252-65024").unwrap();
    assert_eq!((log.offset, log.ttl_ns, &*log.source), (2991, -1, "/x/logs/a.log"));
    assert_eq!(log.updated_ns, 1_795_459_224_658_707_069);
    assert_eq!(log.identifier(), Some(Identifier::Native { ino: 5_841_252, dev: 65_024 }));
    assert_eq!(registry.get("filestream::.global::native::7-8").unwrap().offset, 0);
    let new = registry.get("filestream::jobs::fingerprint::31a80c59").unwrap();
    let state = FilestreamState { fingerprint_len: Some(0), eof: Some(false) };
    assert_eq!(new.kind, Kind::Filestream(state));
    registry.sync().unwrap();

    // Without our own member, what the checkpoint holds is what Filebeat wrote.
    let home = dir.path().join("registry/filebeat");
    let text = fs::read_to_string(home.join("6.json")).unwrap();
    let written: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let mut original: Vec<serde_json::Value> = all.iter().map(|l| serde_json::from_str(l).unwrap()).collect();
    original[3]["v"]["cursor"] = serde_json::json!({ "offset": 0 });
    for mut value in written {
        let map = value.as_object_mut().unwrap();
        let key = map.remove("_key").unwrap();
        map.remove("pillion");
        let was = original.iter().find(|o| o["k"] == key).unwrap();
        assert_eq!(value, was["v"], "{key}");
    }
    assert_eq!(fs::read_to_string(home.join("active.dat")).unwrap(), home.join("6.json").to_str().unwrap());
    assert_eq!(log_text(dir.path()), "");
}

#[test]
fn a_new_registry_looks_like_filebeats() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (registry, opened) = open(&data);
    assert!(opened.fresh);
    let id = registry.agent_id().to_owned();
    let started = registry.first_start_ns();
    assert!(started.is_some());
    registry.upsert(new_log("/x/a", 5));
    assert!(registry.intend(
        "filebeat::logs::native::5-1",
        Incarnation(5),
        Intent { from: 0, to: 9, read_ms: 3, guard: Guard::default() }
    ));
    registry.sync().unwrap();
    assert!(registry.commit(&acked("filebeat::logs::native::5-1", Incarnation(5), 4)));
    registry.sync().unwrap();
    registry.remove("filebeat::logs::native::5-1");
    registry.sync().unwrap();
    registry.sync().unwrap();
    let meta: serde_json::Value = serde_json::from_str(&fs::read_to_string(data.join("meta.json")).unwrap()).unwrap();
    assert_eq!(meta["uuid"], id);
    assert_eq!(fs::read_to_string(data.join("registry/filebeat/meta.json")).unwrap(), r#"{"version":"1"}"#);
    use std::os::unix::fs::PermissionsExt;
    let mode = |p: &str| fs::metadata(data.join(p)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        ["", "registry", "registry/filebeat", "meta.json", "registry/filebeat/log.json"].map(mode),
        [0o700, 0o700, 0o700, 0o600, 0o600]
    );
    let home = data.join("registry/filebeat");
    let first = fs::read_to_string(home.join("1.json")).unwrap();
    assert!(
        first.contains(r#""pillion":["00000000000000000000000000000005",null,[[0,9,3,0,"0000000000000000"]]]"#),
        "{first}"
    );
    let log = log_text(&data);
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines[0].starts_with(r#"{"op":"set","id":2,"crc32":"#), "{log}");
    assert!(lines[1].starts_with(r#"{"k":"filebeat::logs::native::5-1","v":{"offset":4,"ttl":-1,"id":"native::5-1","prev_id":"","source":"/x/a","timestamp":["#));
    assert!(lines[2].starts_with(r#"{"op":"remove","id":3,"#));
    assert_eq!(lines[3..], [r#"{"k":"filebeat::logs::native::5-1"}"#]);
    drop(registry);
    assert_eq!(open(&data).0.agent_id(), id);
    assert_eq!(open(&data).0.first_start_ns(), started);
}

#[test]
fn an_entry_that_filebeat_changed_gets_a_new_incarnation() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, _) = open(dir.path());
    for ino in [5_841_252, 6] {
        let mut entry = new_log("/x/logs/a.log", ino);
        entry.key = entry.key.replace("-1", "-65024").into();
        registry.upsert(entry);
    }
    registry.sync().unwrap();
    drop(registry);
    let mut log = log_text(dir.path());
    log.push_str(&format!("{{\"op\":\"set\",\"id\":2}}\n{LOG_717}\n"));
    fs::write(dir.path().join("registry/filebeat/log.json"), log).unwrap();
    let (registry, opened) = open(dir.path());
    assert_eq!(opened.adopted, 1);
    let changed = registry.get("filebeat::logs::native::5841252-65024").unwrap();
    assert_eq!((changed.offset, changed.intents.len()), (2991, 0));
    assert!(![Incarnation(0), Incarnation(5_841_252)].contains(&changed.incarnation));
    assert_eq!(registry.get("filebeat::logs::native::6-65024").unwrap().incarnation, Incarnation(6));
}

#[test]
fn the_second_process_is_told_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = open(dir.path());
    let error = Registry::open(&World::real(), dir.path(), &Options::default()).err().unwrap();
    assert!(matches!(error, Error::Locked { .. }));
    let text = error.to_string();
    assert!(text.contains(dir.path().to_str().unwrap()) && text.contains("path.data"), "{text}");
    drop(first);
    open(dir.path());
}

#[test]
fn a_data_path_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let path = dir.path().join("file/data");
    let error = Registry::open(&World::real(), &path, &Options::default()).err().unwrap();
    assert!(error.to_string().contains(dir.path().join("file").to_str().unwrap()), "{error}");
    let home = dir.path().join("registry/filebeat");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("meta.json"), r#"{"version":"7"}"#).unwrap();
    let error = Registry::open(&World::real(), dir.path(), &Options::default()).err().unwrap();
    assert!(matches!(&error, Error::Version { version, .. } if version == "7"), "{error}");
}

#[test]
fn the_file_of_5_6_is_taken_over_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let old = r#"[{"source":"/p","offset":17,"FileStateOS":{"inode":3,"device":4},"timestamp":"2017-06-01T02:03:04.5Z","ttl":-1}]"#;
    fs::write(dir.path().join("registry"), old).unwrap();
    let (registry, opened) = open(dir.path());
    let taken = opened.taken_over.unwrap();
    assert_eq!((taken.entries, taken.backup.clone()), (1, dir.path().join("registry.bak")));
    assert_eq!(fs::read_to_string(taken.backup).unwrap(), old);
    let entry = registry.get("filebeat::logs::native::3-4").unwrap();
    assert_eq!((entry.offset, &*entry.source), (17, "/p"));
    let incarnation = entry.incarnation;
    drop(registry);
    let (registry, opened) = open(dir.path());
    assert_eq!((opened.taken_over, opened.adopted), (None, 0));
    assert_eq!(registry.get("filebeat::logs::native::3-4").unwrap().incarnation, incarnation);
    drop(registry);
    // Who deletes the registry wants a new one, whatever backup lies beside it.
    fs::remove_dir_all(dir.path().join("registry")).unwrap();
    assert!(open(dir.path()).1.fresh);
}

#[test]
fn the_folder_of_7_0_is_taken_over_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("registry/filebeat");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("meta.json"), r#"{"version":"0"}"#).unwrap();
    let old = r#"[{"source":"/p","offset":17,"type":"log","meta":null,"FileStateOS":{"inode":3,"device":4},"timestamp":"2019-06-01T02:03:04.5+02:00","ttl":-1}]"#;
    fs::write(home.join("data.json"), old).unwrap();
    let (registry, opened) = open(dir.path());
    assert_eq!(opened.taken_over.unwrap().backup, home.join("data.json.bak"));
    assert_eq!(registry.get("filebeat::logs::native::3-4").unwrap().offset, 17);
    drop(registry);
    assert_eq!(open(dir.path()).1.entries, 1);
}

#[test]
fn a_file_somewhere_else_is_taken_over_by_option() {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join("old");
    fs::write(&old, r#"[{"source":"/p","offset":17,"FileStateOS":{"inode":3,"device":4}}]"#).unwrap();
    let options = Options { migrate_file: Some("../old".into()), ..Options::default() };
    let data = dir.path().join("data");
    let (registry, opened) = Registry::open(&World::real(), &data, &options).unwrap();
    assert_eq!((opened.entries, registry.entries()[0].offset), (1, 17));
    drop(registry);
    let (_, opened) = Registry::open(&World::real(), &data, &options).unwrap();
    assert_eq!((opened.entries, opened.taken_over), (1, None));
}

#[test]
fn gaps_unknown_operations_and_wrong_checksums_end_the_reading() {
    let set = |id: u64, ino: u64, extra: &str| {
        let key = format!("filebeat::logs::native::{ino}-1");
        format!("{{\"op\":\"set\",\"id\":{id}{extra}}}\n{{\"k\":\"{key}\",\"v\":{{\"offset\":1,\"source\":\"/\"}}}}\n")
    };
    for (bad, next_file) in [
        (set(4, 3, ""), "6.json"),
        (set(3, 3, ",\"crc32\":1"), "6.json"),
        (set(3, 3, "").replace("set", "merge"), "6.json"),
        ("nonsense\n".to_owned(), "6.json"),
        ("{\"op\":\"set\",\"id\":3}\nnonsense\n".to_owned(), "6.json"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path(), &[]);
        let log = [set(1, 1, ",\"new\":{}"), set(2, 2, ""), bad.clone(), set(4, 4, ""), set(5, 5, "")].concat();
        fs::write(dir.path().join("registry/filebeat/log.json"), log).unwrap();
        let (registry, opened) = open(dir.path());
        assert!(opened.torn.is_some(), "{bad}");
        assert_eq!(registry.entries().len(), 2, "{bad}");
        registry.sync().unwrap();
        // The checkpoint's id lies above all that the log names, so that nothing of it is ever applied again.
        assert!(dir.path().join("registry/filebeat").join(next_file).exists(), "{bad}");
    }
}

#[test]
fn a_reader_cannot_undo_an_acknowledgement() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, _) = open(dir.path());
    let entry = new_log("/a", 1);
    let key = Arc::clone(&entry.key);
    registry.upsert(entry.clone());
    let intent = |from, to| Intent { from, to, read_ms: 1, guard: Guard::default() };
    assert!(registry.intend(&key, entry.incarnation, intent(0, 10)));
    assert!(registry.intend(&key, entry.incarnation, intent(10, 20)));
    assert!(registry.commit(&acked(&key, entry.incarnation, 10)));
    assert!(!registry.commit(&acked(&key, entry.incarnation, 9)));
    assert!(!registry.commit(&acked(&key, Incarnation(77), 90)));
    registry.upsert(Entry { source: "/renamed".into(), ..entry.clone() });
    let now = registry.get(&key).unwrap();
    assert_eq!((now.offset, &*now.source, &now.intents[..]), (10, "/renamed", &[intent(10, 20)][..]));
    // A fingerprint grew: cursors with the old key still count, also after a second time.
    for new_key in ["filestream::.global::fingerprint::aa", "filestream::.global::fingerprint::aabb"] {
        let at = registry.entries()[0].clone();
        registry.rekey(&at.key, Entry { key: new_key.into(), ..(*at).clone() });
    }
    assert!(registry.commit(&acked(&key, entry.incarnation, 20)));
    assert_eq!(registry.get("filestream::.global::fingerprint::aabb").unwrap().offset, 20);
    assert_eq!(registry.entries().len(), 1);
    // A truncation: a new life, from its beginning.
    let begun =
        Entry { key: "filestream::.global::fingerprint::aabb".into(), incarnation: Incarnation(2), ..entry.clone() };
    registry.upsert(begun);
    assert!(!registry.commit(&acked(&key, entry.incarnation, 30)));
    assert_eq!(registry.entries()[0].offset, 0);
}

#[test]
fn intents_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, _) = open(dir.path());
    let entry = new_log("/a", 1);
    registry.upsert(entry.clone());
    let intend = |n: u64| {
        registry.intend(
            &entry.key,
            entry.incarnation,
            Intent { from: n, to: n + 1, read_ms: 0, guard: Guard::default() },
        )
    };
    for n in 0..pillion_registry::MAX_INTENTS as u64 {
        assert!(intend(n));
    }
    assert!(!intend(100_000));
    assert!(intend(0), "one that is there already is no news");
    assert!(registry.commit(&acked(&entry.key, entry.incarnation, 1)));
    assert!(intend(100_000));
    registry.sync().unwrap();
    drop(registry);
    assert_eq!(open(dir.path()).0.entries()[0].intents.len(), pillion_registry::MAX_INTENTS);
}

#[test]
fn a_long_log_becomes_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, _) = open(dir.path());
    let home = dir.path().join("registry/filebeat");
    let mut longest = 0;
    let mut offset = 0;
    for ino in 0..1000 {
        registry.upsert(new_log("/x/logs/a.log", ino + 1));
    }
    while !home.join("2.json").exists() && offset < 60 {
        offset += 1;
        for entry in registry.entries() {
            registry.commit(&acked(&entry.key, entry.incarnation, offset));
        }
        registry.sync().unwrap();
        longest = longest.max(fs::metadata(home.join("log.json")).unwrap().len());
        let checkpoints = fs::read_dir(&home)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().starts_with(|c: char| c.is_ascii_digit()));
        if offset > 1 && checkpoints.count() == 1 && fs::metadata(home.join("log.json")).unwrap().len() == 0 {
            break;
        }
    }
    assert!((9 << 20..11 << 20).contains(&longest), "{longest} after {offset}");
    drop(registry);
    let (registry, _) = open(dir.path());
    assert!(registry.entries().iter().all(|e| e.offset == offset));
}
