//! A quiet file in few bytes.
//!
//! Comes in: a file of which everything is read, that has no descriptor, and for which nothing is due. Goes out: the same
//! file, when something happens to it. Most files of a folder are old: [`Cold`] is what they cost between searches.
//!
//! A file whose path leads to it no longer is a quiet one, too, until a search has shown that it has no other.
//!
//! Always holds: what is thawed is what was frozen, but for what has no meaning in a quiet file, and for the numbers of
//! what was read, which [`Table`] adds up for all quiet files together; a file that isn't usual in any way isn't frozen.
//! Tested below, and by everything that reads files.
//!
//! [`Table`]: crate::harvest::table::Table

use std::num::NonZeroI64;
use std::sync::Arc;

use pillion_event::{Guard, Incarnation};
use pillion_registry::{CompactKey, CompactPath, Folders, PathParts, Prefixes};
use pillion_world::{FileKind, Meta, Mono};

use crate::harvest::file::{FileState, differ, ns};
use crate::harvest::path::FilePath;

const BY_PATH: u8 = 32;
const LINK: u8 = 64;
const RENAMED: u8 = 128;
/// The bits of the looks without anything new: more of them than this make no difference.
const QUIET: u8 = 31;

/// What quiet files share.
#[derive(Default)]
pub(crate) struct Common {
    pub(crate) prefixes: Prefixes,
    folders: Folders,
    /// Files without a name stay as they are: whose they are is still to be found out (`shared.rs`).
    pub(crate) keeps_gone: bool,
}

/// A quiet file. Its size is what was read of it.
pub(crate) struct Cold {
    path: CompactPath,
    /// The key, when it isn't a prefix with the inode and the device that stand here anyway.
    text: Option<Box<Arc<str>>>,
    incarnation: [u64; 2],
    pub(crate) ino: u64,
    birth_ns: Option<NonZeroI64>,
    mtime_ns: i64,
    pos: u64,
    guard: u64,
    pub(crate) active: Mono,
    fingerprint_len: u32,
    pub(crate) dev: u32,
    /// The last search that saw it.
    pub(crate) seen: u32,
    /// The search in which its path led to it no longer; 0 = it does.
    pub(crate) gone_in: u32,
    pub(crate) input: u16,
    pub(crate) group: u16,
    prefix: u16,
    guard_len: u8,
    /// The flags, and in the bits of [`QUIET`] the looks without anything new.
    flags: u8,
}

impl Cold {
    /// `None`: something about the file is unusual, or due.
    pub(crate) fn of(f: &FileState, common: &mut Common) -> Option<Cold> {
        let (key, FilePath::Text(path)) = (f.key.as_ref()?, &f.path) else { return None };
        let lost = f.gone && (common.keeps_gone || f.gone_in == 0) || !f.gone && (f.deleted || f.missed > 0);
        if f.fd.is_some() || f.kept || f.look_at.is_some() || lost || !f.rests() {
            return None;
        }
        f.tally.usual()?;
        let dev = u32::try_from(f.dev).ok()?;
        let (text, prefix) = match *key {
            CompactKey::Native { ino, dev: of, prefix } if (ino, of) == (f.ino, dev) => (None, prefix),
            _ => (Some(Box::new(common.prefixes.text(key))), 0),
        };
        let id = f.incarnation.0;
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        Some(Cold {
            path: common.folders.compact(path),
            text,
            incarnation: [(id >> 64) as u64, id as u64],
            ino: f.ino,
            birth_ns: f.birth_ns,
            mtime_ns: f.mtime_ns,
            pos: f.pos,
            guard: f.guard.hash,
            active: f.active,
            fingerprint_len: f.fingerprint_len,
            dev,
            seen: f.seen,
            gone_in: if f.gone { f.gone_in } else { 0 },
            input: f.input,
            group: f.group,
            prefix,
            guard_len: f.guard.len,
            flags: flag(f.by_path, BY_PATH) | flag(f.link, LINK) | flag(f.renamed, RENAMED) | f.quiet.min(QUIET),
        })
    }

    /// The file again.
    pub(crate) fn thaw(&self, common: &Common) -> FileState {
        let [high, low] = self.incarnation;
        let incarnation = Incarnation(u128::from(high) << 64 | u128::from(low));
        let meta = Meta {
            kind: FileKind::File,
            len: self.pos,
            ino: self.ino,
            dev: u64::from(self.dev),
            mtime_ns: i128::from(self.mtime_ns),
            birth_ns: self.birth_ns.map(|ns| i128::from(ns.get())),
            mode: 0,
            uid: 0,
            gid: 0,
            nlink: 1,
        };
        FileState {
            group: self.group,
            key: Some(match &self.text {
                Some(text) => common.prefixes.known(text),
                None => self.native(),
            }),
            fingerprint_len: self.fingerprint_len,
            pos: self.pos,
            scanned_to: self.pos,
            guard: Guard { hash: self.guard, len: self.guard_len },
            seen: self.seen,
            quiet: self.flags & QUIET,
            gone: self.is_gone(),
            gone_in: self.gone_in,
            by_path: self.is_by_path(),
            link: self.flags & LINK != 0,
            renamed: self.flags & RENAMED != 0,
            ..FileState::new(self.input, self.path(common), &meta, incarnation, self.active)
        }
    }

    /// Where it was last seen.
    pub(crate) fn path(&self, common: &Common) -> FilePath {
        FilePath::Text(common.folders.text(&self.path))
    }

    /// The same in two parts.
    pub(crate) fn path_parts<'a>(&'a self, common: &'a Common) -> PathParts<'a> {
        common.folders.parts(&self.path)
    }

    fn native(&self) -> CompactKey {
        CompactKey::Native { ino: self.ino, dev: self.dev, prefix: self.prefix }
    }

    /// Whether this is its key.
    pub(crate) fn has_key(&self, key: &str, prefixes: &Prefixes) -> bool {
        match &self.text {
            Some(text) => ***text == *key,
            None => prefixes.is(&self.native(), key),
        }
    }

    /// The hash of its key, as [`Prefixes::hash`] makes it.
    pub(crate) fn key_hash(&self, prefixes: &Prefixes) -> u64 {
        match &self.text {
            Some(text) => prefixes.hash(text),
            None => pillion_registry::hash_of(&self.native()),
        }
    }

    pub(crate) fn is_by_path(&self) -> bool {
        self.flags & BY_PATH != 0
    }

    /// Whether its path leads to it no longer.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone_in != 0
    }

    /// Whether a look shows just what is known: the same file, not written to since.
    pub(crate) fn is_unchanged(&self, seen: &Meta) -> bool {
        (u64::from(self.dev), self.ino, self.pos) == (seen.dev, seen.ino, seen.len)
            && self.mtime_ns == seen.mtime_ns as i64
            && !differ(self.birth_ns, ns(seen.birth_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harvest::file::{Counted, Drain, Tally};
    use crate::harvest::table::tests::file;
    use pillion_registry::path_parts;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::PathBuf;

    /// Read to its end, with everything set that a quiet file keeps.
    fn quiet() -> FileState {
        let mut tally = Counted::default();
        tally.add(&Tally { bytes: 10, lines: 3, events: 2, ..Tally::default() });
        FileState {
            group: 3,
            key: Some(CompactKey::Native { ino: 7, dev: 1, prefix: 0 }),
            fingerprint_len: 9,
            incarnation: Incarnation(u128::MAX - 5),
            birth_ns: NonZeroI64::new(-4),
            mtime_ns: -6,
            pos: 10,
            scanned_to: 10,
            len: 10,
            sure_len: 10,
            guard: Guard::of(b"abc"),
            tally,
            active: Mono(8),
            seen: 11,
            quiet: 12,
            link: true,
            renamed: true,
            ..file("/x/a.log", 7, false)
        }
    }

    #[test]
    fn what_is_thawed_is_what_was_frozen() {
        let mut common = Common::default();
        let all = |f: &FileState| {
            let what = (f.input, f.group, f.path.text().clone(), f.dev, f.ino, f.birth_ns, f.mtime_ns, f.key.clone());
            let read = (f.pos, f.scanned_to, f.len, f.sure_len, f.guard, f.fingerprint_len);
            (what, read, (f.incarnation, f.active, f.seen, f.quiet), (f.by_path, f.link, f.renamed, f.gone, f.gone_in))
        };
        // A key of its own inode, one of another inode or device, one that names no inode.
        for key in
            ["filebeat::logs::native::7-1", "filebeat::logs::native::8-1", "filebeat::logs::native::7-2", "a::path::/x"]
        {
            let (gone, by_path) = (key.contains("::8"), key.contains("path"));
            let compact = Some(common.prefixes.compact(&key.into()));
            let f = FileState { key: compact, gone, gone_in: if gone { 5 } else { 0 }, by_path, ..quiet() };
            let cold = Cold::of(&f, &mut common).unwrap();
            assert_eq!(all(&cold.thaw(&common)), all(&f));
            assert_eq!(cold.path_parts(&common), path_parts(b"/x/a.log"));
            let prefixes = &common.prefixes;
            assert!(cold.has_key(key, prefixes) && !cold.has_key("filebeat::logs::native::9-9", prefixes));
            assert_eq!(cold.key_hash(prefixes), prefixes.hash(key));
        }
    }

    #[test]
    fn it_costs_little() {
        assert!(size_of::<Cold>() <= 120, "{} bytes", size_of::<Cold>());
    }

    #[test]
    fn a_file_with_something_to_do_stays() {
        let changes: [fn(&mut FileState); 18] = [
            |f| f.key = None,
            |f| f.len = 11,
            |f| f.sure_len = 11,
            |f| (f.pos, f.len) = (9, 9),
            |f| f.replays = Some(Box::default()),
            |f| f.queued = true,
            |f| f.look_at = Some(Mono(1)),
            |f| f.group_at = Some(Mono(1)),
            |f| f.drain = Drain::Pending,
            |f| f.gone = true,
            |f| f.deleted = true,
            |f| f.missed = 1,
            |f| f.path = PathBuf::from(OsStr::from_bytes(b"/\xff")).into(),
            |f| f.network = true,
            |f| f.errors = 1,
            |f| f.tally.lose(1),
            |f| f.dev = u64::MAX,
            |f| f.denied = true,
        ];
        for (n, change) in changes.iter().enumerate() {
            let mut f = quiet();
            change(&mut f);
            assert!(Cold::of(&f, &mut Common::default()).is_none(), "change {n}");
        }
    }

    #[test]
    fn a_file_without_a_name_stays_where_others_may_have_it() {
        let gone = FileState { gone: true, gone_in: 4, missed: 1, deleted: true, ..quiet() };
        assert!(Cold::of(&gone, &mut Common::default()).is_some_and(|cold| cold.is_gone()));
        assert!(Cold::of(&gone, &mut Common { keeps_gone: true, ..Common::default() }).is_none());
    }

    #[test]
    fn any_difference_is_a_change() {
        let (f, mut common) = (quiet(), Common::default());
        let cold = Cold::of(&f, &mut common).unwrap();
        let same = Meta {
            kind: FileKind::File,
            len: 10,
            ino: 7,
            dev: 1,
            mtime_ns: -6,
            birth_ns: Some(-4),
            mode: 0,
            uid: 0,
            gid: 0,
            nlink: 1,
        };
        assert!(cold.is_unchanged(&same) && cold.is_unchanged(&Meta { birth_ns: None, ..same }));
        for other in [
            Meta { len: 9, ..same },
            Meta { len: 11, ..same },
            Meta { ino: 8, ..same },
            Meta { dev: 2, ..same },
            Meta { mtime_ns: 0, ..same },
            Meta { birth_ns: Some(1), ..same },
        ] {
            assert!(!cold.is_unchanged(&other), "{other:?}");
        }
    }
}
