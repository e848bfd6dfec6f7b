//! The numbers of one moment, however they are shown.
//!
//! Comes in: what the parts of a run count. Goes out: the same in one piece. Always holds: counters only grow while the
//! process lives. Tested where they are shown.

use serde_json::{Map, Value};

use crate::process::Process;

/// Who this is: what doesn't change while the process lives.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The setting `name`, else the host's.
    pub name: String,
    /// The host's name.
    pub hostname: String,
    /// The version of Filebeat that events carry.
    pub version: String,
    /// The lasting id, a UUID.
    pub uuid: String,
    /// The id of this run, a UUID.
    pub ephemeral_id: String,
    /// The output's name.
    pub output: &'static str,
    /// User and group that the process runs as.
    pub ids: (u32, u32),
    /// The queue's name: `mem` or `disk`.
    pub queue: &'static str,
    /// The types of the inputs that the configuration began with, each once, in order.
    pub kinds: Vec<&'static str>,
    /// `monitoring.cluster_uuid`: to which cluster a monitor counts this; empty when nobody said.
    pub cluster: String,
    /// What is known of the machine, as `add_host_metadata` has it.
    pub host: Map<String, Value>,
}

/// What reading has done, and what it has before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Files that are known.
    pub files: u64,
    /// Open files, how often one was opened, and files beyond the table.
    pub open: u64,
    /// How often a file was opened.
    pub opened: u64,
    /// Files that weren't taken up since the table is full.
    pub refused: u64,
    /// How often a file was found at another path.
    pub renamed: u64,
    /// How often a file was truncated.
    pub truncated: u64,
    /// Files that are gone, and that the registry has forgotten.
    pub forgotten: u64,
    /// How often further files of inputs were looked at (`reload.enabled`).
    pub scans: u64,
    /// How often one of them had changed.
    pub reloads: u64,
    /// Bytes that were read into batches.
    pub bytes: u64,
    /// Events that were read.
    pub events: u64,
    /// Lines and events that the configuration left out.
    pub filtered: u64,
    /// Events that `rate_limit` dropped.
    pub limited: u64,
    /// Datagrams that the kernel dropped.
    pub lost_datagrams: u64,
    /// Bytes that were destroyed before they could be read.
    pub lost_bytes: u64,
    /// Bytes between what is read and the ends of the files, and files with such bytes.
    pub unread_bytes: u64,
    /// Files with such bytes.
    pub unread_files: u64,
    /// Threads that a file system doesn't answer.
    pub hung: u64,
}

/// What became of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Events that the target acknowledged now.
    pub acked: u64,
    /// Events that it had already.
    pub duplicates: u64,
    /// Events that it refused and a dead-letter index or file has.
    pub dead_lettered: u64,
    /// Events that it refused for good.
    pub dropped: u64,
    /// Events sent again, each time counted.
    pub retried: u64,
    /// Events that the target put off as it has too many (429), each time counted.
    pub too_many: u64,
    /// Requests sent.
    pub requests: u64,
    /// Requests that failed as a whole.
    pub failed: u64,
    /// Bytes written to the target.
    pub bytes: u64,
    /// Whether the target was there at least once.
    pub reached: bool,
}

/// What is between reader and acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// Events.
    pub events: u64,
    /// Bytes of memory, or of the disk queue's files.
    pub bytes: u64,
    /// Events that no output has taken yet.
    pub waiting: u64,
    /// The most events; 0: there is no such limit.
    pub limit_events: u64,
    /// The most bytes; 0: there is no such limit.
    pub limit_bytes: u64,
    /// Bytes of files between the cursors and what is read.
    pub unacked_bytes: u64,
    /// Files with such bytes that have none to be read.
    pub unacked_files: u64,
}

/// What the registry has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// Files that it knows.
    pub entries: u64,
    /// Cursors that moved.
    pub updates: u64,
    /// Writes that made something durable.
    pub written: u64,
    /// Writes that failed.
    pub failed: u64,
}

/// One input, for `/inputs/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// Its `id`; empty when there is none.
    pub id: String,
    /// Its type.
    pub kind: &'static str,
    /// Bytes and events that were read.
    pub bytes: u64,
    /// Events that were read.
    pub events: u64,
    /// Events that the target acknowledged, duplicates included.
    pub acked: u64,
    /// Events that the target refused, dead-lettered ones included.
    pub refused: u64,
}

/// See the module's header.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// How long the run has lasted, ms.
    pub uptime_ms: u64,
    /// Inputs that the configuration began with.
    pub inputs: u64,
    /// Reading.
    pub read: Read,
    /// The way.
    pub queued: Queued,
    /// The target.
    pub output: Output,
    /// The registry.
    pub registered: Registered,
    /// The process.
    pub process: Process,
    /// Why it isn't ready; empty when it is.
    pub unready: Vec<String>,
}

impl Snapshot {
    /// Events that are read and not settled.
    pub fn active(&self) -> u64 {
        let o = &self.output;
        self.read.events.saturating_sub(o.acked + o.duplicates + o.dead_lettered + o.dropped)
    }

    /// Bytes between the cursors and the ends of the files.
    pub fn lag_bytes(&self) -> u64 {
        self.read.unread_bytes.saturating_add(self.queued.unacked_bytes)
    }

    /// Files that aren't acknowledged to their ends.
    pub fn lag_files(&self) -> u64 {
        self.read.unread_files.saturating_add(self.queued.unacked_files)
    }
}
