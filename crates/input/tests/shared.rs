//! Two processes that share a folder: each reads its own files, and goes on with what the other has read.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

mod common;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::Rig;
use pillion_event::{Guard, Incarnation};
use pillion_input::{Harvester, Known, Own, Shares};
use pillion_registry::{Entry, Identifier, Intent, Kind, Options, Registry, untied};

const NONE: [&str; 0] = [];

/// Whose a file is shows its name's first letter.
struct ByName {
    letters: Mutex<String>,
    other: Mutex<Option<Arc<Registry>>>,
    /// What the other one had when it was asked last.
    known: Mutex<Vec<Arc<Entry>>>,
    /// What a third one has.
    more: Mutex<Vec<Entry>>,
    broken: AtomicBool,
    /// What was asked for since the others were followed last, and how often something was that wasn't: each a reading of a
    /// registry, as `pillion_registry::Others` has it.
    asked: Mutex<HashSet<String>>,
    reads: AtomicUsize,
}

impl ByName {
    fn new(letters: &str) -> Arc<ByName> {
        let letters = Mutex::new(letters.to_owned());
        let (other, known, more, asked) = Default::default();
        let (broken, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
        Arc::new(ByName { letters, other, known, more, broken, asked, reads })
    }

    fn note(&self, names: impl Iterator<Item = String>) {
        let mut asked = self.asked.lock().unwrap();
        let new = names.filter(|name| asked.insert(name.clone())).count();
        self.reads.fetch_add(usize::from(new > 0), Ordering::SeqCst);
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
        self.asked.lock().unwrap().clear();
        let other = self.other.lock().unwrap();
        *self.known.lock().unwrap() = other.as_ref().map_or_else(Vec::new, |registry| registry.entries());
        Ok(())
    }
    fn lengths(&self) -> BTreeSet<u32> {
        let length = |e: &Arc<Entry>| match &e.kind {
            Kind::Filestream(state) => state.fingerprint_len.map(|len| len as u32),
            Kind::Log(_) => None,
        };
        self.known.lock().unwrap().iter().filter_map(length).collect()
    }
    fn handed_over(&self, _: &Arc<str>) {}
    fn find(&self, keys: &[&str]) -> io::Result<Known> {
        self.note(keys.iter().map(|key| untied(key).to_owned()));
        let known = self.known.lock().unwrap();
        let more = self.more.lock().unwrap();
        let all = known.iter().map(|e| (**e).clone()).chain(more.iter().cloned());
        let is_wanted = |e: &Entry| keys.iter().any(|key| untied(key) == untied(&e.key));
        Ok(Known { entries: all.filter(is_wanted).collect(), whole: true })
    }
    fn lives(&self, lives: &[Incarnation]) -> io::Result<Known> {
        self.note(lives.iter().map(ToString::to_string));
        let (known, more) = (self.known.lock().unwrap(), self.more.lock().unwrap());
        let all = known.iter().map(|e| (**e).clone()).chain(more.iter().cloned());
        Ok(Known { entries: all.filter(|e| lives.contains(&e.incarnation)).collect(), whole: true })
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
    two_on(Rig::log(), first, second)
}

fn two_on(mut rig: Rig, first: &str, second: &str) -> (Rig, Arc<ByName>, Second) {
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

/// The lives in a registry.
fn lives(registry: &Registry) -> BTreeSet<u128> {
    registry.entries().iter().map(|e| e.incarnation.0).collect()
}

#[test]
fn files_that_begin_alike_are_told_apart_by_what_is_still_there() {
    for growing in [true, false] {
        let (mut rig, _, mut second) = two_on(Rig::fingerprint(growing), "a", "b");
        // The whole of a fingerprint's length.
        let start = format!("{}\n", "s".repeat(63));
        let begin = |name: &str, more: &str| rig.append(name, format!("{start}{more}"));
        begin("a.log", "a1\n");
        assert_eq!(rig.search().len(), 2);
        rig.ack();
        // It isn't a.log's next life: that is there, at the other one's.
        rig.append("b.log", format!("{start}b1\n"));
        assert_eq!(search(&mut rig, &mut second).1.len(), 2, "growing: {growing}");
        rig.append("a2.log", format!("{start}a2\n"));
        assert_eq!(search(&mut rig, &mut second), (vec![start.trim().to_owned(), "a2".into()], vec![]));
        rig.ack();
        assert!(lives(&rig.registry).is_disjoint(&lives(&second.registry)));
        // Into the other's part, both: that whose key has its path in it, too.
        for (from, to, line) in [("a2.log", "b2.log", "a22"), ("a.log", "b3.log", "a11")] {
            rig.rename(from, to);
            rig.append(to, format!("{line}\n"));
            let mut got = (Vec::new(), Vec::new());
            for _ in 0..3 {
                let (ours, theirs) = search(&mut rig, &mut second);
                got.0.extend(ours);
                got.1.extend(theirs);
            }
            assert_eq!(got, (vec![], vec![line.to_owned()]), "growing: {growing}");
        }
        // And back.
        rig.rename("b2.log", "a4.log");
        rig.append("a4.log", "a44\n");
        let mut got = Vec::new();
        for _ in 0..3 {
            let (ours, theirs) = search(&mut rig, &mut second);
            got.extend(ours);
            assert_eq!(theirs, NONE);
        }
        assert_eq!(got, ["a44"], "growing: {growing}");
        assert!(rig.harvester.losses().is_empty() && second.harvester.losses().is_empty());
        // One life each, whatever is kept for the other one.
        let keys = rig.registry.entries().len();
        assert_eq!(lives(&rig.registry).len(), keys);
    }
}

#[test]
fn who_takes_files_that_begin_like_its_own_goes_on_with_each() {
    let (mut rig, one, mut second) = two_on(Rig::fingerprint(true), "a", "b");
    for name in ["a.log", "b.log"] {
        rig.append(name, "Starting\n");
    }
    let both = vec!["Starting".to_owned()];
    assert_eq!(search(&mut rig, &mut second), (both.clone(), both));
    rig.ack();
    one.now("");
    rig.harvester.release(&|_| true);
    let entries = rig.registry.entries().iter().map(|e| (**e).clone()).collect();
    second.registry.take_part(&|e| e.source.ends_with("a.log"), entries);
    second.shares.now("ab");
    second.harvester.shares_grew();
    assert_eq!(settle(&mut rig, &mut second), NONE);
    // Their fingerprints part them from here on.
    for (name, line) in [("a.log", "of a"), ("b.log", "of b")] {
        rig.append(name, format!("{line}, and so long that it is beyond all that is hashed of a file\n"));
    }
    assert_eq!(search(&mut rig, &mut second).1.len(), 2);
    assert_eq!(lives(&second.registry).len(), 2);
    assert!(second.harvester.losses().is_empty());
}

/// Many files are made within one tick of the clock, begin alike, and were another replica's for a moment.
#[test]
fn the_beginning_of_a_life_that_is_read_on_elsewhere_is_no_other_files() {
    for third in [false, true] {
        let (mut rig, one, mut second) = two_on(Rig::fingerprint(true), "ab", "");
        for name in ["a.log", "b.log"] {
            rig.append(name, "Starting\n");
        }
        assert_eq!(rig.search().len(), 2);
        rig.ack();
        let of = |registry: &Registry, name: &str| {
            let entries = registry.entries();
            (**entries.iter().find(|e| e.source.ends_with(name)).unwrap()).clone()
        };
        let birth_ns = of(&rig.registry, "a.log").birth_ns;
        assert!(birth_ns.is_some());
        rig.registry.upsert(Entry { birth_ns, ..of(&rig.registry, "b.log") });
        one.now("a");
        rig.harvester.release(&|path| letter(path) == 'b');
        if third {
            // Who has it now has read it until its fingerprint was whole: under another key.
            let read_on = Entry { source: rig.path("c.log").to_str().unwrap().into(), ..of(&rig.registry, "b.log") };
            let guard = Guard { len: 9, hash: 1 };
            second.shares.more.lock().unwrap().push(Entry { key: "another".into(), offset: 10, guard, ..read_on });
        } else {
            let entries = rig.registry.entries().iter().map(|e| (**e).clone()).collect();
            second.registry.take_part(&|e| e.source.ends_with("b.log"), entries);
        }
        second.shares.now(if third { "d" } else { "bd" });
        second.harvester.shares_grew();
        assert_eq!(settle(&mut rig, &mut second), NONE);
        rig.append("a.log", "of a\n");
        rig.append("b.log", "of b\n");
        let (ours, theirs) = search(&mut rig, &mut second);
        assert_eq!((ours, theirs.len()), (vec!["of a".to_owned()], usize::from(!third)));
        rig.ack();
        let life = of(&rig.registry, "a.log").incarnation;
        rig.rename("b.log", if third { "c.log" } else { "b2.log" });
        search(&mut rig, &mut second);
        // The second one sees it before the first one could note where it is.
        rig.rename("a.log", "d.log");
        rig.append("d.log", "more\n");
        rig.advance(Duration::from_secs(10));
        assert_eq!(settle(&mut rig, &mut second), ["more"], "third: {third}");
        assert_eq!(of(&second.registry, "d.log").incarnation, life);
    }
}

#[test]
fn a_new_file_where_one_was_that_begins_alike_is_not_that_one() {
    let (mut rig, _, mut second) = two_on(Rig::fingerprint(true), "a", "b");
    rig.append("a.log", "Starting\n");
    assert_eq!(rig.search(), ["Starting"]);
    rig.ack();
    // Archived, and begun anew, before the first one looks.
    rig.rename("a.log", "b.log");
    rig.append("a.log", "Starting\n");
    rig.append("b.log", "more\n");
    assert_eq!(settle(&mut rig, &mut second), ["more"]);
}

#[test]
fn of_several_lives_the_one_that_is_in_the_file_counts_whatever_clocks_say() {
    let (mut rig, one, mut second) = two("a", "b");
    rig.append("a.log", "one\ntwo\n");
    assert_eq!(search(&mut rig, &mut second).0, ["one", "two"]);
    rig.ack();
    let known = (*rig.registry.entries()[0]).clone();
    drop(one);
    // Lives before this one: another content of the same length, one that was read further, and one of another birth.
    let life = |n: u128, change: &dyn Fn(&mut Entry)| {
        let mut entry = Entry { incarnation: Incarnation(n), updated_ns: i128::MAX / 4, ..known.clone() };
        change(&mut entry);
        entry
    };
    *second.shares.more.lock().unwrap() = vec![
        life(1, &|e| e.guard = Guard::of(b"other\n.")),
        life(2, &|e| e.offset = 4000),
        life(3, &|e| e.birth_ns = std::num::NonZeroI64::new(17)),
        life(4, &|e| (e.offset, e.guard) = (4, Guard::of(b"one\n"))),
    ];
    rig.rename("a.log", "b.log");
    rig.append("b.log", "three\n");
    assert_eq!(search(&mut rig, &mut second), (vec![], vec!["three".into()]));
    assert_eq!(lives(&second.registry), [known.incarnation.0].into());
    assert!(second.harvester.losses().is_empty());
}

#[test]
fn an_inode_that_was_anothers_before_is_nobodys_loss() {
    let (mut rig, _, mut second) = two("a", "b");
    rig.append("a.log", "one\n");
    assert_eq!(search(&mut rig, &mut second).0, ["one"]);
    rig.ack();
    // Somebody had a file with this inode number, which was deleted with a range on its way.
    let mut old = (*rig.registry.entries()[0]).clone();
    (old.offset, old.guard, old.incarnation) = (7000, Guard::of(b"gone"), Incarnation(1));
    old.birth_ns = None;
    old.intents = vec![Intent { from: 7000, to: 7100, read_ms: 1_795_459_239_000, guard: Guard::default() }];
    rig.append("b.log", "new\n");
    let ino = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(rig.path("b.log")).unwrap());
    let dev = std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(rig.path("b.log")).unwrap());
    old.key = pillion_registry::log_key(&Identifier::Native { ino, dev }, &[]).into();
    old.source = rig.path("a9.log").to_str().unwrap().into();
    // Once in another registry, once in the own one, of a shard that it doesn't have any more.
    for own in [false, true] {
        if own {
            second.registry.upsert(old.clone());
            second.shares.now("c");
            rig.append("c.log", "own\n");
            let ino = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(rig.path("c.log")).unwrap());
            let key = pillion_registry::log_key(&Identifier::Native { ino, dev }, &[]).into();
            second.registry.upsert(Entry { key, incarnation: Incarnation(2), ..old.clone() });
        } else {
            *second.shares.more.lock().unwrap() = vec![old.clone()];
        }
        let line = if own { "own" } else { "new" };
        assert_eq!(search(&mut rig, &mut second).1, [line]);
        assert!(second.harvester.losses().is_empty());
    }
}

#[test]
fn a_file_that_was_taken_up_short_is_known_by_what_it_was_then() {
    let (mut rig, _, mut second) = two_on(Rig::fingerprint(true), "a", "b");
    rig.append("a.log", "a\n");
    rig.append("b.log", "another length\n");
    assert_eq!(search(&mut rig, &mut second), (vec!["a".into()], vec!["another length".into()]));
    rig.append("a.log", "and\n");
    assert_eq!(rig.search(), ["and"]);
    rig.ack();
    rig.rename("a.log", "b2.log");
    rig.append("b2.log", "on\n");
    let mut got = Vec::new();
    for _ in 0..3 {
        got.extend(search(&mut rig, &mut second).1);
    }
    assert_eq!(got, ["on"]);
}

#[test]
fn many_files_that_come_at_once_are_asked_for_together() {
    const FILES: usize = 500;
    for fingerprint in [false, true] {
        let rig = if fingerprint { Rig::fingerprint(true) } else { Rig::log() };
        let (mut rig, _, mut second) = two_on(rig, "a", "b");
        for n in 0..FILES {
            rig.append(
                &format!("a{n}.log"),
                format!("a line of {n} that is as long as a fingerprint of sixty-four bytes is made\n"),
            );
        }
        assert_eq!(rig.search().len(), FILES);
        rig.ack();
        for n in 0..FILES {
            rig.rename(&format!("a{n}.log"), &format!("b{n}.log"));
            rig.append(&format!("b{n}.log"), "more\n");
        }
        let before = second.shares.reads.load(Ordering::SeqCst);
        rig.advance(Duration::from_secs(10));
        let lines = settle(&mut rig, &mut second);
        assert_eq!((lines.len(), lines.iter().all(|line| line == "more")), (FILES, true), "fingerprint: {fingerprint}");
        let reads = second.shares.reads.load(Ordering::SeqCst) - before;
        assert!(
            reads <= 2 * (FILES / 64 + 4),
            "{reads} readings of a registry for {FILES} files, fingerprint: {fingerprint}"
        );
    }
}
