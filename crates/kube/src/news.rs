//! What is new about pods, for a listener that may be slower than they change.
//!
//! Comes in: what happened to a pod. Goes out: the latest of each pod, in the order in which they first changed.
//!
//! Always holds: a pod waits once, however often it changes: a slow listener costs one object for each pod and no queue.
//! A pod that is gone before it was looked at is told, with what was known of it last: its files may be there still. At
//! most [`MAX_WAITING`] pods wait; beyond, the oldest news are dropped, which is said. Tested below.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::Notify;

use crate::pods::Fields;

/// Pods whose news wait at most.
pub const MAX_WAITING: usize = 20_000;

/// What happened to a pod.
#[derive(Clone, Debug)]
pub struct Told {
    /// The object, without what nobody asks for.
    pub pod: Arc<Value>,
    /// Its `kubernetes.*`, without a container.
    pub kubernetes: Arc<Fields>,
    /// It is there no more: this is how it was last.
    pub gone: bool,
}

impl Told {
    /// What tells pods apart, also those that have the same name one after the other.
    pub fn uid(&self) -> String {
        let at = |pointer: &str| self.pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        match at("/metadata/uid") {
            "" => format!("{}/{}", at("/metadata/namespace"), at("/metadata/name")),
            uid => uid.to_owned(),
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<String>,
    told: HashMap<String, Told>,
    dropped: bool,
}

/// What waits to be heard.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

impl Latest {
    /// Takes the place of what waits of the same pod.
    pub(crate) fn tell(&self, told: Told) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = told.uid();
        if waiting.told.insert(uid.clone(), told).is_none() {
            waiting.order.push_back(uid);
        }
        if waiting.order.len() > MAX_WAITING
            && let Some(oldest) = waiting.order.pop_front()
        {
            waiting.told.remove(&oldest);
            if !std::mem::replace(&mut waiting.dropped, true) {
                tracing::error!(limit = MAX_WAITING, "too many pods wait for their inputs: some aren't read");
            }
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Which pods wait, and whether they are gone.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> Vec<(String, bool)> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.order.iter().map(|uid| (uid.clone(), waiting.told[uid].gone)).collect()
    }

    fn take(&self) -> Option<Told> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = waiting.order.pop_front()?;
        waiting.told.remove(&uid)
    }
}

/// One listener's news.
#[derive(Debug, Default)]
pub struct News {
    latest: Arc<Latest>,
}

impl News {
    pub(crate) fn latest(&self) -> &Arc<Latest> {
        &self.latest
    }

    /// The next news; waits for them.
    pub async fn next(&mut self) -> Told {
        loop {
            match self.latest.take() {
                Some(told) => return told,
                None => self.latest.changed.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(uid: &str, n: u64, gone: bool) -> Told {
        Told { pod: Arc::new(json!({"metadata": {"uid": uid}, "n": n})), kubernetes: Arc::default(), gone }
    }

    #[tokio::test]
    async fn the_latest_of_each_pod_in_the_order_of_their_first_changes() {
        let mut news = News::default();
        for (uid, n, gone) in [("a", 1, false), ("b", 2, false), ("a", 3, false), ("b", 4, true), ("c", 5, false)] {
            news.latest().tell(told(uid, n, gone));
        }
        for (n, gone) in [(3, false), (4, true), (5, false)] {
            let next = news.next().await;
            assert_eq!((&next.pod["n"], next.gone), (&json!(n), gone));
        }
        assert!(news.latest().take().is_none());
    }

    #[test]
    fn a_listener_that_hears_nothing_costs_no_more_than_the_limit() {
        let news = News::default();
        for n in 0..MAX_WAITING as u64 + 10 {
            news.latest().tell(told(&n.to_string(), n, false));
        }
        let waiting = news.latest().waiting.lock().unwrap();
        assert_eq!((waiting.order.len(), waiting.told.len()), (MAX_WAITING, MAX_WAITING));
        assert_eq!(waiting.order.front().unwrap(), "10");
    }
}
