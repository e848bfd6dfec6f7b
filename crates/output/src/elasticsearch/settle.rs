//! From the target's answer to the fates of events.
//!
//! Comes in: work and the items of the answer. Goes out: fates, to the [`AckSink`], and what is to be sent again. The
//! rules are those of spec `_bulk` results: below 300 delivered; 409 see [`Judge::conflict`], 404 [`Judge::is_deleted`]; 429, 5xx, a blocked
//! index and a module's pipeline that isn't there ([`awaited`]) again; any other refused for good. Always holds: each event of the work is
//! either settled or sent again,
//! never both. Tested below and in `tests.rs`.

use std::sync::Arc;

use pillion_config::Compat;
use pillion_event::{Batch, DropKind, Event, Fate, Slice};

use super::answer::Item;
use super::request::{OpType, op_type, own_id};
use super::work::{Dead, Work};
use crate::problem::Problem;
use crate::{AckSink, Fates, Stats};

/// What to do with one event.
#[derive(Clone, Debug)]
pub(super) enum Ruling {
    /// It is settled.
    Settled(Fate),
    /// It is sent again; `busy`: after a pause.
    Again { busy: bool },
    /// The target refused it for good.
    Refused(Dead),
}

/// What is left of a work after an answer.
#[derive(Default)]
pub(super) struct Rest {
    /// To be sent again.
    pub(super) again: Option<Work>,
    /// Refused for good: to be put elsewhere, or dropped.
    pub(super) refused: Option<Work>,
    /// The target asked for a pause.
    pub(super) busy: bool,
}

/// Knows the rules.
pub(super) struct Judge {
    pub(super) compat: Compat,
    pub(super) exactly_once: bool,
    /// Other replicas ship the same files: see [`crate::OutputContext::shared`].
    pub(super) shared: bool,
}

impl Judge {
    /// Rules on one event.
    pub(super) fn rule(&self, item: &Item, work: &Work, batch: &Batch, event: &Event, place: usize) -> Ruling {
        let dead = work.dead.get(place);
        let delivered = |fate: Fate| match dead {
            Some(dead) => Ruling::Settled(Fate::DeadLettered(dead.reason.clone())),
            None => Ruling::Settled(fate),
        };
        let type_name = item.error.as_deref().map(|e| e.type_name.as_str()).unwrap_or_default();
        match item.status {
            200..300 => delivered(Fate::Acked),
            409 if self.conflict(work, batch, event) => delivered(Fate::Duplicate),
            404 if self.is_deleted(work, batch, event) => delivered(Fate::Duplicate),
            429 => Ruling::Again { busy: true },
            // A full disk or a closed maintenance window, not the event's fault: Filebeat loses these.
            403 if type_name == "cluster_block_exception" => Ruling::Again { busy: true },
            500.. => Ruling::Again { busy: true },
            _ if dead.is_none() && awaited(item, batch).is_some() => Ruling::Again { busy: true },
            _ if dead.is_some() => {
                Ruling::Settled(Fate::Dropped(dead.map(|d| d.reason.clone()).unwrap_or_else(|| item.drop_reason())))
            }
            status => {
                let mut reason = item.drop_reason();
                if status == 409 && self.exactly_once && own_id(event).is_none() {
                    reason.kind = DropKind::IdTaken;
                    return Ruling::Settled(Fate::Dropped(reason));
                }
                let text = item.error.as_deref().map(|e| e.reason.clone()).unwrap_or_default();
                Ruling::Refused(Dead { reason, text })
            }
        }
    }

    /// Whether "not found" means that an earlier sending has deleted it.
    fn is_deleted(&self, work: &Work, batch: &Batch, event: &Event) -> bool {
        (work.resent || batch.replayed || self.shared) && op_type(event, self.compat) == Some(OpType::Delete)
    }

    /// Whether "exists already" means "delivered". With ids of our own: only for what may have been sent before. With
    /// ids of the event's own (`json.document_id`), or from an ingest pipeline: as Filebeat, 5.6 drops, later ones
    /// take it for a duplicate.
    fn conflict(&self, work: &Work, batch: &Batch, event: &Event) -> bool {
        let sent_before = work.resent || batch.replayed || self.shared;
        match self.exactly_once && own_id(event).is_none() {
            true => sent_before,
            false => sent_before && self.exactly_once || self.compat != Compat::V5,
        }
    }
}

/// The pipeline of a module that the target doesn't have: its id. Filebeat puts it there itself before it sends; here
/// somebody else does, and until then events wait. One that the user has named is his own: as with Filebeat, events that
/// can't pass it are dropped.
fn awaited<'b>(item: &Item, batch: &'b Batch) -> Option<&'b str> {
    let error = item.error.as_deref().filter(|e| item.status == 400 && e.type_name == "illegal_argument_exception")?;
    let input = &batch.source.input;
    let id = input.pipeline.as_deref().filter(|_| input.root_fields.contains_key("fileset"))?;
    let said = error.reason.strip_prefix("pipeline with id [")?.strip_suffix("] does not exist")?;
    (said == id).then_some(id)
}

/// The first such pipeline among the answers.
pub(super) fn absent(work: &Work, items: &[Item]) -> Option<Problem> {
    work.piece.events().zip(items).find_map(|((batch, ..), item)| awaited(item, batch).map(no_pipeline))
}

/// Why so many of all events are sent again later.
pub(super) fn put_off(host: &str, (n, all): (usize, usize), absent: Option<Problem>) -> Problem {
    let said = format!("{n} of {all} events are put off");
    match absent {
        Some(absent) => Problem::new(format!("{host}: {}: {said}", absent.reason), absent.remedy),
        None => Problem::bare(format!("{host}: {said} (429 or 5xx)")),
    }
}

/// What is said of it.
pub(super) fn no_pipeline(id: &str) -> Problem {
    let remedy = "Load it with Filebeat's own `filebeat setup --pipelines --modules NAME`, or say by pillion.modules.version which \
                  version's pipelines are there.";
    Problem::new(format!("the ingest pipeline `{id}` isn't there"), remedy)
}

/// All events of the work have the same fate.
pub(super) fn settle_all(work: &Work, fate: &Fate, sink: &dyn AckSink, stats: &Stats) {
    count(fate, work.piece.len(), stats);
    for slice in work.piece.slices() {
        sink.settled(slice, Fates::All(fate.clone()));
    }
}

/// Each event has the ruling at its place; runs of settled events are settled together.
pub(super) fn settle_each(work: &Work, rulings: Vec<Ruling>, sink: &dyn AckSink, stats: &Stats) -> Rest {
    let mut rest = Rest::default();
    let (mut again, mut again_dead) = (Vec::new(), Vec::new());
    let (mut refused, mut refused_dead) = (Vec::new(), Vec::new());
    let mut run = Run::default();
    for (place, ((batch, index, _), ruling)) in work.piece.events().zip(rulings).enumerate() {
        match ruling {
            Ruling::Settled(fate) => {
                count(&fate, 1, stats);
                run.add(batch, index, fate, sink);
            }
            Ruling::Again { busy } => {
                rest.busy |= busy;
                append(&mut again, batch, index);
                again_dead.extend(work.dead.get(place).cloned());
            }
            Ruling::Refused(dead) => {
                append(&mut refused, batch, index);
                refused_dead.push(dead);
            }
        }
    }
    run.end(sink);
    rest.again = (!again.is_empty()).then(|| work.with(again, again_dead));
    rest.refused = (!refused.is_empty()).then(|| work.with(refused, refused_dead));
    rest
}

/// Counts a fate.
pub(super) fn count(fate: &Fate, n: usize, stats: &Stats) {
    match fate {
        Fate::Acked => stats.acked.add(n),
        Fate::Duplicate => stats.duplicates.add(n),
        Fate::DeadLettered(_) => stats.dead_lettered.add(n),
        Fate::Dropped(_) => stats.dropped.add(n),
    }
}

/// Adds an event to a list of slices.
fn append(slices: &mut Vec<Slice>, batch: &Arc<Batch>, index: usize) {
    match slices.last_mut() {
        Some(last) if Arc::ptr_eq(&last.batch, batch) && last.events.end == index => last.events.end += 1,
        _ => slices.push(Slice { batch: Arc::clone(batch), events: index..index + 1 }),
    }
}

/// Consecutive settled events of one batch.
#[derive(Default)]
struct Run {
    slices: Vec<Slice>,
    odd: Vec<(usize, Fate)>,
}

impl Run {
    fn add(&mut self, batch: &Arc<Batch>, index: usize, fate: Fate, sink: &dyn AckSink) {
        let goes_on = self.slices.last().is_none_or(|s| Arc::ptr_eq(&s.batch, batch) && s.events.end == index);
        if !goes_on {
            self.end(sink);
        }
        append(&mut self.slices, batch, index);
        if fate != Fate::Acked {
            self.odd.push((index, fate));
        }
    }

    fn end(&mut self, sink: &dyn AckSink) {
        let odd = std::mem::take(&mut self.odd);
        if let Some(slice) = self.slices.pop() {
            let fates = if odd.is_empty() { Fates::All(Fate::Acked) } else { Fates::Each(odd, Fate::Acked) };
            sink.settled(&slice, fates);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::elasticsearch::work::Pool;
    use crate::render::tests::{batch, input};
    use crate::testing::{Books, List};
    use crate::{Request, Requests, Taking};
    use pillion_event::InputKind;

    /// One request, once.
    struct One(std::sync::Mutex<Option<Request>>);

    impl Requests for One {
        fn take(&self, _: usize) -> Taking<'_> {
            Box::pin(std::future::ready(self.0.lock().unwrap().take()))
        }
    }

    /// Work out of slices of one batch of 40 events.
    fn work(cuts: &[usize]) -> Work {
        let texts = vec![&b"x"[..]; 40];
        let batch = Arc::new(batch(input(InputKind::Log), 0, &texts));
        let mut slices = Vec::new();
        let mut at = 0;
        for cut in cuts {
            let end = (at + cut).min(40);
            if at < end {
                slices.push(Slice { batch: Arc::clone(&batch), events: at..end });
            }
            // Every second slice begins behind a gap.
            at = end + cut % 2;
        }
        let request = Request { slices, in_flight: None };
        let pool = Pool::new(Arc::new(One(std::sync::Mutex::new(Some(request)))), 40);
        let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
        rt.block_on(pool.next()).unwrap()
    }

    fn indices(work: Option<&Work>) -> Vec<usize> {
        work.map(|w| w.piece.events().map(|(_, i, _)| i).collect()).unwrap_or_default()
    }

    proptest! {
        #[test]
        fn each_event_is_settled_or_left_over_once(
            cuts in proptest::collection::vec(1usize..9, 1..12),
            choice in proptest::collection::vec(0u8..5, 40),
        ) {
            let work = work(&cuts);
            let all = indices(Some(&work));
            let rulings: Vec<Ruling> = all.iter().map(|i| match choice[*i] {
                0 | 1 => Ruling::Settled(Fate::Acked),
                2 => Ruling::Settled(Fate::Duplicate),
                3 => Ruling::Again { busy: false },
                _ => Ruling::Refused(Dead { reason: Item::default().drop_reason(), text: String::new() }),
            }).collect();
            let (books, stats) = (Books::default(), Stats::default());
            let rest = settle_each(&work, rulings, &books, &stats);
            let wanted = |of: std::ops::RangeInclusive<u8>| -> Vec<usize> {
                all.iter().copied().filter(|i| of.contains(&choice[*i])).collect()
            };
            prop_assert_eq!(indices(rest.again.as_ref()), wanted(3..=3));
            prop_assert_eq!(indices(rest.refused.as_ref()), wanted(4..=4));
            prop_assert_eq!(rest.refused.map_or(0, |r| r.dead.len()), wanted(4..=4).len());
            prop_assert_eq!(books.all().len(), wanted(0..=2).len());
            prop_assert_eq!(books.acked(), wanted(0..=1).len());
        }

        #[test]
        fn splitting_loses_nothing(cuts in proptest::collection::vec(1usize..9, 1..12), at in 0usize..45) {
            let mut front = work(&cuts);
            let all = indices(Some(&front));
            let behind = front.split_off(at);
            prop_assert_eq!(front.piece.len(), at.min(all.len()));
            let mut both = indices(Some(&front));
            both.extend(indices(Some(&behind)));
            prop_assert_eq!(both, all);
        }
    }

    #[tokio::test]
    async fn workers_end_only_when_all_work_is_settled() {
        let pool = Pool::new(List::of(crate::testing::lines(1)), 10);
        let work = pool.next().await.unwrap();
        let other = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.next().await.map(|w| w.piece.len()) }
        });
        tokio::task::yield_now().await;
        assert!(!other.is_finished(), "work is in flight, and may come back");
        pool.put(work);
        assert_eq!(other.await.unwrap(), Some(1));
        assert!(pool.next().await.is_none());
        pool.ended().await;
    }
}
