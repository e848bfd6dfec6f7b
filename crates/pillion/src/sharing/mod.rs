//! Several Pillions share the files of one file system.
//!
//! What the configuration says of it (`pillion.shards`) is in [`settings`].

pub mod settings;
