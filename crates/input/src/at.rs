//! Where a reading thread is, for whoever waits for it in vain.
//!
//! Comes in: each path before a call into its file system. Goes out: the last one, from any thread: when the call never
//! comes back, that is the path that hangs. Always holds: nothing is allocated for a path that isn't longer than those
//! before it. Tested in `tests/thread.rs`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The last path that a reading thread has turned to; empty before the first, and for standard input.
#[derive(Clone, Debug, Default)]
pub(crate) struct At(Arc<Mutex<PathBuf>>);

impl At {
    fn lock(&self) -> MutexGuard<'_, PathBuf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, path: &Path) {
        let mut at = self.lock();
        at.as_mut_os_string().clear();
        at.push(path);
    }

    pub(crate) fn get(&self) -> PathBuf {
        self.lock().clone()
    }
}
