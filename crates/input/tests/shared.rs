//! Two processes that share a folder: each reads its own files, and goes on with what the other has read.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

mod common;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::Rig;
use pillion_input::{Harvester, Own, Shares};
use pillion_registry::{Entry, Options, Registry};

const NONE: [&str; 0] = [];

/// Whose a file is shows its name's first letter.
struct ByName {
    letters: Mutex<String>,
    other: Mutex<Option<Arc<Registry>>>,
    /// What the other one had when it was asked last.
    known: Mutex<Vec<Arc<Entry>>>,
    broken: AtomicBool,
}

impl ByName {
    fn new(letters: &str) -> Arc<ByName> {
        let letters = Mutex::new(letters.to_owned());
        Arc::new(ByName { letters, other: Mutex::default(), known: Mutex::default(), broken: AtomicBool::new(false) })
    }

    fn now(&self, letters: &str) {
        *self.letters.lock().unwrap() = letters.to_owned();
    }
}

fn letter(path: &Path) -> char {
    path.file_name().unwrap().to_str().unwrap().chars().next().unwrap()
}

impl Shares for ByName {
    fn is_ours(&self, path: &Path) -> bool {
        self.letters.lock().unwrap().contains(letter(path))
    }
    fn refresh(&self) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("a stale handle"));
        }
        let other = self.other.lock().unwrap();
        *self.known.lock().unwrap() = other.as_ref().map_or_else(Vec::new, |registry| registry.entries());
        Ok(())
    }
    fn handed_over(&self, _: &Arc<str>) {}
    fn find(&self, key: &str) -> io::Result<Option<Entry>> {
        Ok(self.known.lock().unwrap().iter().find(|e| &*e.key == key).map(|e| (**e).clone()))
    }
}

fn harvester(rig: &Rig, registry: &Arc<Registry>, shares: &Arc<ByName>) -> Harvester {
    let own = Own::default();
    let specs = rig.specs.clone();
    let harvester = Harvester::new(rig.world.clone(), Arc::clone(registry), specs, &own, rig.limits, &Arc::default());
    harvester.sharing(Arc::clone(shares) as Arc<dyn Shares>)
}

/// The second process over the first one's folder and clock.
struct Second {
    harvester: Harvester,
    registry: Arc<Registry>,
    shares: Arc<ByName>,
}

/// Both, and the first one's shares.
fn two(first: &str, second: &str) -> (Rig, Arc<ByName>, Second) {
    let mut rig = Rig::log();
    let (one, two) = (ByName::new(first), ByName::new(second));
    rig.harvester = harvester(&rig, &rig.registry, &one);
    let (registry, _) = Registry::open(&rig.world, &rig.tmp.path().join("second"), &Options::default()).unwrap();
    let registry = Arc::new(registry);
    *one.other.lock().unwrap() = Some(Arc::clone(&registry));
    *two.other.lock().unwrap() = Some(Arc::clone(&rig.registry));
    let second = Second { harvester: harvester(&rig, &registry, &two), registry, shares: two };
    (rig, one, second)
}

/// Lets the second process do what there is to do.
fn settle(rig: &mut Rig, second: &mut Second) -> Vec<String> {
    std::mem::swap(&mut rig.harvester, &mut second.harvester);
    std::mem::swap(&mut rig.registry, &mut second.registry);
    let ours = std::mem::take(&mut rig.batches);
    let lines = rig.settle();
    rig.ack();
    rig.batches = ours;
    std::mem::swap(&mut rig.harvester, &mut second.harvester);
    std::mem::swap(&mut rig.registry, &mut second.registry);
    lines
}

fn search(rig: &mut Rig, second: &mut Second) -> (Vec<String>, Vec<String>) {
    (rig.search(), settle(rig, second))
}

#[test]
fn each_reads_its_own() {
    let (mut rig, _, mut second) = two("a", "b");
    rig.append("a.log", "one\n");
    rig.append("b.log", "two\n");
    rig.append("c.log", "nobody's\n");
    assert_eq!(search(&mut rig, &mut second), (vec!["one".into()], vec!["two".into()]));
    assert_eq!((rig.harvester.stats().files, rig.harvester.stats().open), (1, 1));
}

#[test]
fn what_is_released_goes_on_elsewhere() {
    let (mut rig, one, mut second) = two("ab", "");
    rig.append("a.log", "a1\n");
    rig.append("b.log", "b1\n");
    assert_eq!(rig.search().len(), 2);
    rig.ack();
    // Found, and never read: somebody else's from now on.
    rig.append("b.log", "b2\n");
    rig.harvester.hint(pillion_input::Hint::Path(rig.path("b.log")));
    rig.settle_with(pillion_input::Budget { bytes: 0, events: 0 });
    one.now("a");
    rig.harvester.release(&|path| letter(path) == 'b');
    assert_eq!(rig.harvester.stats().files, 1);
    assert!(rig.harvester.accounts().iter().all(|f| f.len == f.pos), "nothing of it is unread here");
    second.shares.now("b");
    second.harvester.shares_grew();
    assert_eq!(settle(&mut rig, &mut second), ["b2"]);
    rig.append("b.log", "b3\n");
    rig.append("a.log", "a2\n");
    assert_eq!(search(&mut rig, &mut second), (vec!["a2".into()], vec!["b3".into()]));
    let lives = |registry: &Registry| registry.entries().iter().map(|e| e.incarnation).collect::<Vec<_>>();
    assert!(lives(&rig.registry).contains(&lives(&second.registry)[0]), "its lines keep their ids");
    assert!(rig.harvester.losses().is_empty());
}

#[test]
fn a_file_that_is_renamed_into_anothers_part_goes_on_there() {
    for open in [true, false] {
        let (mut rig, _, mut second) = two("a", "b");
        rig.append("a.log", "one\n");
        assert_eq!(search(&mut rig, &mut second), (vec!["one".into()], vec![]));
        rig.ack();
        if !open {
            rig.advance(Duration::from_secs(400));
            assert_eq!(rig.settle(), NONE);
            assert_eq!(rig.harvester.stats().open, 0);
        }
        rig.rename("a.log", "b.log");
        rig.append("b.log", "two\n");
        assert_eq!(search(&mut rig, &mut second), (vec![], vec!["two".into()]), "open: {open}");
        rig.append("b.log", "three\n");
        assert_eq!(search(&mut rig, &mut second), (vec![], vec!["three".into()]));
        assert_eq!(rig.harvester.stats().files, 0, "let go of");
        assert!(rig.harvester.losses().is_empty());
        // It comes back, with what was read meanwhile.
        rig.rename("b.log", "a.log.1");
        rig.append("a.log.1", "four\n");
        let (mut first, other) = search(&mut rig, &mut second);
        for _ in 0..3 {
            first.extend(search(&mut rig, &mut second).0);
        }
        assert_eq!((first, other), (vec!["four".into()], vec![]), "open: {open}");
        assert!(second.harvester.losses().is_empty());
    }
}

#[test]
fn a_file_that_is_nobodys_is_read_to_its_end() {
    let (mut rig, _, mut second) = two("a", "b");
    rig.append("a.log", "one\n");
    assert_eq!(rig.search(), ["one"]);
    rig.append("a.log", "two\n");
    std::fs::rename(rig.path("a.log"), rig.path("a.done")).unwrap();
    rig.harvester.hint(pillion_input::Hint::Path(rig.path("a.log")));
    let mut lines = Vec::new();
    for _ in 0..3 {
        lines.extend(search(&mut rig, &mut second).0);
    }
    assert_eq!(lines, ["two"]);
    assert!(rig.harvester.losses().is_empty());
}

#[test]
fn a_deleted_file_is_read_to_its_end() {
    let (mut rig, _, mut second) = two("a", "b");
    rig.append("a.log", "one\n");
    assert_eq!(rig.search(), ["one"]);
    rig.append("a.log", "two\n");
    rig.remove("a.log");
    assert_eq!(search(&mut rig, &mut second), (vec!["two".into()], vec![]));
    assert!(rig.harvester.losses().is_empty());
}

#[test]
fn new_files_wait_while_the_others_cannot_be_asked() {
    let (mut rig, one, _second) = two("a", "b");
    rig.append("a.log", "one\n");
    assert_eq!(rig.search(), ["one"]);
    one.broken.store(true, Ordering::SeqCst);
    rig.append("a2.log", "new\n");
    rig.append("a.log", "two\n");
    assert_eq!(rig.search(), ["two"], "what is known goes on");
    one.broken.store(false, Ordering::SeqCst);
    rig.advance(Duration::from_secs(1));
    assert_eq!(rig.settle(), ["new"], "soon, not only at the next search");
}

#[test]
fn many_new_files_are_asked_for_together() {
    let (mut rig, _, mut second) = two("a", "b");
    for n in 0..3000 {
        rig.append(&format!("{}{n}.log", if n % 2 == 0 { 'a' } else { 'b' }), format!("{n}\n"));
    }
    let (first, other) = search(&mut rig, &mut second);
    assert_eq!((first.len(), other.len()), (1500, 1500));
}

#[test]
fn the_entry_of_a_file_that_went_away_is_forgotten_in_time() {
    let (mut rig, _, mut second) = two("a", "b");
    rig.append("a.log", "one\n");
    rig.search();
    rig.ack();
    rig.rename("a.log", "b.log");
    for _ in 0..3 {
        search(&mut rig, &mut second);
    }
    let [entry] = &rig.registry.entries()[..] else { unreachable!("one entry") };
    assert_eq!(&*entry.source, rig.path("b.log").to_str().unwrap());
    rig.advance(Duration::from_secs(3601));
    rig.settle();
    assert!(rig.registry.entries().is_empty());
}
