//! What all members see: who lives, and who has which shard.
//!
//! Comes in: what a backend has read (Kubernetes Leases, files beneath locks, a model in tests). Goes out: the same.
//! Always holds: a backend writes a table only over the version that was read, so that of two writers one is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::path::Shard;

/// What all members should have alike, as one of them has it. What one doesn't say is taken to be as with the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Into how many shards it divides the files.
    pub shards: Option<u16>,
    /// How long its sign of life must stand still until it counts as dead.
    pub lease: Option<Duration>,
}

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Whose it is: a name and what is random for each process.
    pub member: String,
    /// Another one after every renewal. Nothing else is known of it: clocks of different machines aren't compared.
    pub stamp: String,
    /// It is about to end, and wants no shards.
    pub leaving: bool,
    /// By what rules it takes part.
    pub rules: Rules,
}

/// What is written of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who has it; `None`: it was given back, or never taken.
    pub owner: Option<String>,
    /// How often it was taken; only grows.
    pub epoch: u64,
    /// The name of the registry in which its cursors are; `None`: there is none yet.
    pub registry: Option<String>,
}

/// Every shard that was ever taken.
pub type Table = BTreeMap<Shard, Record>;

/// What the backend calls one state of the table: Kubernetes' `resourceVersion`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub String);

/// What one look showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Board {
    /// All signs of life, the own one too.
    pub beats: Vec<Beat>,
    /// The table; `None`: there is none.
    pub table: Option<(Version, Table)>,
}
