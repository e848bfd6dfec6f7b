//! What is said, or counted, once for each file and kind of problem.
//!
//! Comes in: a problem. Goes out: whether it is a new one. Always holds: what is remembered has a limit; what is beyond isn't
//! said one by one, but that it isn't is said, each time the number of such has doubled.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashSet};
use std::hash::BuildHasher as _;
use std::path::{Path, PathBuf};

/// How many problems are remembered as said.
const MAX_SAID: usize = 4096;

/// How many files are remembered as refused: 16 bytes each. Beyond, a file counts each time it is found.
const MAX_REFUSED: usize = 65_536;

/// What was said, and counted, already.
#[derive(Default)]
pub(crate) struct Said {
    problems: BTreeSet<(PathBuf, &'static str)>,
    /// How often something wasn't said since there is so much.
    silent: u64,
    refused: HashSet<u64>,
    hasher: RandomState,
}

impl Said {
    /// Whether this is to be said: it is new.
    pub(crate) fn is_new(&mut self, path: &Path, what: &'static str) -> bool {
        let problem = (path.to_owned(), what);
        if self.problems.contains(&problem) {
            return false;
        }
        if self.problems.len() < MAX_SAID {
            return self.problems.insert(problem);
        }
        self.silent += 1;
        if self.silent.is_power_of_two() {
            let (said, silent) = (MAX_SAID, self.silent);
            tracing::warn!(
                path = %path.display(),
                "{what}; {said} different problems with files were said already, {silent} more weren't, repeated ones among them"
            );
        }
        false
    }

    /// Whether a file wasn't counted as refused yet.
    pub(crate) fn is_refused_anew(&mut self, path: &Path) -> bool {
        let hash = self.hasher.hash_one(path);
        self.refused.len() >= MAX_REFUSED && !self.refused.contains(&hash) || self.refused.insert(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_new_once_and_a_file_counts_once_up_to_the_limits() {
        let mut said = Said::default();
        let path = |n: usize| PathBuf::from(format!("/{n}"));
        assert!((0..MAX_SAID).all(|n| said.is_new(&path(n), "a")));
        assert!(!(0..MAX_SAID).any(|n| said.is_new(&path(n), "a")));
        assert_eq!(said.silent, 0, "what was said isn't missing");
        assert!(!said.is_new(&path(0), "b") && !said.is_new(&path(0), "b"));
        assert_eq!((said.problems.len(), said.silent), (MAX_SAID, 2));
        assert!((0..MAX_REFUSED + 9).all(|n| said.is_refused_anew(&path(n))));
        assert!(!(0..MAX_REFUSED).any(|n| said.is_refused_anew(&path(n))));
        assert_eq!(said.refused.len(), MAX_REFUSED);
    }
}
