//! Shipped files that go: a crash at every step of the file system, and somebody else who writes, swaps or makes links
//! before every one of its calls.

use std::sync::atomic::{AtomicU64, Ordering};

use pillion_event::Incarnation;
use pillion_registry::beside::Heart;
use pillion_registry::{FilestreamState, Kind, Registry};
use pillion_sim::world::{App, Crash, SimWorld};
use pillion_world::{Fs, OpenHow};
use serde_json::json;

use super::*;

const SOURCE: &str = "/logs/a.log";
const DATA: &str = "/logs/.pillion/job-1";
const SECRET: &str = "/outside/secret.log";
const OLD: &[u8] =
    b"one line that was acknowledged\nand another one, which is longer than what is remembered of an end\n";
const NEW: &[u8] = b"a line that nobody has read\n";
const BOTH: [After; 2] = [After::Delete(Duration::ZERO), After::Move(Duration::ZERO)];

/// A file system that is another's before each call: at one of them, somebody does something.
struct Watched {
    under: Arc<dyn Fs>,
    app: App,
    calls: AtomicU64,
    at: u64,
    act: fn(&App),
    /// As on NFS, a rename that replaces nothing takes two steps.
    two_steps: bool,
}

impl Watched {
    fn now(&self) -> &dyn Fs {
        if self.calls.fetch_add(1, Ordering::Relaxed) + 1 == self.at {
            (self.act)(&self.app);
        }
        &*self.under
    }
}

impl Fs for Watched {
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.two_steps {
            return self.now().rename_new(from, to);
        }
        // That it can be looked at says that the machine hasn't crashed.
        if self.now().stat(from, false)?.kind != FileKind::File {
            return self.now().rename_new(from, to);
        }
        self.app.hard_link(from, to)?;
        self.now().remove(from)
    }

    pillion_world::pass_fs!(this => this.now(); open stat read_dir canonicalize read_link kind rename remove create_dir_all sync_dir try_lock);
}

/// A registry that is done, with one file.
fn done(seed: u64) -> SimWorld {
    let sim = SimWorld::new(seed);
    let app = sim.app();
    app.create_dir_all(DATA).unwrap();
    app.create_dir_all("/outside").unwrap();
    app.append(SECRET, OLD).unwrap();
    app.append(SOURCE, OLD).unwrap();
    let world = home(&sim.world(), Path::new(DATA));
    let meta = world.fs.stat(Path::new(SOURCE), false).unwrap();
    let id = Identifier::Native { ino: meta.ino, dev: meta.dev };
    let kind = Kind::Filestream(FilestreamState::default());
    let mut entry = Entry::new(kind, "job", &id, SOURCE.into(), Incarnation(1));
    (entry.offset, entry.guard) = (OLD.len() as u64, Guard::of(OLD));
    let (registry, _) = Registry::open(&world, Path::new(DATA), &Options::default()).unwrap();
    registry.upsert(entry);
    registry.sync().unwrap();
    drop(registry);
    Heart::claim(&world, Path::new(DATA)).unwrap().done(&json!({"verdict": "complete"})).unwrap();
    for dir in ["/", "/logs", "/outside", DATA] {
        world.fs.sync_dir(Path::new(dir)).unwrap();
    }
    for file in [SOURCE, SECRET] {
        world.fs.open(Path::new(file), OpenHow::Append(0o600)).unwrap().sync().unwrap();
    }
    sim
}

fn home(world: &World, data: &Path) -> World {
    World { fs: Arc::new(Home::of(Arc::clone(&world.fs), data).unwrap()), ..world.clone() }
}

/// A pass in which something happens before one of its calls; how many calls there were.
fn pass(sim: &SimWorld, after: After, two_steps: bool, at: u64, act: fn(&App)) -> (Result<Gone, String>, u64) {
    let world = sim.world();
    let (under, app) = (Arc::clone(&world.fs), sim.app());
    let watched = Arc::new(Watched { under, app, calls: AtomicU64::new(0), at, act, two_steps });
    let fs = Home::of(Arc::clone(&watched) as Arc<dyn Fs>, Path::new(DATA));
    let Ok(fs) = fs else { return (Err("it has crashed".into()), 0) };
    let place = Place { world: World { fs: Arc::new(fs), ..world }, data: DATA.into(), view: "/logs".into(), after };
    let gone = place.clear();
    (gone, watched.calls.load(Ordering::Relaxed))
}

/// The contents of all files that there are in the folder of the logs, put aside and moved ones too.
fn contents(sim: &SimWorld) -> Vec<Vec<u8>> {
    let folders = ["/logs".to_owned(), format!("{DATA}/{LEAVING}"), format!("{DATA}/{SHIPPED}")];
    let named = |dir: &String| {
        let names = sim.app().list(dir).unwrap_or_default();
        names.into_iter().map(|name| format!("{dir}/{name}")).collect::<Vec<_>>()
    };
    let is_file = |path: &String| sim.world().fs.stat(Path::new(path), false).is_ok_and(|m| m.kind == FileKind::File);
    let files = folders.iter().flat_map(named).filter(is_file);
    files.map(|path| sim.app().read(path).unwrap()).collect()
}

#[test]
fn a_crash_at_every_step_leaves_a_file_that_the_next_pass_lets_go() {
    for how in [Crash::Process, Crash::Machine] {
        for (after, two_steps) in BOTH.into_iter().flat_map(|after| [(after, false), (after, true)]) {
            let moves = matches!(after, After::Move(_));
            for step in 1.. {
                let what = format!("{how:?} at {step} of {after:?}, in two steps: {two_steps}");
                let sim = done(step);
                sim.crash_at(sim.steps() + step, how);
                let _ = pass(&sim, after, two_steps, 0, |_| {});
                let crashed = sim.crashed();
                sim.no_crash();
                if crashed {
                    sim.restart();
                }
                let left = contents(&sim);
                assert!(left.iter().all(|content| content == OLD), "{what}: {left:?}");
                assert!(!moves || !left.is_empty(), "{what}: it is lost");
                // A second name is taken back first.
                for _ in 0..2 {
                    pass(&sim, after, two_steps, 0, |_| {}).0.unwrap();
                }
                assert!(sim.app().read(SOURCE).is_err(), "{what}: it stays");
                let want: &[&[u8]] = if moves { &[OLD] } else { &[] };
                assert_eq!(contents(&sim), want, "{what}");
                if !crashed {
                    assert!(step > 8, "{what}");
                    break;
                }
            }
        }
    }
}

#[test]
fn what_somebody_writes_or_swaps_meanwhile_is_never_what_goes() {
    let append: fn(&App) = |app| app.append(SOURCE, NEW).unwrap();
    let replace: fn(&App) = |app| app.replace(SOURCE, NEW).unwrap();
    let rewrite: fn(&App) = |app| {
        if app.read(SOURCE).is_ok() {
            app.truncate(SOURCE, 0).unwrap();
        }
        app.append(SOURCE, NEW).unwrap();
    };
    let link: fn(&App) = |app| {
        let _ = app.delete(SOURCE);
        app.symlink(SECRET, SOURCE).unwrap();
    };
    for (name, act) in [("append", append), ("replace", replace), ("rewrite", rewrite), ("link", link)] {
        for (after, two_steps) in BOTH.into_iter().flat_map(|after| [(after, false), (after, true)]) {
            for at in 1.. {
                let what = format!("{name} before call {at} of {after:?}, in two steps: {two_steps}");
                let sim = done(1);
                let (gone, calls) = pass(&sim, after, two_steps, at, act);
                if calls < at {
                    assert!(at > 8, "{what}");
                    break;
                }
                gone.unwrap();
                pass(&sim, after, two_steps, 0, |_| {}).0.unwrap();
                assert_eq!(sim.app().read(SECRET).unwrap(), OLD, "{what}");
                if name == "link" {
                    let meta = sim.world().fs.stat(Path::new(SOURCE), false);
                    assert!(meta.is_ok_and(|m| m.kind == FileKind::Symlink), "{what}: it isn't where it was made");
                } else {
                    let there = sim.app().read(SOURCE).unwrap_or_default();
                    assert!(there.ends_with(NEW), "{what}: {:?}", contents(&sim));
                }
            }
        }
    }
}

#[test]
fn what_was_written_after_the_mark_stays_though_it_is_as_long_and_ends_alike() {
    for after in BOTH {
        let sim = done(1);
        sim.advance(Duration::from_secs(60));
        let again = [b"ONE LINE that nobody has read\n", &OLD[30..]].concat();
        let again = again.get(again.len() - OLD.len()..).unwrap();
        assert_eq!((again.len(), Guard::of(again)), (OLD.len(), Guard::of(OLD)), "{after:?}");
        sim.app().truncate(SOURCE, 0).unwrap();
        sim.app().append(SOURCE, again).unwrap();
        sim.advance(Duration::from_secs(60));
        let gone = pass(&sim, after, false, 0, |_| {}).0.unwrap();
        assert_eq!((gone.files, gone.kept), (0, 1), "{after:?}");
        assert_eq!(sim.app().read(SOURCE).unwrap(), again, "{after:?}");
    }
}
