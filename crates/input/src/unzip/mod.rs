//! Compressed files as if they weren't: a file system in which they have their decompressed bytes and size.
//!
//! Comes in: the file system, and which paths may hold gzip files. Goes out: the same file system; a gzip file in it (RFC
//! 1952, of any number of members) has the length and the bytes of what it holds. So identity, ranges, offsets and the
//! registry are about the decompressed bytes, as with Filebeat, and a log that was read before it was compressed goes on
//! where it was.
//!
//! Always holds:
//! - A file's length is known before anything of it is read: it was decompressed to its end once, and its checksums hold.
//!   What is still being written, cut off or damaged has the length of its compressed bytes, and can't be read
//!   (`InvalidData`): it is looked at again when it has changed, and at the drain it is told as unreadable.
//! - Of a file that is being read no more than [`file::WINDOW`] bytes are kept, however large it is; what is known of files
//!   is bounded by [`MAX_KNOWN`].
//!
//! Tested in `tests/compressed.rs`.

mod file;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pillion_world::{File, FileKind, Fs, Meta, OpenHow};

use crate::scan::Glob;
use crate::spec::Compression;
use crate::unzip::file::{Broken, Unzipped};

/// How many files are known at most; then all are found out anew.
const MAX_KNOWN: usize = 262_144;

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
enum Holds {
    /// Its own bytes.
    Plain,
    /// So many bytes, compressed.
    Gzip(u64),
    /// Nothing that can be read, and why.
    Broken(Arc<str>),
}

/// What was found out about a file, and what it was then.
struct Known {
    len: u64,
    mtime_ns: i128,
    birth_ns: Option<i128>,
    holds: Holds,
}

impl Known {
    /// Whether it still holds. A file that isn't compressed doesn't become so while it grows.
    fn is_of(&self, meta: &Meta) -> bool {
        let plain = self.holds == Holds::Plain && meta.len >= self.len;
        self.birth_ns == meta.birth_ns && (plain || (self.len, self.mtime_ns) == (meta.len, meta.mtime_ns))
    }
}

/// Which paths may hold compressed files.
pub(crate) type Rule = (Vec<Glob>, Compression);

/// See the module's header.
pub(crate) struct Unzip {
    fs: Arc<dyn Fs>,
    shared: Arc<Shared>,
}

/// What the file system and its open files share.
#[derive(Default)]
pub(crate) struct Shared {
    rules: Mutex<Vec<Rule>>,
    known: Mutex<HashMap<(u64, u64), Known>>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Says which paths may hold compressed files; those of other paths are what they are.
    pub(crate) fn set_rules(&self, rules: Vec<Rule>) {
        *lock(&self.rules) = rules;
    }

    fn rule(&self, path: &Path) -> Compression {
        let rules = lock(&self.rules);
        let found = rules.iter().find(|(globs, _)| globs.iter().any(|glob| glob.matches(path)));
        found.map_or(Compression::None, |(_, compression)| *compression)
    }

    fn known(&self, meta: &Meta) -> Option<Holds> {
        lock(&self.known).get(&(meta.dev, meta.ino)).filter(|known| known.is_of(meta)).map(|known| known.holds.clone())
    }

    /// What an open file holds.
    fn holds(&self, file: &(dyn File + 'static), meta: &Meta, rule: Compression) -> io::Result<Holds> {
        if let Some(holds) = self.known(meta) {
            return Ok(holds);
        }
        let mut magic = [0; 2];
        let read = file.read_at(&mut magic, 0)?;
        let holds = match (read == 2 && magic == [0x1F, 0x8B], rule) {
            (true, _) => match file::measure(file) {
                Ok(len) => Holds::Gzip(len),
                Err(e) if e.kind() == io::ErrorKind::InvalidData => Holds::Broken(e.to_string().into()),
                Err(e) => return Err(e),
            },
            // Nothing is decided about a file that has hardly begun.
            _ if meta.len < 2 => return Ok(Holds::Plain),
            (false, Compression::Gzip) => Holds::Broken("it isn't a gzip file, which its input says".into()),
            (false, _) => Holds::Plain,
        };
        let mut known = lock(&self.known);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let Meta { len, mtime_ns, birth_ns, .. } = *meta;
        known.insert((meta.dev, meta.ino), Known { len, mtime_ns, birth_ns, holds: holds.clone() });
        Ok(holds)
    }
}

/// A file's attributes as they are seen.
fn seen(meta: Meta, holds: &Holds) -> Meta {
    match holds {
        Holds::Gzip(len) => Meta { len: *len, ..meta },
        Holds::Plain | Holds::Broken(_) => meta,
    }
}

impl Unzip {
    /// This file system, in which nothing is compressed until [`Shared::set_rules`].
    pub(crate) fn new(fs: Arc<dyn Fs>) -> (Unzip, Arc<Shared>) {
        let shared = Arc::new(Shared::default());
        (Unzip { fs, shared: Arc::clone(&shared) }, shared)
    }
}

impl Fs for Unzip {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn File>> {
        let file = self.fs.open(path, how)?;
        let rule = self.shared.rule(path);
        if rule == Compression::None || !matches!(how, OpenHow::Read | OpenHow::ReadNoFollow) {
            return Ok(file);
        }
        let meta = file.stat()?;
        if meta.kind != FileKind::File {
            return Ok(file);
        }
        Ok(match self.shared.holds(&*file, &meta, rule)? {
            Holds::Plain => file,
            Holds::Gzip(_) => Box::new(Unzipped::new(file, rule, Arc::clone(&self.shared))),
            Holds::Broken(why) => Box::new(Broken { file, why }),
        })
    }

    fn stat(&self, path: &Path, follow: bool) -> io::Result<Meta> {
        let meta = self.fs.stat(path, follow)?;
        if meta.kind != FileKind::File || meta.len == 0 {
            return Ok(meta);
        }
        let rule = self.shared.rule(path);
        if rule == Compression::None {
            return Ok(meta);
        }
        if let Some(holds) = self.shared.known(&meta) {
            return Ok(seen(meta, &holds));
        }
        let how = if follow { OpenHow::Read } else { OpenHow::ReadNoFollow };
        let file = match self.fs.open(path, how) {
            Ok(file) => file,
            // Whoever mayn't read it may look at it all the same.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(meta),
            Err(e) => return Err(e),
        };
        let meta = file.stat()?;
        Ok(seen(meta, &self.shared.holds(&*file, &meta, rule)?))
    }

    pillion_world::pass_fs!(this => this.fs; read_dir canonicalize read_link kind rename rename_new remove remove_dir create_dir_all sync_dir try_lock);
}

impl std::fmt::Debug for Unzip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unzip").finish_non_exhaustive()
    }
}
