//! What must hold at the end of a run.
//!
//! Comes in: what the application wrote and destroyed, what the target has, what the last process says of itself. Goes
//! out: the first promise that is broken.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::run::Inputs;
use crate::run::application::{ContentId, FileId, Line};
use crate::run::stage::Stage;

/// Bytes that the process had seen and not read when the application destroyed them: they arrive all the same, or
/// there is a loss in the accounts.
pub(crate) struct Known {
    pub content: ContentId,
    pub file: FileId,
    pub range: Range<u64>,
}

impl Stage {
    /// P1, P2 and P4, once everything is delivered.
    pub(crate) fn check_at_the_end(&mut self) -> Result<(), String> {
        self.check_on_the_way()?;
        self.check_lines()?;
        self.check_nothing_strange()?;
        self.check_accounts()?;
        self.check_losses()?;
        self.check_that_nothing_is_left()
    }

    fn arrived(&self, line: &Line) -> u32 {
        self.target.lines.get(&line.text).copied().unwrap_or(0)
    }

    fn check_lines(&self) -> Result<(), String> {
        for line in &self.application.lines {
            if self.target.refused.contains(&line.text) {
                return Err(format!("`{}` was refused as another event with its id", short(&line.text)));
            }
            match self.arrived(line) {
                0 if !line.destroyed => {
                    return Err(format!("`{}` never arrived, and the drain ended", short(&line.text)));
                }
                _ => {
                    self.check_once(&line.text)?;
                    self.check_both(line)?;
                }
            }
        }
        Ok(())
    }

    /// Where a `log` input and a filestream read all, both have each line; but one that was stopped may come too late for what
    /// the other one has deleted.
    fn check_both(&self, line: &Line) -> Result<(), String> {
        let by_filestream = self.target.by_filestream.get(&line.text).copied().unwrap_or(0);
        let both = by_filestream > 0 && self.arrived(line) > by_filestream;
        let too_late = self.plan.reloads && self.plan.deletes;
        if self.plan.inputs == Inputs::Both && !(both || line.destroyed || too_late) {
            return Err(format!("`{}` arrived by one input of two", short(&line.text)));
        }
        Ok(())
    }

    /// With ids each line is there once for each of the two kinds of inputs, whose registry keys are of their own.
    fn check_once(&self, text: &str) -> Result<(), String> {
        let count = |lines: &BTreeMap<String, u32>| lines.get(text).copied().unwrap_or(0);
        let by_filestream = count(&self.target.by_filestream);
        let by_log = count(&self.target.lines) - by_filestream;
        // What has wandered away and back is a new file for an input that it was lost to.
        let came_back = self.plan.inputs == Inputs::Split && self.plan.habits.renames;
        if self.plan.exactly_once && !came_back && by_log.max(by_filestream) > 1 {
            return Err(format!("`{}` arrived {by_log} and {by_filestream} times", short(text)));
        }
        Ok(())
    }

    /// What arrived is what was written: a whole line or, where a content was destroyed in the midst of a line, its
    /// beginning.
    fn check_nothing_strange(&self) -> Result<(), String> {
        let whole: BTreeMap<&str, &Line> = self.application.lines.iter().map(|l| (l.text.as_str(), l)).collect();
        for text in self.target.lines.keys().filter(|t| !whole.contains_key(t.as_str())) {
            let of_a_cut_one = |l: &Line| l.destroyed && l.text.starts_with(text.as_str());
            if !self.application.lines.iter().any(of_a_cut_one) {
                return Err(format!("`{}` arrived, but was never written", short(text)));
            }
        }
        Ok(())
    }

    /// The accounts add up, and nothing was dropped.
    fn check_accounts(&self) -> Result<(), String> {
        let (accounts, unacked) = self.process.ledger.state();
        let totals = accounts.totals();
        if totals.unacked() > 0
            || !unacked.is_empty()
            || totals.dropped > 0
            || totals.dead_lettered > 0
            || totals.lost_events > 0
        {
            return Err(format!("all is delivered, but the accounts say {totals:?}, not acknowledged {unacked:?}"));
        }
        let (reading, (_, on_way)) = (self.process.harvester.standing(), self.process.ledger.standing());
        if reading.unread_bytes + reading.unread_files + on_way.bytes + on_way.read_files > 0 {
            let behind: Vec<_> = self
                .process
                .harvester
                .accounts()
                .into_iter()
                .filter(|a| a.len > a.pos)
                .map(|a| (a.path, a.pos..a.len))
                .collect();
            return Err(format!("all is delivered, but the backlog is {reading:?}, {on_way:?}: {behind:?}"));
        }
        let (read, said) = (self.process.harvester.stats().tally.events, totals.events - totals.carried);
        if read != said {
            return Err(format!("the reader has made {read} events, the accounts have {said}"));
        }
        Ok(())
    }

    /// What the process knew of and could not read is in its losses; where nothing was destroyed, there is no loss.
    fn check_losses(&self) -> Result<(), String> {
        let losses = self.process.harvester.losses();
        // What wanders away from an input is lost to it; another one reads it.
        if self.plan.habits.gentle
            && self.plan.inputs != Inputs::Split
            && let Some(loss) = losses.first()
        {
            return Err(format!("nothing was destroyed, but this is said to be lost: {loss:?}"));
        }
        for known in &self.known {
            let lies_in = |l: &&Line| {
                l.content == known.content && l.range.start >= known.range.start && l.range.end <= known.range.end
            };
            let Some(line) = self.application.lines.iter().filter(lies_in).find(|l| self.arrived(l) == 0) else {
                continue;
            };
            let tells = |loss: &&pillion_input::Loss| {
                let paths = self.application.paths.get(known.file);
                let its_path = |p: &String| loss.path.as_os_str() == p.as_str();
                paths.is_some_and(|p| p.iter().any(its_path))
                    && loss.from < known.range.end
                    && loss.to > known.range.start
            };
            if !losses.iter().any(|l| tells(&l)) {
                let text = short(&line.text);
                let range = &known.range;
                return Err(format!(
                    "`{text}` was destroyed when {range:?} was known and unread; the losses are {losses:?}"
                ));
            }
        }
        Ok(())
    }

    /// Another start has nothing to send.
    fn check_that_nothing_is_left(&mut self) -> Result<(), String> {
        let before = self.target.arrived;
        self.restart()?;
        self.crashes -= 1;
        self.drain(false)?;
        match self.target.arrived - before {
            0 => Ok(()),
            n => Err(format!("after an end with all delivered, a new start sent {n} events again")),
        }
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}
