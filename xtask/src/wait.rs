//! Waiting for something to become true, with a limit.
//!
//! Comes in: a question. Goes out: its answer, or an error when the time is up.
//! Always holds: the pause between two questions only spares the processor; nothing relies on its length.

use std::time::{Duration, Instant};

use crate::Outcome;

/// Asks every few milliseconds until there is an answer; after `limit` says what was waited for.
pub(crate) fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if begin.elapsed() > limit {
            return Err(format!("waited {:.1} s in vain for {what}", limit.as_secs_f64()));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
