//! Several Pillions share the files of one file system: which replica ships which file.
//!
//! Files are divided into shards ([`shard_of`]); a shard has one owner at a time, written on a board that all see
//! ([`Board`]), and a registry of its own on the shared file system. [`Member`] is one replica's part: it claims what nobody
//! has, gives back what is beyond its part, and takes over what a dead one has left.
//!
//! Comes in: what a backend reads from the board. Goes out: which shards this process ships, and from which registry.
//! Always holds: no line is lost, whatever the board, the network and the clocks do: an owner's cursors are in a registry
//! that its successor copies whole before it reads, and they move by acknowledgements alone. Two owners at a time are
//! possible for moments (a paused process that wakes up), and cost repeated lines, whose ids are the same.
//! Why so: docs/decisions/shards.md. Tested in `tests/protocol.rs`.

mod backend;
mod board;
mod fence;
pub mod files;
mod member;
mod order;
mod path;
mod spread;
mod text;

pub use backend::{Backend, Later};
pub use board::{Beat, Board, Record, Rules, Table, Version};
pub use fence::Fence;
pub use member::{BEATS, LOOKS, Member, Stage};
pub use order::{Adopted, Order, Report, Settings, Wrote};
pub use path::{Shard, shard_of};
pub use spread::spread;
pub use text::{EPOCH_LIMIT, NAME_LIMIT, TABLE_LIMIT, is_name, read_table, table_text};
