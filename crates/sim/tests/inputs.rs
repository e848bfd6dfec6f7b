//! Several inputs, those that come and go, and inodes that are used again: what the seeds have found, each alone.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::panic, reason = "a failing call is a failing test")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pillion_event::{Acked, Batch, Cursor, InputDesc, InputKind};
use pillion_input::parse::{Chain, ChainOptions};
use pillion_input::{Budget, Glob, Harvester, Hint, Identity, InputSpec, Limits, Own, Step};
use pillion_registry::{Options, Registry};
use pillion_sim::world::{Faults, SimWorld};

const NONE: [&str; 0] = [];
const SECOND: Duration = Duration::from_secs(1);

struct Rig {
    sim: SimWorld,
    registry: Arc<Registry>,
    harvester: Harvester,
    batches: Vec<Batch>,
}

fn spec(label: u64, kind: InputKind, pattern: &str, scan_every: u64) -> InputSpec {
    let desc = Arc::new(InputDesc::bare(kind, if kind == InputKind::Filestream { "jobs" } else { "" }));
    let chain = Arc::new(Chain::new(ChainOptions::default()));
    let mut spec = InputSpec::new(desc, chain, vec![Glob::new(pattern.as_ref(), false).unwrap()]);
    (spec.label, spec.close.eof, spec.scan_every) = (label, true, Duration::from_secs(scan_every));
    spec
}

fn log(label: u64, pattern: &str, scan_every: u64) -> InputSpec {
    spec(label, InputKind::Log, pattern, scan_every)
}

impl Rig {
    fn new(sim: SimWorld, specs: Vec<InputSpec>) -> Rig {
        sim.app().create_dir_all("/logs").unwrap();
        let (registry, harvester) = start(&sim, specs);
        Rig { sim, registry, harvester, batches: Vec::new() }
    }

    /// What there is to read now.
    fn settle(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..100_000 {
            self.sim.advance(Duration::from_micros(1));
            match self.harvester.step(Budget::UNLIMITED) {
                Step::Batch(batch) => {
                    lines.extend(batch.events.iter().map(|e| String::from_utf8_lossy(batch.text(e)).into_owned()));
                    self.batches.push(batch);
                }
                Step::Worked => {}
                Step::Idle { .. } | Step::Full { .. } => return lines,
            }
        }
        panic!("the harvester doesn't come to rest");
    }

    /// What comes in these seconds.
    fn goes_on(&mut self, seconds: u64) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..seconds {
            self.sim.advance(SECOND);
            lines.extend(self.settle());
        }
        lines
    }

    fn hint(&mut self, path: &str) -> Vec<String> {
        self.harvester.hint(Hint::Path(path.into()));
        self.settle()
    }

    fn ack(&mut self) {
        for batch in self.batches.drain(..) {
            let (key, incarnation) = (Arc::clone(&batch.source.key), batch.source.incarnation);
            self.registry.commit(&Acked::by_target(Cursor { key, incarnation, offset: batch.to, guard: batch.guard }));
        }
    }

    /// The process is killed, and another one reads on.
    fn restart(&mut self, specs: Vec<InputSpec>) {
        self.registry.sync().unwrap();
        self.sim.restart();
        (self.registry, self.harvester) = start(&self.sim, specs);
    }

    fn drain(&mut self) -> Vec<String> {
        self.harvester.drain();
        let lines = self.goes_on(30);
        assert!(self.harvester.drained(), "{:#?}", self.harvester.accounts());
        lines
    }
}

fn start(sim: &SimWorld, specs: Vec<InputSpec>) -> (Arc<Registry>, Harvester) {
    let world = sim.world();
    let (registry, _) = Registry::open(&world, Path::new("/data"), &Options::default()).unwrap();
    let registry = Arc::new(registry);
    let harvester =
        Harvester::new(world, Arc::clone(&registry), specs, &Own::default(), Limits::default(), &Arc::default());
    (registry, harvester)
}

/// A machine where the inode of a file that has just gone is the next one's.
fn machine() -> SimWorld {
    let reuses = |sim: &SimWorld| {
        let app = sim.app();
        let ino = |path| app.meta(path).unwrap().ino;
        app.append("/logs/x", b"x").unwrap();
        let first = ino("/logs/x");
        app.replace("/logs/x", b"y").unwrap();
        let second = ino("/logs/x");
        app.delete("/logs/x").unwrap();
        first == second
    };
    (0..100).map(SimWorld::new).find(reuses).unwrap()
}

/// What is known of a deleted file is another one's when its inode is used again: that one wasn't deleted.
#[test]
fn a_file_with_the_inode_of_a_deleted_one_is_looked_for_by_every_input() {
    for seed in 0..40 {
        let sim = SimWorld::new(seed);
        sim.network("/logs");
        let mut rig = Rig::new(sim.clone(), vec![log(1, "/logs/*.log", 1), log(2, "/logs/*.old", 60)]);
        sim.app().append("/logs/a.log", b"one\n").unwrap();
        assert_eq!(rig.settle(), ["one"]);
        let before = sim.app().meta("/logs/a.log").unwrap().ino;
        sim.app().append("/logs/a.log", b"two\n").unwrap();
        rig.harvester.hint(Hint::Path("/logs/a.log".into()));
        while rig.harvester.stats().open == 0 {
            rig.harvester.step(Budget { bytes: 0, events: 0 });
        }
        sim.app().delete("/logs/a.log").unwrap();
        assert_eq!(rig.hint("/logs/a.log"), ["two"]);
        assert_eq!(rig.goes_on(1), NONE);
        // Nothing is acknowledged: it isn't forgotten yet.
        sim.app().append("/logs/a.log", b"three\n").unwrap();
        let reused = sim.app().meta("/logs/a.log").unwrap().ino == before;
        assert_eq!(rig.goes_on(3), ["three"]);
        rig.ack();
        rig.goes_on(3);
        sim.app().rename("/logs/a.log", "/logs/a.old").unwrap();
        // The first input doesn't find it again and again; the second one searches later.
        assert_eq!(rig.goes_on(120), NONE, "seed {seed}");
        if reused {
            return;
        }
    }
    panic!("no inode was used again");
}

/// A file of an input that has stopped, whose inode is another one's now, is found by the input that comes: what was cut off
/// is settled by that one's search.
#[test]
fn what_an_input_that_stopped_had_read_of_another_content_holds_up_no_drain() {
    let sim = machine();
    sim.network("/logs");
    let filestream = |label| {
        let identity = Identity::Fingerprint { offset: 0, length: 64, growing: true };
        InputSpec { identity, ..spec(label, InputKind::Filestream, "/logs/*.log", 10) }
    };
    let mut rig = Rig::new(sim.clone(), vec![filestream(7)]);
    let text = |c: &str| format!("{}\n", c.repeat(100));
    sim.app().append("/logs/a.log", text("a").as_bytes()).unwrap();
    assert_eq!(rig.settle().len(), 1);
    let before = sim.app().meta("/logs/a.log").unwrap().ino;
    sim.app().delete("/logs/a.log").unwrap();
    assert_eq!(rig.hint("/logs/a.log"), NONE);
    assert!(rig.harvester.replace(&[7], Vec::new()).is_empty());
    sim.app().append("/logs/a.log", text("b").as_bytes()).unwrap();
    assert_eq!(sim.app().meta("/logs/a.log").unwrap().ino, before, "this test is about an inode that is used again");
    assert!(rig.harvester.replace(&[], vec![filestream(8)]).is_empty());
    assert_eq!(rig.goes_on(12), ["b".repeat(100)]);
    assert_eq!(rig.drain(), NONE);
}

/// Where births aren't told, an entry that is another file's is found out by its bytes: the new file's aren't lost.
#[test]
fn an_entry_of_a_file_whose_inode_is_used_again_makes_no_loss() {
    let sim = machine();
    sim.network("/logs");
    let inputs = || vec![log(1, "/logs/*.log", 10)];
    let mut rig = Rig::new(sim.clone(), inputs());
    sim.app().append("/logs/a.log", b"one\n").unwrap();
    assert_eq!(rig.settle(), ["one"]);
    rig.ack();
    let before = sim.app().meta("/logs/a.log").unwrap().ino;
    sim.set_faults(Faults::NONE);
    rig.registry.sync().unwrap();
    sim.restart();
    sim.app().delete("/logs/a.log").unwrap();
    sim.app().append("/logs/a.log", b"two and more\n").unwrap();
    assert_eq!(sim.app().meta("/logs/a.log").unwrap().ino, before, "this test is about an inode that is used again");
    rig.restart(inputs());
    let lines = rig.drain();
    assert_eq!((lines, rig.harvester.losses().len()), (vec!["two and more".to_owned()], 0));
}

/// A deleted file that is read to its end though its input has stopped, and whose descriptor goes stale: what it had is lost, and
/// the drain doesn't wait for it.
#[test]
fn a_file_of_a_stopped_input_that_nothing_leads_to_holds_up_no_drain() {
    let sim = SimWorld::new(3);
    sim.network("/logs");
    let nothing = Budget { bytes: 0, events: 0 };
    let mut rig = Rig::new(sim.clone(), vec![log(7, "/logs/*.log", 10)]);
    sim.app().append("/logs/a.log", b"one\n").unwrap();
    assert_eq!(rig.settle(), ["one"]);
    sim.app().append("/logs/a.log", b"two\n").unwrap();
    rig.harvester.hint(Hint::Path("/logs/a.log".into()));
    (0..100).for_each(|_| drop(rig.harvester.step(nothing)));
    sim.app().delete("/logs/a.log").unwrap();
    rig.harvester.hint(Hint::Path("/logs/a.log".into()));
    (0..100).for_each(|_| drop(rig.harvester.step(nothing)));
    assert!(rig.harvester.replace(&[7], vec![log(8, "/logs/*.txt", 10)]).is_empty());
    assert_eq!(rig.harvester.stats().unread, 4, "it is to be read to its end");
    sim.set_faults(Faults { stale_handle: 10_000, ..Faults::NONE });
    assert_eq!(rig.goes_on(3), NONE);
    sim.set_faults(Faults::NONE);
    assert_eq!(rig.drain(), NONE);
    assert_eq!(rig.harvester.losses().iter().map(|l| (l.from, l.to)).collect::<Vec<_>>(), [(4, 8)]);
}

/// A writer that copies, appends and renames, or a server that gives a file another number: the file at the path goes on as the
/// one that was there, once a search has shown that this one isn't elsewhere. So, too, if its input is replaced meanwhile.
#[test]
fn a_file_that_came_in_anothers_place_waits_for_the_search_of_the_input_that_comes() {
    for (reload, steps) in [(false, 0)].into_iter().chain((0..12).map(|steps| (true, steps))) {
        let sim = SimWorld::new(5);
        sim.network("/logs");
        let mut rig = Rig::new(sim.clone(), vec![log(7, "/logs/*.log", 10)]);
        sim.app().append("/logs/a.log", b"one\n").unwrap();
        sim.app().append("/logs/z.log", b"other\n").unwrap();
        let mut first = rig.settle();
        first.sort();
        assert_eq!(first, ["one", "other"]);
        rig.ack();
        sim.app().append("/logs/new", b"one\ntwo\n").unwrap();
        sim.app().rename("/logs/new", "/logs/a.log").unwrap();
        rig.harvester.hint(Hint::Path("/logs/a.log".into()));
        let mut lines = Vec::new();
        for _ in 0..steps {
            if let Step::Batch(batch) = rig.harvester.step(Budget::UNLIMITED) {
                lines.extend(batch.events.iter().map(|e| String::from_utf8_lossy(batch.text(e)).into_owned()));
            }
        }
        if reload {
            assert!(rig.harvester.replace(&[7], vec![log(8, "/logs/*.log", 10)]).is_empty());
        }
        lines.extend(rig.goes_on(30));
        assert_eq!(
            (lines, rig.harvester.losses().len()),
            (vec!["two".to_owned()], 0),
            "reload: {reload} after {steps}"
        );
        assert_eq!(rig.drain(), NONE);
    }
}

/// The same, but the file is cut off, which its descriptor tells.
#[test]
fn a_deleted_file_of_a_stopped_input_that_is_cut_off_holds_up_no_drain() {
    let sim = SimWorld::new(3);
    let nothing = Budget { bytes: 0, events: 0 };
    let mut rig = Rig::new(sim.clone(), vec![log(7, "/logs/*.log", 10)]);
    let file = sim.app().open("/logs/a.log").unwrap();
    file.write(b"one\n").unwrap();
    assert_eq!(rig.settle(), ["one"]);
    file.write(b"two\n").unwrap();
    for gone in [false, true] {
        if gone {
            sim.app().delete("/logs/a.log").unwrap();
        }
        rig.harvester.hint(Hint::Path("/logs/a.log".into()));
        (0..100).for_each(|_| drop(rig.harvester.step(nothing)));
    }
    assert!(rig.harvester.replace(&[7], vec![log(8, "/logs/*.txt", 10)]).is_empty());
    assert_eq!(rig.harvester.stats().unread, 4, "it is to be read to its end");
    sim.set_faults(Faults { read_error: 10_000, ..Faults::NONE });
    assert_eq!(rig.settle(), NONE);
    sim.set_faults(Faults::NONE);
    file.set_len(0).unwrap();
    assert_eq!(rig.goes_on(3), NONE);
    assert_eq!(rig.drain(), NONE);
    assert_eq!(rig.harvester.losses().iter().map(|l| (l.from, l.to)).collect::<Vec<_>>(), [(4, 8)]);
}
