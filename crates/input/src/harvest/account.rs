//! The books of the readers: what was read, and what could not be.
//!
//! Comes in: what files had when they left the table, and losses. Goes out: [`FileAccount`]s and [`Loss`]es for the
//! receipt. Always holds: totals are exact; the lists are bounded by `Limits::accounts`, and say how much they leave
//! out; of a former file of which everything was read nothing is kept but its numbers. Tested with the harvester.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::{Path, PathBuf};

use hashbrown::HashTable;
use pillion_event::Incarnation;
use pillion_process::LeftOut;

use crate::harvest::file::Tally;

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LossCause {
    /// The file was cut off, or its content replaced, before they were read.
    Truncated,
    /// The file was deleted before they were read, and no descriptor was open.
    Deleted,
    /// Too many deleted files were unread: see `Limits::deleted`.
    TooManyDeleted,
    /// The file was closed by `close_timeout` and could not be opened again.
    Closed,
}

/// Bytes that were destroyed before they could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The file.
    pub path: PathBuf,
    /// The first byte.
    pub from: u64,
    /// The first byte behind, as far as is known: there may have been more.
    pub to: u64,
    /// Why.
    pub cause: LossCause,
}

/// The account of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAccount {
    /// Where it was last seen.
    pub path: PathBuf,
    /// The registry's key; empty when nothing was read of it.
    pub key: String,
    /// The life of its content.
    pub incarnation: Incarnation,
    /// Everything before this byte is in batches.
    pub pos: u64,
    /// The size last seen; `len - pos` bytes aren't in batches.
    pub len: u64,
    /// What was read of it since it was quiet last, over all of its lives in that time; what is rare (filtered, malformed,
    /// lost) over all of its lives in this process.
    pub tally: Tally,
    /// It isn't there any more.
    pub gone: bool,
    /// Permission to read it is refused, or it isn't what its input says it is, so that the drain didn't wait for it: `len -
    /// pos` bytes stay unread.
    pub denied: bool,
}

impl FileAccount {
    /// Whether there is more to tell than that all of it was read: most files have nothing else.
    pub fn is_notable(&self) -> bool {
        let Tally { bytes: _, lines: _, events: _, empty: _, filtered, limited, malformed, lost } = self.tally;
        self.len > self.pos || self.denied || filtered + limited + malformed + lost > 0
    }
}

/// What a search came upon and isn't allowed to look at: a folder that it may not list, a file that it may not even `stat`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    /// The first ones.
    pub paths: BTreeSet<PathBuf>,
    /// How many more there were.
    pub more: u64,
}

/// How many of them are named.
const MAX_UNSEEN: usize = 256;

impl Unseen {
    pub(crate) fn note(&mut self, path: &Path) {
        if self.paths.len() < MAX_UNSEEN {
            self.paths.insert(path.to_owned());
        } else if !self.paths.contains(path) {
            self.more += 1;
        }
    }

    /// Adds what other searches came upon.
    pub fn add(&mut self, other: &Unseen) {
        other.paths.iter().for_each(|path| self.note(path));
        self.more += other.more;
    }
}

/// All files together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Files in the table.
    pub files: usize,
    /// Open descriptors.
    pub open: usize,
    /// What was read.
    pub tally: Tally,
    /// Bytes that are known and not in batches yet.
    pub unread: u64,
    /// Files that weren't taken up since the table is full.
    pub refused: u64,
    /// Losses that aren't in the list.
    pub unlisted_losses: u64,
}

/// What is kept of files that are no longer in the table.
#[derive(Default)]
pub(crate) struct Books {
    limit: usize,
    former: HashMap<PathBuf, FileAccount>,
    /// Files that left the table with something unread, whatever came to their paths since: all that is known of them but
    /// for what was read.
    left: Vec<FileAccount>,
    /// The places in `left`, by what is the same of a file that ends again and again.
    left_at: HashTable<usize>,
    /// What inputs that have ended weren't allowed to look at in their last search.
    pub(crate) unseen: Unseen,
    /// Of the former files that aren't listed.
    others: Tally,
    losses: Vec<Loss>,
    unlisted: u64,
    /// Bytes of all losses.
    pub(crate) lost: u64,
    /// Lines and events that the configuration left out, of all files.
    pub(crate) filtered: u64,
    /// Events beyond what `rate_limit` lets through, of all files.
    pub(crate) limited: u64,
    /// How often a file was found at another path.
    pub(crate) renamed: u64,
    /// How often a file began anew since it was truncated.
    pub(crate) truncated: u64,
    /// Files that are gone, and that the registry has forgotten.
    pub(crate) forgotten: u64,
}

/// What is the same of a file that ends again and again.
fn what_is_left(account: &FileAccount) -> (&Path, u64, u64) {
    (&account.path, account.pos, account.len)
}

fn hash(account: &FileAccount) -> u64 {
    // With a fixed key, so that one seed replays a run.
    BuildHasherDefault::<DefaultHasher>::default().hash_one(what_is_left(account))
}

impl Books {
    pub(crate) fn new(limit: usize) -> Books {
        Books { limit, ..Books::default() }
    }

    /// Processors have left events out.
    pub(crate) fn leave_out(&mut self, left_out: LeftOut) {
        self.filtered += left_out.filtered;
        self.limited += left_out.limited;
    }

    pub(crate) fn close(&mut self, mut account: FileAccount) {
        if account.len > account.pos {
            let left = FileAccount { tally: Tally::default(), ..account.clone() };
            self.list(left);
            (account.len, account.denied) = (account.pos, false);
        }
        if let Some(known) = self.former.get_mut(&account.path) {
            let mut tally = known.tally;
            tally.add(&account.tally);
            *known = FileAccount { tally, ..account };
        } else if account.is_notable() && self.former.len() < self.limit {
            self.former.insert(account.path.clone(), account);
        } else {
            self.others.add(&account.tally);
        }
    }

    /// Lists a file that left with something unread, once.
    fn list(&mut self, left: FileAccount) {
        let all = &self.left;
        let is_it = |at: &usize| all.get(*at).is_some_and(|known| what_is_left(known) == what_is_left(&left));
        let hash_at = |at: &usize| all.get(*at).map_or(0, hash);
        let mine = hash(&left);
        if self.left_at.find(mine, is_it).is_some() {
            return;
        }
        if all.len() >= self.limit {
            self.unlisted += 1;
        } else {
            self.left_at.insert_unique(mine, all.len(), hash_at);
            self.left.push(left);
        }
    }

    pub(crate) fn lose(&mut self, path: &Path, from: u64, to: u64, cause: LossCause) {
        tracing::warn!(path = %path.display(), from, to, ?cause, "bytes were destroyed before they could be read");
        self.lost += to.saturating_sub(from);
        if self.losses.len() < self.limit {
            self.losses.push(Loss { path: path.to_owned(), from, to, cause });
        } else {
            self.unlisted += 1;
        }
    }

    pub(crate) fn losses(&self) -> &[Loss] {
        &self.losses
    }

    pub(crate) fn unlisted(&self) -> u64 {
        self.unlisted
    }

    pub(crate) fn former(&self) -> impl Iterator<Item = &FileAccount> {
        self.former.values().chain(&self.left)
    }

    pub(crate) fn total(&self) -> Tally {
        let mut total = self.others;
        self.former.values().for_each(|f| total.add(&f.tally));
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(len: u64, denied: bool) -> FileAccount {
        let (path, key) = (PathBuf::from("/l/a.log"), String::new());
        FileAccount {
            path,
            key,
            incarnation: Incarnation(1),
            pos: 3,
            len,
            tally: Tally::default(),
            gone: false,
            denied,
        }
    }

    #[test]
    fn what_a_file_had_unread_stays_told_whatever_comes_to_its_path() {
        let mut books = Books::new(2);
        for (len, denied) in [(9, true), (3, false), (9, true), (3, false)] {
            books.close(account(len, denied));
        }
        let left: Vec<_> = books.former().filter(|f| f.denied).map(|f| (f.pos, f.len)).collect();
        assert_eq!((left, books.unlisted()), (vec![(3, 9)], 0), "once, however often it ends");
        for len in 10..13 {
            books.close(account(len, true));
        }
        let left: u64 = books.former().filter(|f| f.denied).map(|f| f.len - f.pos).sum();
        assert_eq!((left, books.unlisted()), (6 + 7, 2), "what can't be listed is counted");
    }

    #[test]
    fn many_files_that_left_something_unread_are_each_listed_once() {
        let mut books = Books::new(10_000);
        for _ in 0..3 {
            for n in 0..10_001 {
                let path = PathBuf::from(format!("/l/{}.log", n / 2));
                books.close(FileAccount { path, ..account(4 + n % 2, false) });
            }
        }
        assert_eq!((books.left.len(), books.left_at.len()), (10_000, 10_000));
        assert_eq!(books.unlisted(), 3, "what is listed isn't counted beside it");
    }

    #[test]
    fn what_is_unseen_is_named_once_and_counted_beyond() {
        let mut unseen = Unseen::default();
        for _ in 0..2 {
            (0..MAX_UNSEEN).for_each(|n| unseen.note(Path::new(&format!("/l/{n}"))));
        }
        assert_eq!((unseen.paths.len(), unseen.more), (MAX_UNSEEN, 0));
        unseen.note(Path::new("/l/one more"));
        let mut both = Unseen::default();
        [&unseen, &unseen].into_iter().for_each(|other| both.add(other));
        assert_eq!((both.paths.len(), both.more), (MAX_UNSEEN, 2));
    }
}
