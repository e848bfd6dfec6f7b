//! Notes of shards: written at every possible crash, read through lying caches and from hostile files; and how a dead
//! replica's folder is removed.

#![expect(clippy::unwrap_used, reason = "a failing call is a failing test")]
#![expect(clippy::disallowed_methods, reason = "the test plays the others")]

use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use pillion_registry::note::{Note, Wrote, data_path, member_of, name, read, write};
use pillion_sim::world::{Crash, Faults, SimWorld};
use pillion_world::{Beneath, World};

const ROOT: &str = "/share";

fn root() -> &'static Path {
    Path::new(ROOT)
}

fn note(epoch: u64, registry: &str) -> Note {
    Note { epoch, registry: registry.into() }
}

#[test]
fn names_lead_nowhere_else() {
    let long = "x".repeat(254);
    for (text, want) in [
        ("pod-1_a.b/7", Some("pod-1_a.b")),
        ("p/0", Some("p")),
        ("p/18446744073709551615", Some("p")),
        ("p/18446744073709551616", None),
        ("p/07", None),
        ("p/-1", None),
        ("p/+1", None),
        ("p/", None),
        ("p", None),
        ("", None),
        ("/1", None),
        ("./1", None),
        ("../1", None),
        (".hidden/1", None),
        ("a/b/1", None),
        ("../../etc/1", None),
        ("a b/1", None),
        ("a\0/1", None),
        ("ä/1", None),
        (&format!("{long}/1"), None),
        (&format!("{}/1", &long[1..]), Some(&long[1..])),
    ] {
        assert_eq!(member_of(text), want, "{text:?}");
    }
    assert_eq!(name("pod-1", 7).as_deref(), Some("pod-1/7"));
    assert_eq!((name("..", 7), data_path(root(), "..")), (None, None));
    assert_eq!(data_path(root(), "pod-1").unwrap(), Path::new("/share/.pillion/replicas/pod-1"));
}

#[test]
fn a_note_comes_back_and_a_higher_one_stays() {
    let tmp = tempfile::tempdir().unwrap();
    let world = World::real();
    assert_eq!(read(&world, tmp.path(), 3).unwrap(), None);
    assert_eq!(write(&world, tmp.path(), 3, 5, "a/5").unwrap(), Wrote::Done);
    assert_eq!(read(&world, tmp.path(), 3).unwrap(), Some(note(5, "a/5")));
    assert_eq!(read(&world, tmp.path(), 4).unwrap(), None);
    assert_eq!(write(&world, tmp.path(), 3, 4, "b/4").unwrap(), Wrote::Newer(note(5, "a/5")));
    assert_eq!(write(&world, tmp.path(), 3, 5, "a/5").unwrap(), Wrote::Done);
    assert_eq!(write(&world, tmp.path(), 3, 6, "b/6").unwrap(), Wrote::Done);
    assert_eq!(read(&world, tmp.path(), 3).unwrap(), Some(note(6, "b/6")));
    assert_eq!(write(&world, tmp.path(), 3, 7, "../x/6").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let folder = tmp.path().join(".pillion/shards");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing else is left behind");
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("03.json"))), (0o700, 0o600));
}

/// By real paths and beneath a root from which nothing leads out.
fn each_way(tmp: &Path, each: impl Fn(&World, &Path)) {
    each(&World::real(), tmp);
    let fs = Arc::new(Beneath::open(tmp, Path::new("/v")).unwrap());
    each(&World { fs, ..World::real() }, Path::new("/v"));
}

#[test]
fn what_is_broken_or_hostile_is_an_error_and_never_none() {
    let outside = tempfile::tempdir().unwrap();
    let good = r#"{"version":1,"shard":3,"epoch":5,"registry":"a/5"}"#;
    let target = outside.path().join("03.json");
    std::fs::write(&target, good).unwrap();
    type Make<'a> = &'a dyn Fn(&Path);
    let fifo: Make<'_> = &|p| {
        rustix::fs::mkfifoat(rustix::fs::CWD, p, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    };
    let makes: [Make<'_>; 5] = [
        fifo,
        &|p| symlink(&target, p).unwrap(),
        &|p| symlink("/nowhere", p).unwrap(),
        &|p| symlink("/dev/zero", p).unwrap(),
        &|p| std::fs::create_dir(p).unwrap(),
    ];
    let texts = [
        String::new(),
        "{".into(),
        "[]".into(),
        "5".into(),
        good.replace("\"version\":1", "\"version\":2"),
        good.replace("\"shard\":3", "\"shard\":4"),
        good.replace("\"epoch\":5", "\"epoch\":-5"),
        good.replace("\"epoch\":5", "\"epoch\":5.5"),
        good.replace("a/5", "../5"),
        good.replace("a/5", "/etc/5"),
        good.replace("a/5", "a"),
        good.replace("\"a/5\"", "null"),
        good.replace("\"a/5\"", &format!("\"{}/5\"", "a".repeat(254))),
        format!("{good}{}", " ".repeat(5000)),
    ];
    for n in 0..makes.len() + texts.len() {
        let tmp = tempfile::tempdir().unwrap();
        let folder = tmp.path().join(".pillion/shards");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("03.json");
        match makes.get(n) {
            Some(make) => make(&path),
            None => std::fs::write(path, &texts[n - makes.len()]).unwrap(),
        }
        each_way(tmp.path(), |world, root| {
            assert!(read(world, root, 3).is_err(), "{n}");
            // Nor is it replaced by somebody who can't know what it was.
            assert!(write(world, root, 3, 9, "b/9").is_err(), "{n}");
        });
    }
    for at in [".pillion", ".pillion/shards"] {
        for link in [true, false] {
            let tmp = tempfile::tempdir().unwrap();
            let path = tmp.path().join(at);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            if link {
                symlink(outside.path(), &path).unwrap()
            } else {
                std::fs::write(&path, "").unwrap()
            }
            each_way(tmp.path(), |world, root| {
                assert!(read(world, root, 3).is_err() && write(world, root, 3, 9, "b/9").is_err(), "{at}");
            });
        }
    }
    assert_eq!(std::fs::read_to_string(&target).unwrap(), good);
    // A hole as large as any file costs nothing.
    let tmp = tempfile::tempdir().unwrap();
    write(&World::real(), tmp.path(), 3, 5, "a/5").unwrap();
    let path = tmp.path().join(".pillion/shards/03.json");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    let error = read(&World::real(), tmp.path(), 3).unwrap_err().to_string();
    assert!(error.contains("03.json") && error.contains("4096"), "{error}");
    // What another one has left where the new one is to be written isn't written through.
    std::fs::remove_file(&path).unwrap();
    let draft = tmp.path().join(".pillion/shards/03.af63dc4c8601ec8c.new");
    symlink(&target, &draft).unwrap();
    assert_eq!(write(&World::real(), tmp.path(), 3, 5, "a/5").unwrap(), Wrote::Done);
    assert!(std::fs::symlink_metadata(&draft).is_err(), "the name of this member's drafts");
    assert_eq!(std::fs::read_to_string(&target).unwrap(), good);
}

#[test]
fn a_crash_at_every_step_leaves_one_of_the_two_whole() {
    for how in [Crash::Process, Crash::Machine] {
        for seed in 0..16 {
            let mut step = 1;
            loop {
                let sim = SimWorld::new(seed);
                sim.app().create_dir_all(ROOT).unwrap();
                let mut done = 0;
                sim.start_trace();
                sim.crash_at(step, how);
                for (n, registry) in [(1, "a/1"), (2, "b/2")] {
                    if write(&sim.world(), root(), 0, n, registry).is_ok_and(|w| w == Wrote::Done) {
                        done = n;
                    }
                }
                let alive = !sim.crashed();
                sim.no_crash();
                sim.crash(how);
                sim.restart();
                let found = read(&sim.world(), root(), 0);
                let may = [None, Some(note(1, "a/1")), Some(note(2, "b/2"))];
                match &found {
                    Ok(found) if may[done as usize..].contains(found) => {}
                    other => panic!("{how:?} at {step}, seed {seed}: {other:?} after {done}\n{}", sim.trace()),
                }
                assert_eq!(write(&sim.world(), root(), 0, 3, "c/3").unwrap(), Wrote::Done);
                assert_eq!(read(&sim.world(), root(), 0).unwrap(), Some(note(3, "c/3")));
                if alive {
                    break;
                }
                step += 1;
            }
            assert!(step > 20, "{step}");
        }
    }
}

#[test]
fn a_client_whose_cache_lies_sees_the_note() {
    for seed in 0..300 {
        let sim = SimWorld::new(seed);
        sim.network(ROOT);
        sim.app().create_dir_all(ROOT).unwrap();
        let lies = Faults { stale_size: 3000, stale_name: 2000, stale_dir: 3000, ..Faults::NONE };
        for epoch in 1..5 {
            sim.set_faults(Faults::NONE);
            assert_eq!(write(&sim.world(), root(), 0, epoch, &format!("a/{epoch}")).unwrap(), Wrote::Done);
            sim.set_faults(Faults { stale_handle: 300, short_read: 2000, ..lies });
            let found = read(&sim.world(), root(), 0);
            assert_eq!(found.unwrap(), Some(note(epoch, &format!("a/{epoch}"))), "seed {seed}");
        }
    }
}
