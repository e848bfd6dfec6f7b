//! A file system like sshfs: inode numbers are made of paths, a descriptor tells what is at its path now, and reads what was
//! there when it was opened.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

mod common;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Rig, desc};
use pillion_event::InputKind;
use pillion_input::Identity;
use pillion_world::{DirEntry, File, Fs, FsKind, Meta, OpenHow, World};

struct ByPath {
    real: Arc<dyn Fs>,
    numbers: Arc<Mutex<HashMap<PathBuf, u64>>>,
}

struct ByPathFile {
    real: Box<dyn File>,
    path: PathBuf,
    fs: ByPath,
}

impl ByPath {
    fn again(&self) -> ByPath {
        ByPath { real: Arc::clone(&self.real), numbers: Arc::clone(&self.numbers) }
    }
}

impl Fs for ByPath {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn File>> {
        Ok(Box::new(ByPathFile { real: self.real.open(path, how)?, path: path.to_owned(), fs: self.again() }))
    }
    fn stat(&self, path: &Path, follow: bool) -> io::Result<Meta> {
        let meta = self.real.stat(path, follow)?;
        let mut numbers = self.numbers.lock().unwrap();
        let next = numbers.len() as u64 + 1;
        let ino = *numbers.entry(path.to_owned()).or_insert(next);
        Ok(Meta { ino, birth_ns: None, ..meta })
    }
    fn read_dir(&self, path: &Path, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> io::Result<()> {
        self.real.read_dir(path, &mut |entry| each(DirEntry { ino: 0, ..entry }))
    }
    fn kind(&self, _: &Path) -> io::Result<FsKind> {
        Ok(FsKind::Userspace)
    }

    pillion_world::pass_fs!(this => this.real; canonicalize read_link rename remove create_dir_all sync_dir try_lock);
}

impl File for ByPathFile {
    fn stat(&self) -> io::Result<Meta> {
        self.fs.stat(&self.path, true)
    }

    pillion_world::pass_file!(this => this.real; read_at write_all sync set_len);
}

fn rig(fingerprint: bool) -> Rig {
    let real = World::real();
    let fs = Arc::new(ByPath { real: Arc::clone(&real.fs), numbers: Arc::default() });
    Rig::on(World { fs, ..real }, &["*.log*"], |spec| {
        if fingerprint {
            spec.desc = desc(InputKind::Filestream, "jobs");
            spec.identity = Identity::Fingerprint { offset: 0, length: 64, growing: false };
        }
    })
}

fn lines(from: usize, to: usize) -> String {
    (from..to).map(|n| format!("{n:04} {}\n", "x".repeat(40))).collect()
}

/// Looks until nothing comes any more, for less time than a descriptor stays open when nothing happens.
fn collect(rig: &mut Rig) -> Vec<usize> {
    let mut all = Vec::new();
    for _ in 0..5 {
        rig.advance(Duration::from_secs(2));
        all.extend(rig.search());
    }
    all.iter().map(|line| line[..4].parse().unwrap()).collect()
}

/// What came, and how many lines came more than once.
fn told(mut all: Vec<usize>) -> (Vec<usize>, usize) {
    let count = all.len();
    all.sort_unstable();
    let different: BTreeSet<_> = all.into_iter().collect();
    let twice = count - different.len();
    (different.into_iter().collect(), twice)
}

/// Rotations after which another file is at the path: as long as what was read, shorter, and longer.
#[test]
fn what_came_to_a_path_in_the_place_of_another_file_is_read_though_a_descriptor_is_open() {
    for (fingerprint, new) in [false, true].into_iter().flat_map(|f| [(f, 10), (f, 4), (f, 25)]) {
        let what = format!("by fingerprint: {fingerprint}, {new} new lines");
        let mut rig = rig(fingerprint);
        rig.append("a.log", lines(0, 10));
        let mut all = collect(&mut rig);
        assert_eq!(all.len(), 10, "{what}");
        rig.append("a.log", lines(10, 15));
        rig.rename("a.log", "a.log.1");
        rig.append("a.log", lines(15, 15 + new));
        all.extend(collect(&mut rig));
        let (different, twice) = told(all);
        assert_eq!(different, (0..15 + new).collect::<Vec<_>>(), "{what}");
        // By their numbers the renamed file is a new one.
        let most = if fingerprint { 0 } else { 10 };
        assert!(twice <= most, "{what}: {twice} twice");
    }
}

/// Nothing has the name any more for a while.
#[test]
fn a_file_that_comes_back_under_a_name_is_another() {
    for fingerprint in [false, true] {
        let mut rig = rig(fingerprint);
        rig.append("a.log", lines(0, 10));
        let mut all = collect(&mut rig);
        rig.append("a.log", lines(10, 15));
        rig.rename("a.log", "a.log.1");
        all.extend(collect(&mut rig));
        rig.append("a.log", lines(15, 30));
        all.extend(collect(&mut rig));
        let (different, twice) = told(all);
        assert_eq!(different, (0..30).collect::<Vec<_>>(), "by fingerprint: {fingerprint}");
        assert!(twice <= if fingerprint { 0 } else { 10 }, "by fingerprint: {fingerprint}: {twice} twice");
    }
}
