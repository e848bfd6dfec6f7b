//! What outputs take from the queue while files are shared: nothing while the fence has lapsed, and nothing that another
//! replica ships by now.
//!
//! Comes in: requests of the queue. Goes out: the same, without what was handed over. Always holds: what was taken from the
//! queue is given out or settled, also when whoever waits for it goes away. Tested below.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use pillion_engine::ledger::Ledger;
use pillion_output::{Requests, Taking};
use pillion_queue::{Queue, Request};

use super::ours::Ours;

/// See the module.
pub(crate) struct Fenced {
    queue: Arc<Queue>,
    ledger: Arc<Ledger>,
    ours: Arc<Ours>,
    /// Taken while the fence lapsed: one for each worker at most.
    kept: Mutex<VecDeque<Request>>,
}

impl Fenced {
    pub(crate) fn new(queue: &Arc<Queue>, ledger: &Arc<Ledger>, ours: &Arc<Ours>) -> Fenced {
        Fenced { queue: Arc::clone(queue), ledger: Arc::clone(ledger), ours: Arc::clone(ours), kept: Mutex::default() }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, VecDeque<Request>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Requests for Fenced {
    fn take(&self, max_events: usize) -> Taking<'_> {
        Box::pin(async move {
            loop {
                self.ours.held().await;
                let kept = self.kept().pop_front();
                let mut request = match kept {
                    Some(kept) => kept,
                    None => Queue::take(&self.queue, max_events, usize::MAX).await?,
                };
                if !self.ours.holds() {
                    // Nobody waits between the taking and here: nothing is lost with a future that is dropped.
                    self.kept().push_back(request);
                    continue;
                }
                self.ledger.without_handed_over(&mut request);
                if !request.is_empty() {
                    return Some(request);
                }
            }
        })
    }
}
