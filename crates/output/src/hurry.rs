//! The pause before another attempt, shortened once the end of the run has begun.
//!
//! Comes in: how long a [`Backoff`](crate::backoff::Backoff) wants to wait, and once "the end has begun". Goes out: when
//! to try again. Always holds: before the end a pause is as long as wished; afterwards at most a second, also one that
//! had begun: a target that is back mustn't find the drain asleep. Tested below.

use std::time::Duration;

use pillion_world::Random;
use tokio::sync::watch;

/// The longest pause while a run drains. Half of it is chance: pods that end together don't come back together.
const MOST: Duration = Duration::from_secs(1);

/// Whether outputs have to hurry. One for all workers; cheap to ask.
#[derive(Debug)]
pub struct Hurry(watch::Sender<bool>);

impl Default for Hurry {
    fn default() -> Hurry {
        Hurry(watch::Sender::new(false))
    }
}

impl Hurry {
    /// The end of the run has begun.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether the end of the run has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits: `wish`, or shorter when the end has begun or begins meanwhile.
    pub async fn pause(&self, wish: Duration, random: &dyn Random) {
        let mut begun = self.0.subscribe();
        let most = MOST / 2 + MOST / 2 * ((random.u128() % 1_001) as u32) / 1_000;
        let hurries = async {
            if begun.wait_for(|begun| *begun).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(most).await;
        };
        tokio::select! {
            () = tokio::time::sleep(wish) => {}
            () = hurries => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pillion_world::RealRandom;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_short_once_the_end_has_begun() {
        let hurry = Arc::new(Hurry::default());
        let began = Instant::now();
        hurry.pause(Duration::from_secs(60), &RealRandom).await;
        assert!(began.elapsed() >= Duration::from_secs(60));
        let other = Arc::clone(&hurry);
        let paused = tokio::spawn(async move { other.pause(Duration::from_secs(60), &RealRandom).await });
        tokio::task::yield_now().await;
        let began = Instant::now();
        hurry.begin();
        paused.await.unwrap();
        let slack = Duration::from_millis(2);
        assert!(began.elapsed() >= MOST / 2 && began.elapsed() <= MOST + slack, "{:?}", began.elapsed());
        let began = Instant::now();
        hurry.pause(Duration::from_secs(60), &RealRandom).await;
        assert!(began.elapsed() <= MOST + slack);
        let began = Instant::now();
        hurry.pause(Duration::from_millis(10), &RealRandom).await;
        assert!(began.elapsed() <= Duration::from_millis(10) + slack);
    }
}
