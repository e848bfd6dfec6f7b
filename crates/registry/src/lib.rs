//! The registry: how far each file is delivered, durable, in Filebeat's own format.
//!
//! Comes in: acknowledged cursors ([`Registry::commit`]), what the reader learns of files ([`Registry::upsert`],
//! [`Registry::rekey`], [`Registry::remove`]), ranges about to be sent ([`Registry::intend`]). Goes out: the state at the
//! next start, and Filebeat's `path.data/registry/filebeat/` for Filebeat itself.
//!
//! Always holds:
//! - What was called before [`Registry::sync`] began is durable when it returns `Ok`; after an error nothing is
//!   forgotten. A crash at any step leaves a state that each entry really had, at least as new as the last sync.
//! - An offset moves forward only by an acknowledgement of the same incarnation, and never backward within one.
//! - Changes reach the disk in the order in which they were made, except that several changes of one entry may become
//!   one; a removal never overtakes a change made before it.
//! - One process holds a data path (`filebeat.lock`, which Filebeat honours too).
//! - What isn't ours (other inputs' states, unknown members) is kept as it was.
//!
//! | file | subject |
//! |---|---|
//! | `registry.rs` | what is in memory, and what of it has to be written |
//! | `store.rs`, `compact.rs`, `path.rs` | entries, keys and paths in few bytes |
//! | `open.rs` | lock, agent id, which layout is there |
//! | `disk.rs` | log, checkpoint, and the order of their steps |
//! | `load.rs` | reading them back, whatever they hold |
//! | `beside.rs` | a registry beside the logs: whose it is, and whether its owner lives |
//! | `adopt.rs` | taking the seat of a dead owner |
//! | `foreign.rs` | registries that others wrote, read without trust, and adopting their entries |
//! | `live.rs` | registries that others are writing at this moment |
//! | `note.rs` | which registry a shard's cursors are in, as the shared file system has it |
//! | `others.rs` | which other replica knows a file that came into a shard by a rename |
//! | `part.rs` | taking in, or forgetting, the files of a shard |
//! | `remove.rs` | removing a dead replica's folder |
//! | `takeover.rs` | the layouts of Filebeat 5.6 to 7.8 |
//! | `value.rs` | one value as Filebeat writes it |
//! | `key.rs`, `entry.rs` | keys and entries |
//! | `chunks.rs`, `time.rs` | reading files piece by piece; dates |
//!
//! What lies on disk: docs/registry.md. Tested in each file, in `tests/crash.rs` (a crash at every step of the file
//! system, and random operations, faults and restarts against a model), `tests/real.rs` (what real Filebeats wrote) and
//! `tests/hostile.rs` (damaged files; the fuzz target `registry` goes on where it ends). What replicas do together:
//! `tests/handover.rs`, and each piece of it in the test of its name.

pub mod adopt;
pub mod beside;
mod chunks;
mod compact;
mod disk;
mod entry;
mod error;
pub mod foreign;
mod key;
pub mod live;
mod load;
pub mod note;
mod open;
pub mod others;
mod part;
mod path;
mod registry;
mod remove;
mod store;
mod takeover;
mod time;
mod value;

pub use compact::{CompactKey, Prefixes, hash_of};
pub use entry::{Entry, FilestreamState, Intent, Kind, LogState, LogWords};
pub use error::Error;
pub use key::{
    FILESTREAM_PREFIX, GLOBAL_ID, Identifier, LOG_PREFIX, filestream_key, identifier_of, log_key, tied, tied_key,
    untied,
};
pub use load::fuzz;
pub use open::{Opened, Options, STORE, TakenOver, hold};
pub use part::TookPart;
pub use path::{CompactPath, Folders, PathParts, path_parts};
pub use registry::{MAX_INTENTS, Registry};
pub use remove::{Removed, remove_replica};
