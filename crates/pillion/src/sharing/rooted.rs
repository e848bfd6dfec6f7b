//! A board on which this replica shows life only while its shared root answers.
//!
//! Comes in: a board that lives elsewhere (the Kubernetes API), and how the shared root is asked. Goes out: the same board, but
//! without signs of life when the root hasn't answered for a lease: its files are read by nobody then, so that others must be
//! able to take them. When it answers again, signs of life go on, and the replica takes part anew.
//!
//! Always holds: nothing here waits for the root; one question at most hangs, on a thread that nobody waits for. Tested below.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pillion_shards::files::Blocking;
use pillion_shards::{Backend, Beat, Board, Later, Table, Version, Wrote};
use pillion_world::{Clock, Mono};

/// Asks the shared root for something that only its server knows. It may hang.
pub(super) type Ask = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// See the module.
pub(super) struct Rooted {
    board: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    blocking: Box<dyn Blocking>,
    ask: Ask,
    lease: Duration,
    root: Arc<Root>,
    /// That it doesn't answer was said.
    said: AtomicBool,
}

/// What is known of the root.
struct Root {
    /// When it answered last.
    answered: AtomicU64,
    /// A question hasn't come back.
    asked: AtomicBool,
    /// What it said instead of an answer.
    error: Mutex<Option<String>>,
}

impl Rooted {
    /// The root has answered just now.
    pub(super) fn new(
        board: Arc<dyn Backend>,
        clock: &Arc<dyn Clock>,
        lease: Duration,
        blocking: Box<dyn Blocking>,
        ask: Ask,
    ) -> Rooted {
        let answered = AtomicU64::new(clock.mono().0);
        let root = Arc::new(Root { answered, asked: AtomicBool::new(false), error: Mutex::default() });
        Rooted { board, clock: Arc::clone(clock), blocking, ask, lease, root, said: AtomicBool::new(false) }
    }

    /// Begins to ask, unless a question hangs.
    fn ask(&self) {
        if self.root.asked.swap(true, Ordering::AcqRel) {
            return;
        }
        let (root, ask, clock) = (Arc::clone(&self.root), Arc::clone(&self.ask), Arc::clone(&self.clock));
        let job = Box::new(move || {
            let error = ask().err().map(|e| e.to_string());
            if error.is_none() {
                root.answered.fetch_max(clock.mono().0, Ordering::AcqRel);
            }
            *root.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
            root.asked.store(false, Ordering::Release);
        });
        // It has begun; the next sign of life sees what came of it.
        drop(self.blocking.run(job, Duration::ZERO));
    }

    /// Why no sign of life is to be shown.
    fn silent(&self) -> Option<String> {
        let since = self.clock.mono().since(Mono(self.root.answered.load(Ordering::Acquire)));
        let silent = since >= self.lease;
        if self.said.swap(silent, Ordering::AcqRel) != silent {
            if silent {
                let error = self.root.error.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let why = error.unwrap_or_else(|| "it hangs".to_owned());
                tracing::error!(
                    "pillion.shards.root hasn't answered for {since:.0?} ({why}): this replica shows no sign of life, so that others \
                     take its files"
                );
            } else {
                tracing::info!("pillion.shards.root answers again: this replica shows signs of life");
            }
        }
        silent.then(|| format!("the shared root hasn't answered for {since:.0?}"))
    }
}

impl Backend for Rooted {
    fn beat(&self, leaving: bool) -> Later<'_, Result<(), String>> {
        Box::pin(async move {
            self.ask();
            match self.silent() {
                Some(why) => Err(why),
                None => self.board.beat(leaving).await,
            }
        })
    }

    fn look(&self) -> Later<'_, Result<Board, String>> {
        self.board.look()
    }

    fn write(&self, over: Option<Version>, table: Table) -> Later<'_, Wrote> {
        self.board.write(over, table)
    }

    fn bury(&self, beat: Beat) -> Later<'_, Result<(), String>> {
        self.board.bury(beat)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::sharing::blocking::Threads;
    use pillion_shards::{Member, Order, Report, Rules, Settings};
    use pillion_world::UnixMillis;

    const LEASE: Duration = Duration::from_secs(15);

    /// A clock that a test sets.
    #[derive(Default)]
    struct Set(AtomicU64);

    impl Clock for Set {
        fn mono(&self) -> Mono {
            Mono(self.0.load(Ordering::SeqCst))
        }
        fn wall(&self) -> UnixMillis {
            UnixMillis(0)
        }
    }

    /// A board that always answers.
    #[derive(Default)]
    struct Lives {
        beats: AtomicU64,
        table: Mutex<Option<(u64, Table)>>,
    }

    impl Lives {
        fn board(&self) -> Board {
            let count = self.beats.load(Ordering::SeqCst);
            let beats = (count > 0).then(|| Beat {
                member: "me".into(),
                stamp: count.to_string(),
                leaving: false,
                rules: Rules::default(),
            });
            let table = self.table.lock().unwrap().clone();
            Board {
                beats: beats.into_iter().collect(),
                table: table.map(|(version, table)| (Version(version.to_string()), table)),
            }
        }
    }

    impl Backend for Lives {
        fn beat(&self, _: bool) -> Later<'_, Result<(), String>> {
            self.beats.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(()) })
        }
        fn look(&self) -> Later<'_, Result<Board, String>> {
            Box::pin(async { Ok(self.board()) })
        }
        fn write(&self, _: Option<Version>, table: Table) -> Later<'_, Wrote> {
            let mut there = self.table.lock().unwrap();
            let version = there.as_ref().map_or(1, |(version, _)| version + 1);
            *there = Some((version, table));
            Box::pin(async move { Wrote::Done(Version(version.to_string())) })
        }
        fn bury(&self, _: Beat) -> Later<'_, Result<(), String>> {
            Box::pin(async { Ok(()) })
        }
    }

    struct Rig {
        clock: Arc<Set>,
        board: Arc<Lives>,
        rooted: Rooted,
        /// Lets one question come back with this.
        answer: mpsc::Sender<io::Result<()>>,
        asked: mpsc::Receiver<()>,
    }

    fn rig() -> Rig {
        let (clock, board) = (Arc::new(Set::default()), Arc::new(Lives::default()));
        let (answer, answers) = mpsc::channel();
        let (say, asked) = mpsc::channel();
        let answers = Mutex::new(answers);
        let ask = move || {
            say.send(()).unwrap();
            answers.lock().unwrap().recv().unwrap()
        };
        let as_clock: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let rooted = Rooted::new(Arc::clone(&board) as _, &as_clock, LEASE, Box::new(Threads), Arc::new(ask));
        Rig { clock, board, rooted, answer, asked }
    }

    impl Rig {
        fn at(&self, seconds: u64) -> Mono {
            self.clock.0.store(Mono(0).plus(Duration::from_secs(seconds)).0, Ordering::SeqCst);
            self.clock.mono()
        }

        fn answers(&self, what: io::Result<()>) {
            self.answer.send(what).unwrap();
            while self.rooted.root.asked.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
        }

        fn was_asked(&self) {
            self.asked.recv_timeout(Duration::from_secs(10)).unwrap();
        }

        fn was_not_asked(&self) {
            assert!(self.asked.try_recv().is_err());
        }
    }

    #[tokio::test]
    async fn a_root_that_hangs_stops_the_sign_of_life_after_a_lease_and_one_that_answers_lets_it_go_on() {
        let rig = rig();
        assert_eq!(rig.rooted.beat(false).await, Ok(()));
        rig.was_asked();
        rig.at(10);
        rig.answers(Ok(()));
        rig.at(24);
        assert_eq!(rig.rooted.beat(false).await, Ok(()), "14 s after the last answer");
        rig.was_asked();
        rig.at(25);
        let why = rig.rooted.beat(false).await.unwrap_err();
        assert!(why.contains("15s"), "{why}");
        rig.was_not_asked();
        assert_eq!(rig.board.beats.load(Ordering::SeqCst), 2);
        rig.answers(Err(io::ErrorKind::TimedOut.into()));
        assert!(rig.rooted.beat(false).await.is_err(), "an error is no answer");
        rig.was_asked();
        rig.answers(Ok(()));
        assert_eq!(rig.rooted.beat(false).await, Ok(()));
        assert!(rig.rooted.look().await.is_ok());
    }

    /// Does what a member orders of a board.
    async fn drive(member: &mut Member, rig: &Rig, now: Mono) {
        loop {
            let orders = member.orders(now);
            if orders.is_empty() {
                return;
            }
            for order in orders {
                let report = match order {
                    Order::Beat { leaving } => Report::Beat { sent: now, ok: rig.rooted.beat(leaving).await.is_ok() },
                    Order::Look => Report::Looked(rig.rooted.look().await.ok()),
                    Order::Write { over, table } => Report::Wrote(rig.rooted.write(over, table).await),
                    _ => continue,
                };
                member.report(report, now);
            }
        }
    }

    #[tokio::test]
    async fn the_fence_lapses_while_the_root_hangs_and_comes_back_with_it() {
        let rig = rig();
        let mut member = Member::new(Settings { member: "me".into(), shards: 1, lease: LEASE }, rig.at(0));
        let fence = member.fence();
        let mut held = Vec::new();
        for second in 0..80 {
            let now = rig.at(second);
            drive(&mut member, &rig, now).await;
            let hangs = (10..60).contains(&second);
            if !hangs && rig.rooted.root.asked.load(Ordering::Acquire) {
                rig.answers(Ok(()));
            }
            held.extend(fence.holds(now).then_some(second));
        }
        let (before, behind): (Vec<u64>, Vec<u64>) = held.into_iter().partition(|second| *second < 60);
        // Answered at 9 s for the last time, a sign of life by 24 s at the latest, and the fence 13.5 s longer.
        assert!(before.last().is_some_and(|last| (30..38).contains(last)), "{before:?}");
        assert!(behind.contains(&79), "{behind:?}");
    }
}
