//! Telling what became of a request of which all is delivered except what couldn't be encoded.
//!
//! Used by the outputs whose targets take all or nothing: file, console; [`Books`] by those that are told of each event.
//! Tested below and in their tests.

use std::sync::Arc;

use pillion_event::{Drop, DropKind, Fate, Slice};
use pillion_queue::{AckSink, Fates};

use crate::contract::Stats;
use crate::format::MissingField;
use crate::work::Piece;

/// An event that can't be written in the target's form: its place in the request, counted over all slices, and why.
pub(crate) type Unencodable = (usize, MissingField);

/// Why an event for which a field is missing is dropped.
pub(crate) fn unencodable(missing: &MissingField) -> Fate {
    let mut field = missing.0.clone();
    let end = (0..=field.len().min(128)).rev().find(|at| field.is_char_boundary(*at)).unwrap_or(0);
    field.truncate(end);
    Fate::Dropped(Drop { kind: DropKind::Unencodable, type_name: "missing_field".to_owned(), field: Some(field) })
}

/// Settles all events of a request as acknowledged, except the ones given (growing places).
pub(crate) fn settle(slices: &[Slice], dropped: &[Unencodable], acks: &dyn AckSink, stats: &Stats) {
    let mut dropped = dropped.iter().peekable();
    let mut first = 0;
    for slice in slices {
        let mut own = Vec::new();
        while let Some((at, missing)) = dropped.next_if(|(at, _)| *at < first + slice.len()) {
            let fate = unencodable(missing);
            say(stats, &fate);
            own.push((slice.events.start + (at - first), fate));
        }
        stats.dropped.add(own.len());
        stats.acked.add(slice.len() - own.len());
        let fates = if own.is_empty() { Fates::All(Fate::Acked) } else { Fates::Each(own, Fate::Acked) };
        acks.settled(slice, fates);
        first += slice.len();
    }
}

/// Says why events are dropped, if they are.
pub(crate) fn say(stats: &Stats, fate: &Fate) {
    if let Fate::Dropped(why) = fate {
        stats.say_dropped(why);
    }
}

/// Whom a worker tells what became of the events of its pieces.
pub(crate) struct Books {
    acks: Arc<dyn AckSink>,
    stats: Arc<Stats>,
}

impl Books {
    pub(crate) fn new(acks: Arc<dyn AckSink>, stats: Arc<Stats>) -> Books {
        Books { acks, stats }
    }

    /// Settles the first `n` events of a piece; they are no longer in it.
    pub(crate) fn settle_front(&self, piece: &mut Piece, n: usize, fate: &Fate) {
        say(&self.stats, fate);
        for slice in piece.take_front(n).slices() {
            match fate {
                Fate::Acked => self.stats.acked.add(slice.len()),
                _ => self.stats.dropped.add(slice.len()),
            }
            self.acks.settled(slice, Fates::All(fate.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use pillion_event::InputKind;

    use super::*;
    use crate::render::tests::{batch, input};

    #[derive(Default)]
    struct Sink(Mutex<Vec<(std::ops::Range<usize>, Fates)>>);
    impl AckSink for Sink {
        fn settled(&self, slice: &Slice, fates: Fates) {
            self.0.lock().unwrap().push((slice.events.clone(), fates));
        }
    }

    #[test]
    fn dropped_events_have_their_own_fate() {
        let b = Arc::new(batch(input(InputKind::Log), 0, &[b"a", b"b", b"c", b"d", b"e"]));
        let slices = [0..2, 2..5].map(|events| Slice { batch: Arc::clone(&b), events });
        let (sink, stats) = (Sink::default(), Stats::default());
        let missing = MissingField("ä".repeat(100));
        settle(&slices, &[(3, missing.clone())], &sink, &stats);
        let fate = unencodable(&missing);
        assert!(matches!(&fate, Fate::Dropped(d) if d.field.as_ref().is_some_and(|f| f.len() == 128)));
        let want = [(0..2, Fates::All(Fate::Acked)), (2..5, Fates::Each(vec![(3, fate)], Fate::Acked))];
        assert_eq!(*sink.0.lock().unwrap(), want);
        assert_eq!((stats.acked.get(), stats.dropped.get()), (4, 1));
        let Fate::Dropped(why) = unencodable(&missing) else { panic!("it isn't dropped") };
        assert!(!stats.say_dropped(&why), "it was said, and is said once");
        assert!(Stats::default().say_dropped(&why));
    }
}
