use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use pillion_world::{FileKind, FsKind, OpenHow, UnixMillis, World};

use super::{Crash, Faults, SimWorld};

fn write(world: &World, path: &str, bytes: &[u8]) -> io::Result<()> {
    world.fs.open(Path::new(path), OpenHow::Append(0o600))?.write_all(bytes)
}

fn after_power_loss(seed: u64, before: impl Fn(&World) -> io::Result<()>) -> SimWorld {
    let sim = SimWorld::new(seed);
    sim.app().create_dir_all("/d").unwrap();
    before(&sim.world()).unwrap();
    sim.crash(Crash::Machine);
    assert!(sim.world().fs.stat(Path::new("/d"), true).is_err());
    sim.restart();
    sim
}

#[test]
fn what_is_synced_survives_and_of_the_rest_anything() {
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let sim = after_power_loss(seed, |world| {
            let file = world.fs.open(Path::new("/d/f"), OpenHow::Append(0o600))?;
            file.write_all(b"12")?;
            file.sync()?;
            world.fs.sync_dir(Path::new("/d"))?;
            file.write_all(b"34")?;
            file.write_all(b"56")
        });
        let content = sim.app().read("/d/f").unwrap();
        assert!(content.starts_with(b"12"));
        seen.insert(String::from_utf8(content).unwrap());
    }
    // A prefix of the writes, the second without the first, torn ones, length without bytes.
    for want in ["12", "123", "1234", "12345", "123456", "12\x00\x0056", "12\x00\x00", "1234\x00\x00"] {
        assert!(seen.contains(want), "{want:?} never happened: {seen:?}");
    }
}

#[test]
fn names_need_a_sync_of_their_directory() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let sim = after_power_loss(seed, |world| {
            write(world, "/d/old", b"x")?;
            world.fs.sync_dir(Path::new("/d"))?;
            world.fs.rename(Path::new("/d/old"), Path::new("/d/new"))?;
            write(world, "/d/other", b"y")
        });
        seen.insert(sim.app().list("/d").unwrap().join(" "));
    }
    let want = ["new", "new other", "old", "old other"].map(String::from);
    assert_eq!(seen, BTreeSet::from(want));
    let sim = after_power_loss(1, |world| {
        write(world, "/d/f", b"x")?;
        world.fs.create_dir_all(Path::new("/d/a/b"), 0o700)?;
        world.fs.rename(Path::new("/d/f"), Path::new("/d/a/g"))?;
        world.fs.sync_dir(Path::new("/d"))
    });
    assert_eq!(sim.app().list("/d").unwrap(), ["a"]);
    assert_eq!(sim.app().list("/d/a").unwrap(), ["g"]);
}

#[test]
fn a_killed_process_leaves_all_it_wrote_and_its_objects_are_dead() {
    let sim = SimWorld::new(1);
    sim.app().append("/d/log", b"app").unwrap();
    let world = sim.world();
    let file = world.fs.open(Path::new("/d/f"), OpenHow::Append(0o600)).unwrap();
    file.write_all(b"abc").unwrap();
    let lock = world.fs.try_lock(Path::new("/d/lock")).unwrap().unwrap();
    assert!(world.fs.try_lock(Path::new("/d/lock")).unwrap().is_none());
    sim.crash_at(sim.steps() + 1, Crash::Process);
    assert!(file.write_all(b"defghi").is_err());
    assert!(sim.crashed());
    sim.restart();
    assert!(file.stat().is_err() && world.fs.stat(Path::new("/d/f"), true).is_err());
    let content = sim.app().read("/d/f").unwrap();
    assert!(b"abcdefghi".starts_with(&content) && content.len() >= 3);
    let new = sim.world().fs.try_lock(Path::new("/d/lock")).unwrap().unwrap();
    drop(lock);
    assert!(sim.world().fs.try_lock(Path::new("/d/lock")).unwrap().is_none());
    drop(new);
    sim.app().lock("/d/lock").unwrap();
    assert!(sim.world().fs.try_lock(Path::new("/d/lock")).unwrap().is_none());
    sim.app().unlock("/d/lock").unwrap();
    assert!(sim.world().fs.try_lock(Path::new("/d/lock")).unwrap().is_some());
}

#[test]
fn a_failed_sync_is_not_made_good_by_the_next() {
    let lost = (0..100).filter(|seed| {
        let sim = after_power_loss(*seed, |world| {
            write(world, "/d/f", b"")?;
            world.fs.sync_dir(Path::new("/d"))
        });
        let world = sim.world();
        let file = world.fs.open(Path::new("/d/f"), OpenHow::Append(0o600)).unwrap();
        file.write_all(b"abc").unwrap();
        sim.set_faults(Faults { sync_error: 10_000, ..Faults::NONE });
        file.sync().unwrap_err();
        sim.set_faults(Faults::NONE);
        file.sync().unwrap();
        assert_eq!(sim.app().read("/d/f").unwrap(), b"abc");
        sim.crash(Crash::Machine);
        sim.app().read("/d/f").unwrap() != b"abc"
    });
    assert!(lost.count() > 10);
}

#[test]
fn open_files_outlive_their_names_and_inodes_are_used_again() {
    let sim = SimWorld::new(3);
    let app = sim.app();
    app.append("/l/a", b"one").unwrap();
    let world = sim.world();
    let reader = world.fs.open(Path::new("/l/a"), OpenHow::Read).unwrap();
    let writer = app.open("/l/a").unwrap();
    let ino = writer.ino();
    app.rename("/l/a", "/l/a.1").unwrap();
    writer.write(b" two").unwrap();
    app.delete("/l/a.1").unwrap();
    writer.write(b" three").unwrap();
    drop(writer);
    let mut buf = [0; 20];
    let n = reader.read_at(&mut buf, 0).unwrap();
    assert_eq!((&buf[..n], reader.stat().unwrap().nlink), (&b"one two three"[..], 0));
    app.append("/l/b", b"").unwrap();
    assert_ne!(app.meta("/l/b").unwrap().ino, ino);
    drop(reader);
    let reused = (0..10).any(|n| {
        app.append(format!("/l/c{n}"), b"").unwrap();
        app.meta(format!("/l/c{n}")).unwrap().ino == ino
    });
    assert!(reused);
    app.hard_link("/l/b", "/l/b2").unwrap();
    assert_eq!(app.meta("/l/b").unwrap().nlink, 2);
    app.symlink("b2", "/l/s").unwrap();
    assert_eq!(world.fs.stat(Path::new("/l/s"), false).unwrap().kind, FileKind::Symlink);
    assert_eq!(world.fs.canonicalize(Path::new("/l/s")).unwrap(), Path::new("/l/b2"));
    assert!(world.fs.open(Path::new("/l/s"), OpenHow::ReadNoFollow).is_err());
    app.symlink("loop", "/l/loop").unwrap();
    assert!(world.fs.open(Path::new("/l/loop"), OpenHow::Read).is_err());
}

#[test]
fn rotation_by_copy() {
    let sim = SimWorld::new(3);
    let app = sim.app();
    app.append("/l/a", b"one").unwrap();
    let ino = app.meta("/l/a").unwrap().ino;
    app.copytruncate("/l/a", "/l/a.1").unwrap();
    assert_eq!((app.read("/l/a").unwrap(), app.read("/l/a.1").unwrap()), (vec![], b"one".to_vec()));
    assert_eq!(app.meta("/l/a").unwrap().ino, ino);
    app.replace("/l/a", b"new").unwrap();
    assert_eq!(app.list("/l").unwrap(), ["a", "a.1"]);
}

#[test]
fn network_file_systems_lie_but_not_to_who_opens_anew() {
    let sim = SimWorld::new(5);
    sim.network("/nfs");
    let app = sim.app();
    app.append("/nfs/a", b"12345").unwrap();
    app.append("/nfs/a", b"6789").unwrap();
    let world = sim.world();
    let path = Path::new("/nfs/a");
    assert_eq!(world.fs.kind(path).unwrap(), FsKind::Network);
    assert_ne!(world.fs.stat(path, true).unwrap().dev, world.fs.stat(Path::new("/"), true).unwrap().dev);
    sim.set_faults(Faults { stale_size: 3000, size_ahead: 3000, ..Faults::NONE });
    let sizes: BTreeSet<u64> = (0..100).map(|_| world.fs.stat(path, true).unwrap().len.min(10)).collect();
    assert_eq!(sizes, BTreeSet::from([5, 9, 10]));
    assert!((0..100).all(|_| world.fs.open(path, OpenHow::Read).unwrap().stat().unwrap().len == 9));
    let file = world.fs.open(path, OpenHow::Read).unwrap();
    assert!((0..100).any(|_| file.stat().unwrap().len != 9));
    let old = app.meta(path).unwrap().ino;
    app.rename(path, "/nfs/b").unwrap();
    app.append(path, b"x").unwrap();
    sim.set_faults(Faults { stale_name: 5000, stale_dir: 5000, ..Faults::NONE });
    let seen: BTreeSet<Option<u64>> = (0..100).map(|_| world.fs.stat(path, true).ok().map(|m| m.ino)).collect();
    assert_eq!(seen, BTreeSet::from([None, Some(app.meta(path).unwrap().ino)]));
    app.rename("/nfs/b", path).unwrap();
    let seen: BTreeSet<u64> = (0..100).map(|_| world.fs.stat(path, true).unwrap().ino).collect();
    assert!(seen.len() == 2 && seen.contains(&old));
    sim.set_faults(Faults { stale_handle: 2000, ..Faults::NONE });
    let file = loop {
        if let Ok(file) = world.fs.open(path, OpenHow::Read) {
            break file;
        }
    };
    while file.read_at(&mut [0; 4], 0).is_ok() {}
    sim.set_faults(Faults::NONE);
    let error = file.read_at(&mut [0; 4], 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::STALE.raw_os_error()));
}

#[test]
fn full_and_read_only_disks() {
    let sim = SimWorld::new(5);
    sim.app().append("/d/f", b"x").unwrap();
    sim.app().append("/ro/f", b"x").unwrap();
    sim.read_only("/ro");
    sim.set_full(true);
    let world = sim.world();
    assert_eq!(write(&world, "/d/f", b"abc").unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(write(&world, "/d/g", b"abc").unwrap_err().kind(), io::ErrorKind::StorageFull);
    sim.set_full(false);
    write(&world, "/d/g", b"abc").unwrap();
    assert_eq!(write(&world, "/ro/f", b"abc").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    assert!(world.fs.remove(Path::new("/ro/f")).is_err());
}

/// A busy run; returns all that it saw.
fn run(seed: u64) -> String {
    let sim = SimWorld::new(seed);
    sim.start_trace();
    sim.network("/n");
    sim.set_faults(Faults::SOME);
    let mut log = String::new();
    for round in 0..30 {
        let world = sim.world();
        sim.app().append(format!("/n/{}", sim.below(3)), b"line\n").unwrap();
        sim.crash_at(sim.steps() + sim.below(20), if round % 2 == 0 { Crash::Machine } else { Crash::Process });
        for n in 0..10 {
            let path = format!("/n/{}", sim.below(3));
            log += &format!("{:?} ", write(&world, &format!("/p{}", sim.below(3)), b"data").is_ok());
            log += &format!("{:?} ", world.fs.stat(Path::new(&path), true).map(|m| (m.ino, m.len)).ok());
            if n == 5 {
                log += &format!("{:?} ", world.fs.rename(Path::new("/p0"), Path::new("/p1")).is_ok());
            }
        }
        if sim.crashed() {
            sim.restart();
        }
    }
    log + &sim.trace() + &format!("{:?}", sim.app().list("/").unwrap())
}

#[test]
fn a_seed_replays_a_run() {
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn time_moves_when_it_is_told_to() {
    let sim = SimWorld::new(1);
    let world = sim.world();
    let (mono, wall) = (world.clock.mono(), world.clock.wall());
    for _ in 0..2000 {
        sim.advance(Duration::from_micros(500));
    }
    assert_eq!(world.clock.mono().since(mono), Duration::from_secs(1));
    assert_eq!(world.clock.wall(), UnixMillis(wall.0 + 1000));
    sim.jump_wall(-5000);
    assert_eq!(world.clock.wall(), UnixMillis(wall.0 - 4000));
    assert_eq!(world.clock.mono().since(mono), Duration::from_secs(1));
    assert_ne!(world.random.u128(), world.random.u128());
}
