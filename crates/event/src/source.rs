//! Where events come from: the input that the user configured and the file that it reads.

use std::any::Any;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

/// One life of a file's content: random, new at every truncation or replacement, durable in the registry before the
/// first event of it is sent with an id. With a byte range it names an event for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u128);

impl fmt::Display for Incarnation {
    /// 32 lower-case hexadecimal digits: the form in the registry and in event ids.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Incarnation {
    type Err = std::num::ParseIntError;

    fn from_str(s: &str) -> Result<Incarnation, Self::Err> {
        u128::from_str_radix(s, 16).map(Incarnation)
    }
}

/// How many bytes before an offset a [`Guard`] covers at most.
pub const GUARD: usize = 64;

/// A hash of the bytes just before an offset: tells a file that goes on from one whose content was replaced, though the
/// inode is the same and the size is enough (a copytruncate that went unseen).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guard {
    /// FNV-1a, 64 bits, of the bytes: it is kept in the registry, and so the same for ever. Nobody gains by a collision.
    pub hash: u64,
    /// How many bytes it covers, at most [`GUARD`]; 0 = nothing is known.
    pub len: u8,
}

impl Guard {
    /// Of the last bytes of `bytes`, which end at the offset.
    pub fn of(bytes: &[u8]) -> Guard {
        let tail = bytes.get(bytes.len().saturating_sub(GUARD)..).unwrap_or_default();
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Guard { hash: tail.iter().fold(0xcbf2_9ce4_8422_2325, step), len: tail.len() as u8 }
    }
}

/// The id of one event, unique for ever: what `exactly_once` sends as Elasticsearch's `_id` and as `@metadata._id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The life of the file that the event was read from.
    pub incarnation: Incarnation,
    /// The byte of the file at which the event begins.
    pub offset: u64,
    /// How many bytes of the file it covers.
    pub len: u32,
}

impl fmt::Display for EventId {
    /// `<incarnation>-<offset>-<length>`, the numbers in lower-case hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}-{:x}", self.incarnation, self.offset, self.len)
    }
}

/// Which kind of input reads a source: decides the event's `input.type` and the registry's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InputKind {
    /// `type: log` (also 5.6's `input_type: log`).
    Log,
    /// `type: filestream`.
    Filestream,
    /// `type: container`.
    Container,
    /// `type: docker` of 6 and 7: the log input with a container's files for its paths.
    Docker,
    /// `type: stdin`.
    Stdin,
    /// `type: tcp`.
    Tcp,
    /// `type: udp`.
    Udp,
    /// `type: unix`.
    Unix,
    /// `type: syslog`.
    Syslog,
}

impl InputKind {
    /// The name in configurations and events.
    pub fn as_str(self) -> &'static str {
        match self {
            InputKind::Log => "log",
            InputKind::Filestream => "filestream",
            InputKind::Container => "container",
            InputKind::Docker => "docker",
            InputKind::Stdin => "stdin",
            InputKind::Tcp => "tcp",
            InputKind::Udp => "udp",
            InputKind::Unix => "unix",
            InputKind::Syslog => "syslog",
        }
    }

    /// Whether its events come over sockets, and have no place in a file.
    pub fn is_network(self) -> bool {
        matches!(self, InputKind::Tcp | InputKind::Udp | InputKind::Unix | InputKind::Syslog)
    }
}

/// What all events of one configured input have in common.
#[derive(Clone, Debug)]
pub struct InputDesc {
    /// Its kind.
    pub kind: InputKind,
    /// The `id` setting; empty when there is none.
    pub id: String,
    /// Tags, the global ones first.
    pub tags: Vec<String>,
    /// The global and the input's `fields`, merged (the input's win), to be put under `fields`; empty = none.
    pub fields: Map<String, Value>,
    /// Fields to be put at the root of the event (`fields_under_root`); empty = none.
    pub root_fields: Map<String, Value>,
    /// `pipeline`: the ingest pipeline, a format string; `None` = the output's.
    pub pipeline: Option<String>,
    /// `index`: the index, a format string; `None` = the output's.
    pub index: Option<String>,
    /// `service.type`.
    pub service_type: Option<String>,
    /// 5.6's `document_type`.
    pub document_type: String,
    /// `publisher_pipeline.disable_host`: its events have no `host`.
    pub without_host: bool,
    /// `keep_null`: nulls in what its lines hold stay in the events.
    pub keep_null: bool,
}

impl InputDesc {
    /// One without any settings but these: no tags, no fields, everything else as the output has it.
    pub fn bare(kind: InputKind, id: &str) -> InputDesc {
        InputDesc {
            kind,
            id: id.to_owned(),
            tags: Vec::new(),
            fields: Map::new(),
            root_fields: Map::new(),
            pipeline: None,
            index: None,
            service_type: None,
            document_type: "log".to_owned(),
            without_host: false,
            keep_null: false,
        }
    }
}

/// What an event may say of its file beyond the path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileStat {
    /// Inode number.
    pub inode: u64,
    /// Device number.
    pub device: u64,
    /// SHA-256 of the file's beginning in hexadecimal, once it is complete.
    pub fingerprint: Option<String>,
    /// The name of its owner, when it is wanted and known.
    pub owner: Option<String>,
    /// The name of its group, likewise.
    pub group: Option<String>,
}

/// Ready-made JSON of all that is the same for each event of a source, made once by the output's codec.
pub type Render = Box<dyn Any + Send + Sync>;

/// The shared description of one incarnation of one file.
pub struct Source {
    /// The input that reads it.
    pub input: Arc<InputDesc>,
    /// Its path when the batch was read, lossily converted where it isn't UTF-8; empty for stdin.
    pub path: Arc<str>,
    /// The registry's key of it (spec: `filebeat::logs::native::…`); empty where no state is kept (stdin).
    pub key: Arc<str>,
    /// The life of its content.
    pub incarnation: Incarnation,
    /// What events may say of it.
    pub stat: FileStat,
    /// The output codec's cache for it: see [`Render`].
    pub render: OnceLock<Render>,
    /// The file holds more than what is in batches: the reader's word, for whoever counts files.
    pub more: AtomicBool,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("path", &self.path)
            .field("key", &self.key)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}
