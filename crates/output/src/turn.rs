//! The hosts of a worker, one after the other.
//!
//! Comes in: what went wrong with the host that is used now, or that it took something. Goes out: which host is next, how long
//! to wait before, and one line in the log for each kind of trouble. Always holds: a worker has at least one host; the
//! one that works is used until it fails. Used by the outputs that speak a protocol of their own over TCP, and tested in their
//! tests.

use std::sync::Arc;
use std::time::Duration;

use pillion_world::Random;
use tokio::task::JoinSet;

use crate::backoff::Backoff;
use crate::contract::OutputContext;
use crate::dial::Dial;
use crate::problem::Problem;

/// See the module's header.
pub(crate) struct Turn {
    /// The output's name, for the log.
    output: &'static str,
    dial: Arc<dyn Dial>,
    /// Indices of the hosts that may be used.
    hosts: Vec<usize>,
    /// The one to use next, in `hosts`.
    at: usize,
    context: OutputContext,
    backoff: Backoff,
    /// The last attempt failed.
    failing: bool,
}

impl Turn {
    pub(crate) fn new(
        output: &'static str,
        dial: Arc<dyn Dial>,
        hosts: Vec<usize>,
        (init, max): (Duration, Duration),
        context: &OutputContext,
    ) -> Turn {
        let (context, backoff) = (context.clone(), Backoff::new(init, max));
        Turn { output, dial, hosts, at: 0, context, backoff, failing: false }
    }

    /// How many hosts there are.
    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }

    pub(crate) fn dial(&self) -> &dyn Dial {
        &*self.dial
    }

    /// The index of the host that is used now.
    pub(crate) fn host(&self) -> usize {
        self.hosts.get(self.at).copied().unwrap_or_default()
    }

    /// What that is called in messages.
    pub(crate) fn name(&self) -> String {
        self.dial.name(self.host())
    }

    pub(crate) fn next_host(&mut self) {
        self.at = (self.at + 1) % self.hosts.len().max(1);
    }

    /// The host that is used now can't be reached: the next one is tried at once.
    pub(crate) fn pass(&mut self, problem: &Problem) {
        self.note(problem, None);
        self.next_host();
    }

    /// It failed: the next one is used after this time.
    pub(crate) fn failed(&mut self, problem: &Problem) -> Duration {
        self.context.stats.failed.add(1);
        let wait = self.backoff.wait(&*self.context.world.random);
        self.note(problem, Some(wait));
        self.next_host();
        wait
    }

    /// Says what is wrong with the host that is used now, each kind of problem once. `wait`: no other one is tried
    /// before.
    fn note(&mut self, problem: &Problem, wait: Option<Duration>) {
        self.failing = true;
        let output = self.output;
        let next = wait.map_or_else(|| "trying the next host".to_owned(), |w| format!("trying again in {w:.1?}"));
        if self.context.stats.fails_with(&self.name(), problem) {
            tracing::warn!("{output}: {problem} ({next}, and until it works)");
        } else {
            tracing::debug!("{output}: {problem} ({next})");
        }
    }

    /// The host that is used now has taken something.
    pub(crate) fn works(&mut self) {
        if std::mem::take(&mut self.failing) {
            let stats = &self.context.stats;
            let known = self.hosts.iter().filter(|host| stats.works(&self.dial.name(**host))).count();
            if known > 0 {
                tracing::info!("{}: {} takes events again", self.output, self.name());
            }
        }
        self.backoff.reset();
    }
}

/// The hosts of each worker: with load balancing each host has its own workers, without there is one worker that begins with
/// any host, so that many shippers spread, and goes to another one when it fails.
pub(crate) fn groups(hosts: usize, load_balance: bool, workers: usize, random: &dyn Random) -> Vec<Vec<usize>> {
    if load_balance {
        return (0..workers).flat_map(|_| (0..hosts).map(|host| vec![host])).collect();
    }
    let first = (random.u128() % hosts.max(1) as u128) as usize;
    vec![(0..hosts).map(|i| (first + i) % hosts).collect()]
}

/// Waits for the end of all workers.
///
/// # Errors
/// When one of them failed: a defect.
pub(crate) async fn ended(mut workers: JoinSet<()>) -> Result<(), Problem> {
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|e| Problem::bare(format!("a worker of the output failed: {e}")))?;
    }
    Ok(())
}
