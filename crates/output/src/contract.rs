//! What all outputs have in common: where their work comes from, and whom they tell what became of it.
//!
//! Always holds: see [`Requests::take`], [`Gate`] and [`pillion_queue::AckSink::settled`], the promises that queue and outputs
//! make each other. Tested by each output's own tests, which stand on both sides.

use std::collections::HashSet;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pillion_event::{Drop, DropKind, Slice};
use pillion_queue::{Queue, Request};
use pillion_world::World;

use crate::hurry::Hurry;
use crate::problem::Problem;

/// What [`Requests::take`] gives: wait on it.
pub type Taking<'a> = Pin<Box<dyn Future<Output = Option<Request>> + Send + 'a>>;

/// Where an output's workers take their work from; shared by all workers of the output.
pub trait Requests: Send + Sync {
    /// Waits for events and takes at most `max_events` (at least one) of them: a full request, or a part-filled one
    /// when no other part-filled request of this output is in flight. `None`: closed, and nothing is left to take; it
    /// stays so. A future that is dropped before it is ready has taken nothing.
    fn take(&self, max_events: usize) -> Taking<'_>;

    /// What is asked before each attempt at what was taken; `None`: it may always be sent.
    fn gate(&self) -> Option<&dyn Gate> {
        None
    }
}

/// Whether what was taken may be sent now, for the first time or again: files that several replicas share may be another's
/// by the next attempt.
pub trait Gate: Send + Sync {
    /// Whether anything may be sent.
    fn is_open(&self) -> bool;

    /// Waits until this, or what somebody else sends, may have changed since the call.
    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Whether somebody else sends these events by now.
    fn is_gone(&self, slice: &Slice) -> bool;

    /// They are gone, and nothing more is said of them: their space is free.
    fn forget(&self, slice: &Slice);
}

impl Requests for Arc<Queue> {
    fn take(&self, max_events: usize) -> Taking<'_> {
        // Outputs bound a request's bytes by themselves, after rendering.
        Box::pin(Queue::take(self, max_events, usize::MAX))
    }
}

/// Who sends: what events say of the shipper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The version that events carry (`pillion.agent_version`, else that of the dialect), such as `8.19.3`.
    pub version: String,
    /// The setting `name`, else the host name.
    pub name: String,
    /// The host name.
    pub hostname: String,
    /// The lasting id, a UUID (`meta.json`).
    pub id: String,
    /// The id of this run, a UUID.
    pub ephemeral_id: String,
}

/// What each output is given beside its own settings. Cheap to clone.
#[derive(Clone)]
pub struct OutputContext {
    /// The clock, the files and the randomness.
    pub world: World,
    /// Who sends.
    pub agent: Arc<Agent>,
    /// Whether events carry their id, and "exists already" is believed for what may have been sent before.
    pub exactly_once: bool,
    /// Several replicas ship the same files, one at a time: "exists already" is believed for any id of ours, since whoever
    /// had the file before may have sent more than it wrote down. Nobody else can have made such an id.
    pub shared: bool,
    /// The folder for what outlives the process (`path.data`).
    pub data_path: PathBuf,
    /// What the output counts.
    pub stats: Arc<Stats>,
    /// Told when the end of the run has begun: pauses between attempts are short then.
    pub hurry: Arc<Hurry>,
}

/// What an output counts since the start; only ever growing.
#[derive(Debug, Default)]
pub struct Stats {
    /// Requests sent, each resend counted.
    pub requests: Counter,
    /// Bytes written to targets, after compression, without headers.
    pub bytes: Counter,
    /// Events the target has acknowledged.
    pub acked: Counter,
    /// Events the target had already under their id.
    pub duplicates: Counter,
    /// Events refused for good that a dead-letter index or file has.
    pub dead_lettered: Counter,
    /// Events refused for good that go nowhere.
    pub dropped: Counter,
    /// Events sent again, each time counted.
    pub retried: Counter,
    /// Events that the target put off as it has too many (429), each time counted.
    pub too_many: Counter,
    /// Requests that failed as a whole: no connection, no answer, or a refusal of all.
    pub failed: Counter,
    reached: AtomicBool,
    troubles: Mutex<Troubles>,
    /// Why events were dropped, as far as it was said.
    drops: Mutex<HashSet<Drop>>,
}

/// Why hosts can't be used, and what has been said of it.
#[derive(Debug, Default)]
struct Troubles {
    /// For each host that doesn't work: the kinds of problems that were said.
    hosts: Vec<(String, Vec<String>)>,
    last: Option<String>,
}

/// How many kinds of drops are said in the log, each once; the receipt has all.
const MOST_DROPS: usize = 64;

/// More hosts than this aren't remembered, nor more kinds of problems of one: they aren't said.
const MOST_TROUBLES: usize = 64;

impl Stats {
    /// Notes why a host can't be reached or refuses, for the receipt; no values, credentials or headers in it. Whether
    /// it is news, to be said in the log: each kind of problem once, until the host works again.
    pub fn fails_with(&self, host: &str, why: &Problem) -> bool {
        let mut troubles = self.troubles();
        troubles.last = Some(why.to_string());
        // Times, counts and ports differ from one attempt to the next.
        let kind: String = why.reason.chars().filter(|c| !c.is_ascii_digit()).collect();
        if let Some((_, said)) = troubles.hosts.iter_mut().find(|(known, _)| known == host) {
            let news = said.len() < MOST_TROUBLES && !said.contains(&kind);
            if news {
                said.push(kind);
            }
            return news;
        }
        let news = troubles.hosts.len() < MOST_TROUBLES;
        if news {
            troubles.hosts.push((host.to_owned(), vec![kind]));
        }
        news
    }

    /// Says why events are dropped, each kind once: the receipt comes only at the end. Whether it was news.
    pub fn say_dropped(&self, why: &Drop) -> bool {
        let mut said = self.drops.lock().unwrap_or_else(PoisonError::into_inner);
        let news = said.len() < MOST_DROPS && !said.contains(why);
        if news {
            said.insert(why.clone());
            let field = why.field.as_deref().map(|f| format!(", field {f:?}")).unwrap_or_default();
            let what = match why.kind {
                DropKind::Unencodable => "events can't be sent and are dropped",
                _ => "the target refuses events for good",
            };
            tracing::warn!("{what}: {:?} {}{field}", why.kind, why.type_name);
        }
        news
    }

    /// The host works. Whether it was said before that it doesn't.
    pub fn works(&self, host: &str) -> bool {
        self.reached.store(true, Ordering::Relaxed);
        let mut troubles = self.troubles();
        let before = troubles.hosts.len();
        troubles.hosts.retain(|(known, _)| known != host);
        if troubles.hosts.is_empty() {
            troubles.last = None;
        }
        troubles.hosts.len() < before
    }

    /// Whether the target was there at least once: a host worked, or something was settled.
    pub fn was_reached(&self) -> bool {
        let settled = [&self.acked, &self.duplicates, &self.dead_lettered, &self.dropped];
        self.reached.load(Ordering::Relaxed) || settled.iter().any(|n| n.get() > 0)
    }

    /// Why the target couldn't be used last, while it can't.
    pub fn last_error(&self) -> Option<String> {
        self.troubles().last.clone()
    }

    fn troubles(&self) -> std::sync::MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number that grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_trouble_is_said_once_for_each_host_until_it_works() {
        let stats = Stats::default();
        assert!(!stats.was_reached());
        let fails = |host: &str, reason: &str| stats.fails_with(host, &Problem::bare(reason));
        assert!(fails("a:1", "no answer within 90s") && !fails("a:1", "no answer within 91s"));
        assert!(fails("a:1", "the certificate has expired") && fails("b:1", "no answer within 90s"));
        assert_eq!(stats.last_error().as_deref(), Some("no answer within 90s"));
        assert!(!stats.was_reached());
        assert!(stats.works("a:1") && !stats.works("a:1"));
        assert!(stats.was_reached(), "once is enough");
        assert!(stats.last_error().is_some(), "b is still down");
        assert!(fails("a:1", "no answer within 90s"), "it is news again");
        assert!(stats.works("a:1") && stats.works("b:1"));
        assert_eq!(stats.last_error(), None);
        for i in 0..2 * MOST_TROUBLES {
            let letters: String = format!("{i:03}").bytes().map(|b| char::from(b - b'0' + b'a')).collect();
            assert_eq!(fails("a:1", &letters), i < MOST_TROUBLES);
        }
    }
}
