//! One filestream over `/logs/*`, whose lines are acknowledged as soon as they are read.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pillion_event::{Acked, Cursor, InputDesc, InputKind};
use pillion_input::parse::{Chain, ChainOptions};
use pillion_input::{Budget, Glob, Harvester, InputSpec, Limits, Own, Step};
use pillion_registry::{Options, Registry};
use pillion_sim::world::SimWorld;

/// Reads and acknowledges until a crash or for so many seconds; which lines the target got. `set`: the input's options;
/// `each_second`: what follows when there is nothing more to do.
pub(crate) fn run(
    sim: &SimWorld,
    seconds: u32,
    set: impl FnOnce(&mut InputSpec),
    each_second: impl Fn(&Registry),
) -> Vec<String> {
    let world = sim.world();
    let desc = Arc::new(InputDesc::bare(InputKind::Filestream, "jobs"));
    let chain = Arc::new(Chain::new(ChainOptions::default()));
    let mut spec = InputSpec::new(desc, chain, vec![Glob::new("/logs/*".as_ref(), false).unwrap()]);
    set(&mut spec);
    let Ok((registry, _)) = Registry::open(&world, Path::new("/data"), &Options::default()) else { return Vec::new() };
    let registry = Arc::new(registry);
    let own = Own::default();
    let mut harvester =
        Harvester::new(world, Arc::clone(&registry), vec![spec], &own, Limits::default(), &Arc::default());
    let mut lines = Vec::new();
    for _ in 0..seconds {
        for _ in 0..10_000 {
            match harvester.step(Budget::UNLIMITED) {
                Step::Batch(batch) => {
                    lines.extend(batch.events.iter().map(|e| String::from_utf8_lossy(batch.text(e)).into_owned()));
                    let (key, incarnation) = (Arc::clone(&batch.source.key), batch.source.incarnation);
                    let (offset, guard) = (batch.to, batch.guard);
                    registry.commit(&Acked::by_target(Cursor { key, incarnation, offset, guard }));
                }
                Step::Worked => {}
                Step::Idle { .. } | Step::Full { .. } => break,
            }
            if sim.crashed() {
                return lines;
            }
        }
        each_second(&registry);
        if sim.crashed() {
            return lines;
        }
        sim.advance(Duration::from_secs(1));
    }
    lines
}
