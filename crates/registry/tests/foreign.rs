//! Registries of hostile pods, as a table: what is in them is refused or taken with less than it says, and nothing outside
//! of the root is opened. And what adopting does to a registry of one's own.

#![expect(clippy::disallowed_methods, reason = "the test plays the pods")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use pillion_event::{Guard, Incarnation};
use pillion_registry::foreign::{Adopted, Bounds, Foreign, read};
use pillion_registry::{Entry, Error, FilestreamState, Identifier, Intent, Kind, Options, Registry};
use pillion_world::{Beneath, World};

const MS: i64 = 1_795_459_239_000;

/// A world that ends at the folder of the test, and in it `/v/data`.
fn beneath(tmp: &Path) -> World {
    World { fs: Arc::new(Beneath::open(tmp, Path::new("/v")).unwrap()), ..World::real() }
}

fn read_beneath(tmp: &Path, bounds: &Bounds) -> Result<Foreign, Error> {
    read(&beneath(tmp), Path::new("/v/data"), &Options::default(), bounds)
}

/// A registry with this log.
fn with_log(lines: &[(&str, &str)]) -> tempfile::TempDir {
    let tmp = tempfile::tempdir().unwrap();
    let home = tmp.path().join("data/registry/filebeat");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join("meta.json"), "{\"version\":\"1\"}").unwrap();
    let operation = |(n, (key, value)): (usize, &(&str, &str))| {
        format!(
            "{{\"op\":\"set\",\"id\":{}}}\n{{\"k\":{},\"v\":{value}}}\n",
            n + 1,
            serde_json::to_string(key).unwrap()
        )
    };
    std::fs::write(home.join("log.json"), lines.iter().enumerate().map(operation).collect::<String>()).unwrap();
    tmp
}

fn value(source: &str, offset: &str, incarnation: &str, intents: &str) -> String {
    let source = serde_json::to_string(source).unwrap();
    format!(
        "{{\"ttl\":-1,\"updated\":[1,1],\"cursor\":{{\"offset\":{offset}}},\"meta\":{{\"source\":{source},\
         \"identifier_name\":\"native\"}},\"pillion\":[\"{incarnation}\",null,{intents}]}}"
    )
}

const LIFE: &str = "0000000000000000000000000000000a";
const KEY: &str = "filestream::jobs::native::7-0";

#[test]
fn what_no_file_has_is_refused() {
    let long = format!("/{}", "x".repeat(5000));
    let range = |from: i128, to: i128, ms: i64| format!("[[{from},{to},{ms},0,\"0000000000000000\"]]");
    // Source, offset, ranges; whether the entry is taken; how many ranges; what is said.
    let table: Vec<(&str, &str, String, bool, usize, &str)> = vec![
        ("/logs/a.log", "10", "[]".into(), true, 0, ""),
        ("/logs/a.log", "10", range(10, 20, MS), true, 1, ""),
        ("/logs/../../etc/passwd", "0", "[]".into(), false, 0, "upwards"),
        ("/logs/..", "0", "[]".into(), false, 0, "upwards"),
        ("etc/passwd", "0", "[]".into(), false, 0, "absolute"),
        ("", "0", "[]".into(), false, 0, "absolute"),
        ("/logs/a\u{0}b", "0", "[]".into(), false, 0, "zero byte"),
        (&long, "0", "[]".into(), false, 0, "longer"),
        ("/logs/a.log", "18446744073709551615", "[]".into(), false, 0, "no file has"),
        // Not numbers that an offset can be: the registry itself takes them for faults, and the file for unread.
        ("/logs/a.log", "-1", "[]".into(), false, 0, ""),
        ("/logs/a.log", "1e999", "[]".into(), false, 0, ""),
        ("/logs/a.log", "99999999999999999999999", "[]".into(), false, 0, ""),
        // Ranges that can't have been in flight.
        ("/logs/a.log", "10", range(10, 10, MS), true, 0, "ranges"),
        ("/logs/a.log", "10", range(0, 9, MS), true, 0, "ranges"),
        ("/logs/a.log", "10", range(10, 9_000_000_000_000, MS), true, 0, "ranges"),
        ("/logs/a.log", "10", range(10, 20, i64::MIN), true, 0, "ranges"),
        ("/logs/a.log", "10", range(10, 20, i64::MAX), true, 0, "ranges"),
        ("/logs/a.log", "10", range(10, 20, -5), true, 0, "ranges"),
        ("/logs/a.log", "10", format!("[[10,20,{MS},0,\"0\"],[15,25,{MS},0,\"0\"]]"), true, 0, "ranges"),
    ];
    for (source, offset, intents, taken, ranges, said) in table {
        let tmp = with_log(&[(KEY, &value(source, offset, LIFE, &intents))]);
        let foreign = read_beneath(tmp.path(), &Bounds::default()).unwrap();
        let what = format!("{} {offset} {intents}: {foreign:?}", source.get(..30.min(source.len())).unwrap());
        assert_eq!(foreign.entries.len(), usize::from(taken), "{what}");
        assert_eq!(foreign.entries.first().map_or(0, |e| e.intents.len()), ranges, "{what}");
        assert_eq!(foreign.refused_count > 0, !said.is_empty(), "{what}");
        assert!(foreign.refused.iter().all(|line| line.contains(said) && line.len() < 400), "{what}");
    }
}

#[test]
fn an_incarnation_of_two_is_nobodys() {
    let (one, two) = (value("/logs/a.log", "5", LIFE, "[]"), value("/logs/b.log", "7", LIFE, "[]"));
    let tmp = with_log(&[(KEY, &one), ("filestream::jobs::native::8-0", &two)]);
    let foreign = read_beneath(tmp.path(), &Bounds::default()).unwrap();
    assert_eq!(foreign.entries.iter().map(|e| e.incarnation.0).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(foreign.refused_count, 2);
    // Of one path they are one file whose key was being changed.
    let again = value("/logs/a.log", "9", LIFE, "[]");
    let tmp = with_log(&[(KEY, &one), ("filestream::jobs::native::8-0", &again)]);
    let foreign = read_beneath(tmp.path(), &Bounds::default()).unwrap();
    assert_eq!(foreign.entries.iter().map(|e| (e.offset, e.incarnation.0)).collect::<Vec<_>>(), [(9, 10)]);
    assert_eq!(foreign.refused_count, 0);
    // The same key twice is one entry: the last state counts, as in every log.
    let tmp = with_log(&[(KEY, &one), (KEY, &two)]);
    let foreign = read_beneath(tmp.path(), &Bounds::default()).unwrap();
    assert_eq!(foreign.entries.iter().map(|e| (e.offset, e.incarnation.0)).collect::<Vec<_>>(), [(7, 10)]);
}

#[test]
fn what_is_huge_or_broken_is_an_error_or_counts_as_far_as_it_is_whole() {
    let good = value("/logs/a.log", "5", LIFE, "[]");
    let tmp = with_log(&[(KEY, &good)]);
    let home = tmp.path().join("data/registry/filebeat");
    let log = std::fs::read(home.join("log.json")).unwrap();
    let small = Bounds { file: 4096, entries: 3, ..Bounds::default() };
    for (name, content) in [
        ("log.json", [&log, &b"{\"op\":\"set\",\"id\":2}\n{\"k\":\"filestr"[..]].concat()),
        ("log.json", [&log, &b"\0\0\0\0\0\0\0\0"[..]].concat()),
        ("log.json", [&log, &b"[".repeat(3000)[..]].concat()),
        ("9.json", b"[{\"_key\":".to_vec()),
        ("9.json", b"".to_vec()),
    ] {
        std::fs::write(home.join(name), content).unwrap();
        let foreign = read_beneath(tmp.path(), &small).unwrap();
        let known = usize::from(name == "log.json");
        assert_eq!(foreign.entries.len(), known, "{foreign:?}");
        assert!(foreign.torn.is_some() || foreign.refused_count > 0, "{foreign:?}");
        std::fs::write(home.join("log.json"), &log).unwrap();
    }
    std::fs::remove_file(home.join("9.json")).unwrap();
    std::fs::write(home.join("log.json"), log.repeat(100)).unwrap();
    assert!(matches!(read_beneath(tmp.path(), &small), Err(Error::TooLarge { .. })));
    let many = (0..5).map(|n| format!("filestream::jobs::native::{n}-0")).collect::<Vec<_>>();
    let many: Vec<_> = many.iter().map(|key| (&**key, &*good)).collect();
    assert!(matches!(read_beneath(with_log(&many).path(), &small), Err(Error::TooLarge { .. })));
    // A file that says that it is enormous costs nothing.
    let hole = std::fs::File::options().write(true).open(home.join("log.json")).unwrap();
    hole.set_len(1 << 40).unwrap();
    assert!(matches!(read_beneath(tmp.path(), &small), Err(Error::TooLarge { .. })));
}

#[test]
fn files_that_are_none_are_not_opened_and_nothing_outside_is() {
    let outside = with_log(&[(KEY, &value("/logs/a.log", "5", LIFE, "[]"))]);
    let outside = outside.path().join("data/registry/filebeat");
    type Make<'a> = &'a dyn Fn(&Path);
    let fifo: Make<'_> = &|p| {
        rustix::fs::mkfifoat(rustix::fs::CWD, p, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    };
    let link: Make<'_> = &|p| symlink(outside.join("log.json"), p).unwrap();
    let folder: Make<'_> = &|p| std::fs::create_dir(p).unwrap();
    let device: Make<'_> = &|p| symlink("/dev/zero", p).unwrap();
    let cases = [("log.json", fifo), ("9.json", fifo), ("log.json", link), ("9.json", link)];
    let cases = cases.into_iter().chain([("log.json", folder), ("log.json", device)]);
    for (name, make) in cases {
        let tmp = with_log(&[]);
        let path = tmp.path().join("data/registry/filebeat").join(name);
        let _ = std::fs::remove_file(&path);
        make(&path);
        let read = read_beneath(tmp.path(), &Bounds::default());
        assert!(!matches!(&read, Ok(foreign) if !foreign.entries.is_empty()), "{name}: {read:?}");
        // To own it in the same place isn't possible either.
        let opened = Registry::open(&beneath(tmp.path()), Path::new("/v/data"), &Options::default());
        assert!(opened.map(|(registry, _)| registry.entries().len()).unwrap_or(0) == 0, "{name}");
    }
    for folder in ["data", "data/registry", "data/registry/filebeat"] {
        let tmp = with_log(&[]);
        let path = tmp.path().join(folder);
        std::fs::remove_dir_all(&path).unwrap();
        let depth = 3 - folder.split('/').count();
        symlink(outside.ancestors().nth(depth).unwrap(), &path).unwrap();
        assert!(read_beneath(tmp.path(), &Bounds::default()).is_err(), "{folder}");
        assert!(Registry::open(&beneath(tmp.path()), Path::new("/v/data"), &Options::default()).is_err(), "{folder}");
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 2, "nothing was made there");
}

fn entry(key: u64, offset: u64, incarnation: u128, ranges: &[(u64, u64)]) -> Entry {
    let id = Identifier::Native { ino: key, dev: 0 };
    let kind = Kind::Filestream(FilestreamState::default());
    let mut entry = Entry::new(kind, "jobs", &id, "/logs/a.log".into(), Incarnation(incarnation));
    entry.offset = offset;
    let intent = |(from, to): &(u64, u64)| Intent { from: *from, to: *to, read_ms: MS, guard: Guard::default() };
    entry.intents = ranges.iter().map(intent).collect();
    entry
}

#[test]
fn adopting_takes_what_is_new_and_never_goes_back() {
    let tmp = tempfile::tempdir().unwrap();
    let open = || Registry::open(&World::real(), tmp.path(), &Options::default()).unwrap().0;
    let own = open();
    let ranges = |key: u64| {
        let e = own.get(&entry(key, 0, 0, &[]).key).unwrap();
        (e.offset, e.intents.iter().map(|i| (i.from, i.to)).collect::<Vec<_>>())
    };
    assert_eq!(own.adopt(entry(1, 10, 5, &[(10, 20), (20, 30)])), Adopted::Taken);
    assert_eq!(ranges(1), (10, vec![(10, 20), (20, 30)]));
    // An older state of the same life, then a newer one.
    assert_eq!(own.adopt(entry(1, 4, 5, &[(4, 12), (30, 40)])), Adopted::Merged);
    assert_eq!(ranges(1), (10, vec![(10, 20), (20, 30), (30, 40)]));
    assert_eq!(own.adopt(entry(1, 30, 5, &[])), Adopted::Merged);
    assert_eq!(ranges(1), (30, vec![(30, 40)]));
    // Another life.
    assert_eq!(own.adopt(entry(1, 99, 6, &[])), Adopted::Refused);
    assert_eq!(ranges(1), (30, vec![(30, 40)]));
    // Nobody's incarnation becomes one of its own, and nothing of it is in flight.
    assert_eq!(own.adopt(entry(2, 7, 0, &[(7, 9)])), Adopted::Taken);
    assert_ne!(own.get(&entry(2, 0, 0, &[]).key).unwrap().incarnation, Incarnation(0));
    assert_eq!(ranges(2), (7, vec![]));
    own.sync().unwrap();
    let before = own.entries();
    drop(own);
    assert_eq!(open().entries(), before);
}
