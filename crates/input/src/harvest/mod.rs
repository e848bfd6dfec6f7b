//! The harvester: finds files, reads them fairly, makes batches.
//!
//! Comes in: the inputs, the registry's entries, hints that something changed, the space that the queue has. Goes out:
//! [`Batch`]es, and entries for the registry. One object, one thread, no clock but the world's: a step does one bounded
//! piece of work, so that the simulation drives the same code as the thread in `thread.rs`.
//!
//! ```text
//!            hints, timers                        round robin, one chunk each
//! tour.rs → look.rs → (rules.rs, identity.rs) → ready files → read.rs → Batch
//!   walk      a path       what it means          queue        pread, parse
//! ```
//!
//! Always holds:
//! - A file costs a few hundred bytes (`file.rs`), a quiet one less (`cold.rs`); none of its content is kept. An unfinished line or group is a range
//!   that is read again.
//! - The batches of one life of a file (an incarnation) follow each other without a gap from its first offset on.
//! - A file is in the registry, under its incarnation, before its first batch goes out.
//! - The scan is the truth, a hint only makes it immediate.
//! - What can't be read now is tried again; what can't be read any more is counted (`account.rs`).
//!
//! Tested in `tests/`: `rotation.rs` has a test for each line of the table in `rules.rs`.

mod account;
mod cold;
mod delete;
mod descriptors;
mod drain;
mod due;
mod elsewhere;
mod file;
mod folders;
mod gone;
mod hints;
mod identity;
mod live;
mod look;
mod pace;
mod path;
mod peers;
mod read;
mod ready;
mod replace;
mod rules;
mod said;
mod shared;
mod sums;
mod table;
mod take;
mod take_over;
mod timers;
mod tour;
mod trust;
mod vanished;
mod young;
mod zeros;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pillion_event::{Batch, BatchId, Incarnation};
use pillion_registry::{LogWords, Registry};
use pillion_world::{Mono, World};

pub use account::{FileAccount, Loss, LossCause, Stats, Unseen};
pub use delete::Whole;
pub use file::Tally;
pub use live::InputId;
pub use shared::{Beside, Known, Shares};

use crate::at::At;
use crate::harvest::account::Books;
use crate::harvest::delete::Deleting;
use crate::harvest::folders::Folder;
use crate::harvest::hints::Hints;
use crate::harvest::identity::Former;
use crate::harvest::live::Life;
use crate::harvest::pace::Pace;
use crate::harvest::peers::{Peer, Peers};
use crate::harvest::ready::Ready;
use crate::harvest::said::Said;
use crate::harvest::shared::Sharing;
pub(crate) use crate::harvest::table::FileId;
use crate::harvest::table::Table;
use crate::harvest::timers::Timers;
use crate::harvest::tour::Tour;
use crate::harvest::trust::Asked;
use crate::harvest::vanished::Vanished;
use crate::spec::{Budget, InputSpec, Limits, Own};
use crate::standing::Standing;
use crate::unzip;

/// What a step did.
#[derive(Debug)]
pub enum Step {
    /// Something was read.
    Batch(Batch),
    /// Something was done; there may be more to do.
    Worked,
    /// There is something to read, but the budget is empty: nothing to do until there is space, a hint comes, or this
    /// time.
    Full {
        /// When something else is due.
        until: Mono,
    },
    /// Nothing to do until a hint comes or this time.
    Idle {
        /// When something is due.
        until: Mono,
    },
}

/// What decides about the registry keys of an input: a filestream's id, and the stream that is read alone.
pub(crate) type GroupName = (Option<String>, Vec<(String, String)>);

/// The name of the group of inputs that share registry keys with this one.
pub(crate) fn group_name(spec: &InputSpec) -> GroupName {
    (spec.is_filestream().then(|| spec.desc.id.clone()), spec.meta.clone())
}

/// What a file had to read when its thread was heard of last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The file.
    pub path: Arc<str>,
    /// The first byte that isn't in a batch.
    pub from: u64,
    /// The size last seen.
    pub to: u64,
}

/// What harvesters of one process share: the numbers that name batches and inputs, and what they ask each other.
#[derive(Debug, Default)]
pub struct Numbers {
    batches: AtomicU64,
    inputs: AtomicU64,
    peers: Peers,
}

impl Numbers {
    /// The number of another batch.
    pub(crate) fn batch(&self) -> BatchId {
        BatchId(self.batches.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn input(&self) -> InputId {
        InputId(self.inputs.fetch_add(1, Ordering::Relaxed))
    }
}

/// Something may have happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hint {
    /// To the file at this path.
    Path(PathBuf),
    /// Names that the hints don't tell: search all paths.
    All,
}

/// One input and where its search stands.
pub(crate) struct Input {
    spec: InputSpec,
    /// What its registry entries repeat.
    words: Arc<LogWords>,
    /// Inputs that share registry keys share a group.
    group: u16,
    tour: Tour,
    /// When the next search is due.
    due: Mono,
    /// What the last whole search wasn't allowed to look at.
    unseen: Unseen,
    /// How many searches were finished.
    tours: u32,
    /// A whole search since the drain began is finished.
    searched_at_drain: bool,
    /// When the last search began of those that saw all that is there.
    surely: Option<Mono>,
    /// When that one ended, or the input began.
    sure_at: Mono,
    id: InputId,
    life: Life,
    /// What was left aside by a process that was killed has its name again (`delete.rs`).
    brought_back: bool,
}

impl Input {
    fn new(spec: InputSpec, group: u16, id: InputId, now: Mono) -> Input {
        Input {
            words: identity::words_of(&spec),
            spec,
            group,
            tour: Tour::default(),
            due: now,
            unseen: Unseen::default(),
            tours: 0,
            searched_at_drain: false,
            surely: None,
            sure_at: now,
            id,
            life: Life::Reading,
            brought_back: false,
        }
    }
}

/// Finds files, reads them, makes batches. See the module's header.
pub struct Harvester {
    world: World,
    registry: Arc<Registry>,
    /// What is looked at or read now.
    pub(crate) at: At,
    limits: Limits,
    own: Own,
    /// It isn't known yet where the links in `own` lead.
    own_is_raw: bool,
    inputs: Vec<Input>,
    /// What tells apart the groups of inputs that share registry keys.
    groups: Vec<GroupName>,
    numbers: Arc<Numbers>,
    /// This one, among those who share the numbers.
    peer: Arc<Peer>,
    /// Inputs that are about to end, and when these are looked at again.
    ending: usize,
    settle_at: Mono,
    table: Table,
    folders: HashMap<PathBuf, Folder>,
    /// How many there were when those that are gone were forgotten last.
    folders_kept: usize,
    /// Folders that a watch should tell about, for [`Harvester::take_folders`].
    unwatched: Vec<PathBuf>,
    /// Lengths of growing fingerprints that occur in the registry.
    lengths: BTreeSet<u32>,
    /// Lives that ended by truncation in this search, for a copy that goes on with them.
    former: HashMap<Arc<str>, Former>,
    ready: Ready,
    timers: Timers,
    pace: Pace,
    hints: Hints,
    books: Books,
    open: usize,
    /// How often a file was opened.
    opens: u64,
    open_deleted: usize,
    /// What this step has opened to ask what is there.
    asked: Option<Asked>,
    /// The open files, the longest open first; see `descriptors.rs`.
    opened: VecDeque<FileId>,
    refused: u64,
    /// When this began, on the wall clock.
    started_ms: i64,
    /// How many steps in a row weren't reading while there was something to read.
    owed: u8,
    turns: u8, // counts what was done beside reading
    draining: bool,
    /// Some files are compressed: what the world's file system is told of them.
    unzip: Option<Arc<unzip::Shared>>,
    /// The compressed files that are being read, at most [`MAX_UNZIPPING`].
    unzipping: Vec<FileId>,
    /// Zeros that may be data on its way.
    zeros: zeros::Zeros,
    /// Other processes read the same folders.
    sharing: Option<Sharing>,
    deleting: Deleting,
    vanished: Vanished,
    /// Which problems were said already.
    said: Said,
}

/// How many hints and timers are followed at most between two readings while there is something to read: writers that
/// never rest can't keep the readers from reading.
const OWED: u8 = 16;

/// How many files wait at most to be read for the first time before the search for more pauses.
const MAX_FRESH: usize = 4096;

/// How many compressed files are read side by side: each costs memory while it is read, and time when it is begun again.
const MAX_UNZIPPING: usize = 8;

impl Harvester {
    /// A harvester that has read nothing yet; `stdin` inputs are left out. Files that the registry knows go on where they
    /// were acknowledged, after a resend of what may have been sent. Nothing of the file system is asked yet. `numbers`: one
    /// for all harvesters whose batches meet; all of them are to be made before the first one steps, so that none deletes what
    /// another one has still to read.
    pub fn new(
        world: World,
        registry: Arc<Registry>,
        inputs: Vec<InputSpec>,
        own: &Own,
        limits: Limits,
        numbers: &Arc<Numbers>,
    ) -> Harvester {
        let limits = limits.in_range();
        let mut harvester = Harvester {
            started_ms: world.clock.wall().0,
            world,
            lengths: identity::growing_lengths(&registry),
            registry,
            at: At::default(),
            limits,
            own: own.clone(),
            own_is_raw: true,
            inputs: Vec::new(),
            groups: Vec::new(),
            numbers: Arc::clone(numbers),
            peer: numbers.peers.join(),
            ending: 0,
            settle_at: Mono(0),
            table: Table::default(),
            folders: HashMap::new(),
            folders_kept: 0,
            unwatched: Vec::new(),
            former: HashMap::new(),
            ready: Ready::new(limits.order),
            timers: Timers::default(),
            pace: Pace::default(),
            hints: Hints::default(),
            books: Books::new(limits.accounts),
            open: 0,
            opens: 0,
            open_deleted: 0,
            asked: None,
            opened: VecDeque::new(),
            refused: 0,
            owed: 0,
            turns: 0,
            draining: false,
            unzip: None,
            unzipping: Vec::new(),
            zeros: zeros::Zeros::default(),
            sharing: None,
            deleting: Deleting::default(),
            vanished: Vanished::default(),
            said: Said::default(),
        };
        for input in inputs {
            harvester.add(input);
        }
        harvester
    }

    /// Does one bounded piece of work: looks at one path, searches one folder or some files of it, or reads one chunk
    /// of one file.
    pub fn step(&mut self, budget: Budget) -> Step {
        self.answer_peers();
        let done = self.do_step(budget);
        self.asked = None;
        self.table.settle();
        self.table.cool();
        done
    }

    /// Finds out where the links lead to what isn't read: only now, since that can hang.
    fn find_own(&mut self) {
        let mut own = std::mem::take(&mut self.own);
        let points = std::mem::take(&mut own.foreign);
        let foreign = |path: &Path| points.iter().any(|point| path.starts_with(point));
        for dir in own.dirs.iter_mut().filter(|dir| !foreign(dir)) {
            self.at.set(dir);
            *dir = self.world.fs.canonicalize(dir).unwrap_or_else(|_| dir.clone());
        }
        for file in own.files.iter_mut().filter(|file| !foreign(file)) {
            self.at.set(file);
            *file = real_file(&self.world, file);
        }
        for names in own.rotated.iter_mut().filter(|names| !foreign(&names.dir)) {
            self.at.set(&names.dir);
            names.dir = self.world.fs.canonicalize(&names.dir).unwrap_or_else(|_| names.dir.clone());
        }
        (self.own, self.own_is_raw) = (own, false);
    }

    fn do_step(&mut self, budget: Budget) -> Step {
        if self.own_is_raw {
            self.find_own();
        }
        let now = self.world.clock.mono();
        // Hints that never end don't hold it up: what was there when the end began, a search has seen.
        if self.forget_ended() {
            return Step::Worked;
        }
        let can_read = !budget.is_empty() && !self.ready.is_empty();
        if !(can_read && self.owed >= OWED) && self.look_around(now) {
            return Step::Worked;
        }
        self.owed = 0;
        if can_read && let Some(id) = self.ready.pop() {
            let read = self.read_chunk(id, budget, now);
            self.note_served(id);
            self.ready.turn_over();
            return read.map_or(Step::Worked, Step::Batch);
        }
        let until = self.due(now);
        if self.ready.is_empty() { Step::Idle { until } } else { Step::Full { until } }
    }

    /// Follows one hint or timer, or searches for a bit; false: there is nothing of that kind to do. Hints that never end
    /// hold up neither the search, which finds what they don't tell, nor what is due by its time, nor what is to be deleted.
    fn look_around(&mut self, now: Mono) -> bool {
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(OWED)
            && let Some(input) = self.search_due(now).filter(|_| self.may_search())
        {
            self.search(input, now);
        } else if self.turns % OWED == OWED / 2 && self.delete_next(now)
            || self.turns.is_multiple_of(2) && self.follow_hint(now)
            || self.wake(now)
            || self.follow_hint(now)
            || self.delete_next(now)
        {
            self.owed = self.owed.saturating_add(1);
        } else if let Some(input) = self.search_due(now).filter(|_| self.may_search()) {
            self.owed = OWED;
            self.search(input, now);
        } else {
            return self.forget_vanished(now);
        }
        true
    }

    /// Tells that something may have happened. Hints that repeat cost nothing; none is needed for anything to be found.
    pub fn hint(&mut self, hint: Hint) {
        let all = match hint {
            Hint::Path(path) => !self.hints.has(&path) && !self.remember(path),
            Hint::All => true,
        };
        if all {
            self.search_all_now();
        }
    }

    fn remember(&mut self, path: PathBuf) -> bool {
        let known = (0..self.groups.len()).find_map(|group| self.table.known_path(group as u16, &path));
        self.hints.push(known.unwrap_or_else(|| path.into()))
    }

    /// Local folders in which files were looked for and that no watch tells about yet. The caller begins to watch them
    /// and says so with [`Harvester::watched`].
    pub fn take_folders(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.unwatched)
    }

    /// A watch on this folder begins (`true`) or has ended: its files are looked at by time only without one. What
    /// came into it between its listing and the watch is searched for once more.
    pub fn watched(&mut self, folder: &Path, yes: bool) {
        if let Some(f) = self.folders.get_mut(folder) {
            f.watched = yes;
            self.search_again(folder);
        }
    }

    /// The accounts of files that have more to tell than that all of them was read, in no order: few of many files, so
    /// that they can be asked for at any time.
    pub fn notable(&self) -> Vec<FileAccount> {
        // A quiet file is read to its end, and nothing about it is unusual.
        let known =
            self.table.iter().map(|(_, f)| f).filter(|f| f.len > f.pos || f.denied || f.tally.usual().is_none());
        let known = known.map(|f| account_of(&self.table, f)).filter(FileAccount::is_notable);
        known.chain(self.books.former().cloned()).collect()
    }

    /// What every file has given since it was quiet last, and what it still has, in no order; of those that are gone the
    /// notable ones, as far as they are listed.
    pub fn accounts(&self) -> Vec<FileAccount> {
        let mut out: Vec<_> = self.table.iter().map(|(_, f)| account_of(&self.table, f)).collect();
        out.extend(self.table.quiet().map(|cold| account_of(&self.table, &self.table.thawed(cold))));
        out.extend(self.books.former().cloned());
        out
    }

    /// What was destroyed before it could be read, the first ones.
    pub fn losses(&self) -> &[Loss] {
        self.books.losses()
    }

    /// All files together.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            files: self.table.len(),
            open: self.open,
            tally: self.books.total(),
            unread: 0,
            refused: self.refused,
            unlisted_losses: self.books.unlisted(),
        };
        for (_, f) in self.table.iter() {
            stats.tally.add(&f.tally.total());
            stats.unread += f.len.saturating_sub(f.pos);
        }
        stats.tally.add(&self.table.cooled());
        stats
    }

    /// Where reading stands, after the last step. Costs nothing, however many files there are.
    pub fn standing(&self) -> Standing {
        Standing {
            unread_bytes: self.table.sums.bytes,
            unread_files: self.table.sums.files,
            files: self.table.len() as u64,
            open: self.open as u64,
            opened: self.opens,
            refused: self.refused,
            renamed: self.books.renamed,
            truncated: self.books.truncated,
            forgotten: self.books.forgotten,
            filtered: self.books.filtered,
            limited: self.books.limited,
            datagrams: 0,
            lost: self.books.lost,
        }
    }

    /// The time at which something is due by itself.
    fn due(&self, now: Mono) -> Mono {
        let searches = self.inputs.iter().map(|i| if i.tour.is_running() { now } else { i.due });
        let searches = searches.filter(|_| self.may_search());
        searches.chain(self.timers.next()).chain(self.ending_due(now)).min().unwrap_or(Mono(u64::MAX))
    }

    /// Whether there is use in finding more: a file that is found and not read yet costs more than one that lies in its
    /// folder. Each of those that wait has its turn, however slow the target is, and then the search goes on.
    fn may_search(&self) -> bool {
        self.ready.fresh() < MAX_FRESH
    }

    fn group(&self, input: u16) -> u16 {
        self.inputs.get(usize::from(input)).map_or(0, |i| i.group)
    }

    /// The number of the group of inputs that share registry keys with this one; `None`: there are too many.
    fn group_of(&mut self, spec: &InputSpec) -> Option<u16> {
        let name = group_name(spec);
        let used: Vec<u16> = self.inputs.iter().filter(|i| i.life != Life::Over).map(|i| i.group).collect();
        let free = |(at, _): &(usize, _)| !used.contains(&(*at as u16));
        let at = match self.groups.iter().position(|group| *group == name) {
            Some(known) => known,
            None => match self.groups.iter().enumerate().find(free) {
                Some((at, _)) => {
                    self.groups[at] = name;
                    at
                }
                None => {
                    self.groups.push(name);
                    self.groups.len() - 1
                }
            },
        };
        u16::try_from(at).ok()
    }

    fn new_incarnation(&self) -> Incarnation {
        Incarnation(self.world.random.u128())
    }

    /// Says something once for each path and kind of problem.
    fn say_once(&mut self, path: &Path, what: &'static str, error: &dyn std::fmt::Display) {
        if self.said.is_new(path, what) {
            tracing::warn!(path = %path.display(), %error, "{what}");
        }
    }

    /// Puts a file into the queue of those that have something to read.
    fn make_ready(&mut self, id: FileId) {
        if let Some(f) = self.table.get_mut(id)
            && !f.queued
        {
            f.queued = true;
            self.ready.push(id, f.mtime_ns, f.pos == 0);
            self.note_behind(id);
        }
    }

    /// Tells whoever may wait in vain what a file has to read.
    fn note_behind(&self, id: FileId) {
        let queued = self.table.get(id).filter(|f| f.queued);
        self.at.note(id, queued.map(|f| Behind { path: Arc::clone(f.path.text()), from: f.pos, to: f.len }));
    }
}

fn account_of(table: &Table, f: &file::FileState) -> FileAccount {
    FileAccount {
        path: f.path.to_path_buf(),
        key: table.key_of(f).as_deref().unwrap_or_default().to_owned(),
        incarnation: f.incarnation,
        pos: f.pos,
        len: f.len,
        tally: f.tally.total(),
        gone: f.gone,
        denied: f.denied && f.len > f.pos,
    }
}

/// A file's path with the links of its folder resolved: the file itself may not be there yet.
fn real_file(world: &World, path: &Path) -> PathBuf {
    match (path.parent().and_then(|p| world.fs.canonicalize(p).ok()), path.file_name()) {
        (Some(dir), Some(name)) => dir.join(name),
        _ => path.to_owned(),
    }
}
