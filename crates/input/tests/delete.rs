//! Files that are deleted once they are delivered.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Rig, desc};
use pillion_event::{Acked, Cursor, InputKind};
use pillion_input::{Budget, Glob, Harvester, Hint, Identity, InputSpec, Numbers, Own, Step};

const NONE: [&str; 0] = [];
const GRACE: Duration = Duration::from_secs(60);

/// Files are closed at their end, and go after [`GRACE`].
fn rig(identity: Identity) -> Rig {
    Rig::with(|spec| {
        spec.desc = desc(InputKind::Filestream, "jobs");
        (spec.identity, spec.registry_v9) = (identity, true);
        (spec.close.eof, spec.delete_after) = (true, Some(GRACE));
    })
}

fn native() -> Rig {
    rig(Identity::Native)
}

/// The names in the folder of the logs, what is put aside included.
fn names(rig: &Rig) -> Vec<String> {
    let mut names = Vec::new();
    for dir in [rig.path(""), rig.path(".pillion-leaving")] {
        let listed = std::fs::read_dir(dir).into_iter().flatten().flatten();
        names.extend(listed.map(|entry| entry.file_name().into_string().unwrap()));
    }
    names.sort();
    names
}

/// Lets time pass, a second at a time.
fn pass(rig: &mut Rig, time: Duration) -> Vec<String> {
    let mut seen = Vec::new();
    for _ in 0..time.as_secs() {
        rig.advance(Duration::from_secs(1));
        seen.extend(rig.settle());
    }
    seen
}

#[test]
fn a_file_goes_when_all_of_it_is_acknowledged_and_the_time_has_passed() {
    for identity in [Identity::Native, Identity::Fingerprint { offset: 0, length: 64, growing: true }, Identity::Path] {
        let mut rig = rig(identity);
        rig.append("a.log", "one\ntwo\n");
        rig.append("other.txt", "not an input's\n");
        assert_eq!(rig.settle(), ["one", "two"]);
        assert_eq!(pass(&mut rig, 3 * GRACE), NONE);
        assert_eq!(names(&rig), ["a.log", "other.txt"], "not acknowledged");
        rig.ack();
        pass(&mut rig, GRACE - Duration::from_secs(1));
        assert_eq!(names(&rig), ["a.log", "other.txt"], "the time hasn't passed");
        pass(&mut rig, Duration::from_secs(12));
        assert_eq!(names(&rig), ["other.txt"]);
        pass(&mut rig, Duration::from_secs(30));
        assert_eq!((rig.harvester.stats().files, rig.registry.len(), rig.lost()), (0, 0, 0));
        assert_eq!(rig.drain(), NONE);
    }
}

#[test]
fn a_change_begins_the_time_anew() {
    let mut rig = native();
    rig.append("a.log", "one\n");
    rig.settle();
    rig.ack();
    pass(&mut rig, GRACE / 2);
    rig.append("a.log", "two\n");
    assert_eq!(pass(&mut rig, Duration::from_secs(15)), ["two"]);
    rig.ack();
    pass(&mut rig, GRACE - Duration::from_secs(16));
    assert_eq!(names(&rig), ["a.log"]);
    pass(&mut rig, Duration::from_secs(40));
    assert_eq!(names(&rig), NONE);
}

#[test]
fn what_is_not_whole_or_not_at_its_end_stays() {
    let mut rig = native();
    rig.append("half.log", "one\nunfinished");
    rig.append("empty.log", "");
    rig.append("link.log", "two\n");
    std::fs::hard_link(rig.path("link.log"), rig.path("second name")).unwrap();
    let mut lines = rig.settle();
    lines.sort();
    assert_eq!(lines, ["one", "two"]);
    rig.ack();
    pass(&mut rig, 4 * GRACE);
    assert_eq!(names(&rig), ["empty.log", "half.log", "link.log", "second name"]);
}

#[test]
fn what_the_target_refused_keeps_its_file() {
    let whole = Arc::new(AtomicBool::new(false));
    let mut rig = native();
    let asked = Arc::clone(&whole);
    rig.restart_with(|harvester| harvester.asking(Arc::new(move |_, _| asked.load(Ordering::SeqCst))));
    rig.append("a.log", "one\n");
    rig.settle();
    rig.ack();
    pass(&mut rig, 2 * GRACE);
    assert_eq!(names(&rig), ["a.log"]);
    whole.store(true, Ordering::SeqCst);
    pass(&mut rig, 2 * GRACE);
    assert_eq!(names(&rig), NONE);
}

#[test]
fn it_waits_until_it_is_inactive_and_the_drain_deletes_nothing() {
    let mut rig = Rig::with(|spec| {
        spec.desc = desc(InputKind::Filestream, "jobs");
        (spec.close.inactive, spec.delete_after) = (Duration::from_secs(100), Some(Duration::ZERO));
    });
    rig.append("a.log", "one\n");
    rig.append("b.log", "b\n");
    rig.settle();
    rig.ack();
    pass(&mut rig, Duration::from_secs(99));
    assert_eq!(names(&rig), ["a.log", "b.log"]);
    rig.append("b.log", "more\n");
    assert_eq!(pass(&mut rig, Duration::from_secs(15)), ["more"]);
    assert_eq!(names(&rig), ["b.log"]);
    rig.ack();
    rig.advance(Duration::from_secs(500));
    assert_eq!(rig.drain(), NONE);
    assert_eq!(names(&rig), ["b.log"]);
}

#[test]
fn what_is_written_into_it_as_it_goes_is_read() {
    let mut rig = native();
    rig.append("a.log", "one\n");
    let mut writer = std::fs::OpenOptions::new().append(true).open(rig.path("a.log")).unwrap();
    rig.settle();
    rig.ack();
    pass(&mut rig, GRACE + Duration::from_secs(1));
    let mut gone = 0;
    while names(&rig) != NONE {
        gone += 1;
        assert!(gone < 100, "it doesn't go");
        rig.advance(Duration::from_secs(1));
        rig.settle();
    }
    std::io::Write::write_all(&mut writer, b"the last\n").unwrap();
    assert_eq!(pass(&mut rig, Duration::from_secs(3)), ["the last"]);
    assert_eq!(rig.lost(), 0);
}

#[test]
fn what_a_killed_process_put_aside_gets_its_name_back() {
    let mut rig = native();
    rig.append("a.log", "one\n");
    rig.append("b.log", "b\n");
    rig.settle();
    rig.ack();
    let life = |name: &str| {
        let path = rig.path(name).display().to_string();
        let entries = rig.registry.entries();
        entries.iter().find(|e| *e.source == *path).unwrap().incarnation.0
    };
    let aside = |name: &str| rig.path(&format!(".pillion-leaving/{:032x}-{name}", life(name)));
    std::fs::create_dir(rig.path(".pillion-leaving")).unwrap();
    for name in ["a.log", "b.log"] {
        std::fs::rename(rig.path(name), aside(name)).unwrap();
    }
    // Somebody has a new file of that name by now.
    rig.append("b.log", "new\n");
    rig.restart();
    assert_eq!(rig.settle(), ["new"]);
    assert!(rig.path("a.log").exists() && names(&rig).iter().any(|name| name.ends_with("-b.log")));
    rig.append("a.log", "two\n");
    assert_eq!(rig.search(), ["two"]);
}

#[test]
fn a_name_that_is_no_text_comes_back_as_it_was() {
    let mut rig = native();
    let path = rig.path("").join(OsStr::from_bytes(b"caf\xe9.log"));
    std::fs::write(&path, "one\n").unwrap();
    assert_eq!(rig.settle(), ["one"]);
    rig.ack();
    let (life, leaving) = (rig.registry.entries()[0].incarnation.0, rig.path(".pillion-leaving"));
    std::fs::create_dir(&leaving).unwrap();
    let mut name = format!("{life:032x}-").into_bytes();
    name.extend(b"caf\xe9.log");
    std::fs::rename(&path, leaving.join(OsStr::from_bytes(&name))).unwrap();
    // What else somebody puts there stays there.
    for name in ["other", "-", &format!("{life:032x}-"), &format!("{life:032x}-else.log"), &format!("{:032x}-x.log", 7)]
    {
        std::fs::write(leaving.join(name), "x").unwrap();
    }
    rig.restart();
    assert_eq!(rig.settle(), NONE);
    assert_eq!(std::fs::read(&path).unwrap(), b"one\n");
    assert_eq!(std::fs::read_dir(&leaving).unwrap().count(), 5);
}

#[test]
fn a_renamed_file_stays_while_anything_was_refused() {
    let mut rig = native();
    // Something was refused under some name, and nothing under those that files have now.
    rig.restart_with(|harvester| harvester.asking(Arc::new(|path: Option<&str>, _| path.is_some())));
    rig.append("a.log", "one\n");
    rig.append("b.log", "two\n");
    rig.settle();
    rig.ack();
    rig.rename("a.log", "c.log");
    pass(&mut rig, Duration::from_secs(20));
    pass(&mut rig, 2 * GRACE);
    assert_eq!(names(&rig), ["c.log"]);
}

#[test]
fn hints_that_never_end_hold_up_no_deletion() {
    let mut rig = native();
    for n in 0..50 {
        rig.append(&format!("{n}.log"), "one\n");
    }
    assert_eq!(rig.settle().len(), 50);
    rig.ack();
    pass(&mut rig, GRACE - Duration::from_secs(1));
    rig.advance(Duration::from_secs(60));
    for n in 0..20_000 {
        for of in 0..2 {
            rig.harvester.hint(Hint::Path(rig.path(&format!("busy-{n}-{of}.log"))));
        }
        assert!(matches!(rig.harvester.step(Budget::UNLIMITED), Step::Worked));
        if names(&rig).is_empty() {
            return;
        }
    }
    panic!("{} files are still there", names(&rig).len());
}

#[test]
fn a_file_whose_input_stops_stays() {
    for steps in 0..40 {
        let mut rig = native();
        let first = InputSpec { label: 7, ..rig.specs[0].clone() };
        rig.specs.clear();
        rig.restart();
        assert!(rig.harvester.replace(&[], vec![first]).is_empty());
        rig.append("a.log", "one\n");
        assert_eq!(rig.settle(), ["one"]);
        rig.ack();
        pass(&mut rig, GRACE - Duration::from_secs(1));
        rig.advance(Duration::from_secs(12));
        for _ in 0..steps {
            rig.harvester.step(Budget::UNLIMITED);
        }
        let before = names(&rig);
        rig.harvester.replace(&[7], Vec::new());
        pass(&mut rig, GRACE);
        assert_eq!(names(&rig), before, "after {steps} steps");
    }
}

#[test]
fn a_longer_time_of_the_input_that_comes_counts_from_then_on() {
    let mut rig = native();
    let first = InputSpec { label: 7, ..rig.specs[0].clone() };
    rig.specs.clear();
    rig.restart();
    assert!(rig.harvester.replace(&[], vec![first.clone()]).is_empty());
    rig.append("a.log", "one\n");
    assert_eq!(rig.settle(), ["one"]);
    rig.ack();
    pass(&mut rig, GRACE / 2);
    let longer = InputSpec { label: 8, delete_after: Some(10 * GRACE), ..first };
    rig.harvester.replace(&[7], vec![longer]);
    pass(&mut rig, 2 * GRACE);
    assert!(rig.path("a.log").exists());
    pass(&mut rig, 10 * GRACE);
    assert!(!rig.path("a.log").exists());
}

#[test]
fn a_file_that_another_input_is_behind_with_stays() {
    for takes in [None, Some(GRACE)] {
        let mut rig = native();
        let desc = desc(InputKind::Filestream, "others");
        let other = InputSpec { desc, delete_after: takes, ..rig.specs[0].clone() };
        rig.harvester.add(other).unwrap();
        rig.append("a.log", "one\n");
        assert_eq!(rig.settle(), ["one", "one"]);
        let second = rig.batches.pop().unwrap();
        rig.ack();
        pass(&mut rig, 3 * GRACE);
        assert_eq!(names(&rig), ["a.log"], "the target may not have what the other one has read");
        rig.batches.push(second);
        rig.ack();
        pass(&mut rig, 2 * GRACE);
        assert_eq!(names(&rig), NONE);
    }
}

/// Another reading thread's harvester, with an input of its own over these paths.
fn another(rig: &Rig, numbers: &Arc<Numbers>, pattern: &str) -> Harvester {
    let mut spec = rig.specs[0].clone();
    spec.desc = desc(InputKind::Filestream, "audit");
    spec.delete_after = None;
    spec.paths = vec![Glob::new(rig.path(pattern).as_os_str(), true).unwrap()];
    let (world, registry) = (rig.world.clone(), Arc::clone(&rig.registry));
    Harvester::new(world, registry, vec![spec], &Own::default(), rig.limits, numbers)
}

/// Steps another thread's harvester until it rests, and acknowledges what it has read if that is wanted.
fn run(rig: &Rig, other: &mut Harvester, acks: bool) -> usize {
    let mut lines = 0;
    loop {
        match other.step(Budget::UNLIMITED) {
            Step::Batch(batch) => {
                lines += batch.events.len();
                let (key, incarnation) = (Arc::clone(&batch.source.key), batch.source.incarnation);
                let cursor = Cursor { key, incarnation, offset: batch.to, guard: batch.guard };
                if acks {
                    rig.registry.commit(&Acked::by_target(cursor));
                }
            }
            Step::Worked => {}
            Step::Full { .. } | Step::Idle { .. } => return lines,
        }
    }
}

/// A rig, and harvesters of other threads over these patterns.
fn threads(patterns: &[&str]) -> (Rig, Vec<Harvester>) {
    let (mut rig, numbers) = (native(), Arc::<Numbers>::default());
    rig.restart();
    let (world, registry, specs) = (rig.world.clone(), Arc::clone(&rig.registry), rig.specs.clone());
    rig.harvester = Harvester::new(world, registry, specs, &Own::default(), rig.limits, &numbers);
    let others = patterns.iter().map(|pattern| another(&rig, &numbers, pattern)).collect();
    (rig, others)
}

#[test]
fn what_another_thread_has_not_delivered_stays() {
    let (mut rig, mut others) = threads(&["*.log"]);
    rig.append("a.log", "one\ntwo\n");
    rig.settle();
    rig.ack();
    pass(&mut rig, 3 * GRACE);
    assert_eq!(names(&rig), ["a.log"], "the other one hasn't even seen it");
    assert_eq!(run(&rig, &mut others[0], false), 2);
    pass(&mut rig, 3 * GRACE);
    run(&rig, &mut others[0], false);
    pass(&mut rig, 3 * GRACE);
    assert_eq!(names(&rig), ["a.log"], "the other one's lines aren't acknowledged");
    // As after a restart of that thread: it reads the rest again, and now the target takes it.
    others.clear();
    let numbers = Arc::default();
    let mut other = another(&rig, &numbers, "*.log");
    let (world, registry, specs) = (rig.world.clone(), Arc::clone(&rig.registry), rig.specs.clone());
    rig.harvester = Harvester::new(world, registry, specs, &Own::default(), rig.limits, &numbers);
    assert_eq!(run(&rig, &mut other, true), 2);
    for _ in 0..20 {
        pass(&mut rig, Duration::from_secs(10));
        run(&rig, &mut other, true);
    }
    assert_eq!(names(&rig), NONE);
    assert_eq!(rig.lost(), 0);
}

#[test]
fn a_thread_that_hangs_keeps_only_what_it_can_reach() {
    let (mut rig, others) = threads(&["elsewhere/*.log"]);
    rig.append("a.log", "one\n");
    rig.settle();
    rig.ack();
    pass(&mut rig, 2 * GRACE);
    assert_eq!(names(&rig), NONE);
    assert_eq!(others.len(), 1);
}

#[test]
fn an_answer_counts_only_for_what_was_asked() {
    let (mut rig, mut others) = threads(&["*.log"]);
    rig.append("a.log", "one\n");
    rig.settle();
    rig.ack();
    for _ in 0..2 {
        run(&rig, &mut others[0], true);
        pass(&mut rig, Duration::from_secs(10));
    }
    // The other one has had all, and doesn't look again.
    rig.append("a.log", "two\n");
    assert_eq!(pass(&mut rig, Duration::from_secs(10)), ["two"]);
    rig.ack();
    pass(&mut rig, 3 * GRACE);
    assert_eq!(names(&rig), ["a.log"]);
}

#[test]
fn a_file_that_another_input_knows_by_another_path_stays() {
    let mut rig = native();
    let dir = rig.tmp.path().join("second");
    std::os::unix::fs::symlink(rig.path(""), &dir).unwrap();
    let mut second = rig.specs[0].clone();
    second.desc = desc(InputKind::Filestream, "audit");
    second.delete_after = None;
    second.paths = vec![Glob::new(dir.join("*.log").as_os_str(), true).unwrap()];
    rig.specs.push(second);
    rig.restart();
    rig.append("a.log", "one\n");
    assert_eq!(rig.settle(), ["one", "one"]);
    let audit = rig.batches.pop().unwrap();
    assert!(audit.source.path.contains("second"), "{}", audit.source.path);
    rig.ack();
    pass(&mut rig, 3 * GRACE);
    assert_eq!(names(&rig), ["a.log"]);
    rig.batches.push(audit);
    rig.ack();
    pass(&mut rig, 3 * GRACE);
    assert_eq!(names(&rig), NONE);
}
