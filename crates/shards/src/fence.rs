//! Until when this process may believe that its shards are its own.
//!
//! Comes in: acknowledged signs of life. Goes out: yes or no, for every commit.
//! Always holds: it lapses by the monotonic clock alone, before anybody else may take a shard; a process that was paused
//! finds it lapsed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pillion_world::Mono;

/// Shared by whoever commits. Lapsed at first.
#[derive(Clone, Debug, Default)]
pub struct Fence(Arc<AtomicU64>);

impl Fence {
    /// Whether a commit is allowed now.
    pub fn holds(&self, now: Mono) -> bool {
        now.0 < self.0.load(Ordering::Acquire)
    }

    /// Lets it hold until then, if it doesn't hold for longer: what [`crate::Member`] does at each acknowledged sign of life.
    pub fn extend(&self, until: Mono) {
        self.0.fetch_max(until.0, Ordering::AcqRel);
    }
}
