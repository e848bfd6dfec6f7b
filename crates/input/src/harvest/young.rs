//! New files whose pod isn't known yet.
//!
//! Comes in: a file that is about to be read for the first time. Goes out: whether it is read now. A container writes its
//! first lines before the API server says which container of which pod it is: they would be read at once, and have no
//! metadata for ever.
//!
//! Always holds: only a file of which nothing was read waits, for [`LIMIT`] after its birth at most, and none at a drain:
//! metadata hold nothing up. Tested in `tests/live.rs`.

use std::time::Duration;

use pillion_world::Mono;

use crate::harvest::Harvester;
use crate::harvest::table::FileId;

/// How old a file is at most that waits. Kubelet tells what has started once a second.
const LIMIT: Duration = Duration::from_secs(5);

/// When it is asked again.
const AGAIN: Duration = Duration::from_millis(100);

impl Harvester {
    /// Whether this file waits until its pod is known; then it is looked at again soon.
    pub(crate) fn waits_for_metadata(&mut self, id: FileId, now: Mono) -> bool {
        let draining = self.is_file_draining(id);
        let Some(f) = self.table.get_mut(id) else { return false };
        let Some(input) = self.inputs.get(usize::from(f.input)) else { return false };
        if f.pos > 0 || draining || f.replays.is_some() {
            return false;
        }
        let wall_ns = i128::from(self.world.clock.wall().0) * 1_000_000;
        let age_ns = f.birth_ns.map_or(i128::from(i64::MAX), |birth| wall_ns - i128::from(birth.get()));
        // The clocks of the system and of its files differ a little.
        let young = age_ns.abs() < LIMIT.as_nanos() as i128;
        if !young || !input.spec.processors.kubernetes().iter().any(|k| k.waits_for(&f.path.to_string_lossy())) {
            return false;
        }
        f.look_at = Some(now.plus(AGAIN));
        true
    }
}
