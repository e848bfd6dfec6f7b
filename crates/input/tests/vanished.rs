//! Registry entries of files that vanished while nobody had them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Rig, desc};
use pillion_event::{Incarnation, InputKind};
use pillion_input::{Beside, Glob, Harvester, Identity, InputSpec, Known, Limits, LossCause, Numbers, Own, Shares};
use pillion_registry::Intent;
use pillion_world::{DirEntry, File, Fs, FsKind, Meta, OpenHow, World};

const NONE: [&str; 0] = [];
const HOUR: Duration = Duration::from_secs(3600);
const DAYS: Duration = Duration::from_secs(8 * 24 * 3600);

/// What is odd about the file system beneath the folder of the logs.
#[derive(Default)]
struct Odd {
    /// Errors of `stat`, `open` and listings, by the end of the path.
    errors: BTreeMap<&'static str, i32>,
    /// Files that can't be opened, by their names.
    shut: BTreeSet<&'static str>,
    network: bool,
    /// All is on another device than it was.
    other_device: bool,
    /// How many names were asked for in vain.
    missed: usize,
}

impl Odd {
    fn on_its_device(&self, meta: Meta) -> Meta {
        Meta { dev: meta.dev + u64::from(self.other_device), ..meta }
    }
}

struct OddFile {
    real: Box<dyn File>,
    odd: Arc<Mutex<Odd>>,
}

impl File for OddFile {
    fn stat(&self) -> io::Result<Meta> {
        self.real.stat().map(|meta| self.odd.lock().unwrap().on_its_device(meta))
    }

    pillion_world::pass_file!(this => this.real; read_at write_all sync set_len);
}

struct OddFs {
    real: Arc<dyn Fs>,
    odd: Arc<Mutex<Odd>>,
}

impl OddFs {
    fn fail(&self, path: &Path) -> io::Result<()> {
        let odd = self.odd.lock().unwrap();
        let error = odd.errors.iter().find(|(end, _)| path.ends_with(end));
        error.map_or(Ok(()), |(_, errno)| Err(io::Error::from_raw_os_error(*errno)))
    }
}

impl Fs for OddFs {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn File>> {
        self.fail(path)?;
        if self.odd.lock().unwrap().shut.iter().any(|name| path.ends_with(name)) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(Box::new(OddFile { real: self.real.open(path, how)?, odd: Arc::clone(&self.odd) }))
    }
    fn stat(&self, path: &Path, follow: bool) -> io::Result<Meta> {
        self.fail(path)?;
        let meta = self.real.stat(path, follow);
        let mut odd = self.odd.lock().unwrap();
        odd.missed += usize::from(meta.is_err());
        meta.map(|meta| odd.on_its_device(meta))
    }
    fn read_dir(&self, path: &Path, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> io::Result<()> {
        self.fail(path)?;
        self.real.read_dir(path, each)
    }
    fn kind(&self, _: &Path) -> io::Result<FsKind> {
        Ok(if self.odd.lock().unwrap().network { FsKind::Network } else { FsKind::Local })
    }

    pillion_world::pass_fs!(this => this.real; canonicalize read_link rename remove create_dir_all sync_dir try_lock);
}

struct Stage {
    rig: Rig,
    odd: Arc<Mutex<Odd>>,
}

fn native(_: &mut InputSpec) {}

fn by_fingerprint(spec: &mut InputSpec) {
    spec.desc = desc(InputKind::Filestream, "jobs");
    spec.identity = Identity::Fingerprint { offset: 0, length: 64, growing: true };
}

impl Stage {
    /// `a.log`, `job/a.log` and `b.log` are read and acknowledged.
    fn set(change: impl FnOnce(&mut InputSpec)) -> Stage {
        let (odd, real) = (Arc::new(Mutex::new(Odd::default())), World::real());
        let fs = Arc::new(OddFs { real: Arc::clone(&real.fs), odd: Arc::clone(&odd) });
        let mut rig = Rig::on(World { fs, ..real }, &["*.log", "*/*.log"], change);
        std::fs::create_dir(rig.path("job")).unwrap();
        for name in ["a.log", "job/a.log", "b.log"] {
            rig.append(name, format!("{name}\n"));
        }
        assert_eq!(rig.settle().len(), 3);
        rig.ack();
        Stage { rig, odd }
    }

    /// The process ends, and the next one begins after a while; this happens meanwhile.
    fn away(&mut self, time: Duration, meanwhile: impl FnOnce(&Rig)) {
        meanwhile(&self.rig);
        self.rig.advance(time);
        self.rig.restart();
    }

    fn odd(&self, change: impl FnOnce(&mut Odd)) {
        change(&mut self.odd.lock().unwrap());
    }

    /// How many names were asked for in vain.
    fn missed(&self) -> usize {
        self.odd.lock().unwrap().missed
    }

    /// So many searches, in which nothing is read.
    fn searches(&mut self, count: usize) {
        for _ in 0..count {
            assert_eq!(self.rig.search(), NONE);
        }
    }

    /// The names of the files that the registry knows.
    fn known(&self) -> Vec<String> {
        let logs = self.rig.path("");
        let name = |source: &str| Path::new(source).strip_prefix(&logs).unwrap().display().to_string();
        let mut known: Vec<String> = self.rig.registry.entries().iter().map(|entry| name(&entry.source)).collect();
        known.sort();
        known
    }

    /// As many searches as it takes to go over the registry anew.
    fn another_round(&mut self) {
        self.rig.advance(HOUR);
        self.searches(3);
    }
}

#[test]
fn it_goes_an_hour_after_its_last_change_and_after_two_looks() {
    for identity in [native as fn(&mut InputSpec), by_fingerprint] {
        let mut stage = Stage::set(identity);
        stage.away(HOUR / 2, |rig| rig.remove("a.log"));
        stage.searches(5);
        assert_eq!(stage.known(), ["a.log", "b.log", "job/a.log"], "half an hour isn't enough");
        stage.away(HOUR, |_| {});
        stage.searches(1);
        assert_eq!(stage.known(), ["a.log", "b.log", "job/a.log"], "one look isn't enough");
        stage.searches(1);
        assert_eq!(stage.known(), ["b.log", "job/a.log"]);
        // It is no loss: all of it was acknowledged. And the next run knows nothing of it either.
        assert_eq!((stage.rig.lost(), stage.rig.harvester.stats().tally.lost), (0, 0));
        stage.away(DAYS, |_| {});
        stage.searches(3);
        assert_eq!(stage.known(), ["b.log", "job/a.log"]);
        // What comes to its path is a file of its own.
        stage.rig.append("a.log", "anew\n");
        assert_eq!(stage.rig.search(), ["anew"]);
    }
}

#[test]
fn an_hour_that_ends_in_a_run_ends_with_it_too() {
    let mut stage = Stage::set(native);
    stage.away(Duration::ZERO, |rig| rig.remove("a.log"));
    stage.searches(5);
    assert_eq!(stage.known().len(), 3);
    stage.another_round();
    assert_eq!(stage.known(), ["b.log", "job/a.log"]);
}

#[test]
fn an_answer_that_is_no_answer_keeps_it() {
    const EIO: i32 = 5;
    const EACCES: i32 = 13;
    const ESTALE: i32 = 116;
    const ETIMEDOUT: i32 = 110;
    // Of its own, of its folder.
    for (at, errno) in [("job/a.log", EIO), ("job/a.log", EACCES), ("job/a.log", ESTALE), ("job/a.log", ETIMEDOUT)]
        .into_iter()
        .chain([("job", EIO), ("job", EACCES), ("job", ESTALE), ("job", ETIMEDOUT)])
    {
        let mut stage = Stage::set(native);
        stage.odd(|odd| odd.errors = BTreeMap::from([(at, errno)]));
        stage.away(DAYS, |rig| rig.remove("job/a.log"));
        stage.searches(5);
        assert_eq!(stage.known().len(), 3, "{at}: {errno}");
        stage.odd(|odd| odd.errors.clear());
        stage.another_round();
        assert_eq!(stage.known(), ["a.log", "b.log"], "{at}: {errno}");
    }
}

#[test]
fn a_search_that_is_not_whole_proves_nothing() {
    const EIO: i32 = 5;
    for identity in [native as fn(&mut InputSpec), by_fingerprint] {
        let mut stage = Stage::set(identity);
        // The file was renamed to where no search comes.
        stage.odd(|odd| odd.errors = BTreeMap::from([("job", EIO)]));
        stage.away(DAYS, |rig| rig.rename("a.log", "job/b.log"));
        stage.searches(10);
        assert_eq!(stage.known(), ["a.log", "b.log", "job/a.log"]);
        stage.odd(|odd| odd.errors.clear());
        stage.searches(3);
        assert_eq!(stage.known(), ["b.log", "job/a.log", "job/b.log"], "with its cursor");
    }
}

/// A folder that fails for ever keeps entries for ever, and that is said; it doesn't keep every file that ever was in memory.
#[test]
fn a_search_that_is_never_whole_keeps_entries_and_no_files() {
    const EIO: i32 = 5;
    for (identity, renamed) in [(native as fn(&mut InputSpec), false), (native, true), (by_fingerprint, true)] {
        let mut stage = Stage::set(identity);
        stage.odd(|odd| odd.errors = BTreeMap::from([("job", EIO)]));
        if renamed {
            stage.rig.rename("a.log", "job/b.log")
        } else {
            stage.rig.remove("a.log")
        }
        stage.searches(5);
        assert_eq!(stage.rig.harvester.stats().files, 3);
        stage.rig.advance(HOUR);
        stage.searches(5);
        assert_eq!(stage.rig.harvester.stats().files, 2, "renamed: {renamed}");
        assert_eq!(stage.known(), ["a.log", "b.log", "job/a.log"]);
        assert_eq!(stage.rig.lost(), 0);
        stage.odd(|odd| odd.errors.clear());
        stage.searches(3);
        let all = ["b.log", "job/a.log", "job/b.log"];
        assert_eq!(stage.known(), all[..if renamed { 3 } else { 2 }], "what was renamed has its cursor");
    }
}

#[test]
fn what_may_not_be_looked_at_keeps_it_for_seven_days() {
    const EACCES: i32 = 13;
    for (time, want) in [(2 * HOUR, 3), (DAYS, 2)] {
        let mut stage = Stage::set(native);
        stage.odd(|odd| odd.errors = BTreeMap::from([("shut", EACCES)]));
        std::fs::create_dir(stage.rig.path("shut")).unwrap();
        stage.away(time, |rig| rig.remove("a.log"));
        stage.searches(5);
        assert_eq!(stage.known().len(), want, "{time:?}");
    }
}

#[test]
fn an_input_can_say_that_nothing_is_forgotten() {
    let mut stage = Stage::set(|spec| spec.clean_removed = false);
    // One vanishes before its eyes, one while it is away.
    stage.rig.remove("job/a.log");
    stage.searches(5);
    assert_eq!(stage.rig.harvester.stats().files, 2, "it is forgotten in memory");
    stage.away(DAYS, |rig| rig.remove("a.log"));
    stage.searches(5);
    assert_eq!(stage.known(), ["a.log", "b.log", "job/a.log"]);
    let mut stage = Stage::set(native);
    stage.rig.remove("job/a.log");
    stage.searches(5);
    assert_eq!(stage.known(), ["a.log", "b.log"], "as is usual");
}

#[test]
fn a_file_that_is_back_before_the_second_look_goes_on() {
    let mut stage = Stage::set(native);
    stage.away(DAYS, |rig| rig.rename("a.log", "a.away"));
    stage.searches(1);
    stage.rig.rename("a.away", "a.log");
    stage.searches(5);
    stage.rig.append("a.log", "more\n");
    assert_eq!(stage.rig.search(), ["more"]);
}

#[test]
fn a_renamed_file_keeps_its_cursor() {
    for identity in [native as fn(&mut InputSpec), by_fingerprint] {
        let mut stage = Stage::set(identity);
        stage.away(DAYS, |rig| rig.rename("a.log", "job/c.log"));
        stage.searches(5);
        assert_eq!(stage.known(), ["b.log", "job/a.log", "job/c.log"]);
        stage.rig.append("job/c.log", "more\n");
        assert_eq!(stage.rig.search(), ["more"]);
    }
}

#[test]
fn a_file_whose_beginning_cannot_be_read_yet_may_be_the_renamed_one() {
    let mut stage = Stage::set(by_fingerprint);
    stage.odd(|odd| odd.shut = BTreeSet::from(["c.log"]));
    stage.away(DAYS, |rig| rig.rename("a.log", "c.log"));
    stage.searches(10);
    assert_eq!(stage.known(), ["a.log", "b.log", "job/a.log"]);
    stage.odd(|odd| odd.shut.clear());
    stage.searches(3);
    assert_eq!(stage.known(), ["b.log", "c.log", "job/a.log"]);
    stage.rig.append("c.log", "more\n");
    assert_eq!(stage.rig.search(), ["more"]);
}

#[test]
fn a_file_in_the_place_of_another_is_not_the_other() {
    for identity in [native as fn(&mut InputSpec), by_fingerprint] {
        let mut stage = Stage::set(identity);
        stage.away(2 * HOUR, |rig| {
            // The old one keeps its inode until the new one has another.
            rig.rename("a.log", "a.away");
            rig.append("a.log", "another\n");
            rig.remove("a.away");
        });
        assert_eq!(stage.rig.search(), ["another"]);
        assert_eq!(stage.known(), ["a.log", "a.log", "b.log", "job/a.log"]);
        stage.searches(3);
        assert_eq!(stage.known(), ["a.log", "b.log", "job/a.log"]);
        stage.rig.append("a.log", "more\n");
        assert_eq!(stage.rig.search(), ["more"]);
    }
}

#[test]
fn a_mount_that_is_not_there_keeps_what_it_holds() {
    for (identity, other_device) in
        [(native as fn(&mut InputSpec), true), (by_fingerprint, true), (by_fingerprint, false)]
    {
        let mut stage = Stage::set(identity);
        // In its place there is an empty folder, or one without the folders in it.
        let (logs, away) = (stage.rig.path(""), stage.rig.tmp.path().join("away"));
        stage.odd(|odd| odd.other_device = other_device);
        stage.away(DAYS, |_| {
            std::fs::rename(&logs, &away).unwrap();
            std::fs::create_dir(&logs).unwrap();
        });
        stage.searches(10);
        stage.another_round();
        stage.another_round();
        assert_eq!(stage.known().len(), 3);
        stage.odd(|odd| odd.other_device = false);
        std::fs::remove_dir(&logs).unwrap();
        std::fs::rename(&away, &logs).unwrap();
        stage.searches(3);
        stage.rig.append("a.log", "more\n");
        assert_eq!(stage.rig.search(), ["more"]);
    }
}

#[test]
fn a_root_that_is_gone_keeps_what_it_held() {
    for identity in [native as fn(&mut InputSpec), by_fingerprint] {
        let mut stage = Stage::set(identity);
        stage.odd(|odd| odd.other_device = true);
        stage.away(DAYS, |rig| std::fs::remove_dir_all(rig.path("")).unwrap());
        stage.searches(5);
        stage.another_round();
        assert_eq!(stage.known().len(), 3);
    }
}

#[test]
fn a_root_that_is_gone_beneath_another_keeps_what_it_held() {
    let mut stage = Stage::set(by_fingerprint);
    let glob = |pattern: &str| Glob::new(stage.rig.path(pattern).as_os_str(), true).unwrap();
    stage.rig.specs[0].paths = vec![glob("*.log"), glob("job/*.log")];
    stage.away(DAYS, |rig| std::fs::remove_dir_all(rig.path("job")).unwrap());
    stage.searches(5);
    stage.another_round();
    assert_eq!(stage.known().len(), 3, "what the folder above has shown is no sign");
}

#[test]
fn a_folder_on_another_device_takes_seven_days_whatever_it_shows() {
    for (time, want) in [(2 * HOUR, 2), (DAYS, 0)] {
        let mut stage = Stage::set(native);
        stage.odd(|odd| odd.other_device = true);
        stage.away(time, |rig| ["a.log", "b.log"].iter().for_each(|name| rig.remove(name)));
        stage.rig.append("c.log", "new\n");
        assert_eq!(stage.rig.search().len(), 2, "by another device, all of it is new");
        stage.searches(3);
        let gone = stage.known().iter().filter(|name| ["a.log", "b.log"].contains(&name.as_str())).count();
        assert_eq!(gone, want, "{time:?}");
    }
}

#[test]
fn a_folder_that_went_with_its_file_takes_longer() {
    // Its device is known: when the run is an hour old. It isn't: after seven days.
    for (identity, time, before, after) in
        [(native as fn(&mut InputSpec), 2 * HOUR, 3, 2), (by_fingerprint, 2 * HOUR, 3, 3), (by_fingerprint, DAYS, 2, 2)]
    {
        let mut stage = Stage::set(identity);
        stage.away(time, |rig| std::fs::remove_dir_all(rig.path("job")).unwrap());
        stage.searches(5);
        assert_eq!(stage.known().len(), before, "{time:?}");
        stage.another_round();
        stage.another_round();
        assert_eq!(stage.known().len(), after, "{time:?}");
    }
}

#[test]
fn on_a_network_file_system_it_takes_seven_days() {
    for (time, want) in [(2 * HOUR, 3), (DAYS, 2)] {
        let mut stage = Stage::set(native);
        stage.odd(|odd| odd.network = true);
        stage.away(time, |rig| rig.remove("a.log"));
        let before = stage.missed();
        stage.searches(5);
        assert_eq!(stage.known().len(), want, "{time:?}");
        assert_eq!(stage.missed() > before, want == 2, "the server isn't asked before it is time");
    }
}

#[test]
fn what_may_have_been_sent_of_it_is_lost_and_told_once() {
    let mut stage = Stage::set(native);
    let entry = stage.rig.registry.entries().into_iter().find(|e| e.source.ends_with("s/a.log")).unwrap();
    let from = entry.offset;
    let intent = Intent { from, to: from + 10, read_ms: 5, guard: Default::default() };
    assert!(stage.rig.registry.intend(&entry.key, entry.incarnation, intent));
    stage.away(2 * HOUR, |rig| rig.remove("a.log"));
    stage.searches(5);
    assert_eq!(stage.known(), ["b.log", "job/a.log"]);
    let losses: Vec<_> = stage.rig.harvester.losses().iter().map(|l| (l.path.clone(), l.from, l.to, l.cause)).collect();
    assert_eq!(losses, [(stage.rig.path("a.log"), from, from + 10, LossCause::Deleted)]);
    assert_eq!(stage.rig.harvester.stats().tally.lost, 10);
}

/// A run that is over before an entry's hour is.
#[test]
fn a_short_run_tells_what_may_have_been_sent_of_it_each_time_until_its_hour_is_over() {
    for clean in [true, false] {
        let mut stage = Stage::set(native);
        stage.rig.specs[0].clean_removed = clean;
        // Of `job/a.log` nothing was sent.
        let entry = stage.rig.registry.entries().into_iter().find(|e| e.source.ends_with("s/a.log")).unwrap();
        let intent = Intent { from: entry.offset, to: entry.offset + 10, read_ms: 5, guard: Default::default() };
        assert!(stage.rig.registry.intend(&entry.key, entry.incarnation, intent));
        let lost = |stage: &mut Stage| {
            assert_eq!(stage.rig.drain(), NONE);
            let losses =
                stage.rig.harvester.losses().iter().map(|l| (l.path.clone(), l.to - l.from, l.cause)).collect();
            (losses, stage.rig.harvester.stats().tally.lost)
        };
        let told = (vec![(stage.rig.path("a.log"), 10, LossCause::Deleted)], 10);
        stage.away(HOUR / 4, |rig| ["a.log", "job/a.log"].iter().for_each(|name| rig.remove(name)));
        assert_eq!(lost(&mut stage), told);
        assert_eq!(stage.known().len(), 3);
        stage.away(HOUR / 4, |_| {});
        stage.odd(|odd| odd.errors = BTreeMap::from([("a.log", 5)]));
        assert_eq!(lost(&mut stage).1, 0, "that can't be told");
        stage.odd(|odd| odd.errors.clear());
        stage.away(2 * HOUR, |_| {});
        assert_eq!(lost(&mut stage), told);
        assert_eq!(stage.known().len(), if clean { 2 } else { 3 });
        stage.away(HOUR, |_| {});
        assert_eq!(lost(&mut stage).1, if clean { 0 } else { 10 });
    }
}

/// A process that was killed had put it aside to delete it, and another thread gives it its name back.
#[test]
fn what_lies_aside_is_not_gone() {
    let mut stage = Stage::set(native);
    let (a, folder) = (stage.rig.path("a.log"), stage.rig.path(".pillion-leaving"));
    std::fs::create_dir(&folder).unwrap();
    let aside = folder.join(format!("{:032x}-a.log", 7));
    stage.away(2 * HOUR, |_| std::fs::rename(&a, &aside).unwrap());
    stage.searches(5);
    std::fs::rename(&aside, &a).unwrap();
    stage.searches(5);
    assert_eq!(stage.known().len(), 3, "it goes on where it stopped");
}

#[test]
fn the_end_of_a_run_forgets_nothing() {
    let mut stage = Stage::set(native);
    stage.away(DAYS, |rig| rig.remove("a.log"));
    assert_eq!(stage.rig.drain(), NONE);
    stage.searches(5);
    assert_eq!(stage.known().len(), 3);
}

/// How many entries the registry has of the input that was.
fn of_jobs(stage: &Stage) -> usize {
    stage.rig.registry.entries().iter().filter(|entry| entry.key.contains("::jobs::")).count()
}

#[test]
fn an_entry_of_an_input_that_is_gone_takes_seven_days() {
    for (time, want) in [(2 * HOUR, 3), (DAYS, 2)] {
        let mut stage = Stage::set(by_fingerprint);
        stage.rig.specs[0].desc = desc(InputKind::Filestream, "another");
        stage.away(time, |rig| rig.remove("a.log"));
        let before = stage.missed();
        assert_eq!(stage.rig.search().len(), 2, "all that is there is new to it");
        stage.searches(5);
        assert_eq!(stage.missed() > before, want == 2);
        assert_eq!(of_jobs(&stage), want, "{time:?}");
    }
}

#[test]
fn where_nobody_or_another_thread_looks_it_stays() {
    // Nobody looks into its folder any more.
    let mut stage = Stage::set(native);
    stage.rig.specs[0].paths.truncate(1);
    stage.away(DAYS, |rig| rig.remove("job/a.log"));
    stage.searches(5);
    assert_eq!(stage.known().len(), 3);
    // The only one that looks there says that nothing is forgotten.
    let mut stage = Stage::set(by_fingerprint);
    (stage.rig.specs[0].desc, stage.rig.specs[0].clean_removed) = (desc(InputKind::Filestream, "another"), false);
    stage.away(DAYS, |rig| rig.remove("a.log"));
    assert_eq!(stage.rig.search().len(), 2);
    stage.searches(5);
    assert_eq!(of_jobs(&stage), 3);
    // No input of this thread reads its path, and one of another may.
    let mut stage = Stage::set(by_fingerprint);
    stage.rig.specs[0].desc = desc(InputKind::Filestream, "another");
    let (numbers, world, limits) = (Arc::<Numbers>::default(), stage.rig.world.clone(), Limits::default());
    let (registry, specs) = (Arc::clone(&stage.rig.registry), stage.rig.specs.clone());
    let _other = Harvester::new(world.clone(), Arc::clone(&registry), specs.clone(), &Own::default(), limits, &numbers);
    stage.rig.remove("a.log");
    stage.rig.advance(DAYS);
    stage.rig.harvester = Harvester::new(world, registry, specs, &Own::default(), limits, &numbers);
    assert_eq!(stage.rig.search().len(), 2);
    stage.searches(5);
    assert_eq!(of_jobs(&stage), 3);
}

/// Nothing at some names is ours.
struct Theirs(PathBuf);

impl Shares for Theirs {
    fn is_ours(&self, path: &Path) -> bool {
        path != self.0
    }
    fn refresh(&self) -> io::Result<()> {
        Ok(())
    }
    fn find(&self, _: &[&str]) -> io::Result<Known> {
        Ok(Known { entries: Vec::new(), whole: true })
    }
    fn lives(&self, _: &[Incarnation]) -> io::Result<Known> {
        self.find(&[])
    }
    fn beside(&self, _: &Path, _: u64) -> io::Result<Beside> {
        Ok(Beside::Nothing)
    }
    fn handed_over(&self, _: &Arc<str>) {}
}

#[test]
fn an_entry_of_another_replicas_file_is_not_ours_to_forget() {
    let mut stage = Stage::set(native);
    let theirs = Arc::new(Theirs(stage.rig.path("a.log")));
    for name in ["a.log", "job/a.log"] {
        stage.rig.remove(name);
    }
    stage.rig.advance(DAYS);
    stage.rig.restart_with(|harvester| harvester.sharing(theirs));
    stage.searches(5);
    assert_eq!(stage.known(), ["a.log", "b.log"]);
}

#[test]
fn thousands_that_vanished_go_bit_by_bit() {
    let mut stage = Stage::set(native);
    for n in 0..2000 {
        stage.rig.append(&format!("{n}.log"), "line\n");
    }
    assert_eq!(stage.rig.search().len(), 2000);
    stage.rig.ack();
    stage.away(2 * HOUR, |rig| (0..2000).for_each(|n| rig.remove(&format!("{n}.log"))));
    let mut searches = 0;
    while stage.known().len() > 3 {
        let (before, known) = (stage.missed(), stage.known().len());
        stage.searches(1);
        searches += 1;
        let (missed, gone) = (stage.missed() - before, known - stage.known().len());
        // And once in each piece whether something lies aside.
        assert!(missed <= 256 + 4 && gone <= 256, "{missed} looks, {gone} forgotten");
        assert!(searches < 40);
    }
    assert_eq!(stage.known(), ["a.log", "b.log", "job/a.log"]);
}
