//! Paths at which something may have happened, each waiting for its turn.
//!
//! Comes in: hints. Goes out: the same, the first one first. Ten thousand files that are written at once give as many
//! hints at once: a hint shares its path's text with the file that is known there, so that it costs some 40 bytes, and
//! for what can't be remembered any more everything is searched.
//!
//! Always holds: a path waits once at most; no more than [`MAX_HINTS`] wait. Tested below.

use std::collections::VecDeque;
use std::path::Path;

use hashbrown::HashTable;
use pillion_world::Mono;

use crate::harvest::Harvester;
use crate::harvest::path::FilePath;
use crate::harvest::table::path_hash;

/// How many hints wait at most; beyond, all paths are searched instead.
pub(crate) const MAX_HINTS: usize = 32_768;

/// What was larger is given back when nothing waits.
const SPARE: usize = 4096;

/// See the module's header.
#[derive(Default)]
pub(crate) struct Hints {
    queue: VecDeque<FilePath>,
    waiting: HashTable<FilePath>,
}

fn hash(path: &Path) -> u64 {
    path_hash(0, path)
}

impl Hints {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether a path waits already.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.waiting.find(hash(path), |other| other.as_os_str() == path.as_os_str()).is_some()
    }

    /// A path that doesn't wait yet. False: too many do.
    pub(crate) fn push(&mut self, path: FilePath) -> bool {
        if self.queue.len() >= MAX_HINTS {
            return false;
        }
        self.waiting.insert_unique(hash(&path), path.clone(), |other| hash(other));
        self.queue.push_back(path);
        true
    }

    /// The first one.
    pub(crate) fn pop(&mut self) -> Option<FilePath> {
        let path = self.queue.pop_front()?;
        if let Ok(found) = self.waiting.find_entry(hash(&path), |other| other.as_os_str() == path.as_os_str()) {
            found.remove();
        }
        if self.queue.is_empty() && self.queue.capacity() > SPARE {
            *self = Hints::default();
        }
        Some(path)
    }
}

impl Harvester {
    /// Looks at the path that waits first; false: none does.
    pub(crate) fn follow_hint(&mut self, now: Mono) -> bool {
        let Some(path) = self.hints.pop() else { return false };
        self.look_at_hint(&path, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::PathBuf;

    proptest! {
        /// Any hints: each path once, in the order of their coming, at most so many.
        #[test]
        fn each_path_waits_once(steps in prop::collection::vec(prop::option::of(0..9_u8), 1..200)) {
            let (mut hints, mut model) = (Hints::default(), VecDeque::new());
            for step in steps {
                if let Some(name) = step {
                    let path = PathBuf::from(format!("/x/{name}"));
                    prop_assert_eq!(hints.has(&path), model.contains(&path));
                    if !hints.has(&path) {
                        prop_assert!(hints.push(path.clone().into()));
                        model.push_back(path);
                    }
                } else {
                    prop_assert_eq!(hints.pop().map(|p| p.to_path_buf()), model.pop_front());
                }
                prop_assert_eq!((hints.is_empty(), hints.waiting.len()), (model.is_empty(), model.len()));
            }
        }
    }

    #[test]
    fn they_are_bounded_and_given_back() {
        let mut hints = Hints::default();
        for n in 0..MAX_HINTS {
            assert!(hints.push(PathBuf::from(format!("/{n}")).into()));
        }
        assert!(!hints.push(PathBuf::from("/more").into()));
        assert!(!hints.has(Path::new("/more")) && hints.has(Path::new("/0")));
        while hints.pop().is_some() {}
        assert_eq!((hints.queue.capacity(), hints.waiting.capacity()), (0, 0));
    }
}
