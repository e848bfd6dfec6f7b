//! The log and the checkpoint, and the order of the steps that write them.
//!
//! ```text
//! log.json     {"op":"set","id":8,"crc32":N}      N = CRC-32 of the next line without its end
//!              {"k":KEY,"v":VALUE}
//! 7.json       [ {"_key":KEY,…members of VALUE…}, … ]      all that was known when id 7 was used up
//! active.dat   the path of the newest checkpoint, for people
//! ```
//! Append: write, fdatasync. Checkpoint: write `checkpoint.new`, fdatasync, rename to `<id>.json`, sync the directory;
//! then empty the log, sync it, write `active.dat`, remove older checkpoints.
//!
//! Always holds:
//! - After a failed or doubtful step the log is given up: nothing is appended behind what may be torn, or with ids that
//!   a checkpoint that may or may not be there would leave a gap before. Only a new checkpoint ends that state.
//! - An id is never used twice, also not for what failed.
//! - A log that holds anything is never appended to by another process than the one that wrote it: a start writes a
//!   checkpoint of what it read. What is to be seen in the log may not be on the disk, and after a sync that failed once no
//!   later one puts it there.
//! - An older checkpoint is removed only when the newer one is durable.
//!
//! Tested in `tests/crash.rs`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pillion_world::{File, OpenHow, World};

use crate::registry::{Change, Record};
use crate::value;

pub(crate) const LOG: &str = "log.json";
pub(crate) const META: &str = "meta.json";
pub(crate) const ACTIVE: &str = "active.dat";
pub(crate) const CHECKPOINT_NEW: &str = "checkpoint.new";

/// The log's size from which a checkpoint is taken, as in Filebeat.
pub(crate) const CHECKPOINT_AT: u64 = 10 << 20;
/// How much further the log may grow before a checkpoint that failed is tried again.
const RETRY_AFTER: u64 = 1 << 20;
/// How much is written at once.
const WRITE: usize = 256 * 1024;

/// What goes into a checkpoint.
pub(crate) type Records<'a> = &'a mut dyn Iterator<Item = (Arc<str>, Record)>;

/// The files of one memlog store.
pub(crate) struct Disk {
    world: World,
    home: PathBuf,
    mode: u32,
    /// `None`: a checkpoint has to be taken before anything can be appended.
    log: Option<Box<dyn File>>,
    log_len: u64,
    /// The log's size from which a checkpoint is taken at the earliest.
    least: u64,
    checkpoint_at: u64,
    next_id: u64,
    /// The newest checkpoint, and older ones that couldn't be removed.
    checkpoints: Vec<PathBuf>,
}

impl Disk {
    /// A store whose log isn't open: the first thing that is written is a checkpoint.
    pub(crate) fn new(world: &World, home: &Path, mode: u32, next_id: u64, checkpoints: Vec<PathBuf>) -> Disk {
        let (world, home) = (world.clone(), home.to_owned());
        let (least, checkpoint_at) = (CHECKPOINT_AT, CHECKPOINT_AT);
        Disk { world, home, mode, log: None, log_len: 0, least, checkpoint_at, next_id, checkpoints }
    }

    /// The same, with checkpoints from another size of the log on.
    pub(crate) fn with_checkpoints_at(self, least: u64) -> Disk {
        Disk { least, checkpoint_at: least, ..self }
    }

    /// Goes on with a log that is there and empty.
    pub(crate) fn resume(&mut self, checkpoint_len: u64) -> io::Result<()> {
        let log = self.world.fs.open(&self.home.join(LOG), OpenHow::Append(self.mode))?;
        log.sync()?;
        sync_dir(&self.world, &self.home)?;
        self.log = Some(log);
        self.checkpoint_at = self.least.max(checkpoint_len);
        Ok(())
    }

    /// Whether nothing can be appended before the next checkpoint.
    pub(crate) fn must_checkpoint(&self) -> bool {
        self.log.is_none()
    }

    /// Whether the log has grown enough for a checkpoint.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        self.log_len >= self.checkpoint_at
    }

    /// Appends changes to the log and makes them durable.
    pub(crate) fn append(&mut self, changes: &mut dyn Iterator<Item = Change>) -> io::Result<()> {
        let log = self.log.take().ok_or_else(|| io::Error::other("the log was given up"))?;
        let (mut out, mut line) = (Vec::new(), Vec::new());
        for (key, record) in changes {
            line.clear();
            encode_operation(self.next_id, &key, record.as_ref(), &mut line, &mut out);
            self.next_id += 1;
            if out.len() >= WRITE {
                log.write_all(&out)?;
                self.log_len += out.len() as u64;
                out.clear();
            }
        }
        log.write_all(&out)?;
        self.log_len += out.len() as u64;
        log.sync()?;
        self.log = Some(log);
        Ok(())
    }

    /// Writes everything anew. After an error before the rename the log is still good; see [`Disk::must_checkpoint`].
    pub(crate) fn checkpoint(&mut self, records: Records<'_>) -> io::Result<()> {
        self.checkpoint_at = self.log_len + RETRY_AFTER;
        let new = self.home.join(CHECKPOINT_NEW);
        let len = self.write_checkpoint(&new, records)?;
        let path = self.home.join(format!("{}.json", self.next_id));
        self.next_id += 1;
        self.log = None;
        self.world.fs.rename(&new, &path)?;
        sync_dir(&self.world, &self.home)?;
        // Durable from here on: what fails now is made good by the next checkpoint.
        self.checkpoint_at = self.least.max(len);
        self.log = self.cleared_log().ok();
        self.log_len = 0;
        let _ = self.mark_active(&path);
        let fs = &self.world.fs;
        self.checkpoints.retain(|old| fs.remove(old).is_err_and(|e| e.kind() != io::ErrorKind::NotFound));
        self.checkpoints.push(path);
        Ok(())
    }

    fn write_checkpoint(&self, path: &Path, records: Records<'_>) -> io::Result<u64> {
        let file = self.world.fs.open(path, OpenHow::Truncate(self.mode))?;
        let mut out = b"[".to_vec();
        let mut len = 0;
        for (n, (key, record)) in records.enumerate() {
            out.extend_from_slice(if n == 0 { b"\n" } else { b",\n" });
            value::encode(&record, &key, true, &mut out);
            if out.len() >= WRITE {
                file.write_all(&out)?;
                len += out.len() as u64;
                out.clear();
            }
        }
        out.extend_from_slice(b"\n]");
        file.write_all(&out)?;
        file.sync()?;
        Ok(len + out.len() as u64)
    }

    fn cleared_log(&self) -> io::Result<Box<dyn File>> {
        let log = self.world.fs.open(&self.home.join(LOG), OpenHow::Truncate(self.mode))?;
        log.sync()?;
        sync_dir(&self.world, &self.home)?;
        Ok(log)
    }

    fn mark_active(&self, checkpoint: &Path) -> io::Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let new = self.home.join(format!("{ACTIVE}.new"));
        self.world.fs.open(&new, OpenHow::Truncate(self.mode))?.write_all(checkpoint.as_os_str().as_bytes())?;
        self.world.fs.rename(&new, &self.home.join(ACTIVE))
    }
}

/// Two lines of the log: the action with a checksum, and what it is about.
pub(crate) fn encode_operation(id: u64, key: &str, record: Option<&Record>, line: &mut Vec<u8>, out: &mut Vec<u8>) {
    let op = match record {
        Some(record) => {
            value::encode(record, key, false, line);
            "set"
        }
        None => {
            line.extend_from_slice(b"{\"k\":");
            value::put_str(line, key);
            line.push(b'}');
            "remove"
        }
    };
    let crc = crc32fast::hash(line);
    out.extend_from_slice(format!("{{\"op\":\"{op}\",\"id\":{id},\"crc32\":{crc}}}\n").as_bytes());
    out.extend_from_slice(line);
    out.push(b'\n');
}

/// Makes the names in a directory durable, where its file system knows of that (some FUSE ones refuse the call).
pub(crate) fn sync_dir(world: &World, dir: &Path) -> io::Result<()> {
    match world.fs.sync_dir(dir) {
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}
