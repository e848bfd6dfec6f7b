//! Why a registry can't be opened, each with the path and what to do.

use std::io;
use std::path::PathBuf;

/// Why a registry can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process works on this data path.
    #[error(
        "data path {data_path} is in use: another Pillion or Filebeat holds {lock}. Give each process a data path of its \
         own (path.data), or end the other one first", data_path = data_path.display(), lock = lock.display()
    )]
    Locked {
        /// `path.data`.
        data_path: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// A file or directory can't be made or written.
    #[error(
        "{path} can't be written: {source}. path.data must be a directory that this user can write to, on a volume with \
         free space (set path.data, or fsGroup and a writable volume in Kubernetes)", path = path.display()
    )]
    Unwritable {
        /// What can't be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the registry can't be read.
    #[error(
        "{path} can't be read: {source}. Starting without it would send everything again; make it readable, or remove \
         it if that is what you want", path = path.display()
    )]
    Unreadable {
        /// What can't be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The registry is of a version that isn't known.
    #[error(
        "{path} says version {version:?}, which this program doesn't know (known: \"0\", \"1\"). Use a newer Pillion, or \
         another data path", path = path.display()
    )]
    Version {
        /// `meta.json`.
        path: PathBuf,
        /// What it says, at most 64 bytes.
        version: String,
    },
    /// A file is too large to be a registry.
    #[error(
        "{path} is larger than {limit} bytes or holds more than {entries} entries: not taken for a registry. Move it \
         away to start without it", path = path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
        /// The limit in entries.
        entries: usize,
    },
}
