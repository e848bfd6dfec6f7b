//! What becomes of files that are shipped: with `--delete-after` and `--move-after` they go, when some time has passed.
//!
//! Comes in: a registry that is marked as done. Goes out: its files deleted, or moved to `shipped/` beside it.
//!
//! Always holds: a file goes only when its registry is done for that long and its lock is ours, the file hasn't changed for
//! that long nor since the mark was made, and its descriptor says right before: a regular file with one name, the inode and the bytes that the entry
//! tells of, exactly as long as what was acknowledged, with nothing in flight. It is first renamed to a place that only we
//! know, in one step and without replacing anything, and looked at again there by its descriptor: what was swapped or written meanwhile goes
//! back to its name. Only then it is unlinked. A crash in between leaves it in that place, where the next sweep judges it
//! anew.
//! Tested below (a crash, and a swap, at every step of the file system) and by the command line's tests.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pillion_event::Guard;
use pillion_registry::beside::{self, FOLDER, Owner};
use pillion_registry::foreign::{self, Bounds};
use pillion_registry::{Entry, Error, Identifier, Options};
use pillion_world::{File, FileKind, Home, Meta, World, put_aside};

use super::Root;
use super::find::{Found, REGISTRY};

/// Where files wait for their end, in the registry's folder.
const LEAVING: &str = "leaving";
/// Where moved files go, in the registry's folder.
const SHIPPED: &str = "shipped";

/// How many files of one path and key may lie among the moved ones.
const MAX_SAME_NAME: u32 = 1000;

/// What is to become of shipped files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// They are deleted after that time.
    Delete(Duration),
    /// They are moved beside the registry after that time.
    Move(Duration),
}

impl After {
    fn delay(self) -> Duration {
        match self {
            After::Delete(delay) | After::Move(delay) => delay,
        }
    }
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Files that stay: changed, renamed, younger, or not what the registry tells of.
    pub(super) kept: u64,
}

/// A registry that is done, as its owner saw it.
struct Place {
    world: World,
    /// The registry's folder.
    data: PathBuf,
    view: PathBuf,
    after: After,
}

/// Does it for the files of one registry.
pub(super) fn clear(root: &Root, found: &Found, after: After) -> Result<Gone, String> {
    let text = |e: io::Error| e.to_string();
    let owner = Owner::read(&root.world, &found.dir).map_err(text)?;
    let beneath = root.beneath.narrowed(&found.logs, &owner.view).map_err(text)?;
    let data = owner.view.join(FOLDER).join(&found.name);
    let home = Home::of(Arc::new(beneath), &data).map_err(text)?;
    let world = World { fs: Arc::new(home), ..World::real() };
    let _lock = match beside::lock(&world, &data) {
        Ok((lock, _)) => lock,
        Err(Error::Locked { .. }) => return Ok(Gone::default()),
        Err(e) => return Err(e.to_string()),
    };
    Place { world, data, view: owner.view, after }.clear()
}

impl Place {
    /// Does it for all files of the registry, whose lock is held.
    fn clear(&self) -> Result<Gone, String> {
        // Somebody may have begun to work on it before its lock was ours.
        if !beside::is_done(&self.world, &self.data) {
            return Ok(Gone::default());
        }
        let Ok(done) = self.world.fs.stat(&self.data.join(beside::DONE), false) else { return Ok(Gone::default()) };
        if !self.is_old(&done) {
            return Ok(Gone::default());
        }
        let options = Options { path: REGISTRY.into(), ..Options::default() };
        let read = foreign::read(&self.world, &self.data, &options, &Bounds::default()).map_err(|e| e.to_string())?;
        let mut gone = Gone::default();
        for entry in read.entries.iter().filter(|e| Path::new(&*e.source).starts_with(&self.view)) {
            match self.clear_one(entry, &done) {
                Ok(Some(bytes)) => (gone.files, gone.bytes) = (gone.files + 1, gone.bytes + bytes),
                Ok(None) => gone.kept += 1,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    gone.kept += 1;
                    tracing::warn!(path = %entry.source, error = %e, "a shipped file stays");
                }
            }
        }
        Ok(gone)
    }

    /// Longer ago than the delay, by the file system's time and this machine's: whatever their difference, everything of
    /// the file was acknowledged before.
    fn is_old(&self, meta: &Meta) -> bool {
        let age_ms = i128::from(self.world.clock.wall().0) - meta.mtime_ns / 1_000_000;
        age_ms >= i128::try_from(self.after.delay().as_millis()).unwrap_or(i128::MAX)
    }

    /// How many bytes the file had that went; `None`: it stays.
    fn clear_one(&self, entry: &Entry, done: &Meta) -> io::Result<Option<u64>> {
        let name = hash(&entry.key);
        let leaving = self.data.join(LEAVING).join(&name);
        let source = Path::new(&*entry.source);
        if !put_aside(&*self.world.fs, source, &leaving, &|file| self.fits(file, entry, done))? {
            return Ok(None);
        }
        match self.after {
            After::Delete(_) => self.world.fs.remove(&leaving)?,
            After::Move(_) => {
                self.make(SHIPPED)?;
                let plain = source.file_name().unwrap_or_default().to_string_lossy();
                self.world.fs.rename(&leaving, &self.free_name(&format!("{name}-{plain}"))?)?;
                self.world.fs.sync_dir(&self.data.join(SHIPPED))?;
            }
        }
        Ok(Some(entry.offset))
    }

    /// A name among the moved files that none of them has.
    fn free_name(&self, name: &str) -> io::Result<PathBuf> {
        let names = (0..MAX_SAME_NAME).map(|n| match n {
            0 => self.data.join(SHIPPED).join(name),
            n => self.data.join(SHIPPED).join(format!("{name}.{n}")),
        });
        for path in names {
            match self.world.fs.stat(&path, false) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(path),
                Err(e) => return Err(e),
                Ok(_) => {}
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// A folder that is there for certain before anything is put into it.
    fn make(&self, folder: &str) -> io::Result<()> {
        self.world.fs.create_dir_all(&self.data.join(folder), 0o700)?;
        self.world.fs.sync_dir(&self.data)
    }

    /// Whether an open file is what the entry tells of, whole and acknowledged to its last byte.
    fn fits(&self, file: &dyn File, entry: &Entry, done: &Meta) -> io::Result<bool> {
        let meta = file.stat()?;
        let same = match entry.identifier() {
            Some(Identifier::Native { ino, dev }) => (ino, dev) == (meta.ino, meta.dev),
            Some(Identifier::InodeMarker { ino, .. }) => ino == meta.ino,
            // The bytes before the end tell.
            _ => true,
        };
        let birth = entry.birth_ns.map(|ns| i128::from(ns.get()));
        let same = same && (birth.is_none() || meta.birth_ns.is_none() || birth == meta.birth_ns);
        let whole = meta.len == entry.offset && entry.offset > 0 && entry.intents.is_empty() && entry.guard.len > 0;
        // What was written after everything was acknowledged is other content, though it be as long and end alike: both times
        // are the file system's.
        let whole = whole && meta.mtime_ns <= done.mtime_ns;
        if meta.kind != FileKind::File || meta.nlink != 1 || !same || !whole || !self.is_old(&meta) {
            return Ok(false);
        }
        let mut tail = vec![0; usize::from(entry.guard.len)];
        let from = entry.offset.saturating_sub(tail.len() as u64);
        let mut at = 0;
        while at < tail.len() {
            match file.read_at(tail.get_mut(at..).unwrap_or_default(), from + at as u64)? {
                0 => return Ok(false),
                n => at += n,
            }
        }
        Ok(Guard::of(&tail) == entry.guard)
    }
}

/// A name for a key that is of one length and plain.
fn hash(key: &str) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", key.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

#[cfg(test)]
mod tests;
