//! The board as files: members over one real folder, a crash at each step, locks that don't work, hostile files.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test makes and breaks files by hand"
)]

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pillion_shards::files::{Blocking, Files, Job};
use pillion_shards::{
    Adopted, Backend, Later, Member, Order, Record, Report, Settings, Shard, Stage, Table, Version, Wrote, read_table,
};
use pillion_world::{DirEntry, File, Fs, Lock, Meta, Mono, OpenHow, World};

const LEASE: Duration = Duration::from_secs(15);

/// Does a job where it is.
struct Inline;

impl Blocking for Inline {
    fn run(&self, job: Job, _: Duration) -> Later<'_, ()> {
        job();
        Box::pin(async {})
    }
}

/// Keeps jobs, as if each hung beyond its time.
#[derive(Clone, Default)]
struct Hung(Arc<Mutex<Vec<Job>>>);

impl Blocking for Hung {
    fn run(&self, job: Job, _: Duration) -> Later<'_, ()> {
        self.0.lock().unwrap().push(job);
        Box::pin(async {})
    }
}

/// The result of what has nothing to wait for.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits"),
    }
}

fn files(root: &Path, member: &str) -> Files<Inline> {
    files_of(root, member, LEASE, 64)
}

fn files_of(root: &Path, member: &str, lease: Duration, shards: u16) -> Files<Inline> {
    Files::new(World::real(), root, member, lease, Some(shards), Inline)
}

fn table(epoch: u64) -> Table {
    Table::from([(Shard(3), Record { owner: Some("a".into()), epoch, registry: Some(format!("a/{epoch}")) })])
}

fn done(wrote: Wrote) -> Version {
    match wrote {
        Wrote::Done(version) => version,
        other => panic!("{other:?}"),
    }
}

fn board_of(root: &Path) -> PathBuf {
    root.join(".pillion/board")
}

#[test]
fn signs_of_life_are_seen_by_others_and_each_is_another() {
    let root = tempfile::tempdir().unwrap();
    let (a, b) = (files(root.path(), "a"), files(root.path(), "b"));
    assert_eq!(now(a.look()).unwrap(), pillion_shards::Board::default());
    now(a.beat(false)).unwrap();
    now(b.beat(false)).unwrap();
    let first = now(a.look()).unwrap();
    assert_eq!(first.beats.iter().map(|b| b.member.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    now(a.beat(false)).unwrap();
    now(b.beat(true)).unwrap();
    let second = now(b.look()).unwrap();
    assert!(first.beats.iter().zip(&second.beats).all(|(x, y)| x.stamp != y.stamp), "{second:?}");
    assert_eq!(second.beats.iter().map(|b| b.leaving).collect::<Vec<_>>(), [false, true]);
    // Only the same sign of life is removed.
    now(a.bury(first.beats[1].clone())).unwrap();
    assert_eq!(now(a.look()).unwrap().beats.len(), 2);
    // It died over its files.
    let board = board_of(root.path());
    let drafts = ["members/b.json.b.new", "table.json.b.new", "members/a.json.a.new"].map(|name| board.join(name));
    drafts.iter().for_each(|draft| std::fs::write(draft, "{").unwrap());
    now(a.bury(second.beats[1].clone())).unwrap();
    now(a.bury(second.beats[1].clone())).unwrap();
    assert_eq!(now(a.look()).unwrap().beats.len(), 1);
    assert_eq!(drafts.map(|draft| draft.exists()), [false, false, true]);
}

#[test]
fn of_two_writers_one_is_refused_and_no_version_comes_again() {
    let root = tempfile::tempdir().unwrap();
    let (a, b) = (files(root.path(), "a"), files(root.path(), "b"));
    now(a.check()).unwrap();
    let first = done(now(a.write(None, table(1))));
    assert_eq!(now(b.write(None, table(2))), Wrote::Conflict, "it is there");
    assert_eq!(now(b.look()).unwrap().table, Some((first.clone(), table(1))));
    let second = done(now(b.write(Some(first.clone()), table(2))));
    assert_eq!(now(a.write(Some(first.clone()), table(3))), Wrote::Conflict);
    assert_eq!(now(a.look()).unwrap().table, Some((second.clone(), table(2))));
    // Deleted by hand, and written as often as before.
    std::fs::remove_file(board_of(root.path()).join("table.json")).unwrap();
    assert_eq!(now(a.write(Some(second.clone()), table(4))), Wrote::Conflict);
    let third = done(now(a.write(None, table(5))));
    let fourth = done(now(a.write(Some(third.clone()), table(6))));
    assert!([&third, &fourth].iter().all(|v| **v != first && **v != second));
    assert_eq!(now(b.write(Some(second), table(7))), Wrote::Conflict);
    // Somebody else is writing.
    let lock = World::real().fs.try_lock(&board_of(root.path()).join("table.lock")).unwrap().unwrap();
    assert_eq!(now(a.write(Some(fourth.clone()), table(8))), Wrote::Conflict);
    drop(lock);
    done(now(a.write(Some(fourth), table(8))));
    let wild = Table::from([(Shard(0), Record { owner: Some("../a".into()), epoch: 1, registry: None })]);
    assert_eq!(now(a.write(None, wild)), Wrote::Unknown);
}

#[test]
fn nothing_that_was_written_is_overwritten_by_others_at_the_same_time() {
    let root = tempfile::tempdir().unwrap();
    done(now(files(root.path(), "a").write(None, table(0))));
    std::thread::scope(|scope| {
        for member in ["a", "b", "c", "d"] {
            let root = root.path();
            scope.spawn(move || {
                let files = files(root, member);
                for _ in 0..50 {
                    loop {
                        let (version, mut table) = now(files.look()).unwrap().table.unwrap();
                        table.get_mut(&Shard(3)).unwrap().epoch += 1;
                        match now(files.write(Some(version), table)) {
                            Wrote::Done(_) => break,
                            Wrote::Conflict => {}
                            Wrote::Unknown => panic!("nothing fails here"),
                        }
                    }
                }
            });
        }
    });
    let (_, table) = now(files(root.path(), "a").look()).unwrap().table.unwrap();
    assert_eq!(table[&Shard(3)].epoch, 200);
}

#[test]
fn a_hung_file_system_holds_nobody_up_and_gathers_no_calls() {
    let root = tempfile::tempdir().unwrap();
    let hung = Hung::default();
    let files = Files::new(World::real(), root.path(), "a", LEASE, Some(64), hung.clone());
    for _ in 0..3 {
        assert!(now(files.beat(false)).unwrap_err().contains("no answer within 5s"));
        assert!(now(files.look()).is_err());
        assert_eq!(now(files.write(None, table(1))), Wrote::Unknown);
    }
    let jobs = std::mem::take(&mut *hung.0.lock().unwrap());
    assert_eq!(jobs.len(), 3, "one of each kind");
    // It comes back: what was begun is done, and nobody believes the late answers.
    jobs.into_iter().for_each(|job| job());
    assert!(now(files.look()).is_err());
    assert_eq!(hung.0.lock().unwrap().len(), 1, "calls are made again");
    assert_eq!(now(self::files(root.path(), "b").look()).unwrap().table.unwrap().1, table(1));
}

/// A file system that fails from a call on, or in certain calls.
struct Failing {
    real: Arc<dyn Fs>,
    left: Arc<AtomicU64>,
    locks: Option<i32>,
}

struct FailingFile(Box<dyn File>, Arc<AtomicU64>);

fn step(left: &AtomicU64) -> io::Result<()> {
    let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    before.map(drop).map_err(|_| io::Error::from_raw_os_error(5))
}

impl Fs for Failing {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn File>> {
        step(&self.left)?;
        Ok(Box::new(FailingFile(self.real.open(path, how)?, Arc::clone(&self.left))))
    }
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        step(&self.left)?;
        match self.locks {
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None => self.real.try_lock(path),
        }
    }

    pillion_world::pass_fs!(this => this.real; canonicalize read_link kind);

    pillion_world::pass_fs!(this => { step(&this.left)?; &this.real }; stat read_dir rename remove create_dir_all sync_dir);
}

impl File for FailingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        step(&self.1)?;
        self.0.read_at(buf, offset)
    }
    fn write_all(&self, buf: &[u8]) -> io::Result<()> {
        // Half of it is there when it fails.
        if step(&self.1).is_err() {
            self.0.write_all(&buf[..buf.len() / 2])?;
            return Err(io::Error::from_raw_os_error(5));
        }
        self.0.write_all(buf)
    }
    fn stat(&self) -> io::Result<Meta> {
        step(&self.1)?;
        self.0.stat()
    }
    fn sync(&self) -> io::Result<()> {
        step(&self.1)?;
        self.0.sync()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

fn failing(root: &Path, after: u64, locks: Option<i32>) -> (Files<Inline>, Arc<AtomicU64>) {
    let left = Arc::new(AtomicU64::new(after));
    let real = World::real();
    let fs = Failing { real: Arc::clone(&real.fs), left: Arc::clone(&left), locks };
    (Files::new(World { fs: Arc::new(fs), ..real }, root, "a", LEASE, Some(64), Inline), left)
}

#[test]
fn a_crash_at_any_step_leaves_the_old_table_or_the_new_and_signs_of_life_whole() {
    let mut steps = 0;
    loop {
        let root = tempfile::tempdir().unwrap();
        let other = files(root.path(), "b");
        let first = done(now(files(root.path(), "a").write(None, table(1))));
        let (files, left) = failing(root.path(), steps, None);
        let wrote = now(files.write(Some(first), table(2)));
        let beat = now(files.beat(false));
        let over = left.load(Ordering::Relaxed) > 0;
        // Another one goes on, with what is there.
        let board = now(other.look()).unwrap();
        let (version, there) = board.table.unwrap();
        assert!(there == table(1) || there == table(2), "step {steps}: {there:?}");
        assert!(!matches!(wrote, Wrote::Done(_)) || there == table(2), "step {steps}: it was believed to be there");
        assert!(!matches!(wrote, Wrote::Conflict), "step {steps}");
        assert!(beat.is_err() || board.beats.len() == 1, "step {steps}: {beat:?}");
        done(now(other.write(Some(version), table(3))));
        // So does it itself, over what it has left.
        let again = self::files(root.path(), "a");
        now(again.beat(false)).unwrap();
        let board = now(again.look()).unwrap();
        assert_eq!((board.beats.len(), board.table.unwrap().1), (1, table(3)));
        if over {
            break;
        }
        steps += 1;
    }
    assert!(steps > 12, "{steps}");
}

#[test]
fn where_locks_dont_work_it_is_said_what_to_do() {
    for code in [37, 95] {
        let root = tempfile::tempdir().unwrap();
        let (files, _) = failing(root.path(), 1000, Some(code));
        let said = now(files.check()).unwrap_err();
        assert!(said.contains("nolock") && said.contains("board: kubernetes"), "{said}");
        assert_eq!(now(files.write(None, table(1))), Wrote::Unknown);
        assert_eq!(now(files.look()).unwrap().table, None, "nothing is written without a lock");
    }
}

#[test]
fn hostile_files_count_as_not_there_and_lead_nowhere() {
    let root = tempfile::tempdir().unwrap();
    let (board, away) = (board_of(root.path()), root.path().join("away.json"));
    let a = files(root.path(), "a");
    now(a.beat(false)).unwrap();
    std::fs::write(&away, "{\"member\":\"x\",\"beats\":1}").unwrap();
    let members = board.join("members");
    symlink(&away, members.join("x.json")).unwrap();
    std::fs::create_dir(members.join("dir.json")).unwrap();
    std::fs::write(members.join("empty.json"), "").unwrap();
    std::fs::write(members.join("large.json"), vec![b' '; 5000]).unwrap();
    std::fs::write(members.join("b.json"), "{\"member\":\"a\",\"beats\":9}").unwrap();
    std::fs::write(members.join("c.json"), "{\"member\":\"c\",\"beats\":-1}").unwrap();
    std::fs::write(members.join(".d.json"), "{\"member\":\".d\",\"beats\":1}").unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, members.join("fifo.json"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    // What a replacement is built in isn't written through.
    symlink(&away, members.join("a.json.a.new")).unwrap();
    now(a.beat(false)).unwrap();
    assert_eq!(now(a.look()).unwrap().beats.iter().map(|b| b.member.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(std::fs::read_to_string(&away).unwrap(), "{\"member\":\"x\",\"beats\":1}");
    // A table that makes no sense is there, so that it can be replaced, and is empty.
    let path = board.join("table.json");
    for text in ["", "{", "[]", "{\"shards\":{}}", "{\"version\":7}", "{\"version\":\"x\"}", "{\"version\":\"x.-1\"}"] {
        std::fs::write(&path, text).unwrap();
        let (version, there) = now(a.look()).unwrap().table.unwrap();
        assert!(there.is_empty(), "{text}");
        done(now(a.write(Some(version), table(2))));
        assert_eq!(now(a.look()).unwrap().table.unwrap().1, table(2));
    }
    std::fs::remove_file(&path).unwrap();
    symlink(&away, &path).unwrap();
    let (version, _) = now(a.look()).unwrap().table.unwrap();
    symlink(&away, board.join("table.json.a.new")).unwrap();
    done(now(a.write(Some(version), table(3))));
    assert!(!path.is_symlink());
    assert_eq!(std::fs::read_to_string(&away).unwrap(), "{\"member\":\"x\",\"beats\":1}");
    let text = std::fs::read(&path).unwrap();
    assert_eq!(read_table(&text).0, table(3));
}

#[test]
fn a_listing_that_hides_an_owner_makes_it_not_dead() {
    struct Hiding(Arc<dyn Fs>);
    impl Fs for Hiding {
        fn read_dir(&self, _: &Path, _: &mut dyn FnMut(DirEntry<'_>) -> bool) -> io::Result<()> {
            Ok(())
        }

        pillion_world::pass_fs!(this => this.0; open stat canonicalize read_link kind rename remove create_dir_all sync_dir try_lock);
    }
    let root = tempfile::tempdir().unwrap();
    let a = files(root.path(), "a");
    now(a.beat(false)).unwrap();
    done(now(a.write(None, table(1))));
    let real = World::real();
    let world = World { fs: Arc::new(Hiding(Arc::clone(&real.fs))), ..real };
    let b = Files::new(world, root.path(), "b", LEASE, Some(64), Inline);
    assert_eq!(now(b.look()).unwrap().beats.len(), 1);
}

/// One replica: a member and its files.
struct Replica {
    member: Member,
    files: Files<Inline>,
}

impl Replica {
    fn new(root: &Path, name: &str, now: Mono) -> Replica {
        Replica::of(root, name, now, LEASE, 64)
    }

    fn of(root: &Path, name: &str, now: Mono, lease: Duration, shards: u16) -> Replica {
        let settings = Settings { member: name.to_owned(), shards, lease };
        Replica { member: Member::new(settings, now), files: files_of(root, name, lease, shards) }
    }

    /// Does what is ordered, at once.
    fn turn(&mut self, time: Mono) {
        for order in self.member.orders(time) {
            let report = match order {
                Order::Beat { leaving } => Report::Beat { sent: time, ok: now(self.files.beat(leaving)).is_ok() },
                Order::Look => Report::Looked(now(self.files.look()).ok()),
                Order::Write { over, table } => Report::Wrote(now(self.files.write(over, table))),
                Order::Probe { shards } => Report::Probed(Some(shards.into_iter().map(|s| (s, 0)).collect())),
                Order::Adopt { shard, epoch, .. } => {
                    Report::Adopted { shard, epoch, adopted: Adopted::Into(format!("r/{epoch}")) }
                }
                Order::Close { shard } => Report::Closed { shard },
                Order::Bury { beat } => {
                    now(self.files.bury(beat)).unwrap();
                    continue;
                }
                Order::Open { .. } | Order::Abandon { .. } => continue,
            };
            self.member.report(report, time);
        }
    }

    fn serves(&self) -> usize {
        self.member.shards().filter(|(_, stage)| *stage == Stage::Serving).count()
    }
}

#[test]
fn members_share_one_folder_and_take_over_what_a_dead_one_had() {
    let root = tempfile::tempdir().unwrap();
    let mut time = Mono(0);
    let mut replicas: Vec<Replica> = ["a", "b", "c"].map(|name| Replica::new(root.path(), name, time)).into();
    let mut run = |replicas: &mut Vec<Replica>, until: &dyn Fn(&[Replica]) -> bool| {
        let begun = time;
        while !until(replicas) {
            time = time.plus(Duration::from_millis(100));
            assert!(time.since(begun) < LEASE * 4, "{:?}", replicas.iter().map(Replica::serves).collect::<Vec<_>>());
            replicas.iter_mut().for_each(|replica| replica.turn(time));
            let mut owners = BTreeMap::new();
            for shard in replicas.iter().flat_map(|r| r.member.shards()).filter(|(_, s)| *s == Stage::Serving) {
                *owners.entry(shard.0).or_insert(0) += 1;
            }
            assert!(owners.values().all(|n| *n == 1), "a shard has two owners");
        }
        time.since(begun)
    };
    run(&mut replicas, &|r| {
        let mut loads: Vec<usize> = r.iter().map(Replica::serves).collect();
        loads.sort_unstable();
        loads == [21, 21, 22]
    });
    drop(replicas.remove(1));
    let took = run(&mut replicas, &|r| r.iter().map(Replica::serves).sum::<usize>() == 64);
    assert!(took <= LEASE + Duration::from_secs(2), "{took:?}");
    replicas[0].member.leave();
    run(&mut replicas, &|r| r[0].member.is_gone() && r[1].serves() == 64);
}

/// Lets time pass, a tenth of a second at a time; `stays` holds all the while.
fn pass(time: &mut Mono, by: Duration, replicas: &mut [&mut Replica], stays: &dyn Fn(&[usize]) -> bool) {
    let until = time.plus(by);
    while *time < until {
        *time = time.plus(Duration::from_millis(100));
        replicas.iter_mut().for_each(|replica| replica.turn(*time));
        let serve: Vec<usize> = replicas.iter().map(|replica| replica.serves()).collect();
        assert!(stays(&serve), "{serve:?}");
    }
}

#[test]
fn two_divisions_of_the_files_are_never_read_at_once() {
    let any = |_: &[usize]| true;
    for (first, second) in [("a", "b"), ("b", "a")] {
        let root = tempfile::tempdir().unwrap();
        let mut time = Mono(0);
        let mut old = Replica::of(root.path(), first, time, LEASE, 64);
        pass(&mut time, LEASE * 2, &mut [&mut old], &any);
        let mut new = Replica::of(root.path(), second, time, LEASE, 16);
        // All of them are read all the time, and none of them twice.
        pass(&mut time, LEASE * 3, &mut [&mut old, &mut new], &|serve| serve == [64, 0]);
        assert_eq!((old.member.yields_to(), new.member.yields_to()), (None, Some(64)));
        old.member.leave();
        pass(&mut time, LEASE * 2, &mut [&mut old, &mut new], &|serve| serve[0] == 0 || serve[1] == 0);
        assert!(old.member.is_gone());
        assert_eq!((new.serves(), new.member.yields_to()), (16, None), "{first}");
    }
}

#[test]
fn of_two_that_begin_with_two_divisions_one_takes_part() {
    let root = tempfile::tempdir().unwrap();
    let mut time = Mono(0);
    let mut a = Replica::of(root.path(), "a", time, LEASE, 16);
    let mut b = Replica::of(root.path(), "b", time, LEASE, 64);
    pass(&mut time, LEASE * 4, &mut [&mut a, &mut b], &|_| true);
    assert!(matches!((a.serves(), b.serves()), (16, 0) | (0, 64)), "{} {}", a.serves(), b.serves());
    // One that is killed isn't waited for.
    let (mut left, shards) = if a.serves() > 0 { (b, 64) } else { (a, 16) };
    pass(&mut time, LEASE * 3, &mut [&mut left], &|_| true);
    assert_eq!(left.serves(), shards);
}

#[test]
fn who_shows_life_less_often_by_a_longer_lease_is_not_taken_for_dead() {
    let root = tempfile::tempdir().unwrap();
    let mut time = Mono(0);
    let long = LEASE * 6;
    let mut slow = Replica::of(root.path(), "slow", time, long, 64);
    pass(&mut time, long, &mut [&mut slow], &|_| true);
    let mut quick = Replica::of(root.path(), "quick", time, LEASE, 64);
    pass(&mut time, long * 2, &mut [&mut slow, &mut quick], &|serve| serve.iter().sum::<usize>() <= 64);
    assert_eq!((slow.serves(), quick.serves()), (32, 32));
    // It is, after its own lease.
    pass(&mut time, long.mul_f64(0.8), &mut [&mut quick], &|serve| serve == [32]);
    pass(&mut time, long.mul_f64(0.3), &mut [&mut quick], &|_| true);
    assert_eq!(quick.serves(), 64);
}
