//! Which ids have been written: a bounded memory. Tested here.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// Remembers ids by a random 128-bit hash of index and id.
pub(crate) struct Ids {
    known: HashSet<u128>,
    order: VecDeque<u128>,
    max: usize,
    hashers: [RandomState; 2],
}

impl Ids {
    pub(crate) fn new(max: usize) -> Ids {
        Ids { known: HashSet::new(), order: VecDeque::new(), max, hashers: [RandomState::new(), RandomState::new()] }
    }

    /// Remembers it; whether it is new. The oldest is forgotten when there are too many.
    pub(crate) fn insert(&mut self, index: &str, id: &str) -> bool {
        let hash = self.hash(index, id);
        if !self.known.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        while self.order.len() > self.max {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
        true
    }

    /// Forgets it; whether it was there. Its place in the order stays until its turn comes.
    pub(crate) fn remove(&mut self, index: &str, id: &str) -> bool {
        let hash = self.hash(index, id);
        self.known.remove(&hash)
    }

    pub(crate) fn contains(&self, index: &str, id: &str) -> bool {
        self.known.contains(&self.hash(index, id))
    }

    fn hash(&self, index: &str, id: &str) -> u128 {
        let [a, b] = [0, 1].map(|i: usize| self.hashers.get(i).map_or(0, |h| u128::from(h.hash_one((index, id)))));
        a << 64 | b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_memory() {
        let mut ids = Ids::new(2);
        assert!(ids.insert("i", "1"));
        assert!(!ids.insert("i", "1"));
        assert!(ids.insert("j", "1") && ids.contains("i", "1"));
        assert!(ids.insert("i", "2"));
        assert!(!ids.contains("i", "1"), "the oldest is forgotten");
        assert!(ids.remove("j", "1") && !ids.remove("j", "1"));
        assert_eq!((ids.known.len(), ids.order.len()), (1, 2));
    }
}
