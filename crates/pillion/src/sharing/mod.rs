//! Several Pillions share the files of one file system.
//!
//! - [`settings`]: `pillion.shards`.

pub mod settings;
