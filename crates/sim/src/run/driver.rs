//! The driver: which of application, reader, registrar, target and clock takes the next step, when something crashes,
//! and what must hold at the end.

use std::time::Duration;

use pillion_input::Hint;

use crate::run::application::Application;
use crate::run::process::Process;
use crate::run::target::{Target, Way};
use crate::run::{Failure, Plan, Report};
use crate::world::{Crash, Faults, SimWorld};

/// Steps that the drain may take after the last crash: more means that it doesn't end.
const DRAIN_STEPS: u32 = 200_000;
/// Starts that may fail in a row.
const STARTS: u32 = 1000;

struct Driver {
    plan: Plan,
    sim: SimWorld,
    application: Application,
    target: Target,
    crashes: u32,
    losses: u64,
}

/// Runs one plan.
///
/// # Errors
/// The first promise that was broken.
pub fn run(plan: Plan) -> Result<Report, Failure> {
    let sim = SimWorld::new(plan.seed);
    if plan.faults {
        sim.set_faults(Faults { sync_error: 0, ..Faults::SOME });
        sim.start_trace();
    }
    let application = Application::new(&sim);
    let mut driver = Driver { plan, sim, application, target: Target::default(), crashes: 0, losses: 0 };
    driver.play().map_err(|what| Failure { plan, what, trace: driver.sim.trace() })?;
    Ok(Report {
        lines: driver.application.lines.len() as u64,
        destroyed: driver.application.lines.iter().filter(|l| l.destroyed).count() as u64,
        crashes: driver.crashes,
        arrived: driver.target.arrived,
        duplicates: driver.target.duplicates,
        fs_steps: driver.sim.steps(),
    })
}

impl Driver {
    fn play(&mut self) -> Result<(), String> {
        let mut process = self.start()?;
        // The crashes fall anywhere in the run, and behind its end into the drain.
        let spread = u64::from(self.plan.steps) * 5 / 4;
        let mut crash_at: Vec<u64> = (0..self.plan.crashes).map(|_| self.sim.below(spread)).collect();
        crash_at.sort_unstable();
        let mut crash_at = crash_at.into_iter().peekable();
        for step in 0..self.plan.steps {
            if crash_at.next_if(|at| *at <= u64::from(step)).is_some() {
                self.arm();
            }
            self.step(&mut process);
            if self.sim.crashed() {
                process = self.restart(process)?;
            }
            self.check_on_the_way()?;
        }
        for _ in crash_at {
            self.arm();
            process = self.drain(process, true)?;
        }
        self.sim.no_crash();
        let process = self.drain(process, false)?;
        self.count_losses(&process);
        self.check_at_the_end()
    }

    /// Lets the process or the machine crash in the midst of one of the next steps.
    fn arm(&mut self) {
        let how = if self.sim.below(2) == 0 { Crash::Process } else { Crash::Machine };
        self.sim.crash_at(self.sim.steps() + 1 + self.sim.below(40), how);
    }

    fn start(&mut self) -> Result<Process, String> {
        for _ in 0..STARTS {
            let mut world = self.sim.world();
            if let Some(defect) = self.plan.defect {
                world = defect.world(world);
            }
            match Process::start(&world, &self.plan) {
                Ok(process) => return Ok(process),
                Err(_) => {
                    self.crashes += u32::from(self.sim.crashed());
                    self.sim.restart();
                }
            }
        }
        Err("the process can't start".into())
    }

    fn restart(&mut self, process: Process) -> Result<Process, String> {
        self.crashes += 1;
        self.count_losses(&process);
        drop(process);
        self.sim.restart();
        self.start()
    }

    fn count_losses(&mut self, process: &Process) {
        self.losses += process.harvester.losses().len() as u64;
    }

    fn step(&mut self, process: &mut Process) {
        match self.sim.below(100) {
            0..=19 => self.application.step(&self.sim),
            20..=54 => drop(process.read()),
            55..=69 => drop(process.ledger.registrar_step()),
            70..=89 => self.send(process),
            90..=95 => self.sim.advance(Duration::from_millis(self.sim.below(3000))),
            96..=98 => {
                if let Some(path) = self.application.some_path(&self.sim) {
                    process.harvester.hint(Hint::Path(path.into()));
                }
            }
            _ => self.sim.jump_wall(self.sim.below(20_000) as i64 - 10_000),
        }
    }

    fn send(&mut self, process: &mut Process) {
        let mut way = Way {
            queue: &process.queue,
            acks: &*process.ledger,
            target: &mut self.target,
            exactly_once: self.plan.exactly_once,
            defect: self.plan.defect,
        };
        process.worker.step(&self.sim, &mut way);
    }

    /// Drains to the end, or (`may_crash`) to the next crash.
    fn drain(&mut self, mut process: Process, may_crash: bool) -> Result<Process, String> {
        process.harvester.drain();
        for _ in 0..DRAIN_STEPS {
            let idle = match self.sim.below(3) {
                0 => process.read(),
                1 => {
                    let _ = process.ledger.registrar_step();
                    None
                }
                _ => {
                    self.send(&mut process);
                    None
                }
            };
            if let Some(until) = idle {
                let now = process_now(&self.sim);
                self.sim.advance(until.since(now).min(Duration::from_secs(1)));
            }
            if self.sim.crashed() {
                process = self.restart(process)?;
                if may_crash {
                    return Ok(process);
                }
                process.harvester.drain();
            }
            if process.harvester.drained() && process.worker.is_idle() && process.ledger.is_settled() {
                process.ledger.flush();
                if process.ledger.registrar_step().is_ok() && process.ledger.is_synced() {
                    return Ok(process);
                }
            }
        }
        Err(format!("the drain doesn't end: {:?}", process.harvester.stats()))
    }

    fn check_on_the_way(&mut self) -> Result<(), String> {
        self.target.broken.take().map_or(Ok(()), Err)
    }

    fn check_at_the_end(&mut self) -> Result<(), String> {
        self.check_on_the_way()?;
        let mut missing_destroyed = 0;
        for line in &self.application.lines {
            let times = self.target.texts.get(&line.text).copied().unwrap_or(0);
            if self.target.refused.contains(&line.text) {
                return Err(format!("`{}` was refused as another event with its id", line.text));
            }
            match times {
                0 if line.destroyed => missing_destroyed += 1,
                0 => return Err(format!("`{}` never arrived, and the drain ended", line.text)),
                2.. if self.plan.exactly_once => return Err(format!("`{}` arrived {times} times", line.text)),
                _ => {}
            }
        }
        let known: std::collections::BTreeSet<&str> = self.application.lines.iter().map(|l| l.text.as_str()).collect();
        if let Some(strange) = self.target.texts.keys().find(|t| {
            // A line whose content was destroyed while it was open may have been cut anywhere.
            !known.contains(t.as_str()) && !self.application.lines.iter().any(|l| l.destroyed && l.text.starts_with(*t))
        }) {
            return Err(format!("`{strange}` arrived, but was never written"));
        }
        let _ = missing_destroyed;
        Ok(())
    }
}

fn process_now(sim: &SimWorld) -> pillion_world::Mono {
    sim.world().clock.mono()
}
