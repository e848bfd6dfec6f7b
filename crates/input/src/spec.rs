//! What one input reads and how: typed, with Filebeat's defaults.
//!
//! Comes in: a section of the configuration, or values set by hand. Goes out: [`InputSpec`], which never changes while
//! the program runs. Tested with the options that are read (`options.rs`) and with the harvester.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pillion_event::{InputDesc, InputKind};
use pillion_process::{Pipeline, Processors, Shape};
use pillion_world::rotated::Names;

use crate::net::Listen;
use crate::parse::{Chain, Pattern};
use crate::scan::Glob;

/// What tells a file from all others (`file_identity`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Inode and device.
    Native,
    /// The path: a file that replaces another one at its path goes on where that one was.
    Path,
    /// Inode and the content of a marker file, for network file systems whose device number changes.
    InodeMarker(PathBuf),
    /// A hash of a range of the file's beginning.
    Fingerprint {
        /// First byte of the range.
        offset: u64,
        /// Length of the range, bytes: 64 to 10 MiB.
        length: u64,
        /// A file that is still shorter is read at once, and its fingerprint grows with it; otherwise it waits until
        /// it is long enough (or until the drain).
        growing: bool,
    },
}

/// When descriptors are closed. None of it loses what is there to be read: a file is read to its end first, except
/// where [`Close::after`] says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// After this time without anything new (`close_inactive`).
    pub inactive: Duration,
    /// Once it was renamed and read to its end.
    pub renamed: bool,
    /// Once it was deleted and read to its end; otherwise a deleted file is followed until it is inactive.
    pub removed: bool,
    /// At each end of file.
    pub eof: bool,
    /// After this time whatever happens (`close_timeout`): what a deleted file then still holds is lost and counted.
    pub after: Option<Duration>,
}

/// Which of an input's files are compressed (`compression`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// None: their bytes are the text.
    #[default]
    None,
    /// Those that begin as gzip files do.
    Auto,
    /// All; others can't be read.
    Gzip,
}

/// How often a file is looked at that no watch tells about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The first time after something was read.
    pub init: Duration,
    /// The longest time.
    pub max: Duration,
    /// What each time is multiplied by; 1 = always `init`.
    pub factor: f64,
}

/// From which inputs a filestream takes over files (`take_over`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakeOver {
    /// From filestreams with these ids; none: from `log` and `container` inputs.
    pub from_ids: Vec<String>,
    /// From a `container` input that read this stream alone.
    pub stream: Option<String>,
}

/// One input of the configuration.
#[derive(Clone, Debug)]
pub struct InputSpec {
    /// What its events have in common.
    pub desc: Arc<InputDesc>,
    /// How bytes become events.
    pub chain: Arc<Chain>,
    /// What is done to its events then, until [`InputSpec::bind`].
    pub processors: Processors,
    /// The same, bound; `None` = nothing has to look at an event.
    pub pipeline: Option<Arc<Pipeline>>,
    /// Where it listens, when it is a network input.
    pub listen: Option<Listen>,
    /// What it reads.
    pub paths: Vec<Glob>,
    /// Files that aren't read: matched against the whole path.
    pub exclude_files: Vec<Pattern>,
    /// When there are any, only files that match one are read (filestream).
    pub include_files: Vec<Pattern>,
    /// Symbolic links to files are read too.
    pub symlinks: bool,
    /// What tells files apart.
    pub identity: Identity,
    /// What the registry's keys are told apart by beyond that (a container input that reads one stream alone).
    pub meta: Vec<(String, String)>,
    /// Which members `filestream` entries have in the registry: as Filebeat 9.5 writes them.
    pub registry_v9: bool,
    /// How often the paths are searched (`scan_frequency`, `prospector.scanner.check_interval`).
    pub scan_every: Duration,
    /// Files last changed longer ago than this aren't read (what is appended later is).
    pub ignore_older: Option<Duration>,
    /// Files last changed before the start aren't read (`ignore_inactive: since_last_start`).
    pub ignore_before_start: bool,
    /// The same with the first start on this data path (`since_first_start`).
    pub ignore_before_first_start: bool,
    /// Events carry their file's fingerprint where there is one (`include_file_fingerprint`).
    pub show_fingerprint: bool,
    /// Events carry the name of their file's owner (`include_file_owner_name`).
    pub show_owner: bool,
    /// And of its group (`include_file_owner_group_name`).
    pub show_group: bool,
    /// When descriptors are closed.
    pub close: Close,
    /// A file that is gone leaves the registry (`clean_removed`).
    pub clean_removed: bool,
    /// A file whose time of change changes and whose content doesn't is sent again (`resend_on_touch`).
    pub resend_on_touch: bool,
    /// Which files are compressed.
    pub compression: Compression,
    /// How often files are looked at.
    pub backoff: Backoff,
    /// New files are read from their end on (`tail_files`, `seek_to_tail`).
    pub tail: bool,
    /// Files are deleted when they are closed, all of them is acknowledged, and nothing has changed for so long.
    pub delete_after: Option<Duration>,
    /// Files that others have read are gone on with.
    pub take_over: Option<TakeOver>,
    /// By what it is named when it has to go while others are read; 0: it never has to.
    pub label: u64,
}

impl InputSpec {
    /// An input with Filebeat's defaults that reads these paths.
    pub fn new(desc: Arc<InputDesc>, chain: Arc<Chain>, paths: Vec<Glob>) -> InputSpec {
        InputSpec {
            desc,
            chain,
            processors: Processors::default(),
            pipeline: None,
            listen: None,
            paths,
            exclude_files: Vec::new(),
            include_files: Vec::new(),
            symlinks: false,
            identity: Identity::Native,
            meta: Vec::new(),
            registry_v9: false,
            scan_every: Duration::from_secs(10),
            ignore_older: None,
            ignore_before_start: false,
            ignore_before_first_start: false,
            show_fingerprint: true,
            show_owner: false,
            show_group: false,
            clean_removed: true,
            resend_on_touch: false,
            compression: Compression::None,
            close: Close { inactive: Duration::from_secs(300), renamed: false, removed: true, eof: false, after: None },
            backoff: Backoff { init: Duration::from_secs(1), max: Duration::from_secs(10), factor: 2.0 },
            tail: false,
            delete_after: None,
            take_over: None,
            label: 0,
        }
    }

    /// Whether a path that one of the patterns matches is left out.
    pub(crate) fn leaves_out(&self, path: &Path) -> bool {
        let bytes = path.as_os_str().as_bytes();
        self.exclude_files.iter().any(|r| r.is_match(bytes))
            || (!self.include_files.is_empty() && !self.include_files.iter().any(|r| r.is_match(bytes)))
    }

    /// Whether it is one of its paths.
    pub(crate) fn has_path(&self, path: &Path) -> bool {
        self.paths.iter().any(|glob| glob.matches(path)) && !self.leaves_out(path)
    }

    /// Makes the processors ready for events of this shape.
    pub fn bind(&mut self, shape: &Arc<dyn Shape>) {
        (self.desc, self.pipeline) = self.processors.bind(&self.desc, shape);
    }

    /// Whether it keeps `filestream` entries in the registry.
    pub(crate) fn is_filestream(&self) -> bool {
        self.desc.kind == InputKind::Filestream
    }
}

/// What Pillion itself writes: never read, whatever the patterns say.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Folders of which nothing is read.
    pub dirs: Vec<PathBuf>,
    /// Files, and what they are before they are renamed (`.new`).
    pub files: Vec<PathBuf>,
    /// Files that rotate: all of their names.
    pub rotated: Vec<Names>,
    /// Folders that may hang and aren't this harvester's: of what lies there it isn't asked where links lead to.
    pub foreign: Vec<PathBuf>,
}

impl Own {
    /// What others write, too.
    pub fn add(&mut self, others: Own) {
        let Own { dirs, files, rotated, foreign } = others;
        self.dirs.extend(dirs);
        self.files.extend(files);
        self.rotated.extend(rotated);
        self.foreign.extend(foreign);
    }

    /// Whether this is one of the files; both are without links. A name that only begins like one is somebody else's.
    pub(crate) fn is_file(&self, path: &Path) -> bool {
        let Some(name) = path.file_name().and_then(OsStr::to_str) else { return self.files.iter().any(|f| f == path) };
        let written = path.with_file_name(name.strip_suffix(".new").unwrap_or(name));
        self.files.iter().any(|f| f == path || *f == written)
            || self.rotated.iter().any(|names| path.parent() == Some(&names.dir) && names.are(name))
    }
}

/// Which of the files that have something to read is read next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Each in turn, a chunk each.
    #[default]
    Fair,
    /// The one whose unread part was written first, to its end: by the time of its last change when it was found to have
    /// something to read.
    Oldest,
}

/// The bounds of a harvester.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes read in one go, 4 KiB to 1 MiB; more only for a single line or group that is longer.
    pub chunk: usize,
    /// Events of one batch, at least 1.
    pub events: usize,
    /// Open descriptors, at least 2.
    pub descriptors: usize,
    /// How many of these may belong to deleted files that aren't read yet; what is beyond is lost and counted.
    pub deleted: usize,
    /// Files in the table; what is beyond isn't read until others are gone: said, and incomplete at the drain.
    pub files: usize,
    /// Losses and former files that are listed one by one; what is beyond is only counted.
    pub accounts: usize,
    /// Which file is read next.
    pub order: Order,
}

impl Limits {
    /// The same, each one at least and at most what it may be.
    pub(crate) fn in_range(self) -> Limits {
        Limits {
            chunk: self.chunk.clamp(4096, 1 << 20),
            events: self.events.max(1),
            descriptors: self.descriptors.max(2),
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            chunk: 128 * 1024,
            events: 4096,
            descriptors: 16_384,
            deleted: 8192,
            files: 1_000_000,
            accounts: 10_000,
            order: Order::Fair,
        }
    }
}

/// How much may be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes that the queue has free; 0 = read nothing. One batch may be larger.
    pub bytes: usize,
    /// Events that the queue has free; 0 = read nothing.
    pub events: usize,
}

impl Budget {
    /// As much as there is.
    pub const UNLIMITED: Budget = Budget { bytes: usize::MAX, events: usize::MAX };

    pub(crate) fn is_empty(self) -> bool {
        self.bytes == 0 || self.events == 0
    }
}
