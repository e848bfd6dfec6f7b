//! Calls of a file system that may hang, each on a thread of its own.
//!
//! Comes in: a job and its time limit. Goes out: nothing; the job leaves its result where its maker looks for it. Always
//! holds: who waits, waits no longer than the limit; nothing waits for a thread that hangs, not even the end of the process.
//! How many may hang is bounded by who makes jobs ([`pillion_shards::files::Files`]: one of each kind). Tested below.

use std::time::Duration;

use pillion_shards::Later;
use pillion_shards::files::{Blocking, Job};
use tokio::sync::oneshot;

/// Makes a thread for each job: one a second at most, by the pace at which a member looks at its board.
#[derive(Clone, Copy, Debug)]
pub struct Threads;

impl Blocking for Threads {
    fn run(&self, job: Job, limit: Duration) -> Later<'_, ()> {
        let (tell, told) = oneshot::channel();
        let work = move || {
            job();
            let _ = tell.send(());
        };
        let begun = std::thread::Builder::new().name("board".to_owned()).stack_size(256 << 10).spawn(work);
        if let Err(e) = begun {
            tracing::warn!(error = %e, "no thread can be made for the board of shards");
        }
        Box::pin(async move {
            // A job that was dropped with its thread is over, too.
            let _ = tokio::time::timeout(limit, told).await;
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_job_that_hangs_is_left_alone() {
        let (go, gate) = mpsc::channel::<()>();
        let (say, said) = mpsc::channel();
        let limit = Duration::from_millis(50);
        Threads
            .run(
                Box::new(move || {
                    gate.recv().unwrap();
                    say.send("late").unwrap();
                }),
                limit,
            )
            .await;
        assert!(said.try_recv().is_err());
        go.send(()).unwrap();
        assert_eq!(said.recv_timeout(Duration::from_secs(10)), Ok("late"));
        let (say, said) = mpsc::channel();
        Threads.run(Box::new(move || say.send("done").unwrap()), Duration::from_secs(10)).await;
        assert_eq!(said.try_recv(), Ok("done"));
    }
}
