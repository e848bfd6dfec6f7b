//! Removing the folder of a dead replica whose shards all are in other registries by now.
//!
//! Comes in: a member's name, of which the caller knows that no board and no note names it, and that it is dead. Goes out:
//! [`Removed`].
//!
//! Always holds:
//! - Only what a replica's data path consists of is removed: files and folders of known names and kinds. Anything else that
//!   lies there keeps all of it. No link is followed.
//! - While its lock is held nothing is removed.
//! - The registry is renamed first, durably: after a crash at any step it is there as it was or isn't there, never a part of
//!   it; and the next call goes on.
//!
//! Tested in `tests/remove.rs`: with a crash at every step, and strange and hostile folders.

use std::io;
use std::path::{Path, PathBuf};

use pillion_world::{DirEntry, FileKind, World};

use crate::beside::{self, FOLDER};
use crate::disk::{ACTIVE, CHECKPOINT_NEW, LOG, META, sync_dir};
use crate::error::Error;
use crate::note::{REPLICAS, SHARDS, data_path, draft_suffix};
use crate::open::{LOCK, STORE};

/// The folder of the registry in a data path, as [`crate::Options`] has it by default.
const REGISTRY: &str = "registry";
/// What it is called while it is removed.
const REMOVED: &str = "registry.removed";
/// So many strange names are told.
const MAX_TOLD: usize = 20;

/// What became of a dead replica's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Done,
    /// Somebody holds its lock.
    InUse,
    /// Something lies in it that is no part of a registry: paths, at most 20. Nothing was removed.
    Kept(Vec<PathBuf>),
}

/// Removes the data path of a member beneath the shared root, when nobody holds its lock. The caller has made sure that
/// nothing names its registry any more.
///
/// # Errors
/// When the file system fails, or no member is called so. What was removed until then is gone; the next call goes on.
pub fn remove_replica(world: &World, root: &Path, member: &str) -> io::Result<Removed> {
    let no_member = || io::Error::new(io::ErrorKind::InvalidInput, format!("{member:?} is no member's name"));
    let path = data_path(root, member).ok_or_else(no_member)?;
    world.fs.stat(root, true)?;
    for folder in [root.join(FOLDER), root.join(FOLDER).join(REPLICAS), path.clone()] {
        match kind(world, &folder)? {
            None => return Ok(Removed::Done),
            Some(FileKind::Dir) => {}
            Some(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{}: not a folder", folder.display())));
            }
        }
    }
    let mut found = survey(world, &path)?;
    if !found.strange.is_empty() {
        return Ok(Removed::Kept(found.strange));
    }
    let lock = match beside::lock(world, &path) {
        Ok((lock, _)) => lock,
        Err(Error::Locked { .. }) => return Ok(Removed::InUse),
        Err(e) => return Err(io::Error::other(e.to_string())),
    };
    if found.folders.contains(&path.join(REGISTRY)) {
        if found.folders.contains(&path.join(REMOVED)) {
            // Somebody has opened the data path anew after a removal had begun.
            remove_all(world, &survey(world, &path)?.beneath(&path.join(REMOVED)))?;
        }
        world.fs.rename(&path.join(REGISTRY), &path.join(REMOVED))?;
        sync_dir(world, &path)?;
        found = survey(world, &path)?;
        if !found.strange.is_empty() {
            return Ok(Removed::Kept(found.strange));
        }
    }
    remove_all(world, &found)?;
    remove_drafts(world, root, member)?;
    // Held, an NFS client would only rename it.
    drop(lock);
    gone(world.fs.remove(&path.join(LOCK)))?;
    gone(world.fs.remove_dir(&path))?;
    sync_dir(world, &root.join(FOLDER).join(REPLICAS))?;
    Ok(Removed::Done)
}

/// What lies in a data path.
#[derive(Default)]
struct Found {
    /// Without the lock.
    files: Vec<PathBuf>,
    /// Each behind the one that it lies in.
    folders: Vec<PathBuf>,
    strange: Vec<PathBuf>,
}

impl Found {
    fn beneath(mut self, folder: &Path) -> Found {
        self.files.retain(|path| path.starts_with(folder));
        self.folders.retain(|path| path.starts_with(folder));
        self
    }
}

fn survey(world: &World, path: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let top = [(META, FileKind::File), ("meta.json.new", FileKind::File), (LOCK, FileKind::File)];
    let top = top.into_iter().chain([(REGISTRY, FileKind::Dir), (REMOVED, FileKind::Dir)]);
    let top: Vec<(&str, FileKind)> = top.collect();
    look_into(world, path, &mut found, |name| top.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind))?;
    for folder in found.folders.clone() {
        look_into(world, &folder, &mut found, |name| (name == STORE).then_some(FileKind::Dir))?;
    }
    for folder in found.folders.clone().iter().filter(|folder| folder.ends_with(STORE)) {
        look_into(world, folder, &mut found, |name| is_of_store(name).then_some(FileKind::File))?;
    }
    found.files.retain(|file| *file != path.join(LOCK));
    Ok(found)
}

fn is_of_store(name: &str) -> bool {
    let number = name.strip_suffix(".json").filter(|n| !n.is_empty() && n.len() <= 20);
    let is_checkpoint = number.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    let plain = name.strip_suffix(".new").unwrap_or(name);
    is_checkpoint || name == CHECKPOINT_NEW || [LOG, META, ACTIVE].contains(&plain)
}

/// Notes what lies in a folder: what `known` says its kind is, or is strange.
fn look_into(
    world: &World,
    folder: &Path,
    found: &mut Found,
    known: impl Fn(&str) -> Option<FileKind>,
) -> io::Result<()> {
    let mut names = Vec::new();
    let mut each = |entry: DirEntry<'_>| {
        names.push(entry.name.to_owned());
        names.len() < 10_000
    };
    world.fs.stat(folder, false)?;
    world.fs.read_dir(folder, &mut each)?;
    for name in names {
        let path = folder.join(&name);
        // What is gone by now isn't there.
        let Some(is) = kind(world, &path)? else { continue };
        match name.to_str().and_then(&known) {
            Some(FileKind::Dir) if is == FileKind::Dir => found.folders.push(path),
            Some(FileKind::File) if is == FileKind::File => found.files.push(path),
            _ if found.strange.len() < MAX_TOLD => found.strange.push(path),
            _ => {}
        }
    }
    Ok(())
}

/// What is at a path itself.
fn kind(world: &World, path: &Path) -> io::Result<Option<FileKind>> {
    match world.fs.stat(path, false) {
        Ok(meta) => Ok(Some(meta.kind)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn remove_all(world: &World, found: &Found) -> io::Result<()> {
    for file in &found.files {
        gone(world.fs.remove(file))?;
    }
    for folder in found.folders.iter().rev() {
        gone(world.fs.remove_dir(folder))?;
    }
    Ok(())
}

/// Removes the notes that this member had begun and didn't live to put in place.
fn remove_drafts(world: &World, root: &Path, member: &str) -> io::Result<()> {
    let folder = root.join(FOLDER).join(SHARDS);
    if kind(world, &folder)? != Some(FileKind::Dir) {
        return Ok(());
    }
    let (suffix, mut drafts) = (draft_suffix(member), Vec::new());
    let mut each = |entry: DirEntry<'_>| {
        if entry.name.to_str().is_some_and(|name| name.ends_with(&suffix)) {
            drafts.push(folder.join(entry.name));
        }
        true
    };
    world.fs.read_dir(&folder, &mut each)?;
    drafts.iter().try_for_each(|draft| gone(world.fs.remove(draft)))
}
