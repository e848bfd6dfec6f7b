//! What an output owes for the events that it took.

use pillion_event::{Fate, Slice};

/// What became of the events of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fates {
    /// All had the same.
    All(Fate),
    /// These events of the batch (index in `batch.events`, growing, each within the slice) had their own; the others
    /// had the last one.
    Each(Vec<(usize, Fate)>, Fate),
}

impl Fates {
    /// The fate of the event with this index in the batch.
    pub fn of(&self, index: usize) -> &Fate {
        match self {
            Fates::All(fate) => fate,
            Fates::Each(own, rest) => match own.binary_search_by_key(&index, |(i, _)| *i) {
                Ok(at) => own.get(at).map_or(rest, |(_, fate)| fate),
                Err(_) => rest,
            },
        }
    }
}

/// Whoever keeps the books of what is delivered.
pub trait AckSink: Send + Sync {
    /// The target has decided about these events. Every event of every request that was taken is settled exactly once,
    /// in any order and in any pieces; a worker that ends without a decision settles nothing.
    fn settled(&self, slice: &Slice, fates: Fates);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fate_of_an_event_is_its_own_or_that_of_the_rest() {
        let fates = Fates::Each(vec![(3, Fate::Duplicate)], Fate::Acked);
        assert_eq!(*fates.of(3), Fate::Duplicate);
        assert_eq!(*fates.of(2), Fate::Acked);
        assert_eq!(*fates.of(4), Fate::Acked);
    }
}
