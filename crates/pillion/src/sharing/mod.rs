//! Several Pillions share the files of one file system.
//!
//! What the configuration says of it (`pillion.shards`) is in [`settings`]; how a board of files is asked in [`blocking`].

pub mod blocking;
pub mod settings;
