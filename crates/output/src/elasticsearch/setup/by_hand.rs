//! `pillion setup`: the same steps, once, told to whoever started it. Tested in `tests/setup.rs`.

use std::fmt::Write;

use super::steps::Note;
use super::{Overwrite, Setup};
use crate::OutputContext;
use crate::elasticsearch::settings::Settings;
use crate::elasticsearch::target::Target;
use crate::problem::Problem;

/// Puts template, policy and alias by the first host that can be reached, and writes what came of it. Whether all is
/// there.
pub async fn run_setup(
    settings: &Settings,
    context: &OutputContext,
    overwrite: Overwrite,
    report: &mut String,
) -> bool {
    match attempt(settings, context, overwrite, report).await {
        Ok(good) => good,
        Err(problem) => {
            let _ = writeln!(report, "elasticsearch: ERROR {problem}");
            false
        }
    }
}

async fn attempt(
    settings: &Settings,
    context: &OutputContext,
    overwrite: Overwrite,
    report: &mut String,
) -> Result<bool, Problem> {
    let setup = Setup::new(settings.setup.clone(), context)?;
    if !setup.is_needed() {
        report.push_str("elasticsearch: nothing to set up: setup.template.enabled and setup.ilm.enabled are false\n");
        return Ok(true);
    }
    let tls = settings.uses_tls().then(|| settings.tls.build(&context.world, &["http/1.1"])).transpose()?;
    let mut last = Problem::bare("there is no host");
    for host in &settings.hosts {
        let mut target = Target::new(settings, host, tls.clone(), &context.world, false)?;
        let mut notes = Vec::new();
        let tried = setup.steps(&mut target, overwrite, &mut notes).await;
        for note in &notes {
            let _ = match note {
                Note::Done(text) => writeln!(report, "{host}: {text}"),
                Note::Failed(problem) => writeln!(report, "{host}: ERROR {problem}"),
            };
        }
        match tried {
            Ok(_) => return Ok(!notes.iter().any(|note| matches!(note, Note::Failed(_)))),
            Err(trouble) => last = trouble.problem,
        }
    }
    Err(last)
}
