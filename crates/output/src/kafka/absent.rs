//! Topics that the cluster doesn't have, or that we may not write to, where each event has a topic of its own.
//!
//! Comes in: which topics were asked for, or written to, in vain. Goes out: whether it is too early to try again. Always
//! holds: a topic is tried about once in [`PUT_OFF`], so that events of many that aren't there cost little; at most [`MOST`] are
//! remembered. Tested in `tests.rs`.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::work::PUT_OFF;

/// Beyond it all are forgotten, to be asked for again.
const MOST: usize = 10_000;

/// See the module's header.
#[derive(Default)]
pub(super) struct Absent(HashMap<String, Instant>);

impl Absent {
    /// Whether it was tried in vain a moment ago.
    pub(super) fn waits(&self, topic: &str) -> bool {
        self.0.get(topic).is_some_and(|tried| tried.elapsed() < PUT_OFF)
    }

    /// Whether it is known that it isn't there.
    pub(super) fn has(&self, topic: &str) -> bool {
        self.0.contains_key(topic)
    }

    /// It was tried, and is there for us or isn't.
    pub(super) fn note(&mut self, topic: &str, is_there: bool) {
        if is_there {
            self.0.remove(topic);
            return;
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(topic.to_owned(), Instant::now());
    }
}
