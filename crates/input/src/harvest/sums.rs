//! Running sums over all files, so that nobody walks over them to learn how much there is to read.
//!
//! Comes in: which files a step has touched. Goes out: bytes and files that aren't in batches yet. Always holds: after
//! [`Table::settle`] the sums are what a walk over all files would give; a quiet file has nothing to read and isn't in them.
//! Tested by every test that steps a harvester (`tests/common`), which walks and compares.

use std::sync::atomic::Ordering;

use crate::harvest::file::FileState;
use crate::harvest::table::{FileId, Table};

/// So many places for touched files are kept.
const KEPT: usize = 256;

/// See the module's header.
#[derive(Default)]
pub(crate) struct Sums {
    /// Bytes between what is in batches and the sizes last seen.
    pub(crate) bytes: u64,
    /// Files with any.
    pub(crate) files: u64,
    /// Files that may have changed since they were counted.
    touched: Vec<FileId>,
}

impl Sums {
    /// Somebody may change a file.
    pub(crate) fn touch(&mut self, id: FileId, file: &mut FileState) {
        if !std::mem::replace(&mut file.touched, true) {
            self.touched.push(id);
        }
    }

    /// Leaves a file out from now on.
    pub(crate) fn leave(&mut self, file: &mut FileState) {
        self.count(file, 0);
    }

    fn count(&mut self, file: &mut FileState, unread: u64) {
        self.bytes = self.bytes.saturating_sub(file.counted) + unread;
        self.files = self.files.saturating_sub(u64::from(file.counted > 0)) + u64::from(unread > 0);
        file.counted = unread;
    }
}

impl Table {
    /// Brings the sums up to date.
    pub(crate) fn settle(&mut self) {
        while let Some(id) = self.sums.touched.pop() {
            let Some(file) = self.files.hot_mut(id) else { continue };
            file.touched = false;
            let unread = file.len.saturating_sub(file.pos);
            if let Some(source) = file.source.upgrade() {
                source.more.store(unread > 0, Ordering::Relaxed);
            }
            self.sums.count(file, unread);
        }
        self.sums.touched.shrink_to(KEPT);
    }
}
