//! A run at random: which of application, reader, registrar, target and clock takes the next step, and when something
//! crashes.

use std::time::Duration;

use pillion_input::Hint;

use crate::run::stage::Stage;
use crate::run::target::Attempt;
use crate::run::{Failure, Plan, Report};

/// Runs one plan.
///
/// # Errors
/// The first promise that was broken.
pub fn run(plan: Plan) -> Result<Report, Failure> {
    Stage::play(plan, |stage| {
        if plan.midnight {
            let to_midnight = 5 * 3_600_000 + 20 * 60_000;
            stage.sim.jump_wall(to_midnight - stage.sim.below(60_000) as i64);
        }
        live(stage)?;
        stage.sim.no_crash();
        stage.drain(false)?;
        stage.check_at_the_end()
    })
}

/// The steps before the drain, and the crashes of the drain.
fn live(stage: &mut Stage) -> Result<(), String> {
    // The crashes fall anywhere in the run, and behind its end into the drain.
    let spread = u64::from(stage.plan.steps) * 5 / 4;
    let mut crash_at: Vec<u64> = (0..stage.plan.crashes).map(|_| stage.sim.below(spread)).collect();
    crash_at.sort_unstable();
    let mut crash_at = crash_at.into_iter().peekable();
    for step in 0..stage.plan.steps {
        if crash_at.next_if(|at| *at <= u64::from(step)).is_some() {
            stage.arm();
        }
        one(stage)?;
        stage.recover()?;
        stage.check_on_the_way()?;
    }
    stage.complete()?;
    for _ in crash_at {
        stage.arm();
        stage.drain(true)?;
    }
    while stage.crashes < stage.plan.crashes {
        // One was taken back by the next before its step came.
        stage.sim.crash(crate::world::Crash::Machine);
        stage.recover()?;
    }
    Ok(())
}

fn one(stage: &mut Stage) -> Result<(), String> {
    stage.tell();
    if stage.plan.reloads && stage.sim.below(60) == 0 {
        return stage.reload();
    }
    match stage.sim.below(100) {
        0..=19 => stage.apply(|app, sim| app.step(sim)),
        20..=54 => drop(stage.read()),
        55..=69 => stage.register(),
        70..=89 => drop(stage.send(Attempt::Random)),
        90..=95 => {
            // Where entries can be old, a run has time for more searches.
            let most = if stage.plan.absences { 20_000 } else { 3000 };
            stage.sim.advance(Duration::from_millis(stage.sim.below(most)));
        }
        96..=98 => {
            if let Some(path) = stage.application.some_path(&stage.sim) {
                stage.process.harvester.hint(Hint::Path(path.into()));
            }
        }
        _ => stage.sim.jump_wall(stage.sim.below(20_000) as i64 - 10_000),
    }
    Ok(())
}
