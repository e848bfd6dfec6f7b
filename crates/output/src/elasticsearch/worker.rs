//! A worker: takes work, sends it over its connection, settles it.
//!
//! How it fares: `idle → sending → settled`; on a failure `→ pause → sending`. A pause grows with each failure and is
//! over with the first success. With several workers the failed work goes back to the pool first, so that another may
//! deliver it, and the worker takes new work only once it is connected again: a dead host holds nothing up. One that took a
//! request and didn't answer has to answer something first (`GET /`, whatever it says): one that hangs would take a request
//! each time, and hold it for the whole timeout.
//!
//! Always holds: at most one request in flight for each worker; no work is dropped but by a settled fate. Tested in
//! `tests.rs`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use pillion_event::{Drop, DropKind, Fate};

use super::answer::Verdict;
use super::dead_letter::DeadLetterFile;
use super::request::{Builder, Built};
use super::settings::NonIndexable;
use super::settle::{Judge, Ruling, absent, put_off, settle_all, settle_each};
use super::setup::Setup;
use super::target::{Reply, Target};
use super::work::{Dead, Pool, Work};
use crate::backoff::Backoff;
use crate::problem::Problem;
use crate::{AckSink, OutputContext};

/// A body buffer larger than this is given back.
const KEEP: usize = 2 << 20;

/// What the workers of an output share.
pub(super) struct Shared {
    pub(super) context: OutputContext,
    pub(super) sink: Arc<dyn AckSink>,
    pub(super) pool: Arc<Pool>,
    /// What is put before the first event.
    pub(super) setup: Option<Setup>,
    pub(super) judge: Judge,
    pub(super) non_indexable: NonIndexable,
    pub(super) dead_letters: Option<Mutex<DeadLetterFile>>,
    pub(super) idle_timeout: Duration,
    /// There is more than one worker.
    pub(super) several: bool,
}

/// A worker.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    /// The hosts it may use: one, or all where only one is used at a time.
    pub(super) targets: Vec<Target>,
    pub(super) at: usize,
    pub(super) builder: Builder,
    pub(super) body: Vec<u8>,
    pub(super) backoff: Backoff,
    /// The last request failed.
    pub(super) failing: bool,
    /// It failed without an answer, though the connection was there.
    pub(super) mute: bool,
}

impl Worker {
    /// Works until there is nothing more to do.
    pub(super) async fn run(mut self) {
        loop {
            if self.failing && self.shared.several {
                let pool = Arc::clone(&self.shared.pool);
                tokio::select! {
                    () = self.reconnect() => {}
                    () = pool.ended() => return,
                }
            }
            let Some(work) = self.next().await else { return };
            self.deliver(work).await;
        }
    }

    /// Takes work; a connection that rests for too long is closed meanwhile.
    async fn next(&mut self) -> Option<Work> {
        let pool = Arc::clone(&self.shared.pool);
        let idle_timeout = self.shared.idle_timeout;
        let resting = self.targets.get(self.at).and_then(|t| t.client.idle_since());
        if let Some(since) = resting {
            tokio::select! {
                biased;
                work = pool.next() => return work,
                () = tokio::time::sleep_until(since + idle_timeout) => {}
            }
            self.targets.iter_mut().for_each(|t| t.client.close());
        }
        pool.next().await
    }

    async fn reconnect(&mut self) {
        loop {
            let Some(target) = self.targets.get_mut(self.at) else { return };
            let reached = match self.mute {
                true => target.root().await.map(drop).map_err(|failure| failure.problem),
                false => target.client.connect().await,
            };
            match reached {
                Ok(()) => {
                    self.mute = false;
                    return;
                }
                Err(problem) => self.pause(&problem).await,
            }
        }
    }

    /// Sends work until it is settled or given back.
    async fn deliver(&mut self, mut work: Work) {
        if let Err(problem) = self.prepare().await {
            self.shared.context.stats.failed.add(1);
            self.shared.pool.put(work);
            return self.pause(&problem).await;
        }
        loop {
            let Some(with_type) = self.targets.get(self.at).map(|t| t.with_type) else { return };
            let mut body = std::mem::take(&mut self.body);
            body.clear();
            let built = self.builder.build(&work, with_type, &mut body);
            if built.taken < work.piece.len() {
                self.shared.pool.put(work.split_off(built.taken));
            }
            if !built.unsendable.is_empty() {
                let Some(rest) = self.drop_unsendable(&work, &built) else { return };
                work = rest;
            }
            let events = work.piece.len();
            self.shared.context.stats.requests.add(1);
            self.shared.context.stats.bytes.add(body.len());
            let body = Bytes::from(body);
            let Some(target) = self.targets.get_mut(self.at) else { return };
            let result = target.bulk(body.clone(), events).await;
            self.reclaim(body);
            match result {
                Err(failure) => {
                    self.mute = failure.maybe_received;
                    work.resent |= failure.maybe_received;
                    if failure.was_idle && self.shared.pool.is_open() {
                        self.shared.context.stats.retried.add(events);
                        continue;
                    }
                    return self.failed(work, failure.problem).await;
                }
                Ok(Reply::OtherForm) => {}
                Ok(Reply::TooLarge) => return self.too_large(work, built.bytes),
                Ok(Reply::Refused { problem, maybe_done, status }) => {
                    work.resent |= maybe_done;
                    if status == StatusCode::TOO_MANY_REQUESTS {
                        self.shared.context.stats.too_many.add(events);
                    }
                    return self.failed(work, problem).await;
                }
                Ok(Reply::Taken(verdict)) => return self.answered(work, verdict).await,
            }
        }
    }

    /// Sees to it that template and policy are there, and learns which index that means.
    async fn prepare(&mut self) -> Result<(), Problem> {
        let shared = Arc::clone(&self.shared);
        let (Some(setup), Some(target)) = (&shared.setup, self.targets.get_mut(self.at)) else { return Ok(()) };
        setup.ensure(target, &shared.context.hurry).await?;
        if let Some(index) = setup.index() {
            self.builder.use_index(index);
        }
        Ok(())
    }

    /// Uses the buffer again, if hyper has let go of it.
    fn reclaim(&mut self, body: Bytes) {
        if let Ok(mutable) = body.try_into_mut() {
            let body = Vec::from(mutable);
            if body.capacity() <= KEEP {
                self.body = body;
            }
        }
    }

    fn drop_unsendable(&mut self, work: &Work, built: &Built) -> Option<Work> {
        let mut rulings = vec![Ruling::Again { busy: false }; work.piece.len()];
        for (place, fate) in &built.unsendable {
            if let Fate::Dropped(reason) = fate {
                self.shared.context.stats.say_dropped(reason);
            }
            if let Some(ruling) = rulings.get_mut(*place) {
                *ruling = Ruling::Settled(fate.clone());
            }
        }
        settle_each(work, rulings, &*self.shared.sink, &self.shared.context.stats).again
    }

    async fn answered(&mut self, mut work: Work, verdict: Verdict) {
        let stats = Arc::clone(&self.shared.context.stats);
        let items = match verdict {
            Verdict::Unclear => {
                work.resent = true;
                let host = self.host();
                let remedy = "Is this Elasticsearch or OpenSearch, or does a proxy answer in its place?";
                return self
                    .failed(work, Problem::new(format!("{host}: the answer can't be understood"), remedy))
                    .await;
            }
            Verdict::AllTaken => {
                let fate = match work.dead.is_empty() {
                    true => Fate::Acked,
                    false => {
                        let rulings =
                            work.dead.iter().map(|d| Ruling::Settled(Fate::DeadLettered(d.reason.clone()))).collect();
                        settle_each(&work, rulings, &*self.shared.sink, &stats);
                        return self.worked();
                    }
                };
                settle_all(&work, &fate, &*self.shared.sink, &stats);
                return self.worked();
            }
            Verdict::Items(items) => items,
        };
        stats.too_many.add(items.iter().filter(|item| item.status == 429).count());
        let judge = &self.shared.judge;
        let rulings = work.piece.events().zip(&items).enumerate();
        let rulings: Vec<Ruling> =
            rulings.map(|(place, ((batch, _, event), item))| judge.rule(item, &work, batch, event, place)).collect();
        for ruling in &rulings {
            match ruling {
                Ruling::Refused(Dead { reason, .. }) | Ruling::Settled(Fate::Dropped(reason)) => {
                    stats.say_dropped(reason);
                }
                Ruling::Settled(_) | Ruling::Again { .. } => {}
            }
        }
        let absent = absent(&work, &items);
        let rest = settle_each(&work, rulings, &*self.shared.sink, &stats);
        drop(work);
        if let Some(refused) = rest.refused {
            self.refused(refused);
        }
        let Some(mut again) = rest.again else { return self.worked() };
        // Some item may have been written before it failed.
        again.resent = true;
        let n = again.piece.len();
        if rest.busy {
            if n < items.len() {
                // It took a part: it is slow, not down, and the pauses needn't grow.
                self.backoff.reset();
            }
            let problem = put_off(&self.host(), (n, items.len()), absent);
            return self.failed(again, problem).await;
        }
        stats.retried.add(n);
        self.shared.pool.put(again);
    }

    /// What the target refused for good goes where the settings say.
    fn refused(&mut self, work: Work) {
        match (&self.shared.non_indexable, &self.shared.dead_letters) {
            (NonIndexable::Index(_), _) => self.shared.pool.put(work),
            (NonIndexable::File(..), Some(file)) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.take(&work, &*self.shared.sink, &self.shared.context.stats);
            }
            (NonIndexable::Drop | NonIndexable::File(..), _) => {
                let rulings = work.dead.iter().map(|d| Ruling::Settled(Fate::Dropped(d.reason.clone()))).collect();
                settle_each(&work, rulings, &*self.shared.sink, &self.shared.context.stats);
            }
        }
    }

    /// 413: half of it is tried; one event alone is refused for good.
    fn too_large(&mut self, mut work: Work, bytes: usize) {
        self.builder.too_large(bytes);
        let n = work.piece.len();
        if n > 1 {
            self.shared.context.stats.retried.add(n);
            let behind = work.split_off(n / 2);
            self.shared.pool.put(behind);
            return self.shared.pool.put(work);
        }
        let reason = Drop { kind: DropKind::TooLarge, type_name: String::new(), field: None };
        self.shared.context.stats.say_dropped(&reason);
        if let Some(dead) = work.dead.first() {
            let fate = Fate::Dropped(dead.reason.clone());
            return settle_all(&work, &fate, &*self.shared.sink, &self.shared.context.stats);
        }
        match self.shared.non_indexable {
            NonIndexable::File(..) => {
                work.dead = vec![Dead { reason, text: "too large for the target (413)".into() }];
                self.refused(work);
            }
            NonIndexable::Drop | NonIndexable::Index(_) => {
                settle_all(&work, &Fate::Dropped(reason), &*self.shared.sink, &self.shared.context.stats);
            }
        }
    }

    fn worked(&mut self) {
        self.backoff.reset();
        if std::mem::take(&mut self.failing) {
            let stats = &self.shared.context.stats;
            let known = self.targets.iter().filter(|t| stats.works(&t.client.host().to_string())).count();
            if known > 0 {
                tracing::info!("elasticsearch: {} takes events again", self.host());
            }
        }
    }

    /// The work goes back; a pause follows.
    async fn failed(&mut self, work: Work, problem: Problem) {
        let stats = &self.shared.context.stats;
        stats.failed.add(1);
        stats.retried.add(work.piece.len());
        self.shared.pool.put(work);
        self.pause(&problem).await;
    }

    async fn pause(&mut self, problem: &Problem) {
        self.failing = true;
        let news = self.shared.context.stats.fails_with(&self.host(), problem);
        self.at = (self.at + 1) % self.targets.len().max(1);
        let wait = self.backoff.wait(&*self.shared.context.world.random);
        if news {
            tracing::warn!("elasticsearch: {problem} (trying again in {wait:.1?}, and until it works)");
        } else {
            tracing::debug!("elasticsearch: {problem} (trying again in {wait:.1?})");
        }
        let context = &self.shared.context;
        context.hurry.pause(wait, &*context.world.random).await;
    }

    fn host(&self) -> String {
        self.targets.get(self.at).map(|t| t.client.host().to_string()).unwrap_or_default()
    }
}
