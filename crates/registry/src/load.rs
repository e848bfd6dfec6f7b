//! Reading a memlog store back, whatever its files hold.
//!
//! Comes in: the files of `registry/filebeat/`, perhaps Filebeat's, perhaps torn, perhaps hostile. Goes out: the records,
//! the next free id, and whether the log can be appended to.
//!
//! Always holds: the state is that of the newest checkpoint and of the log up to its first line that is broken, out of
//! sequence, unknown, or doesn't match its checksum. Memory is bounded by [`MAX_FILE`] and [`MAX_ENTRIES`]. A damaged
//! checkpoint counts up to the damage: what is missing is read again from its beginning, never skipped.
//! Tested in `tests/` and by the fuzz target `registry`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pillion_world::{File, FileKind, OpenHow, World};
use serde_json::Value;

use crate::chunks::{self, Bytes, Element, Line};
use crate::disk::LOG;
use crate::entry::Entry;
use crate::error::Error;
use crate::registry::Record;
use crate::value::{self, Decoded, Words};

/// Larger files aren't taken for a registry, in bytes.
pub(crate) const MAX_FILE: u64 = 1 << 30;
/// More entries aren't kept.
pub(crate) const MAX_ENTRIES: usize = 1_000_000;
/// Ids above this are taken for damage: the sequence can't be at its end.
const MAX_ID: u64 = 1 << 62;
/// How many faults are described; the others are counted.
const MAX_FAULTS: usize = 20;

/// How much is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Larger files aren't taken for a registry, in bytes.
    pub(crate) file: u64,
    /// More entries aren't kept.
    pub(crate) entries: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { file: MAX_FILE, entries: MAX_ENTRIES }
    }
}

pub(crate) type Map = BTreeMap<Arc<str>, Record>;

/// Which files are kept; `None`: all, and what isn't a file's too.
pub(crate) type Part<'a> = Option<&'a dyn Fn(&Entry) -> bool>;

/// What was read, by its key.
#[derive(Default)]
pub(crate) struct Records<'a> {
    pub(crate) map: Map,
    words: Words,
    limits: Limits,
    part: Part<'a>,
}

impl Records<'_> {
    fn keeps(&self, record: &Record) -> bool {
        match (self.part, record) {
            (None, _) => true,
            (Some(part), Record::File(entry)) => part(entry),
            (Some(_), Record::Foreign(_)) => false,
        }
    }
}

/// What was wrong with what was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) list: Vec<String>,
    pub(crate) count: usize,
}

impl Faults {
    pub(crate) fn add(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.list.len() < MAX_FAULTS {
            self.list.push(what());
        }
    }
}

/// What is to be done about the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFile {
    /// Nothing: the first sync makes it.
    Missing,
    /// It can be appended to.
    Empty,
    /// A checkpoint has to take its place.
    Used,
}

/// What a store held.
pub(crate) struct Loaded<'a> {
    pub(crate) records: Records<'a>,
    pub(crate) next_id: u64,
    pub(crate) log: LogFile,
    pub(crate) checkpoint_len: u64,
    /// The newest checkpoint's id, 0 = there was none; and whether it was there and whole.
    pub(crate) checkpoint: (u64, Newest),
    /// All checkpoints, the newest last.
    pub(crate) checkpoints: Vec<PathBuf>,
    /// Why the log's reading ended before its end.
    pub(crate) torn: Option<String>,
    /// The log's first operation is a later one than that behind the checkpoint.
    pub(crate) gap: bool,
}

/// How the newest checkpoint was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Newest {
    /// Whole, or there was none.
    Whole,
    /// Broken from some entry on.
    Damaged,
    /// It was listed, and wasn't there any more.
    Gone,
}

/// Reads the store in `home`; of the files that it knows, those of the part.
pub(crate) fn load<'a>(
    world: &World,
    home: &Path,
    limits: Limits,
    part: Part<'a>,
    faults: &mut Faults,
) -> Result<Loaded<'a>, Error> {
    let checkpoints = list_checkpoints(world, home)?;
    let mut records = Records { limits, part, ..Records::default() };
    let unreadable = |path: &Path, e| unreadable(path, e, limits);
    let (mut id, mut checkpoint_len, mut newest) = (0, 0, Newest::Whole);
    if let Some((last, path)) = checkpoints.last() {
        (id, newest) = (*last, Newest::Gone);
        if let Some(file) = open(world, path)? {
            let mut bytes = Bytes::new(bounded(&*file, limits.file));
            let whole = read_checkpoint(&mut bytes, path, &mut records, faults).map_err(|e| unreadable(path, e))?;
            checkpoint_len = bytes.len();
            newest = if whole { Newest::Whole } else { Newest::Damaged };
        }
    }
    let log = home.join(LOG);
    let mut loaded = Loaded {
        records,
        next_id: id + 1,
        log: LogFile::Missing,
        checkpoint_len,
        checkpoint: (id, newest),
        checkpoints: checkpoints.into_iter().map(|(_, path)| path).collect(),
        torn: None,
        gap: false,
    };
    if let Some(file) = open(world, &log)? {
        let mut bytes = Bytes::new(bounded(&*file, limits.file));
        let read = read_log(&mut bytes, id, &mut loaded.records).map_err(|e| unreadable(&log, e))?;
        loaded.next_id = read.max_id + 1;
        loaded.log = if bytes.len() == 0 && newest != Newest::Damaged { LogFile::Empty } else { LogFile::Used };
        (loaded.torn, loaded.gap) = (read.torn, read.gap);
    }
    Ok(loaded)
}

fn unreadable(path: &Path, source: io::Error, limits: Limits) -> Error {
    match source.kind() {
        io::ErrorKind::FileTooLarge => {
            Error::TooLarge { path: path.into(), limit: limits.file, entries: limits.entries }
        }
        _ => Error::Unreadable { path: path.into(), source },
    }
}

/// Opens a file that need not exist; anything but a regular file isn't read.
pub(crate) fn open(world: &World, path: &Path) -> Result<Option<Box<dyn File>>, Error> {
    match world.fs.open(path, OpenHow::Read) {
        Ok(file) => match file.stat() {
            Ok(meta) if meta.kind == FileKind::File => Ok(Some(file)),
            Ok(_) => Err(unreadable(path, io::Error::other("not a regular file"), Limits::default())),
            Err(e) => Err(unreadable(path, e, Limits::default())),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(unreadable(path, e, Limits::default())),
    }
}

/// Reads from a file and ends with an error beyond `limit` bytes.
pub(crate) fn bounded(file: &dyn File, limit: u64) -> impl FnMut(&mut [u8], u64) -> io::Result<usize> {
    move |buf, offset| {
        if offset > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        file.read_at(buf, offset)
    }
}

/// The checkpoints in a directory by their ids, the newest last.
pub(crate) fn list_checkpoints(world: &World, home: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut all = Vec::new();
    let mut each = |entry: pillion_world::DirEntry<'_>| {
        let id = entry.name.to_str().and_then(|n| n.strip_suffix(".json")).filter(|n| n.len() <= 20);
        let id = id.filter(|n| n.bytes().all(|b| b.is_ascii_digit())).and_then(|n| n.parse().ok());
        if let Some(id) = id.filter(|id| *id <= MAX_ID && matches!(entry.kind, FileKind::File | FileKind::Unknown)) {
            all.push((id, home.join(entry.name)));
        }
        true
    };
    world.fs.read_dir(home, &mut each).map_err(|e| unreadable(home, e, Limits::default()))?;
    all.sort_unstable();
    Ok(all)
}

/// Reads a checkpoint; `false` when it is damaged.
fn read_checkpoint<R: FnMut(&mut [u8], u64) -> io::Result<usize>>(
    bytes: &mut Bytes<R>,
    path: &Path,
    records: &mut Records<'_>,
    faults: &mut Faults,
) -> io::Result<bool> {
    let mut out = Vec::new();
    let mut n = 0;
    loop {
        let place = || format!("{}: entry {n}", path.display());
        match bytes.element(n == 0, &mut out)? {
            Element::End => return Ok(true),
            Element::Damaged => {
                faults.add(|| format!("{}: ends in the middle, behind entry {n}", path.display()));
                return Ok(false);
            }
            Element::TooLong => faults.add(|| format!("{}: longer than {} bytes", place(), chunks::MAX_ITEM)),
            Element::Value => match serde_json::from_slice::<Value>(&out) {
                Ok(Value::Object(mut map)) => match map.shift_remove("_key") {
                    Some(Value::String(key)) => {
                        if records.map.contains_key(&*key) {
                            faults.add(|| format!("{}: key {key:?} is there twice; the last one counts", place()));
                        }
                        put(records, key.into(), Value::Object(map), faults, place)?;
                    }
                    _ => faults.add(|| format!("{}: no key", place())),
                },
                Ok(_) => faults.add(|| format!("{}: not an object", place())),
                Err(e) => faults.add(|| format!("{}: {e}", place())),
            },
        }
        n += 1;
    }
}

fn put(
    records: &mut Records<'_>,
    key: Arc<str>,
    value: Value,
    faults: &mut Faults,
    place: impl Fn() -> String,
) -> io::Result<()> {
    let record = match value::decode(&key, value, &mut records.words) {
        Decoded::File(entry) => Record::File(Arc::new(entry)),
        Decoded::Other(value) => Record::Foreign(Arc::new(value)),
        Decoded::Faulty(value, why) => {
            faults.add(|| format!("{}, key {key:?}: {why}; the file counts as unread", place()));
            Record::Foreign(Arc::new(value))
        }
        Decoded::Expired => {
            records.map.remove(&key);
            return Ok(());
        }
    };
    if !records.keeps(&record) {
        // A file that has left the part.
        records.map.remove(&key);
        return Ok(());
    }
    if records.map.len() >= records.limits.entries && !records.map.contains_key(&key) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    records.map.insert(key, record);
    Ok(())
}

struct LogRead {
    /// The highest id in the log or of the checkpoint, also behind where the reading ended.
    max_id: u64,
    torn: Option<String>,
    /// The first operation is a later one than that behind the checkpoint.
    gap: bool,
}

/// Applies the log to the state of checkpoint `id`.
fn read_log<R: FnMut(&mut [u8], u64) -> io::Result<usize>>(
    bytes: &mut Bytes<R>,
    checkpoint: u64,
    records: &mut Records<'_>,
) -> io::Result<LogRead> {
    let (mut action, mut line) = (Vec::new(), Vec::new());
    let (mut id, mut gap) = (checkpoint, false);
    loop {
        let first = bytes.line(&mut action)?;
        if first == Line::End {
            return Ok(LogRead { max_id: id, torn: None, gap: false });
        }
        let second = if first == Line::Whole { bytes.line(&mut line)? } else { Line::End };
        let end = match operation(&action, &line, second) {
            // A checkpoint was taken, and the log wasn't emptied any more.
            Ok(op) if op.id <= checkpoint && id == checkpoint => continue,
            Ok(op) if op.id != id + 1 => {
                gap = id == checkpoint;
                Err(format!("operation {} follows {id}", op.id))
            }
            Ok(op) => {
                id = op.id;
                apply(op, records)?;
                if second == Line::Unfinished { Err(format!("operation {id} has no line end")) } else { Ok(()) }
            }
            Err(why) => Err(format!("behind operation {id}: {why}")),
        };
        if let Err(why) = end {
            // Its own lines may name a higher id, and so may all that follow.
            let max_id = id.max(action_id(&action)).max(action_id(&line));
            return Ok(LogRead { max_id: highest_id(bytes, max_id, &mut line)?, torn: Some(why), gap });
        }
    }
}

pub(crate) struct Operation {
    pub(crate) id: u64,
    pub(crate) key: Arc<str>,
    /// `None`: remove.
    pub(crate) value: Option<Value>,
}

pub(crate) fn operation(action: &[u8], line: &[u8], second: Line) -> Result<Operation, String> {
    let action: Value = serde_json::from_slice(action).map_err(|e| format!("action: {e}"))?;
    let id = action.get("id").and_then(Value::as_u64).filter(|id| *id <= MAX_ID).ok_or("an action without an id")?;
    let set = match action.get("op").and_then(Value::as_str) {
        Some("set") => true,
        Some("remove") => false,
        _ => return Err("an unknown operation".into()),
    };
    if !matches!(second, Line::Whole | Line::Unfinished) {
        return Err("an action without its line".into());
    }
    if let Some(crc) = action.get("crc32")
        && crc.as_u64() != Some(u64::from(crc32fast::hash(line)))
    {
        return Err("the checksum doesn't match".into());
    }
    let Value::Object(mut kv) = serde_json::from_slice(line).map_err(|e| e.to_string())? else {
        return Err("not an object".into());
    };
    let Some(Value::String(key)) = kv.shift_remove("k") else { return Err("no key".into()) };
    let value = kv.shift_remove("v");
    if set && value.is_none() {
        return Err("no value".into());
    }
    Ok(Operation { id, key: key.into(), value: value.filter(|_| set) })
}

fn apply(op: Operation, records: &mut Records<'_>) -> io::Result<()> {
    match op.value {
        // A faulty value makes the file count as unread; the next change replaces it.
        Some(value) => put(records, op.key, value, &mut Faults::default(), String::new),
        None => {
            records.map.remove(&op.key);
            Ok(())
        }
    }
}

fn action_id(line: &[u8]) -> u64 {
    let id = serde_json::from_slice::<Value>(line).ok().and_then(|a| a.get("id")?.as_u64());
    id.filter(|id| *id <= MAX_ID).unwrap_or(0)
}

/// The highest id in the rest of a log: a checkpoint that takes its place must have a higher one, lest what is left of
/// it is applied again.
fn highest_id<R: FnMut(&mut [u8], u64) -> io::Result<usize>>(
    bytes: &mut Bytes<R>,
    mut id: u64,
    line: &mut Vec<u8>,
) -> io::Result<u64> {
    while bytes.line(line)? != Line::End {
        if line.starts_with(b"{\"op\"") {
            id = id.max(action_id(line));
        }
    }
    Ok(id)
}

/// The entries of a log and of a checkpoint with these bytes, for the fuzz target `foreign`.
pub(crate) fn fuzz_entries(data: &[u8], entries: usize) -> Vec<Entry> {
    let mut records = Records { limits: Limits { file: MAX_FILE, entries }, ..Records::default() };
    let path = Path::new("1.json");
    let bytes = || Bytes::new(chunks::slice_reader(data, 7));
    // Beyond the bounds it is an error; what was read until then is there.
    let _ = read_checkpoint(&mut bytes(), path, &mut records, &mut Faults::default());
    let _ = read_log(&mut bytes(), 0, &mut records);
    let entry = |record| match record {
        Record::File(entry) => Some(Arc::unwrap_or_clone(entry)),
        Record::Foreign(_) => None,
    };
    records.map.into_values().filter_map(entry).collect()
}

/// What the fuzz target `registry` calls: reads `data` as checkpoint, as log and as an old registry, and checks that what
/// was understood comes back the same when it is written and read again. An error names what doesn't hold.
pub fn fuzz(data: &[u8]) -> Result<(), String> {
    let text = |e: io::Error| e.to_string();
    let mut records = Records::default();
    let path = Path::new("1.json");
    read_checkpoint(&mut Bytes::new(chunks::slice_reader(data, 7)), path, &mut records, &mut Faults::default())
        .map_err(text)?;
    read_log(&mut Bytes::new(chunks::slice_reader(data, 7)), 0, &mut records).map_err(text)?;
    for entry in
        crate::takeover::read_array(&mut Bytes::new(chunks::slice_reader(data, 7)), path, &mut Faults::default())
            .map_err(text)?
    {
        records.map.insert(Arc::clone(&entry.key), Record::File(Arc::new(entry)));
    }
    let mut log = Vec::new();
    for (id, (key, record)) in (1..).zip(&records.map) {
        crate::disk::encode_operation(id, key, Some(record), &mut Vec::new(), &mut log);
    }
    let mut again = Records::default();
    let read = read_log(&mut Bytes::new(chunks::slice_reader(&log, 4096)), 0, &mut again).map_err(text)?;
    if let Some(torn) = read.torn {
        return Err(format!("what was written can't be read: {torn}"));
    }
    for (key, record) in &records.map {
        let same = match (record, again.map.get(key)) {
            (Record::File(a), Some(Record::File(b))) => a == b,
            (Record::Foreign(a), Some(Record::Foreign(b))) => a == b,
            _ => false,
        };
        if !same {
            return Err(format!("{key}: {record:?} became {:?}", again.map.get(key)));
        }
    }
    Ok(())
}
