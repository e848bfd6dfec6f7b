//! The runs of one process, one for each output (`several.rs`).
//!
//! Comes in: what each run is made of. Goes out: one exit code.
//!
//! Always holds: all have opened their registries before one of them reads; when one can't go on, the others read to the end
//! of what is there, and the process ends. Tested by the command line's tests (`tests/run/several.rs`).

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use pillion_config::Config;
use pillion_engine::drain::Cause;
use pillion_engine::run::{Ending, Outcome, Signals};
use pillion_engine::termination::Termination;
use pillion_input::Own;
use pillion_telemetry::Answers;
use pillion_world::World;
use tokio::sync::{mpsc, watch};

use crate::assemble::Assembled;
use crate::seat::Seat;
use crate::several::{Further, receipt_of};
use crate::work::{self, RunFlags, fail, ride};

/// What they share.
pub(crate) struct Company {
    /// One of them can't go on.
    failed: watch::Sender<bool>,
    /// What all of them write, and none may read.
    own: Own,
    /// What the further ones say of themselves, by their names.
    answers: Mutex<Vec<(String, Arc<dyn Answers>)>>,
}

/// A run's part in it.
#[derive(Clone)]
pub(crate) struct Part {
    /// `None`: the first one.
    pub(crate) name: Option<String>,
    company: Arc<Company>,
    /// The agent is the same to all targets.
    pub(crate) agent_id: String,
    pub(crate) termination: Termination,
}

impl Part {
    /// Ends a run when another one can't go on.
    pub(crate) fn follow(&self, tell: &mpsc::Sender<Ending>) {
        let (mut failed, tell) = (self.company.failed.subscribe(), tell.clone());
        tokio::spawn(async move {
            if failed.wait_for(|failed| *failed).await.is_ok() {
                let _ = tell.send(Ending::Drain(Cause::OtherOutput)).await;
            }
        });
    }

    /// What nobody may read, beside what this run itself writes.
    pub(crate) fn add_to(&self, own: &mut Own) {
        own.add(self.company.own.clone());
    }

    /// Keeps what a further run says, for the first one's endpoint.
    pub(crate) fn says(&self, name: &str, answers: Arc<dyn Answers>) {
        self.company.answers.lock().unwrap_or_else(PoisonError::into_inner).push((name.to_owned(), answers));
    }

    /// What the further runs say.
    pub(crate) fn others(&self) -> Vec<(String, Arc<dyn Answers>)> {
        self.company.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Runs them all to their ends.
///
/// # Errors
/// An exit code, when one of them never came to a run; why is said.
pub(crate) async fn all(
    (world, config): (&World, &Config),
    (parts, further): (Assembled, Vec<Further>),
    flags: &RunFlags,
    (mut seat, signals): (Seat, Signals),
) -> Result<u8, u8> {
    if flags.command.is_some() {
        return Err(work::refuse(
            "pillion.outputs: a command's output can't be read by several runs; run it without `exec`, and read files",
        ));
    }
    let on_incomplete = parts.engine.on_incomplete;
    let mut own = work::own_files(config, &parts.engine, &seat.data, None);
    own.dirs.push(config.paths().data.join("outputs"));
    for one in &further {
        own.add(work::own_files(&one.config, &one.parts.engine, &one.config.paths().data, None));
        own.files.extend(one.parts.engine.receipt.as_deref().map(|receipt| receipt_of(receipt, &one.name)));
    }
    let first = parts.output.name();
    let names: Vec<&str> = [first].into_iter().chain(further.iter().map(|one| one.name.as_str())).collect();
    let mut terminations = Termination::of_several(Path::new(&parts.engine.termination_log), &names).into_iter();
    let company = Arc::new(Company { failed: watch::Sender::new(false), own, answers: Mutex::default() });
    let agent_id = seat.registry.agent_id().to_owned();
    let mut part = |name: Option<String>| {
        let (company, agent_id) = (Arc::clone(&company), agent_id.clone());
        Some(Part { name, company, agent_id, termination: terminations.next()? })
    };
    seat.part = part(None);
    let mut runs = vec![Run { name: first.to_owned(), config: None, parts, seat, signals }];
    for Further { name, config, parts } in further {
        let mut seat = Seat::own(world, &config, &parts).await?;
        seat.receipt = seat.receipt.map(|receipt| receipt_of(&receipt, &name));
        seat.part = part(Some(name.clone()));
        let signals = Signals::listen(world).map_err(|e| fail(&format!("signals can't be received: {e}")))?;
        runs.push(Run { name, config: Some(config), parts, seat, signals });
    }
    let ended = try_join_all(runs.into_iter().map(|run| run.run(config, flags, &company))).await?;
    let codes = ended.iter().map(|(name, outcome)| work::exit_code(outcome, on_incomplete, (false, Some(name))));
    Ok(codes.max_by_key(|code| severity(*code)).unwrap_or_default())
}

/// One of them, before it begins.
struct Run {
    name: String,
    /// `None`: the first one's.
    config: Option<Config>,
    parts: Assembled,
    seat: Seat,
    signals: Signals,
}

impl Run {
    async fn run(self, first: &Config, flags: &RunFlags, company: &Company) -> Result<(String, Outcome), u8> {
        let Run { name, config, parts, seat, signals } = self;
        let outcome = ride(config.as_ref().unwrap_or(first), parts, flags, &seat, signals).await?;
        if outcome.failure.is_some() {
            company.failed.send_replace(true);
        }
        Ok((name, outcome))
    }
}

/// A failure is worse than something that wasn't delivered.
fn severity(code: u8) -> u8 {
    match code {
        0 => 0,
        work::INCOMPLETE => 1,
        _ => 2,
    }
}
