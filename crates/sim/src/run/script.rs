//! A run as written: a scenario, with a crash in the middle of any step of the file system.
//!
//! Comes in: a list of [`Act`]s and a step to crash at. Goes out: what `driver.rs` gives. Used by `tests/scenarios.rs`,
//! which puts a crash of either kind into every step of each scenario.

use std::time::Duration;

use crate::run::application::LOGS;
use crate::run::stage::Stage;
use crate::run::target::Attempt;
use crate::run::{Failure, Plan, Report};
use crate::world::{Crash, Faults};

/// One act of a scenario. Files are named without their folder.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// The application writes so many whole lines.
    Write(&'static str, u64),
    /// It writes a line and a part of another one.
    WritePart(&'static str),
    /// It gives a file another name.
    Rotate(&'static str),
    /// It copies a file to where it isn't read and cuts it off.
    CopyTruncate(&'static str),
    /// It copies a file to where it is read, too, and cuts it off.
    CopyTruncateWithin(&'static str),
    /// It deletes a file.
    Delete(&'static str),
    /// The reader does what it can do now, searching included.
    Read,
    /// What was read becomes durable.
    Register,
    /// All that is there arrives and is acknowledged.
    Send,
    /// What is there arrives, but the answer doesn't.
    SendUnanswered,
    /// This much time passes.
    Wait(Duration),
    /// From now on calls fail or lie so.
    Faults(Faults),
    /// The process is killed, and another one started.
    Kill,
    /// The power fails.
    PowerFails,
}

/// Plays a scenario to its end, then drains and checks. `crash`: in the middle of this step of the file system.
///
/// # Errors
/// The first promise that was broken.
pub fn play(plan: Plan, acts: &[Act], crash: Option<(u64, Crash)>) -> Result<Report, Failure> {
    Stage::play(plan, |stage| {
        if let Some((step, how)) = crash {
            stage.sim.crash_at(step, how);
        }
        stage.recover()?;
        for act in acts {
            stage.sim.note(|| format!("{act:?}"));
            perform(stage, *act)?;
            stage.check_on_the_way()?;
        }
        stage.drain(false)?;
        stage.check_at_the_end()
    })
}

fn path(name: &str) -> String {
    format!("{LOGS}/{name}")
}

fn perform(stage: &mut Stage, act: Act) -> Result<(), String> {
    match act {
        Act::Write(name, lines) => stage.apply(|app, sim| app.write(sim, &path(name), lines)),
        Act::WritePart(name) => stage.apply(|app, sim| app.write_part(sim, &path(name))),
        Act::Rotate(name) => stage.apply(|app, sim| app.rotate(sim, &path(name))),
        Act::CopyTruncate(name) => stage.apply(|app, sim| app.copy_and_cut(sim, &path(name))),
        Act::CopyTruncateWithin(name) => stage.apply(|app, sim| app.copy_within_and_cut(sim, &path(name))),
        Act::Delete(name) => stage.apply(|app, sim| app.remove(sim, &path(name))),
        Act::Read => return read_all(stage),
        Act::Register => stage.register(),
        Act::Send => while stage.send(Attempt::Answered) {},
        Act::SendUnanswered => drop((stage.send(Attempt::Unanswered), stage.send(Attempt::Unanswered))),
        Act::Wait(time) => stage.sim.advance(time),
        Act::Faults(faults) => stage.sim.set_faults(faults),
        Act::Kill => stage.sim.crash(Crash::Process),
        Act::PowerFails => stage.sim.crash(Crash::Machine),
    }
    stage.recover()?;
    Ok(())
}

/// Searches all paths and reads until there is nothing to do now.
fn read_all(stage: &mut Stage) -> Result<(), String> {
    stage.process.harvester.hint(pillion_input::Hint::All);
    for _ in 0..10_000 {
        let now = stage.sim.world().clock.mono();
        let idle = stage.read();
        if stage.recover()? {
            stage.process.harvester.hint(pillion_input::Hint::All);
        } else if idle.is_some_and(|until| until > now) {
            return Ok(());
        }
    }
    Err("the reader always has something to do".into())
}
