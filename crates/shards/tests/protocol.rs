//! Members of one group on a simulated cluster: late, lost and repeated answers, pauses, clocks that run at different
//! speeds, partitions, crashes, and people who delete by hand. A seed replays a run.
//!
//! What must hold: every line arrives; each line has one id, so that a target with ids has it once; when nothing happens
//! any more, all shards are served, evenly, and everything is delivered and committed; what a dead member had is served
//! again within a lease and two seconds.

#[expect(clippy::unwrap_used, reason = "a test's own model")]
mod common;

use std::time::Duration;

use common::{Cluster, Faults};

const LEASE: Duration = Duration::from_secs(15);

/// Without optimisation a seed takes half a second; continuous integration runs 10,000 of the optimised build.
const FEW: u64 = 20;

fn seeds() -> u64 {
    std::env::var("PILLION_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(FEW)
}

#[test]
fn nothing_is_lost_and_nothing_is_doubled_with_ids() {
    let only: Option<u64> = std::env::var("PILLION_SEED").ok().and_then(|n| n.parse().ok());
    let mut again = 0;
    for seed in only.map_or(0..seeds(), |seed| seed..seed + 1) {
        let mut cluster = Cluster::new(seed, 4, LEASE, Faults::all());
        cluster.run(Duration::from_secs(300));
        cluster.calm();
        cluster.run(LEASE * 8);
        again +=
            cluster.check().unwrap_or_else(|why| panic!("{why}\nreplay: PILLION_SEED={seed}\n{}", cluster.story()));
    }
    assert!(only.is_some() || again > 0, "no line was ever sent twice: the faults do nothing");
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
