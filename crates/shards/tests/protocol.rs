//! Members of one group on a simulated cluster: late, lost and repeated answers, pauses, clocks that run at different
//! speeds, partitions, crashes, and people who delete by hand. A seed replays a run.
//!
//! What must hold: every line arrives; each line has one id, so that a target with ids has it once; when nothing happens
//! any more, all shards are served, evenly, and everything is delivered and committed; what a dead member had is served
//! again within a lease and two seconds.

#![expect(clippy::panic, reason = "a failing run is a failing test")]

#[expect(clippy::unwrap_used, reason = "a test's own model")]
mod common;

use std::time::Duration;

use common::{Cluster, Faults};
use pillion_shards::{Board, Member, Order, Report, Settings, Wrote};
use pillion_world::Mono;

const LEASE: Duration = Duration::from_secs(15);

/// Without optimisation a seed takes a quarter of a second; continuous integration runs as many of the optimised build as fit
/// into a minute.
const FEW: u64 = 20;

fn seeds() -> u64 {
    std::env::var("PILLION_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(FEW)
}

#[test]
fn nothing_is_lost_and_nothing_is_doubled_with_ids() {
    let only: Option<u64> = std::env::var("PILLION_SEED").ok().and_then(|n| n.parse().ok());
    let all = only.map_or(0..seeds(), |seed| seed..seed + 1);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let again: u64 = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn({
                    let all = all.clone();
                    move || all.skip(first).step_by(threads).map(one).sum::<u64>()
                })
            })
            .collect();
        parts.into_iter().map(|part| part.join().unwrap_or_else(|why| std::panic::resume_unwind(why))).sum()
    });
    assert!(only.is_some() || again > 0, "no line was ever sent twice: the faults do nothing");
}

/// One seed; how many lines came again.
fn one(seed: u64) -> u64 {
    let mut cluster = Cluster::new(seed, 4, LEASE, Faults::all());
    cluster.run(Duration::from_secs(300));
    cluster.calm();
    cluster.run(LEASE * 8);
    cluster.check().unwrap_or_else(|why| panic!("{why}\nreplay: PILLION_SEED={seed}\n{}", cluster.story()))
}

#[test]
fn a_dead_members_shards_are_served_within_a_lease_and_two_seconds() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(seed, 3, LEASE, Faults::none());
        cluster.run(LEASE * 3);
        cluster.check_spread().unwrap();
        let victim = cluster.kill_one();
        let took = cluster.until_served(LEASE * 4).expect("all shards are served again");
        assert!(took <= LEASE + Duration::from_secs(2), "seed {seed}: {took:?} after the end of {victim}");
    }
}

#[test]
fn one_that_comes_while_another_is_dying_holds_nothing_up() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(seed, 3, LEASE, Faults::none());
        cluster.run(LEASE * 3);
        let victim = cluster.kill_one();
        cluster.run(LEASE / 2);
        cluster.join();
        let took = cluster.until_served(LEASE * 4).expect("all shards are served again") + LEASE / 2;
        assert!(took <= LEASE + Duration::from_secs(2), "seed {seed}: {took:?} after the end of {victim}");
    }
}

#[test]
fn a_newcomer_and_a_leaver_move_no_more_than_their_part() {
    for seed in 0..5 {
        let mut cluster = Cluster::new(seed, 2, LEASE, Faults::none());
        cluster.run(LEASE * 3);
        let before = cluster.moves();
        cluster.join();
        cluster.run(LEASE * 3);
        cluster.check_spread().unwrap();
        assert_eq!(cluster.moves() - before, 21, "64 shards of two go to three: 22, 21, 21");
        let before = cluster.moves();
        let part = cluster.leave_one();
        cluster.run(LEASE * 2);
        cluster.check_spread().unwrap();
        assert_eq!(cluster.moves() - before, part, "only the leaver's");
        assert_eq!(cluster.check().unwrap(), 0, "a handover repeats nothing");
    }
}

#[test]
fn a_deleted_table_is_written_again_by_the_owners() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(seed, 3, LEASE, Faults::none());
        cluster.run(LEASE * 3);
        let before = cluster.moves();
        cluster.delete_table();
        cluster.run(LEASE * 2);
        cluster.check_spread().unwrap();
        assert_eq!(cluster.moves(), before, "nothing moved");
        assert_eq!(cluster.check().unwrap(), 0);
    }
}

/// A board that can be read but not written: a missing right, a quota, a full disk.
#[test]
fn who_cant_write_doesnt_ask_more_often_for_that() {
    for wrote in [Wrote::Unknown, Wrote::Conflict] {
        let settings = Settings { member: "a".into(), shards: 64, lease: LEASE };
        let mut member = Member::new(settings, Mono(0));
        let (mut now, mut requests) = (Mono(0), 0);
        while now < Mono(0).plus(LEASE * 4) {
            let mut orders = member.orders(now);
            while let Some(order) = orders.pop() {
                let report = match order {
                    Order::Beat { .. } => Report::Beat { sent: now, ok: true },
                    Order::Look => Report::Looked(Some(Board::default())),
                    Order::Write { .. } => Report::Wrote(wrote.clone()),
                    Order::Probe { shards } => Report::Probed(Some(shards.into_iter().map(|s| (s, 0)).collect())),
                    other => panic!("{other:?}"),
                };
                requests += u32::from(!matches!(report, Report::Probed(_)));
                member.report(report, now);
                orders.append(&mut member.orders(now));
            }
            now = now.plus(Duration::from_millis(10)).max(member.wake_at());
        }
        // A look, a write and a third of a sign of life each second.
        assert!(requests <= 4 * (2 * pillion_shards::LOOKS + pillion_shards::BEATS) + 10, "{wrote:?}: {requests}");
    }
}

#[test]
fn at_rest_the_load_is_constant() {
    let mut cluster = Cluster::new(1, 4, LEASE, Faults::none());
    cluster.run(LEASE * 4);
    let before = cluster.requests();
    cluster.run(LEASE * 10);
    let (looks, beats, writes) = cluster.requests();
    let one = |now: u64, before: u64| (now - before) as f64 / 40.0;
    assert!((one(looks, before.0) - f64::from(pillion_shards::LOOKS)).abs() < 1.5, "{}", one(looks, before.0));
    assert!((one(beats, before.1) - f64::from(pillion_shards::BEATS)).abs() < 0.5, "{}", one(beats, before.1));
    assert_eq!(writes, before.2, "no writes");
}
