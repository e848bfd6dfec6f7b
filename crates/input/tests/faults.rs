//! A network file system that lies, and calls that fail.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

mod common;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::Rig;
use pillion_input::parse::{Chain, ChainOptions, Encoding};
use pillion_input::{Glob, Hint, Unseen};
use pillion_world::{DirEntry, File, Fs, FsKind, Meta, OpenHow, World};

const NONE: [&str; 0] = [];

/// What goes wrong; each entry once, in order.
#[derive(Default)]
struct Faults {
    /// Errors of reads (errno).
    reads: VecDeque<i32>,
    /// Errors of opens.
    opens: VecDeque<i32>,
    /// Sizes that stat shows instead of the true ones.
    sizes: VecDeque<u64>,
    /// Errors of stat.
    stats: VecDeque<i32>,
    /// Zeros are read there: what was written isn't there yet.
    hole: std::ops::Range<u64>,
    /// Reads give at most so many bytes.
    short: usize,
    opened: usize,
    /// Opening the file of this name isn't allowed.
    denied: Option<String>,
    /// Listing folders of this name, and asking for files in them or opening these, isn't allowed.
    shut: Vec<&'static str>,
}

impl Faults {
    fn may_enter(&self, path: &Path) -> io::Result<()> {
        let shut = path.parent().is_some_and(|dir| self.shut.iter().any(|name| dir.ends_with(name)));
        if shut { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
    }
}

struct Lying {
    real: Arc<dyn Fs>,
    faults: Arc<Mutex<Faults>>,
}

struct LyingFile {
    real: Box<dyn File>,
    faults: Arc<Mutex<Faults>>,
}

fn fail(list: &mut VecDeque<i32>) -> io::Result<()> {
    list.pop_front().map_or(Ok(()), |e| Err(io::Error::from_raw_os_error(e)))
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "log")
}

impl Fs for Lying {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn File>> {
        if !is_log(path) {
            return self.real.open(path, how);
        }
        let mut f = self.faults.lock().unwrap();
        f.may_enter(path)?;
        if f.denied.as_ref().is_some_and(|name| path.ends_with(name)) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        fail(&mut f.opens)?;
        f.opened += 1;
        Ok(Box::new(LyingFile { real: self.real.open(path, how)?, faults: Arc::clone(&self.faults) }))
    }
    fn stat(&self, path: &Path, follow: bool) -> io::Result<Meta> {
        let meta = self.real.stat(path, follow)?;
        let mut f = self.faults.lock().unwrap();
        f.may_enter(path)?;
        if !is_log(path) {
            return Ok(meta);
        }
        fail(&mut f.stats)?;
        Ok(Meta { len: f.sizes.pop_front().unwrap_or(meta.len), ..meta })
    }
    fn read_dir(&self, path: &Path, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> io::Result<()> {
        if self.faults.lock().unwrap().shut.iter().any(|name| path.ends_with(name)) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.real.read_dir(path, each)
    }
    fn kind(&self, _: &Path) -> io::Result<FsKind> {
        Ok(FsKind::Network)
    }

    pillion_world::pass_fs!(this => this.real; canonicalize read_link rename remove create_dir_all sync_dir try_lock);
}

impl File for LyingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut f = self.faults.lock().unwrap();
        fail(&mut f.reads)?;
        let n = if f.short > 0 { f.short.min(buf.len()) } else { buf.len() };
        let n = self.real.read_at(&mut buf[..n], offset)?;
        for (at, byte) in (offset..).zip(&mut buf[..n]) {
            *byte = if f.hole.contains(&at) { 0 } else { *byte };
        }
        Ok(n)
    }

    pillion_world::pass_file!(this => this.real; write_all stat sync set_len);
}

fn network() -> (Rig, Arc<Mutex<Faults>>) {
    let faults = Arc::new(Mutex::new(Faults::default()));
    let real = World::real();
    let fs = Arc::new(Lying { real: Arc::clone(&real.fs), faults: Arc::clone(&faults) });
    (Rig::on(World { fs, ..real }, &["*.log"], |_| {}), faults)
}

#[test]
fn one_smaller_size_is_not_believed() {
    let (mut rig, faults) = network();
    rig.append("a.log", "one\ntwo\n");
    assert_eq!(rig.settle(), ["one", "two"]);
    faults.lock().unwrap().sizes.extend([0]);
    assert_eq!(rig.search(), NONE);
    rig.advance(Duration::from_secs(2));
    assert_eq!(rig.settle(), NONE);
    rig.append("a.log", "three\n");
    assert_eq!(rig.search(), ["three"]);
    assert_eq!(rig.lost(), 0);
    let first = rig.batches[0].source.incarnation;
    assert!(rig.batches.iter().all(|b| b.source.incarnation == first));
}

#[test]
fn a_true_truncation_is_believed_the_second_time() {
    let (mut rig, _) = network();
    rig.append("a.log", "one\ntwo\n");
    assert_eq!(rig.settle().len(), 2);
    rig.truncate("a.log", 0);
    rig.append("a.log", "new\n");
    let mut lines = rig.search();
    for _ in 0..3 {
        rig.advance(Duration::from_secs(2));
        lines.extend(rig.settle());
    }
    assert_eq!(lines, ["new"]);
}

#[test]
fn what_a_descriptor_was_opened_with_is_no_size_of_the_next_content() {
    let (mut rig, _) = network();
    rig.append("a.log", "one\ntwo\nthree\n");
    assert_eq!(rig.settle().len(), 3);
    for text in ["new", "again"] {
        rig.truncate("a.log", 0);
        rig.append("a.log", format!("{text}\n"));
        assert_eq!(rig.search(), [text], "at once: nothing is waited for");
    }
    assert_eq!(rig.lost(), 0);
}

#[test]
fn a_clients_name_for_a_deleted_file_is_no_new_file() {
    let real = World::real();
    let fs = Arc::new(Lying { real: Arc::clone(&real.fs), faults: Arc::default() });
    let mut rig = Rig::on(World { fs, ..real }, &["*"], |_| {});
    rig.append("a.log", "one\n");
    assert_eq!(rig.settle(), ["one"]);
    // Deleted while it is open, and with a line that was not read yet.
    rig.append("a.log", "two\n");
    rig.rename("a.log", ".nfs00000000000000ab00000001");
    // Of other programs, deleted before they were seen.
    for name in [".nfs00000000000000cd00000002", ".fuse_hidden0000000100000001"] {
        rig.append(name, "not ours\n");
    }
    // A name that only begins so.
    rig.append(".nfs-notes", "three\n");
    let mut lines = rig.search();
    for _ in 0..4 {
        rig.advance(Duration::from_secs(2));
        lines.extend(rig.settle());
    }
    lines.sort();
    assert_eq!(lines, ["three", "two"]);
    assert_eq!((rig.lost(), rig.harvester.stats().open), (0, 1), "it is closed");
}

#[test]
fn a_size_ahead_of_the_data_is_not_an_end() {
    let (mut rig, faults) = network();
    rig.append("a.log", "one\n");
    faults.lock().unwrap().sizes.extend([500]);
    assert_eq!(rig.settle(), ["one"]);
    rig.append("a.log", "two\n");
    rig.advance(Duration::from_secs(3));
    assert_eq!(rig.settle(), ["two"]);
}

#[test]
fn failing_calls_are_tried_again_and_nothing_is_skipped() {
    const ESTALE: i32 = 116;
    const EIO: i32 = 5;
    const ENOENT: i32 = 2;
    const EACCES: i32 = 13;
    for drain in [false, true] {
        let (mut rig, faults) = network();
        {
            let mut f = faults.lock().unwrap();
            f.reads.extend([ESTALE, EIO]);
            f.opens.extend([ENOENT, EACCES, ESTALE]);
            f.stats.extend([ESTALE, EIO]);
            f.short = 3;
        }
        rig.append("a.log", "one\ntwo\nlast\n");
        let mut lines = if drain { rig.drain() } else { rig.settle() };
        for _ in 0..20 {
            rig.advance(Duration::from_secs(3));
            lines.extend(rig.settle());
        }
        assert_eq!(lines, ["one", "two", "last"]);
        assert_eq!(rig.lost(), 0);
    }
}

#[test]
fn the_drain_opens_every_file_anew() {
    let (mut rig, faults) = network();
    rig.append("a.log", "one\nhalf");
    rig.append("quiet.log", "quiet\n");
    assert_eq!(rig.settle().len(), 2);
    let before = faults.lock().unwrap().opened;
    // What stat shows is old: only an open tells.
    rig.append("quiet.log", "last\n");
    faults.lock().unwrap().sizes.extend([8, 6, 8, 6, 8, 6]);
    let mut lines = rig.drain();
    lines.sort();
    assert_eq!(lines, ["half", "last"]);
    assert_eq!(faults.lock().unwrap().opened, before + 2);
}

#[test]
fn no_watch_is_asked_for_and_quiet_files_are_left_alone() {
    let (mut rig, _) = network();
    rig.append("a.log", "one\n");
    rig.settle();
    assert!(rig.harvester.take_folders().is_empty());
    rig.advance(Duration::from_secs(3600));
    rig.settle();
    rig.append("a.log", "two\n");
    let mut lines = Vec::new();
    for _ in 0..10 {
        lines.extend(rig.search());
    }
    assert_eq!(lines, ["two"]);
    rig.append("a.log", "three\n");
    rig.harvester.hint(Hint::All);
    rig.advance(Duration::from_secs(2));
    assert_eq!(rig.settle(), ["three"]);
}

#[test]
fn a_deleted_file_is_lost_only_after_a_second_look() {
    let (mut rig, faults) = network();
    rig.append("a.log", "one\nhalf");
    assert_eq!(rig.settle(), ["one"]);
    // The descriptor goes stale, and the name is gone.
    rig.advance(Duration::from_secs(301));
    rig.settle();
    rig.remove("a.log");
    rig.search();
    assert_eq!(rig.lost(), 0);
    for _ in 0..5 {
        rig.search();
    }
    assert_eq!(rig.lost(), 4);
    drop(faults);
}

#[test]
fn the_drain_goes_on_without_a_file_that_may_not_be_read_and_says_so() {
    let (mut rig, faults) = network();
    rig.append("a.log", "secret\n");
    rig.append("b.log", "one\n");
    faults.lock().unwrap().denied = Some("a.log".into());
    assert_eq!(rig.search(), ["one"]);
    rig.append("b.log", "two");
    assert_eq!(rig.drain(), ["two"]);
    let denied: Vec<_> = rig.harvester.accounts().into_iter().filter(|a| a.denied).collect();
    assert_eq!(denied.iter().map(|a| (a.pos, a.len)).collect::<Vec<_>>(), [(0, 7)]);
    assert!(denied[0].path.ends_with("a.log"));
}

#[test]
fn what_may_not_be_looked_at_is_told_until_it_may() {
    let (mut rig, faults) = network();
    let glob = |pattern: &str| Glob::new(rig.path(pattern).as_os_str(), true).unwrap();
    rig.specs[0].paths = vec![glob("**/*.log"), glob("closed/of-known-name.log")];
    rig.restart();
    for dir in ["private", "lost+found", "closed", "open"] {
        std::fs::create_dir(rig.path(dir)).unwrap();
    }
    rig.append("private/a.log", "secret\n");
    rig.append("closed/of-known-name.log", "secret\n");
    rig.append("open/b.log", "one\n");
    faults.lock().unwrap().shut = vec!["private", "lost+found", "closed"];
    assert_eq!(rig.settle(), ["one"]);
    assert_eq!(rig.drain(), NONE, "it doesn't hold up the end");
    let unseen = rig.harvester.unseen();
    let names = ["closed", "closed/of-known-name.log", "private"].map(|name| rig.path(name));
    assert_eq!((unseen.paths.into_iter().collect::<Vec<_>>(), unseen.more), (names.to_vec(), 0));
    // The same, and then it is allowed to look.
    rig.restart();
    rig.settle();
    assert_eq!(rig.harvester.unseen().paths.len(), 3);
    faults.lock().unwrap().shut.clear();
    assert_eq!(rig.search(), ["secret", "secret"]);
    assert_eq!(rig.drain(), NONE);
    assert_eq!(rig.harvester.unseen(), Unseen::default());
}

#[test]
fn links_that_lead_in_a_circle_hold_up_no_drain() {
    let mut rig = Rig::on(World::real(), &["*.log", "*/*.log"], |spec| spec.symlinks = true);
    for name in ["circle.log", "folder"] {
        std::os::unix::fs::symlink(rig.path(name), rig.path(name)).unwrap();
    }
    rig.append("a.log", "one\n");
    assert_eq!(rig.settle(), ["one"]);
    rig.append("a.log", "two\n");
    assert_eq!(rig.drain(), ["two"]);
}

#[test]
fn zeros_where_data_is_on_its_way_are_no_lines() {
    // In the midst of what came, at its beginning, at its end, and at the beginning of the file.
    for (first, hole) in [("one\n", 8..16), ("one\n", 4..10), ("one\n", 10..28), ("", 0..10)] {
        let (mut rig, faults) = network();
        rig.append("a.log", first);
        assert_eq!(rig.settle().concat(), first.trim());
        rig.append("a.log", "two two\nthree\nfour four\n");
        faults.lock().unwrap().hole = hole.clone();
        let mut lines = rig.search();
        lines.extend(rig.search());
        faults.lock().unwrap().hole = 0..0;
        lines.extend(rig.search());
        assert_eq!(lines, ["two two", "three", "four four"], "{hole:?}");
        assert_eq!(rig.lost(), 0);
        let first = rig.batches[0].source.incarnation;
        assert!(rig.batches.iter().all(|b| b.source.incarnation == first), "{hole:?}");
    }
}

#[test]
fn zeros_in_an_event_that_is_followed_chunk_by_chunk_are_waited_for_too() {
    let (mut rig, faults) = network();
    let long = "x".repeat(3 << 20);
    rig.append("a.log", format!("{long}\nend\n"));
    faults.lock().unwrap().hole = (2 << 20)..(2 << 20) + 4096;
    let mut lines = rig.settle();
    lines.extend(rig.search());
    assert_eq!(lines, NONE);
    faults.lock().unwrap().hole = 0..0;
    let lines = rig.search();
    assert_eq!((lines.len(), &*lines[1]), (2, "end"));
    assert!(!lines[0].contains('\0'));
}

#[test]
fn zeros_that_a_file_has_are_read_after_a_while_and_all_of_them_at_once() {
    let (mut rig, _) = network();
    let holes = vec![0; 100_000];
    rig.append("a.log", [&b"one\n"[..], &holes, b"two\nthr\0ee\n"].concat());
    assert_eq!(rig.settle(), ["one"]);
    let mut waited = Duration::ZERO;
    let mut lines = Vec::new();
    while lines.is_empty() {
        rig.advance(Duration::from_millis(100));
        waited += Duration::from_millis(100);
        lines = rig.settle();
        assert!(waited < Duration::from_secs(23), "it waits for ever");
    }
    assert!(waited >= Duration::from_secs(12), "{waited:?}");
    assert_eq!(lines.iter().map(|line| line.trim_start_matches('\0')).collect::<Vec<_>>(), ["two", "thr\0ee"]);
    // What comes later is doubted anew; the drain opens the file anew, and waits less.
    rig.append("a.log", b"fo\0ur\n");
    let begun = rig.world.clock.mono();
    assert_eq!(rig.drain(), ["fo\0ur"]);
    assert!(rig.world.clock.mono().since(begun) <= Duration::from_secs(4));
}

#[test]
fn text_that_has_zeros_is_read_at_once() {
    let faults = Arc::new(Mutex::new(Faults::default()));
    let real = World::real();
    let fs = Arc::new(Lying { real: Arc::clone(&real.fs), faults });
    let wide = |spec: &mut pillion_input::InputSpec| {
        let encoding = Encoding::Utf16 { big: false };
        spec.chain = Arc::new(Chain::new(ChainOptions { encoding, ..ChainOptions::default() }));
    };
    let mut rig = Rig::on(World { fs, ..real }, &["*.log"], wide);
    rig.append("a.log", "one\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    assert_eq!(rig.settle(), ["one"]);
}

#[test]
fn a_file_beyond_the_limit_counts_once_however_often_it_is_found() {
    let mut rig = Rig::log();
    rig.limits.files = 1;
    rig.restart();
    ["a", "b", "c"].iter().for_each(|name| rig.append(&format!("{name}.log"), "text\n"));
    for _ in 0..5 {
        rig.search();
    }
    assert_eq!((rig.harvester.stats().files, rig.harvester.stats().refused), (1, 2));
}
