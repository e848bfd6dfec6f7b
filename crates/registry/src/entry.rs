//! What the registry knows of one file.

use std::num::NonZeroI64;
use std::sync::Arc;

use pillion_event::{Guard, Incarnation};
use serde_json::{Map, Value};

use crate::key::{self, Identifier};

/// What the registry knows of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key: see [`crate::log_key`], [`crate::filestream_key`].
    pub key: Arc<str>,
    /// Which kind of input wrote it, and what only that kind keeps.
    pub kind: Kind,
    /// The file's path when it was last seen; shared with whoever else keeps it.
    pub source: Arc<str>,
    /// The first byte that isn't acknowledged.
    pub offset: u64,
    /// How long the entry lives after its last change, nanoseconds; negative = for ever (Filebeat's `clean_inactive`).
    pub ttl_ns: i64,
    /// When it was last changed: nanoseconds since 1970.
    pub updated_ns: i128,
    /// The life of the content that `offset` counts in.
    pub incarnation: Incarnation,
    /// Birth of the inode that `offset` was read from, nanoseconds since 1970: another one under the same inode number
    /// is another file. `None` where the file system doesn't keep it, and in what Filebeat wrote.
    pub birth_ns: Option<NonZeroI64>,
    /// The bytes just before `offset`: others there are another content. Of no length where nobody knows them.
    pub guard: Guard,
    /// Ranges that may have been sent and aren't acknowledged (`exactly_once`), in the order of their `from`.
    pub intents: Vec<Intent>,
    /// Members of the value that this version doesn't know: kept as they are.
    pub unknown: Option<Box<Map<String, Value>>>,
}

/// A range that was durable before it was sent: a restart sends it again, the same in every byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Intent {
    /// The batch's first byte.
    pub from: u64,
    /// The first byte behind it.
    pub to: u64,
    /// When it was read: milliseconds since 1970.
    pub read_ms: i64,
    /// `Batch::guard`: another content that happens to be there mustn't be sent in its place. Of no length where nobody
    /// knows it.
    pub guard: Guard,
}

/// Which kind of input an entry belongs to.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `log`, `container`, `stdin`: Filebeat's log input.
    Log(LogState),
    /// `filestream`.
    Filestream(FilestreamState),
}

/// What only Filebeat's log input keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// `FileStateOS`: inode number (also where the identifier is another).
    pub ino: u64,
    /// `FileStateOS`: device number.
    pub dev: u64,
    /// What is the same for all files of an input: kept once.
    pub words: Arc<LogWords>,
}

/// What entries of Filebeat's log input repeat for each file of an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogWords {
    /// `type`: `log`, `container`, `stdin`; empty in what 5.6 wrote.
    pub input_type: String,
    /// `prev_id`: the identifier before a change of `file_identity`.
    pub prev_id: String,
    /// `meta`: tells several states of one file apart (`stream` of a container input).
    pub meta: Vec<(String, String)>,
}

/// What only `filestream` keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilestreamState {
    /// `meta.fingerprint_len`: how many bytes a growing fingerprint covers (9.5 and later); `None` = the member is left
    /// out.
    pub fingerprint_len: Option<u64>,
    /// `cursor.eof`: a compressed file was read to its end (9.3 and later); `None` = the member is left out.
    pub eof: Option<bool>,
}

impl Entry {
    /// A file that was never read: offset 0, kept for ever.
    ///
    /// `kind` and `identifier` make the key; `input_id` is used by `filestream` alone (empty = none).
    pub fn new(
        kind: Kind,
        input_id: &str,
        identifier: &Identifier,
        source: Arc<str>,
        incarnation: Incarnation,
    ) -> Entry {
        let key = match &kind {
            Kind::Log(log) => key::log_key(identifier, &log.words.meta),
            Kind::Filestream(_) => key::filestream_key(input_id, identifier),
        };
        Entry {
            key: key.into(),
            kind,
            source,
            offset: 0,
            ttl_ns: -1,
            updated_ns: 0,
            incarnation,
            birth_ns: None,
            guard: Guard::default(),
            intents: Vec::new(),
            unknown: None,
        }
    }

    /// What tells the file from others: the end of the key.
    pub fn identifier(&self) -> Option<Identifier> {
        key::identifier_of(&self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_costs_little() {
        assert!(size_of::<Entry>() <= 176, "{} bytes", size_of::<Entry>());
    }
}
