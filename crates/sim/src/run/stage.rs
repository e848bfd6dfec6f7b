//! The stage: application, process and target around one simulated machine, and the steps that each can take.
//!
//! Comes in: which step is next, from `driver.rs` (at random) or `script.rs` (as written). Goes out: broken promises.
//! Always holds: a process that has crashed is replaced before anything else happens.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use pillion_event::Incarnation;
use pillion_input::Hint;
use pillion_world::Mono;

use crate::run::application::{Application, ContentId};
use crate::run::inputs::{Change, Setup};
use crate::run::process::{Process, Read};
use crate::run::promises::Known;
use crate::run::target::{Attempt, Target, Way};
use crate::run::{Failure, Plan, Report};
use crate::world::{Crash, Faults, SimWorld};

/// Steps that the drain may take after the last crash: more means that it doesn't end.
const DRAIN_STEPS: u32 = 200_000;
/// Starts that may fail in a row.
const STARTS: u32 = 1000;

pub(crate) struct Stage {
    pub plan: Plan,
    pub sim: SimWorld,
    pub application: Application,
    pub target: Target,
    pub process: Process,
    pub crashes: u32,
    /// The application does nothing more.
    stopped: bool,
    /// Which content an incarnation is of.
    pub contents: BTreeMap<Incarnation, ContentId>,
    /// What the present process knew and hadn't read when it was destroyed.
    pub known: Vec<Known>,
    setup: Setup,
    /// What the watch has still to tell.
    hints: VecDeque<String>,
}

impl Stage {
    /// A machine as the plan has it, and a first process.
    pub(crate) fn new(plan: Plan, sim: SimWorld) -> Result<Stage, String> {
        if plan.network {
            sim.network(crate::run::application::LOGS);
        }
        if plan.faults {
            sim.set_faults(Faults::SOME);
        }
        let application = Application::new(&sim, plan.habits);
        let mut crashes = 0;
        let setup = Setup::new(&plan);
        let process = start(&sim, &plan, &setup, &mut crashes)?;
        Ok(Stage {
            plan,
            sim,
            application,
            target: Target::default(),
            process,
            crashes,
            contents: BTreeMap::new(),
            known: Vec::new(),
            stopped: false,
            setup,
            hints: VecDeque::new(),
        })
    }

    pub(crate) fn report(&self) -> Report {
        let lines = &self.application.lines;
        Report {
            lines: lines.len() as u64,
            destroyed: lines.iter().filter(|l| l.destroyed).count() as u64,
            crashes: self.crashes,
            arrived: self.target.arrived,
            duplicates: self.target.duplicates,
            fs_steps: self.sim.steps(),
        }
    }

    /// Lets the process or the machine crash in the midst of one of the next steps.
    pub(crate) fn arm(&mut self) {
        let how = if self.sim.below(2) == 0 { Crash::Process } else { Crash::Machine };
        self.sim.crash_at(self.sim.steps() + 1 + self.sim.below(40), how);
    }

    /// After a crash, a new process goes on. True: there was one.
    pub(crate) fn recover(&mut self) -> Result<bool, String> {
        let crashed = self.sim.crashed();
        if crashed {
            self.restart()?;
        }
        Ok(crashed)
    }

    /// Ends the process if it is still there, and starts another one.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        self.crashes += 1;
        self.sim.restart();
        if self.plan.absences && !self.stopped {
            for _ in 0..self.sim.below(40) {
                self.apply(|app, sim| app.step(sim));
            }
            // An input that a reload took away and brings back within a week knows its files.
            let most = if self.plan.reloads { 48 } else { 240 };
            self.sim.advance(Duration::from_secs(3600 * self.sim.below(most)));
        }
        self.known.clear();
        self.hints.clear();
        self.process = start(&self.sim, &self.plan, &self.setup, &mut self.crashes)?;
        self.notice();
        Ok(())
    }

    /// One step of the reader. When it has nothing to do: until when.
    pub(crate) fn read(&mut self) -> Option<Mono> {
        // Nothing is done in no time.
        self.sim.advance(Duration::from_micros(1));
        let read = self.process.read();
        if self.plan.watched {
            for folder in self.process.harvester.take_folders() {
                self.process.harvester.watched(&folder, true);
            }
        }
        self.notice();
        match read {
            Read::Batch { incarnation, first, about } => {
                self.sim.note(|| format!("{about} ({incarnation}) from `{}`", first.as_deref().unwrap_or_default()));
                let content = first.and_then(|line| self.application.content_of(&line));
                if let Some(content) = content {
                    self.contents.insert(incarnation, content);
                }
                None
            }
            Read::Worked => None,
            Read::Idle(until) => Some(until),
        }
    }

    /// One round of the registrar. An error is repeated later, as the real thread does.
    pub(crate) fn register(&mut self) {
        let done = self.process.ledger.registrar_step();
        self.sim.note(|| format!("registrar: {}", done.map_or_else(|e| e.to_string(), |()| "done".into())));
    }

    /// One step of the output. False: there was nothing to do.
    pub(crate) fn send(&mut self, attempt: Attempt) -> bool {
        let Process { queue, ledger, worker, .. } = &mut self.process;
        let (exactly_once, defect) = (self.plan.exactly_once, self.plan.defect);
        let mut way = Way { queue, acks: &**ledger, target: &mut self.target, exactly_once, defect };
        worker.step(&self.sim, &mut way, attempt)
    }

    /// Lets the application do something, and notes what the process knew of what it destroys.
    pub(crate) fn apply(&mut self, act: impl FnOnce(&mut Application, &SimWorld)) {
        let accounts = self.process.harvester.accounts();
        act(&mut self.application, &self.sim);
        for destroyed in std::mem::take(&mut self.application.destroyed) {
            let here = accounts.iter().filter(|a| self.contents.get(&a.incarnation) == Some(&destroyed.content));
            // Before the first byte is read nothing tells one content from the next, if that is longer.
            for account in here.filter(|a| a.pos > 0 && a.pos < a.len.min(destroyed.len)) {
                let (content, file) = (destroyed.content, destroyed.file);
                self.known.push(Known { content, file, range: account.pos..account.len.min(destroyed.len) });
            }
        }
    }

    /// The configuration changes.
    pub(crate) fn reload(&mut self) -> Result<(), String> {
        let change = self.setup.change(&self.plan, &self.sim)?;
        self.replace(change)
    }

    /// Whatever was stopped is read again.
    pub(crate) fn complete(&mut self) -> Result<(), String> {
        let change = self.setup.complete(&self.plan)?;
        self.replace(change)
    }

    fn replace(&mut self, change: Change) -> Result<(), String> {
        let Change { go, come, stops } = change;
        let labels: Vec<u64> = come.iter().map(|spec| spec.label).collect();
        self.sim.note(|| format!("inputs {go:?} go, {labels:?} come"));
        if stops {
            // What an input that goes leaves unread is nobody's any more.
            self.known.clear();
        }
        match self.process.harvester.replace(&go, come) {
            refused if refused.is_empty() => Ok(()),
            refused => Err(format!("these inputs couldn't begin: {refused:?}")),
        }
    }

    /// The watch tells something, late, or not at all.
    pub(crate) fn tell(&mut self) {
        let touched = std::mem::take(&mut self.application.touched);
        if !self.plan.watched {
            return;
        }
        self.hints.extend(touched.into_iter().filter(|_| self.sim.below(5) > 0));
        for _ in 0..self.sim.below(3) {
            let Some(path) = self.hints.pop_front() else { return };
            self.process.harvester.hint(Hint::Path(path.into()));
        }
    }

    /// What the process has deleted has arrived.
    fn notice(&mut self) {
        if !self.plan.deletes {
            return;
        }
        for number in self.application.notice() {
            let Some(line) = self.application.lines.get(number) else { continue };
            if !self.target.lines.contains_key(&line.text) && self.target.broken.is_none() {
                self.target.broken = Some(format!("`{}` was deleted before it arrived", line.text));
            }
        }
    }

    /// Whether everything is delivered, and known to be so.
    fn is_done(&mut self) -> bool {
        let p = &self.process;
        if !(p.harvester.drained() && p.worker.is_idle() && p.ledger.is_settled()) {
            return false;
        }
        p.ledger.flush();
        p.ledger.registrar_step().is_ok() && p.ledger.is_synced()
    }

    /// Drains to the end, over all crashes, or (`may_crash`) to the next one.
    pub(crate) fn drain(&mut self, may_crash: bool) -> Result<(), String> {
        self.stopped = true;
        self.hints.drain(..).for_each(|path| self.process.harvester.hint(Hint::Path(path.into())));
        self.process.harvester.drain();
        for _ in 0..DRAIN_STEPS {
            let mut idle = None;
            match self.sim.below(3) {
                0 => idle = self.read(),
                1 => self.register(),
                _ => drop(self.send(Attempt::Random)),
            }
            if let Some(until) = idle {
                let now = self.sim.world().clock.mono();
                self.sim.advance(until.since(now).min(Duration::from_secs(1)));
            }
            let done = !self.sim.crashed() && self.is_done();
            if self.recover()? {
                if may_crash {
                    return Ok(());
                }
                self.process.harvester.drain();
            } else if done {
                return Ok(());
            }
        }
        let (accounts, _) = self.process.ledger.state();
        let left: Vec<_> = self.process.harvester.accounts().into_iter().filter(|a| a.len > a.pos).collect();
        let stats = self.process.harvester.stats();
        Err(format!("the drain doesn't end: {stats:?}, {:?}, {left:?}", accounts.totals()))
    }

    /// The promises that hold at any time.
    pub(crate) fn check_on_the_way(&mut self) -> Result<(), String> {
        self.target.broken.take().map_or(Ok(()), Err)
    }

    /// Runs something to its end and tells what broke, with what replays it.
    pub(crate) fn play(plan: Plan, act: impl FnOnce(&mut Stage) -> Result<(), String>) -> Result<Report, Failure> {
        let sim = SimWorld::new(plan.seed);
        let broken = |what| Failure { plan, what };
        let mut stage = Stage::new(plan, sim).map_err(broken)?;
        act(&mut stage).map_err(broken)?;
        Ok(stage.report())
    }
}

fn start(sim: &SimWorld, plan: &Plan, setup: &Setup, crashes: &mut u32) -> Result<Process, String> {
    for _ in 0..STARTS {
        let mut world = sim.world();
        if let Some(defect) = plan.defect {
            world = defect.world(world);
        }
        match Process::start(&world, plan, setup) {
            Ok(process) => return Ok(process),
            Err(_) => {
                *crashes += u32::from(sim.crashed());
                sim.restart();
            }
        }
    }
    Err("the process can't start".into())
}
