//! The readers of a run that shares its files: how the run's drain and the board fit together.
//!
//! Comes in: what starts the drain. Goes out: the same as of any readers ([`Reading`]).
//!
//! | the drain's cause | what happens |
//! |---|---|
//! | SIGTERM, SIGINT | shards are given back as what was read of them is acknowledged; the others read what is left |
//! | the end of the work (a flag, a lock, a process), `--once` | every file of ours is read to its end, then shards are given back |
//! | SIGTERM without a board that answers | what isn't acknowledged when the fence has lapsed is left to whoever takes the shards |
//!
//! Always holds: reading has ended only when no shard is read here any more.
//! Tested by the command line's tests (`tests/run/replicas.rs`).

use std::sync::Arc;
use std::time::Duration;

use pillion_engine::drain::Cause;
use pillion_engine::run::{Reading, ReadingReport};
use tokio::sync::{mpsc, watch};

use super::drive::{Hands, Stand, Told};
use crate::harvesting::Harvesting;

/// How long the fence must have lapsed until nobody waits for the board any more.
const AWAY: Duration = Duration::from_secs(2);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The driver, as the run sees it.
#[derive(Clone)]
pub(crate) struct Helm {
    pub(super) hands: Arc<Hands>,
    pub(super) tell: mpsc::Sender<Told>,
    pub(super) stand: watch::Receiver<Stand>,
    pub(super) lease: Duration,
}

/// See the module.
pub(crate) struct Shared {
    pub(crate) harvesting: Arc<Harvesting>,
    /// `None`: nothing is shared, or parts are fixed.
    pub(crate) helm: Option<Helm>,
}

impl Shared {
    /// Gives back what is still ours, when everything else is done; others wait for the lease otherwise.
    pub(crate) async fn end(&self, limit: Duration) {
        if let Some(helm) = self.helm.clone()
            && tokio::time::timeout(limit, helm.leave()).await.is_err()
        {
            tracing::warn!("the shards couldn't be given back in time: other replicas take them after the lease");
        }
    }
}

impl Helm {
    /// Gives everything back; gives it up when the board is away.
    async fn leave(mut self) {
        let _ = self.tell.send(Told::Leave).await;
        let (mut lapsed, mut idle) = (Duration::ZERO, Duration::ZERO);
        loop {
            let stand = *self.stand.borrow_and_update();
            if stand.gone {
                return;
            }
            match tokio::time::timeout(LOOK, self.stand.changed()).await {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => return,
                Err(_) => {}
            }
            // All is durable, only the board can't be written: others take the shards after the lease as well.
            idle = if stand.idle { idle + LOOK } else { Duration::ZERO };
            if idle >= self.lease {
                return;
            }
            lapsed = if self.hands.disk.ours.holds() { Duration::ZERO } else { lapsed + LOOK };
            if lapsed >= AWAY {
                self.hands.give_up().await;
                return;
            }
        }
    }
}

impl Reading for Shared {
    fn drain(&self, cause: &Cause) {
        let harvesting = Arc::clone(&self.harvesting);
        match (&self.helm, cause) {
            (Some(helm), Cause::Terminate | Cause::Interrupt) => {
                let helm = helm.clone();
                tokio::spawn(async move {
                    helm.leave().await;
                    harvesting.begin_drain();
                });
            }
            _ => harvesting.begin_drain(),
        }
    }

    fn progress(&self) -> (bool, bool) {
        self.harvesting.progress()
    }

    fn report(&self) -> ReadingReport {
        self.harvesting.report()
    }
}
