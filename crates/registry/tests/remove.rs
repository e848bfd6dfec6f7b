//! A dead replica's folder is removed: with a crash at every step, and never anything that isn't a registry's.

#![expect(clippy::unwrap_used, reason = "a failing call is a failing test")]
#![expect(clippy::disallowed_methods, reason = "the test plays the others")]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use pillion_event::Incarnation;
use pillion_registry::foreign::Bounds;
use pillion_registry::note::data_path;
use pillion_registry::{Entry, FilestreamState, Identifier, Kind, Options, Registry, Removed, live, remove_replica};
use pillion_sim::world::{Crash, SimWorld};
use pillion_world::{Beneath, World};

const MEMBER: &str = "pod-1-4f2a";

/// A replica that had three files; its process is gone when this returns.
fn make(world: &World, root: &Path) {
    let path = data_path(root, MEMBER).unwrap();
    for starts in 0..2 {
        let (registry, _) = Registry::open(world, &path, &Options::default()).unwrap();
        for n in 0..3 {
            let id = Identifier::Native { ino: n, dev: 0 };
            let kind = Kind::Filestream(FilestreamState::default());
            let life = Incarnation(u128::from(n) + 1);
            let entry = Entry::new(kind, "jobs", &id, format!("/share/{n}.log").into(), life);
            registry.upsert(Entry { offset: 5 + starts, ..entry });
            registry.sync().unwrap();
        }
    }
}

/// How many of its files can be read; `None`: it isn't there.
fn files(world: &World, root: &Path) -> Option<usize> {
    let path = data_path(root, MEMBER).unwrap();
    let found = live::read(world, &path, &Options::default(), &Bounds::default(), &|entry| entry.offset == 6);
    found.ok().map(|found| found.entries.len())
}

#[test]
fn a_crash_at_every_step_leaves_all_of_it_or_nothing_and_the_next_call_goes_on() {
    let root = Path::new("/share");
    for how in [Crash::Process, Crash::Machine] {
        for seed in 0..16 {
            let mut step = 1;
            loop {
                let sim = SimWorld::new(seed);
                make(&sim.world(), root);
                sim.start_trace();
                sim.crash_at(sim.steps() + step, how);
                let done = remove_replica(&sim.world(), root, MEMBER);
                sim.no_crash();
                sim.restart();
                let left = files(&sim.world(), root);
                let told = || format!("{how:?} at {step}, seed {seed}: {done:?}, {left:?}\n{}", sim.trace());
                assert!(left.is_none_or(|n| n == 3), "{}", told());
                let again = remove_replica(&sim.world(), root, MEMBER).unwrap_or_else(|e| panic!("{e}: {}", told()));
                assert_eq!(again, Removed::Done, "{}", told());
                assert!(sim.world().fs.stat(&data_path(root, MEMBER).unwrap(), false).is_err(), "{}", told());
                if done.is_ok() {
                    break;
                }
                step += 1;
            }
            assert!(step > 25, "{step}");
        }
    }
}

/// By real paths and beneath a root from which nothing leads out.
fn each_way(each: impl Fn(&World, &Path, &Path)) {
    for beneath in [false, true] {
        let tmp = tempfile::tempdir().unwrap();
        make(&World::real(), tmp.path());
        if beneath {
            let fs = Arc::new(Beneath::open(tmp.path(), Path::new("/v")).unwrap());
            each(&World { fs, ..World::real() }, Path::new("/v"), tmp.path());
        } else {
            each(&World::real(), tmp.path(), tmp.path());
        }
    }
}

#[test]
fn what_is_there_is_removed_and_nothing_beside_it() {
    each_way(|world, root, real| {
        make_other(real);
        assert_eq!(remove_replica(world, root, MEMBER).unwrap(), Removed::Done);
        let replicas = real.join(".pillion/replicas");
        let names: Vec<_> = std::fs::read_dir(&replicas).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["pod-2"]);
        assert_eq!(remove_replica(world, root, MEMBER).unwrap(), Removed::Done, "it is gone already");
        for name in ["..", ".", "", "a/b", "../replicas"] {
            assert!(remove_replica(world, root, name).is_err(), "{name}");
        }
    });
}

fn make_other(real: &Path) {
    Registry::open(&World::real(), &real.join(".pillion/replicas/pod-2"), &Options::default()).unwrap();
}

#[test]
fn one_that_is_in_use_stays() {
    each_way(|world, root, real| {
        let path = data_path(real, MEMBER).unwrap();
        let held = pillion_registry::hold(&World::real(), &path).unwrap();
        assert_eq!(remove_replica(world, root, MEMBER).unwrap(), Removed::InUse);
        assert_eq!(files(world, root), Some(3));
        drop(held);
        assert_eq!(remove_replica(world, root, MEMBER).unwrap(), Removed::Done);
    });
}

#[test]
fn what_is_no_part_of_a_registry_keeps_all_of_it() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("log.json"), "theirs").unwrap();
    type Make<'a> = &'a dyn Fn(&Path);
    let file: Make<'_> = &|p| std::fs::write(p, "").unwrap();
    let folder: Make<'_> = &|p| std::fs::create_dir(p).unwrap();
    let link: Make<'_> = &|p| symlink(outside.path(), p).unwrap();
    for (name, make) in [
        ("app.log", file),
        ("meta.json.new", folder),
        ("registry.bak", file),
        ("registry.removed", link),
        ("registry/app.log", file),
        ("registry/other", folder),
        ("registry/filebeat/1x.json", file),
        ("registry/filebeat/99.json", folder),
        ("registry/filebeat/99.json", link),
        ("registry/filebeat/sub", folder),
        ("registry/filebeat/.nfs0001", file),
    ] {
        each_way(|world, root, real| {
            let path = data_path(real, MEMBER).unwrap().join(name);
            make(&path);
            let seen = data_path(root, MEMBER).unwrap().join(name);
            assert_eq!(remove_replica(world, root, MEMBER).unwrap(), Removed::Kept(vec![seen]));
            assert!(std::fs::symlink_metadata(&path).is_ok());
            std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path)).unwrap();
            assert_eq!(files(world, root), Some(3), "{name}");
            assert_eq!(remove_replica(world, root, MEMBER).unwrap(), Removed::Done);
        });
    }
    // A folder on the way that is a link.
    for name in ["", "registry", "registry/filebeat"] {
        each_way(|world, root, real| {
            let path = data_path(real, MEMBER).unwrap().join(name);
            std::fs::rename(&path, real.join("aside")).unwrap();
            symlink(outside.path(), path.components().collect::<std::path::PathBuf>()).unwrap();
            let done = remove_replica(world, root, MEMBER);
            assert!(matches!(done, Err(_) | Ok(Removed::Kept(_))), "{name}: {done:?}");
        });
    }
    assert_eq!(std::fs::read_to_string(outside.path().join("log.json")).unwrap(), "theirs");
}
