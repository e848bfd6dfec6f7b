//! The search of one input's paths, in bounded pieces.
//!
//! ```text
//! Resting → Walking (a folder, or 64 names) → Missing (who wasn't seen?) → Late (whose entry is it?) → Closing → Resting
//! ```
//!
//! Always holds: a file is taken for gone only after a walk that didn't see it and a look at its path; a file whose
//! registry entry may be another's waits until all have been seen.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use pillion_world::Mono;

use crate::harvest::Harvester;
use crate::harvest::account::Unseen;
use crate::harvest::identity::Bind;
use crate::harvest::live::Life;
use crate::harvest::look::{DOUBT, missing};
use crate::harvest::table::FileId;
use crate::harvest::trust::leads_nowhere;
use crate::scan::{Names, Walk};

/// How many files are looked at in one piece.
const PIECE: usize = 64;

/// How many places of the table are passed over in one piece.
const SKIM: FileId = 4096;

/// How many files wait at most for what others know of them before the search goes on.
const MAX_UNKNOWN: usize = 1024;

/// How many searches in a row may prove nothing since names vanished under them.
const MAX_UNSURE: u8 = 3;

/// A search that is to follow at once waits so many times as long as the one before it took: where files come and go all
/// the time, searches take a fifth of it at most. One of few files takes no time that anybody would notice.
const PAUSE: u32 = 4;

/// Where a check of a file system (e2fsck and the like) puts what it finds: it is at the root of most volumes, its owner's
/// alone, and nobody writes logs there.
const LOST_AND_FOUND: &str = "lost+found";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Resting,
    Walking,
    Missing,
    Late,
    Closing,
}

/// Where a search stands.
#[derive(Default)]
pub(crate) struct Tour {
    phase: Phase,
    /// The number of the search, from 1; files keep the number of the last one that saw them.
    pub(crate) number: u32,
    walk: Walk,
    dir: PathBuf,
    names: Names,
    next: FileId,
    /// Files whose binding waits, and which file was at their path before.
    late: VecDeque<(FileId, Option<FileId>)>,
    /// Which these are, and whether there was another file before: then nothing of it is read until that one is known to be
    /// elsewhere.
    is_late: HashMap<FileId, bool>,
    /// When it began, and the one before it.
    begun: Mono,
    before: Mono,
    /// When the next one may begin, however soon it is asked for.
    pub(crate) not_before: Mono,
    /// Something changed behind the walk: search once more.
    again: bool,
    /// A name that was listed was gone when it was looked at.
    pub(crate) vanished: bool,
    /// Searches in a row in which that happened.
    unsure: u8,
    /// Files of which nothing is known here: other processes may know them (`shared.rs`).
    pub(crate) unknown: VecDeque<FileId>,
    /// How many of these, the first ones, had been seen when the others were asked last.
    pub(crate) answered: usize,
    /// A call failed: something that is there may not have been seen.
    pub(crate) failed: bool,
    /// What it isn't allowed to look at.
    pub(crate) unseen: Unseen,
}

impl Tour {
    pub(crate) fn is_running(&self) -> bool {
        self.phase != Phase::Resting
    }

    /// Whether a file with this number was seen in this search (or, at rest, in the last one).
    pub(crate) fn has_seen(&self, number: u32) -> bool {
        self.number == number
    }

    /// Whether another search follows at once.
    pub(crate) fn is_again(&self) -> bool {
        self.again
    }

    /// Whether files were renamed or deleted under this search, so that not having seen a file proves nothing. Where that
    /// happens all the time, a few searches have to do.
    pub(crate) fn is_unsure(&self) -> bool {
        (1..=MAX_UNSURE).contains(&self.unsure)
    }

    /// Whether so many wait for what others know that they are asked before more are found.
    fn must_ask(&self) -> bool {
        self.answered > 0 || self.unknown.len() >= MAX_UNKNOWN
    }

    /// When this search began; at rest: the last one.
    pub(crate) fn begun(&self) -> Mono {
        self.begun
    }

    /// When the last search but this one began; at rest: the one before the last one.
    pub(crate) fn begun_before(&self) -> Mono {
        self.before
    }

    /// Takes out the files that wait for its end, each with the file that was at its path before.
    pub(crate) fn take_late(&mut self) -> VecDeque<(FileId, Option<FileId>)> {
        self.is_late.clear();
        std::mem::take(&mut self.late)
    }

    pub(crate) fn wait(&mut self, id: FileId, before: Option<FileId>) {
        if self.is_late.insert(id, before.is_some()).is_none() {
            self.late.push_back((id, before));
        }
    }

    /// Whether a file waits since another one was at its path before.
    pub(crate) fn came_in_anothers_place(&self, id: FileId) -> bool {
        self.is_late.get(&id) == Some(&true)
    }
}

impl Harvester {
    /// The input that is to be searched next: one that is being searched, else the one that is due for longest, so that one
    /// that is due again and again keeps none from its turn.
    pub(crate) fn search_due(&self, now: Mono) -> Option<usize> {
        let running = self.inputs.iter().position(|i| i.tour.is_running());
        let due = || self.inputs.iter().enumerate().filter(|(_, i)| i.due <= now).min_by_key(|(_, i)| i.due);
        running.or_else(|| due().map(|(at, _)| at))
    }

    pub(crate) fn search_all_now(&mut self) {
        (0..self.inputs.len()).for_each(|i| self.search_now(i));
    }

    /// Searches as soon as may be: see [`PAUSE`]. A drain waits for nothing.
    pub(crate) fn search_now(&mut self, input: usize) {
        let now = self.world.clock.mono();
        let draining = self.is_draining(input as u16);
        if let Some(i) = self.inputs.get_mut(input).filter(|i| !matches!(i.life, Life::Over | Life::Stopped)) {
            if i.tour.is_running() {
                i.tour.again = true;
            } else {
                let soon = if draining { now } else { now.max(i.tour.not_before) };
                i.due = i.due.min(soon);
            }
        }
    }

    /// A folder is watched from now on: what came between its listing and the watch has to be searched for.
    pub(crate) fn search_again(&mut self, folder: &Path) {
        if self.folders.get(folder).is_some_and(|f| f.seen > 0) {
            for i in 0..self.inputs.len() {
                if self.inputs[i]
                    .spec
                    .paths
                    .iter()
                    .any(|g| folder.starts_with(g.root()) || g.root().starts_with(folder))
                {
                    self.search_now(i);
                }
            }
        }
    }

    /// Does one piece of a search.
    pub(crate) fn search(&mut self, input: usize, now: Mono) {
        let Some(i) = self.inputs.get(input) else { return };
        match i.tour.phase {
            Phase::Resting => {
                self.bring_all_back();
                let Some(i) = self.inputs.get_mut(input) else { return };
                i.tour.phase = Phase::Walking;
                i.tour.before = std::mem::replace(&mut i.tour.begun, now);
                i.tour.number = i.tour.number.wrapping_add(1).max(1);
                i.tour.walk = Walk::new(&i.spec.paths);
                i.tour.again = false;
                i.tour.unseen = Unseen::default();
            }
            Phase::Walking if i.tour.must_ask() => self.bind_unknown(input, false, now),
            Phase::Late | Phase::Closing if !i.tour.unknown.is_empty() => {
                let late = i.tour.phase == Phase::Closing;
                self.bind_unknown(input, late, now);
            }
            Phase::Walking => self.walk(input, now),
            Phase::Missing => self.miss(input, now),
            Phase::Late => self.bind_late(input, now),
            Phase::Closing => self.end_search(input, now),
        }
    }

    fn walk(&mut self, input: usize, now: Mono) {
        for _ in 0..PIECE {
            let Some(tour) = self.inputs.get_mut(input).map(|i| &mut i.tour) else { return };
            let Some(found) = tour.names.pop() else { break };
            let path = tour.dir.join(&found.name);
            self.look(input as u16, path, found.ino, now);
        }
        let Some(i) = self.inputs.get(input) else { return };
        if !i.tour.names.is_empty() {
            return;
        }
        match i.tour.walk.next_dir().cloned() {
            None => {
                let tour = &mut self.inputs[input].tour;
                tour.phase = Phase::Missing;
            }
            // A folder is shown to the watcher before it is listed: nothing can come in between unseen.
            Some(dir) if !self.folders.contains_key(&dir) => {
                self.folder(&dir);
            }
            Some(dir) => self.list(input, &dir),
        }
    }

    fn list(&mut self, input: usize, dir: &Path) {
        let own = self.folder(dir).own;
        self.at.set(dir);
        let Some(i) = self.inputs.get_mut(input) else { return };
        if own {
            i.tour.walk.skip();
            return;
        }
        // Before it is listed: on a network file system that makes the client forget an old listing (`trust.rs`).
        let inode = self.world.fs.stat(dir, true).map_or((0, 0), |m| (m.dev, m.ino));
        let Some(listed) = i.tour.walk.step(&*self.world.fs, &i.spec.paths) else { return };
        i.tour.dir.clone_from(&listed.dir);
        i.tour.names = listed.found;
        self.note_folder(input, dir, inode);
        match listed.error {
            Some(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                self.folders.remove(dir);
            }
            Some(e) => {
                self.failed_to_see(input as u16, dir, &e);
                self.say_once(dir, "a folder can't be listed; its files are looked for again at each search", &e)
            }
            None => {}
        }
    }

    /// Another folder can have taken the place of the one that is watched.
    fn note_folder(&mut self, input: usize, dir: &Path, inode: (u64, u64)) {
        let now = self.world.clock.mono();
        let Some(f) = self.folders.get_mut(dir) else { return };
        f.seen = f.seen.saturating_add(1);
        (f.at, f.by) = (now, u16::try_from(input).ok());
        if f.inode != inode {
            if f.seen > 1 && !f.network && !f.own {
                f.watched = false;
                self.unwatched.push(dir.to_owned());
            }
            f.inode = inode;
        }
    }

    /// Looks at the paths of files that the walk didn't see.
    fn miss(&mut self, input: usize, now: Mono) {
        let (number, from) = match self.inputs.get(input) {
            Some(i) => (i.tour.number, i.tour.next),
            None => return,
        };
        let mut looks = 0;
        let mut id = from;
        let end = self.table.end();
        while id < end && id - from < SKIM && looks < PIECE {
            self.table.thaw_if(id, |cold| usize::from(cold.input) == input && cold.seen != number && !cold.is_gone());
            let missing =
                self.table.get(id).is_some_and(|f| usize::from(f.input) == input && f.seen != number && !f.gone);
            if missing {
                looks += 1;
                self.look_for_missing(id, now);
            }
            id += 1;
        }
        let tour = &mut self.inputs[input].tour;
        tour.next = if id < end { id } else { 0 };
        if id >= end {
            tour.phase = Phase::Late;
        }
    }

    fn bind_late(&mut self, input: usize, now: Mono) {
        let mut again = Vec::new();
        for _ in 0..PIECE {
            let Some((id, before)) = self.inputs[input].tour.late.pop_front() else {
                self.inputs[input].tour.phase = Phase::Closing;
                break;
            };
            self.inputs[input].tour.is_late.remove(&id);
            if self.table.get(id).is_none_or(|f| f.key.is_some()) {
                continue;
            }
            match before.map(|before| self.took_its_place(before, id, now)) {
                Some(Ok(true)) => continue,
                Some(Err(e)) if !missing(&e) => {
                    // Whose it is has to be known before it is read: the next search.
                    let path = self.table.get(id).map(|f| f.path.to_path_buf()).unwrap_or_default();
                    self.failed_to_see(input as u16, &path, &e);
                    again.push((id, before));
                    continue;
                }
                Some(Ok(false) | Err(_)) | None => {}
            }
            let bound = self.bind(id, true, now);
            self.after_bind(id, bound, now);
        }
        again.into_iter().for_each(|(id, before)| self.inputs[input].tour.wait(id, before));
    }

    fn end_search(&mut self, input: usize, now: Mono) {
        self.settle_former(input);
        self.settle_strayed(input, now);
        let tour = &mut self.inputs[input].tour;
        tour.unsure = if std::mem::take(&mut tour.vanished) { tour.unsure.saturating_add(1) } else { 0 };
        self.note_search(input, self.inputs[input].tour.failed);
        self.forget_gone(input, now);
        self.forget_gone_folders();
        let draining = self.is_draining(input as u16);
        let i = &mut self.inputs[input];
        let failed = std::mem::take(&mut i.tour.failed);
        i.unseen = std::mem::take(&mut i.tour.unseen);
        i.tours = i.tours.saturating_add(1);
        i.tour.phase = Phase::Resting;
        i.tour.not_before = now.plus((now.since(i.tour.begun) * PAUSE).min(i.spec.scan_every));
        i.due = match i.tour.again {
            _ if failed && draining => now.plus(i.spec.scan_every.min(DOUBT)),
            _ if failed => now.plus(i.spec.scan_every.min(DOUBT)).max(i.tour.not_before),
            true if draining => now,
            true => i.tour.not_before,
            false => now.plus(i.spec.scan_every),
        };
        self.look_for_leaving(input, now);
        if self.is_draining(input as u16) && !failed {
            self.searched_at_drain(input);
        }
    }

    /// A call failed in a search. What it isn't allowed to see, or lies behind a link that leads nowhere, it won't see the next
    /// time either: the former is told, since nobody knows what is there.
    pub(crate) fn failed_to_see(&mut self, input: u16, path: &Path, e: &std::io::Error) {
        let Some(i) = self.inputs.get_mut(usize::from(input)) else { return };
        if e.kind() != ErrorKind::PermissionDenied {
            i.tour.failed |= !leads_nowhere(e);
        } else if path.file_name() != Some(OsStr::new(LOST_AND_FOUND)) {
            i.tour.unseen.note(path);
        }
    }

    /// What the last whole search of each input wasn't allowed to look at.
    pub fn unseen(&self) -> Unseen {
        let mut all = self.books.unseen.clone();
        self.inputs.iter().for_each(|i| all.add(&i.unseen));
        all
    }

    /// What follows from an attempt to bind a file.
    pub(crate) fn after_bind(&mut self, id: FileId, bound: Bind, now: Mono) {
        match bind_error(bound) {
            Ok(Bind::Later) => {
                if let Some(input) = self.table.get(id).map(|f| usize::from(f.input)) {
                    self.inputs[input].tour.wait(id, None);
                    if !self.inputs[input].tour.is_running() {
                        self.search_now(input);
                    }
                }
            }
            Ok(Bind::Unknown) => self.is_unknown(id),
            Ok(Bind::Bound) => self.consider(id, now),
            Ok(Bind::TooShort) => self.doubt_at_drain(id, now),
            Ok(Bind::Waits | Bind::Merged | Bind::Failed(_)) => {}
            Err(e) => self.failed(id, "a file can't be read", &e, now),
        }
    }
}

fn bind_error(bound: Bind) -> Result<Bind, std::io::Error> {
    match bound {
        Bind::Failed(e) => Err(e),
        other => Ok(other),
    }
}
