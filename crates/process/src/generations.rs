//! Values that hold for a time, in two generations, of which the old one goes when the young one is half of what is allowed.
//!
//! Comes in: keys, values, and until when each holds. Goes out: what still holds. Always holds: there are never more than the
//! capacity, nothing is searched for what to forget, and time is what the caller says it is. Tested below and in `cache.rs`.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Generations<K, V> {
    young: HashMap<K, (i64, V)>,
    old: HashMap<K, (i64, V)>,
    capacity: usize,
}

impl<K: Eq + Hash, V> Generations<K, V> {
    /// At most so many values, one at least.
    pub(crate) fn new(capacity: usize) -> Generations<K, V> {
        Generations { young: HashMap::new(), old: HashMap::new(), capacity }
    }

    /// Whether the young generation is as large as it may be.
    pub(crate) fn is_grown(&self) -> bool {
        self.young.len() >= (self.capacity / 2).max(1)
    }

    /// The young generation is the old one now, and the old one is forgotten.
    pub(crate) fn turn(&mut self) {
        let young = std::mem::take(&mut self.young);
        self.old = if self.capacity > 1 { young } else { HashMap::new() };
    }

    /// A value that holds until this time, Unix ms.
    pub(crate) fn put(&mut self, key: K, value: V, until_ms: i64) {
        if self.is_grown() {
            self.turn();
        }
        self.young.insert(key, (until_ms, value));
    }

    /// What holds at this time.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q, now_ms: i64) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (until_ms, value) = self.young.get(key).or_else(|| self.old.get(key))?;
        (*until_ms > now_ms).then_some(value)
    }

    /// Forgets one.
    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.young.remove(key);
        self.old.remove(key);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_than_the_capacity() {
        for capacity in 1..10 {
            let mut all = Generations::new(capacity);
            for key in 0..50 {
                all.put(key, key, 100);
                assert!(all.len() <= capacity, "{capacity}");
                assert_eq!((all.get(&key, 99), all.get(&key, 100)), (Some(&key), None));
            }
            all.remove(&49);
            assert_eq!(all.get(&49, 0), None);
        }
    }
}
