//! How long to wait before trying again: exponential with equal jitter, as Filebeat (`libbeat/common/backoff`).
//!
//! Always holds: a wait lies between half of the current step and the whole of it; the step doubles up to the limit;
//! hundreds of shippers that failed together don't come back together. Tested below.

use std::time::Duration;

use pillion_world::Random;

/// The state of one thing that is tried again and again.
#[derive(Clone, Debug)]
pub struct Backoff {
    init: Duration,
    max: Duration,
    step: Duration,
}

impl Backoff {
    /// Starts at `init`, never beyond `max`.
    pub fn new(init: Duration, max: Duration) -> Backoff {
        let init = init.min(max);
        Backoff { init, max, step: init }
    }

    /// It worked: the next failure starts at the beginning.
    pub fn reset(&mut self) {
        self.step = self.init;
    }

    /// It failed: how long to wait now.
    pub fn wait(&mut self, random: &dyn Random) -> Duration {
        let half = self.step / 2;
        let share = (random.u128() % 1_001) as u32;
        let wait = half + half * share / 1_000;
        self.step = (self.step * 2).min(self.max);
        wait
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pillion_world::Random;

    use super::Backoff;

    struct Fixed(u8);
    impl Random for Fixed {
        fn fill(&self, buf: &mut [u8]) {
            buf.fill(0);
            if let Some(b) = buf.first_mut() {
                *b = self.0;
            }
        }
    }

    #[test]
    fn doubles_to_its_limit_and_starts_anew_after_success() {
        let mut b = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let waits: Vec<u128> = (0..5).map(|_| b.wait(&Fixed(0)).as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 2_500, 2_500]);
        b.reset();
        assert_eq!(b.wait(&Fixed(200)).as_millis(), 600);
    }

    #[test]
    fn jitter_stays_between_half_and_whole() {
        let mut b = Backoff::new(Duration::from_secs(4), Duration::from_secs(4));
        for _ in 0..200 {
            let w = b.wait(&pillion_world::RealRandom);
            assert!(w >= Duration::from_secs(2) && w <= Duration::from_secs(4), "{w:?}");
        }
    }
}
