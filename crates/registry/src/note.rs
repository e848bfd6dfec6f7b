//! What the shared file system itself says of a shard: who had it last and where its cursors are. It stands in for a board
//! that was lost.
//!
//! ```text
//! <root>/.pillion/shards/07.json     {"version":1,"shard":7,"epoch":12,"registry":"pod-1-4f2a/9"}
//! <root>/.pillion/replicas/pod-1-4f2a/     the data path of that replica: of all shards that it has
//! ```
//! Comes in: a shard's number. Goes out: [`Note`].
//!
//! Always holds:
//! - A note is replaced whole, durably, and never by one of a lower epoch: it is read right before. Two that write in the
//!   same moment can still leave the lower one; what it names is older cursors, which cost repeated lines, and the board
//!   knows better.
//! - Only a note that isn't there is none. One that can't be read, is broken, or is no regular file is an error that says
//!   so: taken for none, a shard would begin anew.
//! - What it says isn't trusted: the name of a registry is a plain name and a number, and leads nowhere else.
//!
//! Tested in `tests/note.rs`: with a crash at every step, lying caches, and hostile files.

use std::io;
use std::path::{Path, PathBuf};

use pillion_world::{FileKind, OpenHow, World};
use serde_json::{Value, json};

use crate::beside::{self, FOLDER};
use crate::disk::sync_dir;
use crate::error::Error;
use crate::open::LOCK;

/// The folder of the replicas' data paths, beneath `.pillion`.
pub const REPLICAS: &str = "replicas";
/// The folder of the notes, beneath `.pillion`.
pub const SHARDS: &str = "shards";

/// Larger notes aren't read, in bytes.
const MAX_NOTE: u64 = 4096;
/// Longest name of a member, in bytes.
const MAX_MEMBER: usize = 253;
/// How often a read is tried that a network file system's client has disturbed.
const TRIES: usize = 8;
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// What is noted of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The highest epoch that took the shard and had its cursors whole.
    pub epoch: u64,
    /// The name of the registry that they are in: see [`name`].
    pub registry: String,
}

/// What became of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// It is there, durably.
    Done,
    /// A note of a higher epoch is there, and stays: somebody else has the shard.
    Newer(Note),
}

/// The name of a registry: whose it is, and the epoch in which a shard's cursors came into it. `None`: no member is called
/// so.
pub fn name(member: &str, epoch: u64) -> Option<String> {
    is_member(member).then(|| format!("{member}/{epoch}"))
}

/// Whose registry a name means; `None` when it is no name of a registry.
pub fn member_of(name: &str) -> Option<&str> {
    let (member, epoch) = name.split_once('/')?;
    let is_number = epoch.parse::<u64>().is_ok_and(|n| n.to_string() == epoch);
    (is_number && is_member(member)).then_some(member)
}

/// The data path of a member beneath the shared root. `None`: no member is called so.
pub fn data_path(root: &Path, member: &str) -> Option<PathBuf> {
    is_member(member).then(|| root.join(FOLDER).join(REPLICAS).join(member))
}

/// Whether a member holds the lock of its registry now. One that can't be asked for counts as running; nothing is made there.
pub fn is_running(world: &World, root: &Path, member: &str) -> bool {
    let Some(data) = data_path(root, member) else { return false };
    match world.fs.stat(&data.join(LOCK), false) {
        Ok(meta) if meta.kind == FileKind::File => matches!(beside::lock(world, &data), Err(Error::Locked { .. })),
        Ok(_) => false,
        Err(e) => !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    }
}

/// Letters, digits, `.`, `_` and `-`; not hidden, so that it is neither `.` nor `..`.
pub(crate) fn is_member(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=MAX_MEMBER).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(plain)
}

fn folder(root: &Path) -> PathBuf {
    root.join(FOLDER).join(SHARDS)
}

/// Writes down that a shard's cursors are, whole and durable, in the registry of this name.
///
/// # Errors
/// When the file system fails, when what is there can't be read, or when no registry is called so (`InvalidInput`). Nothing
/// is known then of a failure of the file system: the note may be there.
pub fn write(world: &World, root: &Path, shard: u16, epoch: u64, registry: &str) -> io::Result<Wrote> {
    let Some(member) = member_of(registry) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{registry:?} is no name of a registry")));
    };
    let folder = folder(root);
    make_folder(world, root)?;
    if let Some(newer) = newer(world, root, shard, epoch)? {
        return Ok(Wrote::Newer(newer));
    }
    // A name of its own: two that write at the same time would mix what they write.
    let new = folder.join(format!("{shard:02}{}", draft_suffix(member)));
    let text = json!({"version": 1, "shard": shard, "epoch": epoch, "registry": registry});
    let written = write_new(world, &new, format!("{text}\n").as_bytes()).and_then(|()| {
        let newer = newer(world, root, shard, epoch)?;
        if newer.is_none() {
            world.fs.rename(&new, &folder.join(file_name(shard)))?;
        }
        Ok(newer)
    });
    match written {
        Ok(None) => sync_dir(world, &folder).map(|()| Wrote::Done),
        other => {
            let _ = world.fs.remove(&new);
            other.map(|newer| newer.map_or(Wrote::Done, Wrote::Newer))
        }
    }
}

fn newer(world: &World, root: &Path, shard: u16, epoch: u64) -> io::Result<Option<Note>> {
    Ok(read(world, root, shard)?.filter(|there| there.epoch > epoch))
}

fn write_new(world: &World, path: &Path, content: &[u8]) -> io::Result<()> {
    // Whatever is there with that name, it is not written through.
    match world.fs.remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = world.fs.open(path, OpenHow::Truncate(FILE_MODE))?;
    file.write_all(content)?;
    file.sync()
}

fn file_name(shard: u16) -> String {
    format!("{shard:02}.json")
}

/// What a member's unfinished notes end in.
pub(crate) fn draft_suffix(member: &str) -> String {
    let hash = member.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!(".{hash:016x}.new")
}

/// Makes `.pillion/shards`, each folder durable in the one above.
fn make_folder(world: &World, root: &Path) -> io::Result<()> {
    if !is_there(world, root)? {
        world.fs.create_dir_all(&folder(root), DIR_MODE)?;
    }
    // Also what an earlier run made and didn't live to sync.
    sync_dir(world, &root.join(FOLDER))?;
    match sync_dir(world, root) {
        // The root need not be ours to open.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}

/// Whether the folder of notes is there. Looking at each folder makes a network file system's client ask for the names in
/// it.
fn is_there(world: &World, root: &Path) -> io::Result<bool> {
    world.fs.stat(root, true).map_err(said(root))?;
    for path in [root.join(FOLDER), folder(root)] {
        match world.fs.stat(&path, false) {
            Ok(meta) if meta.kind == FileKind::Dir => {}
            Ok(_) => return Err(faulty(&path, "not a folder")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(said(&path)(e)),
        }
    }
    Ok(true)
}

fn faulty(path: &Path, why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()))
}

/// Adds the path to what the system says.
fn said(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |e| io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

/// What is noted of a shard; `None`: nothing was ever noted.
///
/// # Errors
/// When there is something that can't be read, isn't a regular file, is too large, or isn't a note of this shard
/// (`InvalidData`, with the path and what is wrong).
pub fn read(world: &World, root: &Path, shard: u16) -> io::Result<Option<Note>> {
    let path = folder(root).join(file_name(shard));
    let mut tries = TRIES;
    let bytes = loop {
        tries -= 1;
        match is_there(world, root).and_then(|there| if there { bytes(world, &path) } else { Ok(None) }) {
            Err(e) if e.kind() == io::ErrorKind::StaleNetworkFileHandle && tries > 0 => {}
            other => break other?,
        }
    };
    bytes.map(|bytes| parse(&bytes, shard).map_err(|why| faulty(&path, why))).transpose()
}

/// The bytes of a small regular file.
fn bytes(world: &World, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let regular = |kind| if kind == FileKind::File { Ok(()) } else { Err(faulty(path, "not a regular file")) };
    // Looked at first: opening a device may do something.
    let file = world.fs.stat(path, false).and_then(|meta| {
        regular(meta.kind)?;
        world.fs.open(path, OpenHow::ReadNoFollow)
    });
    let file = match file {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => return Err(e),
        Err(e) => return Err(said(path)(e)),
    };
    regular(file.stat().map_err(said(path))?.kind)?;
    let mut out = Vec::new();
    let mut buf = [0; 1024];
    loop {
        match file.read_at(&mut buf, out.len() as u64).map_err(said(path))? {
            0 => return Ok(Some(out)),
            n => out.extend_from_slice(buf.get(..n).unwrap_or_default()),
        }
        if out.len() as u64 > MAX_NOTE {
            return Err(faulty(path, format_args!("larger than {MAX_NOTE} bytes")));
        }
    }
}

fn parse(bytes: &[u8], shard: u16) -> Result<Note, &'static str> {
    let value: Value = serde_json::from_slice(bytes).map_err(|_| "not JSON")?;
    if value.get("version").and_then(Value::as_u64) != Some(1) {
        return Err("of a version that isn't known");
    }
    if value.get("shard").and_then(Value::as_u64) != Some(u64::from(shard)) {
        return Err("a note of another shard");
    }
    let epoch = value.get("epoch").and_then(Value::as_u64).ok_or("no epoch")?;
    let registry = value.get("registry").and_then(Value::as_str).ok_or("no registry")?;
    member_of(registry).ok_or("what it names is no registry")?;
    Ok(Note { epoch, registry: registry.to_owned() })
}

/// What the fuzz target `note` calls: any bytes as a note. An error names what doesn't hold.
pub fn fuzz(data: &[u8]) -> Result<(), String> {
    let Ok(note) = parse(data, 7) else { return Ok(()) };
    let root = Path::new("/r");
    let path = member_of(&note.registry).and_then(|member| data_path(root, member));
    let path = path.ok_or_else(|| format!("{note:?} was let through"))?;
    let plain =
        |c: std::path::Component<'_>| !matches!(c, std::path::Component::ParentDir | std::path::Component::CurDir);
    let below = root.join(FOLDER).join(REPLICAS);
    if path.parent() == Some(&*below) && path.components().all(plain) { Ok(()) } else { Err(format!("{path:?}")) }
}
