//! Files that several processes share: which of them are read here, and what becomes of the others.
//!
//! Comes in: [`Shares`], which says whose a path is. Goes out: nothing of what is another's: its files aren't looked at,
//! aren't in the table, and have no descriptor.
//!
//! ```text
//! a new file ─▶ waits for the end of the search ─▶ does another process know it? ─▶ it goes on where that one stopped
//! a known file at a path that is another's ─▶ its entry gets the new path, so that it is found ─▶ let go
//! ```
//! Always holds: a file that is let go isn't counted as lost, nor as unread: whoever has it counts it. A file without its
//! name isn't read before a whole search has shown that no other process has it now.
//! Tested in `tests/shared.rs`.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pillion_event::Incarnation;
use pillion_registry::Entry;
use pillion_world::Mono;

use crate::harvest::table::FileId;
use crate::harvest::{Harvester, account_of, identity};
use crate::spec::Identity;

/// What tells whose a file is. Asked by the reading thread, often: no call of [`Shares::is_ours`] may wait.
pub trait Shares: Send + Sync {
    /// Whether files at this path are read here.
    fn is_ours(&self, path: &Path) -> bool;

    /// Looks at what the others have written down by now.
    ///
    /// # Errors
    /// When it can't be read: new files wait.
    fn refresh(&self) -> io::Result<()>;

    /// Of how many bytes other processes have made fingerprints that grow.
    fn lengths(&self) -> BTreeSet<u32> {
        BTreeSet::new()
    }

    /// What other processes have written down under these keys, whatever path one is tied to ([`pillion_registry::untied`]).
    ///
    /// # Errors
    /// As [`Shares::refresh`].
    fn find(&self, keys: &[&str]) -> io::Result<Known>;

    /// What other processes have written down of these lives of files with fingerprints, under whatever keys.
    ///
    /// # Errors
    /// As [`Shares::refresh`].
    fn lives(&self, lives: &[Incarnation]) -> io::Result<Known>;

    /// What lies beside a file of which no process knows anything: a sidecar may have read it, and live, or be dead with its
    /// cursor left behind. `ino`: the file's inode number.
    ///
    /// # Errors
    /// When it can't be looked at: the file waits.
    fn beside(&self, path: &Path, ino: u64) -> io::Result<Beside> {
        let _ = (path, ino);
        Ok(Beside::Nothing)
    }

    /// A file with this key was renamed, and is another process' now, which finds it by its entry in the registry.
    fn handed_over(&self, key: &Arc<str>);
}

/// What other processes have written down under some keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Of one file, or of several that had an inode one after the other, or begin alike.
    pub entries: Vec<Entry>,
    /// Nobody has more.
    pub whole: bool,
}

/// What lies beside a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Beside {
    /// Nothing that is about this file.
    Nothing,
    /// Somebody may be reading it: it waits.
    Waits,
    /// What somebody who is dead wrote down of it, in one registry or several.
    Left(Vec<Entry>),
}

/// How many files are taken up in one piece.
const PIECE: usize = 64;
/// How long an entry of a file that went to another process is kept, so that this one finds it.
const KEPT: Duration = Duration::from_secs(3600);
/// How many of them are kept at most; the oldest go first.
const MAX_KEPT: usize = 65_536;

/// The harvester's part in sharing.
pub(crate) struct Sharing {
    shares: Arc<dyn Shares>,
    /// The inodes of files without a name, which may have one that is another's.
    strayed: HashSet<u64>,
    /// The file that is being bound was found before the others were asked last.
    asked: bool,
    /// Entries of files that went to others, and since when.
    kept: VecDeque<(Mono, Arc<str>)>,
    /// The own registry's keys by lives, once somebody has asked for one; for a piece of the files that wait.
    lives: Option<HashMap<Incarnation, Vec<Arc<str>>>>,
}

impl Harvester {
    /// Reads only what is ours. To be called before the first step.
    #[must_use]
    pub fn sharing(mut self, shares: Arc<dyn Shares>) -> Harvester {
        self.table.common.keeps_gone = true;
        self.sharing =
            Some(Sharing { shares, strayed: HashSet::new(), asked: false, kept: VecDeque::new(), lives: None });
        self
    }

    /// Lets go of the files at such paths, whoever has them now: nothing of them is read any more.
    pub fn release(&mut self, which: &dyn Fn(&Path) -> bool) {
        let mut gone = HashSet::new();
        for id in 0..self.table.end() {
            if self.table.path_of(id).is_some_and(|path| which(&path)) {
                self.table.thaw_if(id, |_| true);
                gone.insert(id);
                self.let_go(id);
            }
        }
        self.ready.retain(|id| !gone.contains(&id));
    }

    /// More files may be ours now, and the registry may hold entries of them.
    pub fn shares_grew(&mut self) {
        self.lengths.extend(identity::growing_lengths(&self.registry));
        self.search_all_now();
    }

    fn let_go(&mut self, id: FileId) {
        self.close(id);
        if let Some(mut f) = self.table.remove(id) {
            f.queued = false;
            self.former.retain(|_, former| *former.path != *f.path);
            let mut account = account_of(&self.table, &f);
            account.len = account.pos;
            self.books.close(account);
        }
    }

    /// Whether a path that a search or a hint shows is another process'. A file of ours that is found there has gone to it.
    pub(crate) fn is_others(&mut self, path: &Path, listed_ino: u64, group: u16, now: Mono) -> bool {
        let Some(sharing) = self.sharing.as_ref().filter(|s| !s.shares.is_ours(path)) else { return false };
        let strayed = &sharing.strayed;
        if !strayed.is_empty()
            && (listed_ino == 0 || strayed.contains(&listed_ino))
            && let Ok(meta) = self.world.fs.stat(path, false)
            && let Some(id) = self.table.by_inode(group, meta.dev, meta.ino)
            && self.table.get(id).is_some_and(|f| f.gone && f.is(&meta))
        {
            self.hand_over(id, path, now);
        }
        true
    }

    /// A file of ours lies at a path that is another's.
    fn hand_over(&mut self, id: FileId, path: &Path, now: Mono) {
        let Some(f) = self.table.get(id) else { return };
        tracing::info!(from = %f.path.display(), to = %path.display(), read = f.pos, "a file was renamed, and is another replica's now");
        let group = f.group;
        self.table.relocate(group, id, |f| f.path = PathBuf::from(path).into());
        self.write_entry(id);
        let key = self.table.key(id);
        self.ready.retain(|other| other != id);
        self.let_go(id);
        if let (Some(key), Some(sharing)) = (key, &mut self.sharing) {
            sharing.shares.handed_over(&key);
            sharing.kept.push_back((now, key));
        }
    }

    /// A file has no name that is known: it may have one that is another's.
    pub(crate) fn strays(&mut self, id: FileId) {
        let Some(ino) = self.table.get(id).filter(|f| !f.deleted && !f.by_path).map(|f| f.ino) else { return };
        if let Some(sharing) = &mut self.sharing {
            sharing.strayed.insert(ino);
        }
    }

    /// Whether a file without a name waits until a whole search has shown that it isn't another's.
    pub(crate) fn may_be_others(&self, id: FileId) -> bool {
        let strayed = |ino| self.sharing.as_ref().is_some_and(|s| s.strayed.contains(&ino));
        self.table.get(id).is_some_and(|f| f.gone && !f.deleted && strayed(f.ino))
    }

    /// A search has ended: what had lost its name before it began, and wasn't found, is nobody else's.
    pub(crate) fn settle_strayed(&mut self, input: usize, now: Mono) {
        if self.sharing.as_ref().is_none_or(|s| s.strayed.is_empty()) {
            self.forget_kept(now);
            return;
        }
        let Some(i) = self.inputs.get(input) else { return };
        let (number, unsure) = (i.tour.number, i.tour.is_unsure() || i.tour.failed);
        let (mut over, mut waiting, mut again) = (Vec::new(), HashSet::new(), false);
        for (id, f) in self.table.iter().filter(|(_, f)| f.gone) {
            if usize::from(f.input) != input || unsure || f.gone_in == number {
                again |= usize::from(f.input) == input && self.may_be_others(id);
                waiting.insert(f.ino);
            } else if self.may_be_others(id) {
                over.push(id);
            }
        }
        if let Some(sharing) = &mut self.sharing {
            sharing.strayed.retain(|ino| waiting.contains(ino));
        }
        if again {
            self.search_now(input);
        }
        for id in over {
            self.consider(id, now);
        }
        self.forget_kept(now);
    }

    fn forget_kept(&mut self, now: Mono) {
        let Some(sharing) = &mut self.sharing else { return };
        while let Some((since, key)) = sharing.kept.front() {
            if now.since(*since) < KEPT && sharing.kept.len() <= MAX_KEPT {
                break;
            }
            // One that came back is ours again.
            if self.table.owner(key).is_none() {
                self.registry.remove(key);
            }
            sharing.kept.pop_front();
        }
    }

    pub(crate) fn shares(&self) -> Option<&dyn Shares> {
        self.sharing.as_ref().map(|sharing| &*sharing.shares)
    }

    /// The others, when they have been asked since the file was found that is being bound.
    pub(crate) fn asked_shares(&self) -> Option<Arc<dyn Shares>> {
        self.sharing.as_ref().filter(|sharing| sharing.asked).map(|sharing| Arc::clone(&sharing.shares))
    }

    /// Forgets what was kept of a life for those who have it: it is ours again.
    pub(crate) fn forget_twins(&mut self, entry: &Entry) {
        let Some(sharing) = &mut self.sharing else { return };
        let is_twin = |key: &str| self.registry.get(key).is_some_and(|own| own.incarnation == entry.incarnation);
        sharing.kept.retain(|(_, key)| {
            let twin = is_twin(key);
            if twin {
                self.registry.remove(key);
            }
            !twin
        });
        if is_twin(&entry.key) {
            self.registry.remove(&entry.key);
        }
    }

    /// Nothing is known of a file: it waits for what others know.
    pub(crate) fn is_unknown(&mut self, id: FileId) {
        let Some(input) = self.table.get(id).map(|f| usize::from(f.input)) else { return };
        let Some(tour) = self.inputs.get_mut(input).map(|i| &mut i.tour) else { return };
        tour.unknown.push_back(id);
        if !tour.is_running() {
            self.search_now(input);
        }
    }

    /// Asks the others once for all that wait, and takes some of these up.
    pub(crate) fn bind_unknown(&mut self, input: usize, late: bool, now: Mono) {
        let Some(sharing) = &self.sharing else { return };
        if self.inputs[input].tour.answered == 0 {
            if let Err(e) = sharing.shares.refresh() {
                // They stay unread, and are found again by the next search.
                let tour = &mut self.inputs[input].tour;
                (tour.unknown, tour.answered) = Default::default();
                self.failed_to_see(input as u16, Path::new("/"), &e);
                self.say_once(Path::new("/"), "other replicas' registries can't be read: new files wait", &e);
                return;
            }
            self.lengths.extend(sharing.shares.lengths());
            self.inputs[input].tour.answered = self.inputs[input].tour.unknown.len();
        }
        self.ask_together(input, now);
        for _ in 0..PIECE {
            let tour = &mut self.inputs[input].tour;
            if tour.answered == 0 {
                break;
            }
            tour.answered -= 1;
            let Some(id) = tour.unknown.pop_front() else { break };
            if self.table.get(id).is_none_or(|f| f.key.is_some()) {
                continue;
            }
            self.has_asked(true);
            let bound = self.bind(id, late, now);
            self.has_asked(false);
            self.after_bind(id, bound, now);
        }
        if let Some(sharing) = &mut self.sharing {
            sharing.lives = None;
        }
    }

    /// One question for all that are taken up now: what others have is remembered until they are followed further, so that each
    /// file's own question reads nothing. An error comes again there.
    fn ask_together(&mut self, input: usize, now: Mono) {
        let tour = &self.inputs[input].tour;
        let ids: Vec<FileId> = tour.unknown.iter().take(tour.answered.min(PIECE)).copied().collect();
        let mut keys = BTreeSet::new();
        for id in ids {
            if let Ok(Some(ident)) = self.identify(id, now) {
                keys.extend(self.keys_of(id, &ident));
            }
        }
        let Some(shares) = self.sharing.as_ref().map(|sharing| Arc::clone(&sharing.shares)) else { return };
        let names: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let fingerprint = matches!(self.inputs[input].spec.identity, Identity::Fingerprint { .. });
        if let Ok(known) = shares.find(&names)
            && fingerprint
            && !known.entries.is_empty()
        {
            let lives: BTreeSet<Incarnation> = known.entries.iter().map(|entry| entry.incarnation).collect();
            let _ = shares.lives(&lives.into_iter().collect::<Vec<_>>());
        }
    }

    /// What the own registry has of a life.
    pub(crate) fn own_of(&mut self, life: Incarnation) -> Vec<Entry> {
        let Some(sharing) = &mut self.sharing else { return Vec::new() };
        let lives = sharing.lives.get_or_insert_with(|| {
            let mut lives: HashMap<Incarnation, Vec<Arc<str>>> = HashMap::new();
            self.registry.visit(|entry| lives.entry(entry.incarnation).or_default().push(Arc::clone(&entry.key)));
            lives
        });
        let entries = lives.get(&life).into_iter().flatten().filter_map(|key| self.registry.get(key));
        entries.filter(|entry| entry.incarnation == life).map(|entry| (*entry).clone()).collect()
    }

    /// An entry of a life is in the own registry from now on.
    pub(crate) fn has_life(&mut self, life: Incarnation, key: &Arc<str>) {
        if let Some(lives) = self.sharing.as_mut().and_then(|sharing| sharing.lives.as_mut()) {
            lives.entry(life).or_default().push(Arc::clone(key));
        }
    }

    fn has_asked(&mut self, asked: bool) {
        if let Some(sharing) = &mut self.sharing {
            sharing.asked = asked;
        }
    }
}
