//! The reading thread with a real clock, real files and inotify.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::panic, reason = "a failing call is a failing test")]

mod common;

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pillion_event::{Batch, InputKind};
use pillion_input::parse::{Chain, ChainOptions};
use pillion_input::{BatchSink, Budget, Glob, HarvestThread, Harvester, InputSpec, Limits, Own};
use pillion_registry::{Options, Registry};
use pillion_world::{File, Fs, OpenHow, World};

const LIMIT: Duration = Duration::from_secs(20);

enum Seen {
    Line(String),
    Drained,
}

struct Sink {
    out: Sender<Seen>,
    space: Arc<AtomicUsize>,
}

impl BatchSink for Sink {
    fn budget(&self) -> Budget {
        Budget { bytes: self.space.load(Ordering::SeqCst), events: 100 }
    }
    fn push(&mut self, batch: Batch) {
        for e in &batch.events {
            self.out.send(Seen::Line(String::from_utf8_lossy(batch.text(e)).into_owned())).unwrap();
        }
    }
    fn drained(&mut self, _: pillion_input::Report) {
        self.out.send(Seen::Drained).unwrap();
    }
}

struct Running {
    tmp: tempfile::TempDir,
    thread: pillion_input::Handle,
    seen: Receiver<Seen>,
    space: Arc<AtomicUsize>,
    waker: pillion_input::Waker,
}

/// A thread that searches once an hour: what comes sooner comes by inotify.
fn running(watch: bool, space: usize) -> Running {
    running_in(World::real(), watch, space)
}

fn running_in(world: World, watch: bool, space: usize) -> Running {
    let tmp = tempfile::tempdir().unwrap();
    std::fs::create_dir(tmp.path().join("logs")).unwrap();
    let glob = Glob::new(tmp.path().join("logs/**/*.log").as_os_str(), true).unwrap();
    let chain = Arc::new(Chain::new(ChainOptions::default()));
    let mut spec = InputSpec::new(common::desc(InputKind::Log, ""), chain, vec![glob]);
    spec.scan_every = Duration::from_secs(3600);
    let (registry, _) = Registry::open(&world, &tmp.path().join("data"), &Options::default()).unwrap();
    let harvester = Harvester::new(
        world.clone(),
        Arc::new(registry),
        vec![spec],
        &Own::default(),
        Limits::default(),
        &Arc::default(),
    );
    let (out, seen) = channel();
    let space = Arc::new(AtomicUsize::new(space));
    let waker = pillion_input::Waker::new().unwrap();
    let sink = Box::new(Sink { out, space: Arc::clone(&space) });
    let thread = HarvestThread::spawn("harvest", world, harvester, sink, waker.clone(), watch).unwrap();
    Running { tmp, thread, seen, space, waker }
}

impl Running {
    fn append(&self, name: &str, text: &str) {
        let path = self.tmp.path().join("logs").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut f = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        f.write_all(text.as_bytes()).unwrap();
    }
    fn line(&self) -> String {
        match self.seen.recv_timeout(LIMIT).unwrap() {
            Seen::Line(line) => line,
            Seen::Drained => panic!("drained"),
        }
    }
}

#[test]
fn lines_come_by_inotify_and_the_drain_ends() {
    let r = running(true, 1 << 20);
    r.append("a.log", "one\n");
    assert_eq!(r.line(), "one");
    r.append("a.log", "two\n");
    assert_eq!(r.line(), "two");
    // A folder that wasn't there, and one below it.
    r.append("new/deep/b.log", "three\n");
    assert_eq!(r.line(), "three");
    std::fs::rename(r.tmp.path().join("logs/a.log"), r.tmp.path().join("logs/c.log")).unwrap();
    r.append("c.log", "four\nlast");
    assert_eq!(r.line(), "four");
    r.thread.drain();
    assert_eq!(r.line(), "last");
    assert!(matches!(r.seen.recv_timeout(LIMIT).unwrap(), Seen::Drained));
    let report = r.thread.stop(LIMIT).unwrap();
    assert_eq!(report.stats.tally.events, 5);
    assert!(report.files.is_empty(), "all was read: {:?}", report.files);
}

#[test]
fn without_space_nothing_is_read_until_the_waker_is_called() {
    let r = running(true, 0);
    r.append("a.log", "one\n");
    assert!(r.seen.recv_timeout(Duration::from_millis(50)).is_err());
    r.space.store(1 << 20, Ordering::SeqCst);
    r.waker.wake();
    assert_eq!(r.line(), "one");
}

#[test]
fn without_watches_files_are_looked_at_by_time() {
    let r = running(false, 1 << 20);
    r.append("a.log", "one\n");
    r.thread.drain();
    let line = r.seen.recv_timeout(LIMIT).unwrap();
    assert!(matches!(line, Seen::Line(l) if l == "one"));
    assert!(r.thread.report(LIMIT).is_some());
}

/// The real file system, in which files named `hung.log` can't be opened until the gate opens.
struct Hanging {
    real: Arc<dyn Fs>,
    gate: Mutex<Receiver<()>>,
}

impl Fs for Hanging {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn File>> {
        if path.ends_with("hung.log") {
            let _ = self.gate.lock().unwrap().recv();
        }
        self.real.open(path, how)
    }

    pillion_world::pass_fs!(this => this.real; stat read_dir canonicalize read_link kind rename remove create_dir_all sync_dir try_lock);
}

#[test]
fn a_file_system_that_hangs_is_named_by_the_path() {
    let (open, gate) = channel();
    let real = World::real();
    let fs = Arc::new(Hanging { real: Arc::clone(&real.fs), gate: Mutex::new(gate) });
    let r = running_in(World { fs, ..real }, true, 1 << 20);
    r.append("a.log", "one\n");
    assert_eq!(r.line(), "one");
    r.append("hung.log", "two\n");
    let hung = r.tmp.path().join("logs/hung.log");
    let begin = std::time::Instant::now();
    // Nobody waits for it longer than he says. It answers as long as it only looks at the file.
    while r.thread.report(Duration::from_millis(20)).is_some() || r.thread.at() != hung {
        assert!(begin.elapsed() < LIMIT, "at {}", r.thread.at().display());
    }
    // It comes back, and nothing is lost.
    drop(open);
    assert_eq!(r.line(), "two");
    assert!(r.thread.report(LIMIT).is_some());
}
