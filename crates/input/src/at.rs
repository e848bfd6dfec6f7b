//! Where a reading thread is, for whoever waits for it in vain.
//!
//! Comes in: each path before a call into its file system, the begin and the end of each piece of work, files that have
//! something to read, where reading stands. Goes out: the same, to any thread: when a call never comes back, that is the path that hangs, and what
//! its thread had still to read. Always holds: nothing is allocated for a path that isn't longer than those before it; the
//! list of what is to be read is bounded by [`MAX_BEHIND`]. Tested in `tests/thread.rs`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::harvest::{Behind, FileId};
use crate::standing::Standing;

/// Files that are listed with what they have to read; of those beyond nothing is told.
const MAX_BEHIND: usize = 256;

/// What a reading thread is at; nothing before the first path, and for standard input.
#[derive(Clone, Debug, Default)]
pub(crate) struct At(Arc<Place>);

#[derive(Debug, Default)]
struct Place {
    path: Mutex<PathBuf>,
    /// Odd while it works; another number for each piece of work.
    pulse: AtomicU64,
    behind: Mutex<HashMap<FileId, Behind>>,
    standing: Mutex<Standing>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl At {
    pub(crate) fn set(&self, path: &Path) {
        let mut at = lock(&self.0.path);
        at.as_mut_os_string().clear();
        at.push(path);
    }

    pub(crate) fn get(&self) -> PathBuf {
        lock(&self.0.path).clone()
    }

    /// A piece of work begins.
    pub(crate) fn works(&self) {
        let pulse = self.0.pulse.load(Ordering::Relaxed);
        self.0.pulse.store((pulse | 1) + 2, Ordering::Relaxed);
    }

    /// The thread goes to sleep.
    pub(crate) fn rests(&self) {
        self.0.pulse.fetch_and(!1, Ordering::Relaxed);
    }

    /// The number of the piece of work that it is at; `None`: it sleeps.
    pub(crate) fn work(&self) -> Option<u64> {
        let pulse = self.0.pulse.load(Ordering::Relaxed);
        (pulse & 1 == 1).then_some(pulse)
    }

    /// Where reading stands. What is in batches is said to be read only once it is where it goes.
    pub(crate) fn stands(&self, standing: Standing) {
        *lock(&self.0.standing) = standing;
    }

    pub(crate) fn standing(&self) -> Standing {
        *lock(&self.0.standing)
    }

    /// What a file has to read; `None` = nothing.
    pub(crate) fn note(&self, id: FileId, what: Option<Behind>) {
        let mut behind = lock(&self.0.behind);
        match what {
            Some(what) if behind.len() < MAX_BEHIND || behind.contains_key(&id) => drop(behind.insert(id, what)),
            Some(_) => {}
            None => {
                behind.remove(&id);
                if behind.is_empty() {
                    // Nothing of a burst stays.
                    behind.shrink_to_fit();
                }
            }
        }
    }

    /// The first of the files that have something to read.
    pub(crate) fn behind(&self) -> Vec<Behind> {
        lock(&self.0.behind).values().cloned().collect()
    }
}
