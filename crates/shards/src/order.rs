//! What a member wants done, and what it is told of it.
//!
//! Comes in, goes out: nothing, these are the words between [`Member`](crate::Member) and whoever drives it.
//! Always holds: each order but [`Order::Open`], [`Order::Abandon`] and [`Order::Bury`] is answered by one report.

use std::collections::BTreeMap;
use std::time::Duration;

use pillion_world::Mono;

use crate::board::{Beat, Board, Table, Version};
use crate::path::Shard;

/// Who this is, and the rules that all members share.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The own name, with what is random for this process: never used by another one.
    pub member: String,
    /// How many shards there are. Members that have it otherwise take no part beside others ([`Rules`](crate::Rules)).
    pub shards: u16,
    /// How long a sign of life must stand still until its owner counts as dead. Milliseconds to minutes; 15 s as a rule.
    pub lease: Duration,
}

/// What is to be done. Several may be under way, but no two of a kind (of `Adopt` and `Close`, for a shard).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Renew the own sign of life.
    Beat {
        /// As [`Beat::leaving`].
        leaving: bool,
    },
    /// Read the board, past every cache.
    Look,
    /// Replace the table if it is still this version; `None`: if there is none.
    Write {
        /// The version that was read.
        over: Option<Version>,
        /// What it is to be.
        table: Table,
    },
    /// Find the highest epoch that each shard has on the disk.
    Probe {
        /// Which shards.
        shards: Vec<Shard>,
    },
    /// Copy what `from` holds, or what the disk's own note names when that is newer, into a registry of this epoch.
    Adopt {
        /// Which shard.
        shard: Shard,
        /// The own epoch.
        epoch: u64,
        /// The registry that the board names.
        from: Option<String>,
    },
    /// Read and ship the shard's files from now on.
    Open {
        /// Which shard.
        shard: Shard,
        /// Its registry.
        registry: String,
    },
    /// Read no more of it; answer when all that was read is acknowledged and committed.
    Close {
        /// Which shard.
        shard: Shard,
    },
    /// Forget it at once, without a commit: somebody else has it.
    Abandon {
        /// Which shard.
        shard: Shard,
    },
    /// Remove a dead member's sign of life, if it is still the same.
    Bury {
        /// Whose, and its last stamp.
        beat: Beat,
    },
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// It stands there, as this version.
    Done(Version),
    /// There was another version: nothing was written.
    Conflict,
    /// Nobody knows.
    Unknown,
}

/// How taking over a shard's cursors ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// They are whole and durable in the registry of this name, and the note says so.
    Into(String),
    /// It failed, and may be tried again.
    Not,
    /// The note has a newer epoch: under this one the shard can't be taken any more.
    Outdone,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Of [`Order::Beat`]: whether it was acknowledged. `sent`: when it was begun.
    Beat {
        /// When it was begun, on the own clock.
        sent: Mono,
        /// Whether it was acknowledged.
        ok: bool,
    },
    /// Of [`Order::Look`]; `None`: it failed.
    Looked(Option<Board>),
    /// Of [`Order::Write`].
    Wrote(Wrote),
    /// Of [`Order::Probe`]: the highest epoch of each shard, 0 = none; `None`: it failed.
    Probed(Option<BTreeMap<Shard, u64>>),
    /// Of [`Order::Adopt`].
    Adopted {
        /// Which shard.
        shard: Shard,
        /// The epoch of the order.
        epoch: u64,
        /// What came of it.
        adopted: Adopted,
    },
    /// Of [`Order::Close`].
    Closed {
        /// Which shard.
        shard: Shard,
    },
}
