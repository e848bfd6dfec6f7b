//! The calls themselves, one after the other, as long as they take. Tested with the module above.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pillion_world::{File, FileKind, Lock, OpenHow, World, rfc3339};
use serde_json::{Value, json};

use crate::board::{Beat, Board, Rules, Table, Version};
use crate::order::Wrote;
use crate::text::{TABLE_LIMIT, is_name, read_table, table_text};

/// The folder of all that is Pillion's, beside the logs.
const FOLDER: &str = ".pillion";
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// The table's name in the board's folder.
const TABLE: &str = "table.json";
/// A sign of life has a few hundred bytes.
const BEAT_LIMIT: usize = 4096;
/// Entries of the members' folder that are looked at.
const MEMBERS: usize = 1024;
/// The longest text of a stamp's parts that is believed.
const STAMP: usize = 64;
/// So many files that make no sense are named.
const SAID: usize = 8;
/// How often a file is opened anew that was replaced while it was read.
const TRIES: usize = 4;
/// What a table's version is called that can't be read.
const BROKEN: &str = "?";

const ENOLCK: i32 = 37;
const ESTALE: i32 = 116;
const ELOOP: i32 = 40;

pub(super) struct Shelf {
    world: World,
    folder: PathBuf,
    member: String,
    rules: Rules,
    limit: Duration,
    beats: Mutex<u64>,
    said: Mutex<Vec<String>>,
}

/// What a member builds a file in before it is whole.
fn draft_of(path: &Path, member: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(OsStr::new(&format!(".{member}.new")));
    name.into()
}

impl Shelf {
    pub(super) fn new(world: World, root: &Path, member: &str, rules: Rules, limit: Duration) -> Shelf {
        let folder = root.join(FOLDER).join("board");
        Shelf {
            world,
            folder,
            member: member.to_owned(),
            rules,
            limit,
            beats: Mutex::default(),
            said: Mutex::default(),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn members(&self) -> PathBuf {
        self.folder.join("members")
    }

    fn life(&self, member: &str) -> PathBuf {
        self.members().join(format!("{member}.json"))
    }

    pub(super) fn beat(&self, leaving: bool) -> Result<(), String> {
        let beats = {
            let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
            *beats += 1;
            *beats
        };
        let at = rfc3339(self.world.clock.wall());
        let mut text = json!({"member": self.member, "beats": beats, "at": at, "leaving": leaving});
        if let (Some(text), Rules { shards, lease }) = (text.as_object_mut(), self.rules) {
            text.extend(shards.map(|count| ("shards".to_owned(), json!(count))));
            text.extend(lease.map(|lease| ("lease_ms".to_owned(), json!(lease.as_millis() as u64))));
        }
        let path = self.life(&self.member);
        self.replace(&path, &text.to_string()).map_err(|e| told(&path, &e))
    }

    pub(super) fn look(&self) -> Result<Board, String> {
        let mut nonsense = Vec::new();
        let table = self.table(&mut nonsense)?;
        let mut names = self.listed()?;
        let records = table.iter().flat_map(|(_, table)| table.values());
        names.extend(records.filter_map(|record| record.owner.clone()));
        names.sort_unstable();
        names.dedup();
        let mut beats = Vec::new();
        for name in names {
            match self.read_beat(&name) {
                Ok(Some(beat)) => beats.push(beat),
                Ok(None) => {}
                Err(Bad::Nonsense(why)) => nonsense.push(format!("{}: {why}", self.life(&name).display())),
                // One that can't be read now isn't dead for that: the whole look failed.
                Err(Bad::Failed(e)) => return Err(told(&self.life(&name), &e)),
            }
        }
        self.say(nonsense);
        Ok(Board { beats, table })
    }

    /// Members whose files the folder shows.
    fn listed(&self) -> Result<Vec<String>, String> {
        let folder = self.members();
        // Has a network file system ask its server anew.
        let _ = self.world.fs.stat(&folder, true);
        let (mut names, mut looked) = (Vec::new(), 0);
        let listed = self.world.fs.read_dir(&folder, &mut |entry| {
            let name = entry.name.to_str().and_then(|name| name.strip_suffix(".json"));
            names.extend(name.filter(|name| is_name(name)).map(str::to_owned));
            looked += 1;
            looked < MEMBERS
        });
        match listed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(told(&folder, &e)),
            _ => {}
        }
        Ok(names)
    }

    /// `None`: there is none.
    fn read_beat(&self, member: &str) -> Result<Option<Beat>, Bad> {
        let Some(text) = self.read(&self.life(member), BEAT_LIMIT)? else { return Ok(None) };
        let parsed: Value = serde_json::from_slice(&text).map_err(|_| Bad::Nonsense("it isn't JSON"))?;
        if parsed["member"].as_str() != Some(member) {
            return Err(Bad::Nonsense("it is another member's"));
        }
        let at = parsed["at"].as_str().unwrap_or_default();
        let Some(beats) = parsed["beats"].as_u64().filter(|_| at.len() <= STAMP) else {
            return Err(Bad::Nonsense("it has no count"));
        };
        let leaving = parsed["leaving"].as_bool().unwrap_or(false);
        let shards = parsed["shards"].as_u64().and_then(|count| u16::try_from(count).ok());
        let rules = Rules { shards, lease: parsed["lease_ms"].as_u64().map(Duration::from_millis) };
        Ok(Some(Beat { member: member.to_owned(), stamp: format!("{beats}@{at}"), leaving, rules }))
    }

    fn table(&self, nonsense: &mut Vec<String>) -> Result<Option<(Version, Table)>, String> {
        let path = self.folder.join(TABLE);
        let mut broken = |why: String| {
            nonsense.push(format!("{}: {why}", path.display()));
            Some((Version(BROKEN.to_owned()), Table::new()))
        };
        // The version and what is around the shards.
        let text = match self.read(&path, TABLE_LIMIT + BEAT_LIMIT) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(None),
            Err(Bad::Nonsense(why)) => return Ok(broken(why.to_owned())),
            Err(Bad::Failed(e)) => return Err(told(&path, &e)),
        };
        let parsed: Value = serde_json::from_slice(&text).unwrap_or_default();
        let Some(version) = parsed["version"].as_str().filter(|version| next(version).is_some()) else {
            return Ok(broken("it isn't JSON, or has no version".to_owned()));
        };
        let (table, bad) = read_table(json!({"shards": parsed["shards"]}).to_string().as_bytes());
        nonsense.extend(bad.map(|bad| format!("{}: {bad}", path.display())));
        Ok(Some((Version(version.to_owned()), table)))
    }

    pub(super) fn write(&self, over: Option<&Version>, table: &Table) -> Wrote {
        match self.write_over(over, table) {
            Ok(wrote) => wrote,
            Err(why) => {
                tracing::warn!("the table of shards isn't known to be written: {why}");
                Wrote::Unknown
            }
        }
    }

    fn write_over(&self, over: Option<&Version>, table: &Table) -> Result<Wrote, String> {
        let begun = self.world.clock.mono();
        let text = table_text(table).ok_or("it is too long, or has names that can't be")?;
        let Some(held) = self.lock()? else { return Ok(Wrote::Conflict) };
        let there = self.table(&mut Vec::new())?.map(|(version, _)| version);
        if there.as_ref() != over {
            return Ok(Wrote::Conflict);
        }
        if self.world.clock.mono().since(begun) > self.limit {
            // Nobody waits for it any more, and a network file system may have given the lock to another one.
            return Err("it took too long to get the lock".to_owned());
        }
        let fresh = || format!("{:016x}.1", self.world.random.u128() as u64);
        let version = there.and_then(|version| next(&version.0)).unwrap_or_else(fresh);
        let text = format!("{{\"version\":\"{version}\",{}\n", text.get(1..).unwrap_or_default());
        let path = self.folder.join(TABLE);
        self.replace(&path, &text).map_err(|e| told(&path, &e))?;
        self.world.fs.sync_dir(&self.folder).map_err(|e| told(&self.folder, &e))?;
        drop(held);
        Ok(Wrote::Done(Version(version)))
    }

    /// The table's lock; `None`: another one has it, for the moments that a write takes.
    pub(super) fn lock(&self) -> Result<Option<Box<dyn Lock>>, String> {
        let path = self.folder.join("table.lock");
        let held = match self.world.fs.try_lock(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.make_folders().map_err(|e| told(&self.folder, &e))?;
                self.world.fs.try_lock(&path)
            }
            other => other,
        };
        held.map_err(|e| told(&path, &e))
    }

    pub(super) fn bury(&self, beat: &Beat) -> Result<(), String> {
        let path = self.life(&beat.member);
        match is_name(&beat.member).then(|| self.read_beat(&beat.member)) {
            Some(Ok(Some(there))) if there == *beat => {
                // What it was writing when it died goes first: nobody asks for it when the sign of life is gone.
                let drafts = [&path, &self.folder.join(TABLE)].map(|of| draft_of(of, &beat.member));
                for path in drafts.iter().chain([&path]) {
                    match self.world.fs.remove(path) {
                        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(told(path, &e)),
                        _ => {}
                    }
                }
                Ok(())
            }
            Some(Err(Bad::Failed(e))) => Err(told(&path, &e)),
            _ => Ok(()),
        }
    }

    fn make_folders(&self) -> io::Result<()> {
        self.world.fs.create_dir_all(&self.members(), DIR_MODE)
    }

    /// Replaces a file whole; what it is built in has a name of its own, and isn't written through if it is there.
    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        let new = draft_of(path, &self.member);
        let mut file = self.draft(&new);
        if file.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            self.make_folders()?;
            file = self.draft(&new);
        }
        let file = file?;
        file.write_all(text.as_bytes())?;
        file.sync()?;
        drop(file);
        self.world.fs.rename(&new, path)
    }

    fn draft(&self, path: &Path) -> io::Result<Box<dyn File>> {
        match self.world.fs.remove(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        self.world.fs.open(path, OpenHow::Truncate(FILE_MODE))
    }

    /// A whole file, opened anew when it was replaced meanwhile; `None`: there is none.
    fn read(&self, path: &Path, limit: usize) -> Result<Option<Vec<u8>>, Bad> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.read_once(path, limit) {
                Err(Bad::Failed(e)) if e.raw_os_error() == Some(ESTALE) && tries < TRIES => {}
                Err(Bad::Failed(e)) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                other => return other.map(Some),
            }
        }
    }

    fn read_once(&self, path: &Path, limit: usize) -> Result<Vec<u8>, Bad> {
        let file = self.world.fs.open(path, OpenHow::ReadNoFollow).map_err(|e| match e.raw_os_error() {
            Some(ELOOP) => Bad::Nonsense("it is a symbolic link"),
            _ => Bad::Failed(e),
        })?;
        if file.stat()?.kind != FileKind::File {
            return Err(Bad::Nonsense("it isn't a regular file"));
        }
        let mut text = vec![0; limit + 1];
        let mut len = 0;
        while let Some(room) = text.get_mut(len..).filter(|room| !room.is_empty()) {
            match file.read_at(room, len as u64)? {
                0 => break,
                n => len += n,
            }
        }
        if len > limit {
            return Err(Bad::Nonsense("it is too large"));
        }
        text.truncate(len);
        Ok(text)
    }

    /// Says what makes no sense, once.
    fn say(&self, mut nonsense: Vec<String>) {
        nonsense.truncate(SAID);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for what in nonsense.iter().filter(|what| !said.contains(what)) {
            tracing::warn!("{what}: it counts as not there");
        }
        *said = nonsense;
    }
}

/// Why a file's content isn't known.
enum Bad {
    /// Somebody wrote what isn't ours.
    Nonsense(&'static str),
    /// The file system failed.
    Failed(io::Error),
}

impl From<io::Error> for Bad {
    fn from(e: io::Error) -> Bad {
        Bad::Failed(e)
    }
}

/// The version that follows: `TAG.COUNT`, where the tag is random for each file that was made anew.
fn next(version: &str) -> Option<String> {
    let (tag, count) = version.rsplit_once('.').filter(|(tag, _)| is_name(tag) && tag.len() <= STAMP)?;
    Some(format!("{tag}.{}", count.parse::<u64>().ok()?.checked_add(1)?))
}

/// An error with the path, and what can be done where locks don't work.
fn told(path: &Path, e: &io::Error) -> String {
    if e.raw_os_error() == Some(ENOLCK) || e.kind() == io::ErrorKind::Unsupported {
        return format!(
            "{}: {e}: files can't be locked there, so that replicas can't agree by files. Mount it with locks (NFS: version \
             4, or without `nolock`), or use `pillion.shards.board: kubernetes`, or `static`",
            path.display()
        );
    }
    format!("{}: {e}", path.display())
}
