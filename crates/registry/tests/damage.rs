//! A registry of which a byte is lost or another one, wherever it is: as a sweep, a replica, and its own next run read it.
//!
//! Always holds: nothing panics; no entry says more than was acknowledged, unless the bytes before its offset would have to be
//! others than they were, by which whoever reads the file finds out.

#![expect(clippy::disallowed_methods, reason = "the test plays the engine and the disk")]
#![expect(clippy::unwrap_used, reason = "a failing call is a failing test")]

use std::path::{Path, PathBuf};

use pillion_event::{Acked, Cursor, Guard, Incarnation};
use pillion_registry::foreign::{self, Bounds};
use pillion_registry::{Entry, FilestreamState, Identifier, Intent, Kind, Options, Registry, live};
use pillion_world::World;

const FILES: u64 = 3;
const MS: i64 = 1_795_459_239_000;

fn entry(n: u64) -> Entry {
    let id = Identifier::Native { ino: n, dev: 0 };
    let source = format!("/logs/{n}.log").into();
    let life = Incarnation(0xfeed_beef_0000_0000_1234_5678_9abc_def0 + u128::from(n));
    Entry::new(Kind::Filestream(FilestreamState::default()), "jobs", &id, source, life)
}

fn guard(offset: u64) -> Guard {
    Guard::of(format!("the line that ends at {offset}\n").as_bytes())
}

/// Two of three files are in the checkpoint with their ranges in flight; all of them go on in the log.
fn written(data: &Path) {
    let world = World::real();
    let open = || Registry::open(&world, data, &Options::default()).unwrap().0;
    let go_on = |registry: &Registry, n: u64, offset: u64| {
        registry.upsert(entry(n));
        let Entry { key, incarnation, .. } = entry(n);
        registry.commit(&Acked::by_target(Cursor { key: key.clone(), incarnation, offset, guard: guard(offset) }));
        let intent = Intent { from: offset, to: offset + 57, read_ms: MS, guard: guard(offset + 57) };
        assert!(registry.intend(&key, incarnation, intent));
        registry.sync().unwrap();
    };
    let registry = open();
    (0..FILES - 1).for_each(|n| go_on(&registry, n, 1040 + n));
    drop(registry);
    // What is opened anew begins with a checkpoint.
    let registry = open();
    (0..FILES).for_each(|n| go_on(&registry, n, 2040 + n));
}

/// What the registry says in truth, at the checkpoint and at the end.
fn check(read: &[Entry], what: &str) {
    for found in read {
        let n = (0..FILES).find(|n| entry(*n).incarnation == found.incarnation && entry(*n).key == found.key);
        // Under another key or of another life it is of no file here, or sent again.
        let Some(n) = n else { continue };
        let known = [0, 1040 + n, 2040 + n].into_iter().find(|offset| *offset == found.offset);
        assert!(known.is_some() || found.guard.len > 0, "{what}: an offset that nothing refutes: {found:?}");
    }
}

#[test]
fn a_byte_that_is_lost_or_another_one_makes_nobody_panic_and_no_line_count_as_acknowledged() {
    let (whole, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    written(whole.path());
    let home = Path::new("registry/filebeat");
    let names: Vec<PathBuf> =
        std::fs::read_dir(whole.path().join(home)).unwrap().map(|e| home.join(e.unwrap().file_name())).collect();
    std::fs::create_dir_all(copy.path().join(home)).unwrap();
    let restore = || {
        let _ = std::fs::remove_dir_all(copy.path().join(home));
        std::fs::create_dir_all(copy.path().join(home)).unwrap();
        for name in &names {
            std::fs::copy(whole.path().join(name), copy.path().join(name)).unwrap();
        }
    };
    restore();
    let (world, options, bounds) = (World::real(), Options::default(), Bounds::default());
    let all = foreign::read(&world, copy.path(), &options, &bounds).unwrap();
    let ends: Vec<_> = all.entries.iter().map(|e| (e.offset, e.intents.len())).collect();
    assert_eq!(ends, [(2040, 1), (2041, 1), (2042, 1)]);
    let mut tried = 0;
    for name in &names {
        let bytes = std::fs::read(whole.path().join(name)).unwrap();
        for at in 0..bytes.len() {
            let changes =
                [0x01_u8, 0x10, 0x80].map(|mask| [&bytes[..at], &[bytes[at] ^ mask], &bytes[at + 1..]].concat());
            let cut = [bytes[..at].to_vec(), [&bytes[..at], &bytes[at + 1..]].concat()];
            for (how, damaged) in changes.into_iter().chain(cut).enumerate() {
                std::fs::write(copy.path().join(name), damaged).unwrap();
                let what = format!("{} at {at}, {how}", name.display());
                tried += 1;
                if let Ok(read) = foreign::read(&world, copy.path(), &options, &bounds) {
                    check(&read.entries, &what);
                }
                if let Ok(read) = live::read(&world, copy.path(), &options, &bounds, &|_| true) {
                    check(&read.entries, &what);
                }
                if tried % 37 == 0 {
                    if let Ok((registry, _)) = Registry::open(&world, copy.path(), &options) {
                        check(&registry.entries().iter().map(|e| (**e).clone()).collect::<Vec<_>>(), &what);
                    }
                    restore();
                }
            }
        }
        restore();
    }
    assert!(tried > 5_000, "{tried}");
}
