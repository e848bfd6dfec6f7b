//! The inputs: which read the application's files, and how the configuration changes while they do.
//!
//! Comes in: a plan, and the moments at which the configuration changes. Goes out: the inputs of a start, and which go and
//! come while a process runs. Always holds: an input has a label of its own, so that whatever of it changes, another one comes
//! for it; before the end each part is read by somebody again ([`Setup::complete`]).

use std::sync::Arc;
use std::time::Duration;

use pillion_event::{InputDesc, InputKind};
use pillion_input::parse::{Chain, ChainOptions, Grouping, Match, Multiline, Parser, Pattern, Shape};
use pillion_input::{Glob, InputSpec};

use crate::run::application::LOGS;
use crate::run::{Identity, Inputs, Plan};
use crate::world::SimWorld;

/// What one input reads: a part of the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    kind: InputKind,
    glob: &'static str,
}

const fn part(kind: InputKind, glob: &'static str) -> Part {
    Part { kind, glob }
}

const ALL: Part = part(InputKind::Filestream, "*.log*");
const ALL_AS_LOG: Part = part(InputKind::Log, "*.log*");
const LIVE: Part = part(InputKind::Log, "*.log");
const ROTATED: Part = part(InputKind::Log, "*.log.*");
const ROTATED_AS_FILESTREAM: Part = part(InputKind::Filestream, "*.log.*");

fn parts(inputs: Inputs) -> &'static [Part] {
    match inputs {
        Inputs::One => &[ALL],
        Inputs::Two => &[LIVE, ROTATED],
        Inputs::Both => &[ALL_AS_LOG, ALL],
        Inputs::Split => &[LIVE, ROTATED_AS_FILESTREAM],
    }
}

/// What may differ between an input and the one that comes for it.
#[derive(Clone, Copy, Debug)]
struct Options {
    scan_every: Duration,
    close_eof: bool,
    close_removed: bool,
    delete: bool,
    /// Its registry entries say something else.
    words: bool,
}

impl Options {
    fn draw(sim: &SimWorld) -> Options {
        Options {
            scan_every: Duration::from_secs([1, 2, 5, 10][sim.below(4) as usize]),
            close_eof: sim.below(2) == 0,
            close_removed: sim.below(2) == 0,
            delete: sim.below(4) > 0,
            words: sim.below(2) == 0,
        }
    }

    /// Filebeat's, but for deletion.
    const USUAL: Options = Options {
        scan_every: Duration::from_secs(10),
        close_eof: false,
        close_removed: true,
        delete: true,
        words: false,
    };
}

#[derive(Clone, Debug)]
struct Configured {
    label: u64,
    parts: Vec<Part>,
    options: Options,
}

/// The inputs of the configuration now.
pub(crate) struct Setup {
    there: Vec<Configured>,
    labels: u64,
}

/// What changes.
pub(crate) struct Change {
    pub go: Vec<u64>,
    pub come: Vec<InputSpec>,
    /// Some files are read by nobody now.
    pub stops: bool,
}

impl Setup {
    pub(crate) fn new(plan: &Plan) -> Setup {
        let mut setup = Setup { there: Vec::new(), labels: 0 };
        for part in parts(plan.inputs) {
            setup.begin(vec![*part], Options::USUAL);
        }
        setup
    }

    fn begin(&mut self, parts: Vec<Part>, options: Options) {
        self.labels += 1;
        self.there.push(Configured { label: self.labels, parts, options });
    }

    /// The inputs of a start.
    pub(crate) fn specs(&self, plan: &Plan) -> Result<Vec<InputSpec>, String> {
        self.there.iter().map(|input| spec(plan, input)).collect()
    }

    /// Changes something: an input goes, comes, is replaced, or two become one, or one two.
    pub(crate) fn change(&mut self, plan: &Plan, sim: &SimWorld) -> Result<Change, String> {
        let (before, parts) = (self.labels, parts(plan.inputs));
        // What is renamed to where nobody looks is a new file for whoever looks there later: both of two are there, or none.
        let (in_step, all) = (plan.inputs == Inputs::Two, sim.below(3) == 0);
        let chosen: Vec<Part> = match parts.get(sim.below(parts.len() as u64) as usize) {
            Some(part) if !(all || in_step && self.there.is_empty()) => vec![*part],
            _ => parts.to_vec(),
        };
        let may_stop = !in_step || chosen.len() == parts.len();
        // Whoever reads one of them goes as a whole.
        let (go, stay): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.there).into_iter().partition(|i| i.parts.iter().any(|p| chosen.contains(p)));
        self.there = stay;
        let mut free: Vec<Part> = go.iter().flat_map(|i| i.parts.clone()).chain(chosen).collect();
        free.dedup();
        let stops = may_stop && !go.is_empty() && sim.below(3) == 0;
        if !stops {
            let together = plan.inputs == Inputs::Two && sim.below(2) == 0;
            let groups: Vec<Vec<Part>> =
                if together { vec![free] } else { free.into_iter().map(|p| vec![p]).collect() };
            groups.into_iter().for_each(|parts| self.begin(unique(parts), Options::draw(sim)));
        }
        self.changed(plan, &go, before, stops)
    }

    /// What is read by nobody is read again.
    pub(crate) fn complete(&mut self, plan: &Plan) -> Result<Change, String> {
        let before = self.labels;
        for part in parts(plan.inputs) {
            if !self.there.iter().any(|i| i.parts.contains(part)) {
                self.begin(vec![*part], Options::USUAL);
            }
        }
        self.changed(plan, &[], before, false)
    }

    fn changed(&self, plan: &Plan, go: &[Configured], before: u64, stops: bool) -> Result<Change, String> {
        let new = self.there.iter().filter(|i| i.label > before);
        let come = new.map(|i| spec(plan, i)).collect::<Result<_, _>>()?;
        Ok(Change { go: go.iter().map(|i| i.label).collect(), come, stops })
    }
}

fn unique(parts: Vec<Part>) -> Vec<Part> {
    parts.into_iter().fold(Vec::new(), |mut all, part| {
        if !all.contains(&part) {
            all.push(part);
        }
        all
    })
}

fn spec(plan: &Plan, input: &Configured) -> Result<InputSpec, String> {
    let Configured { label, parts, options } = input;
    let kind = parts.first().map_or(InputKind::Log, |p| p.kind);
    let filestream = kind == InputKind::Filestream;
    let desc = InputDesc::bare(kind, if filestream { "jobs" } else { "" });
    let globs = parts.iter().map(|p| Glob::new(format!("{LOGS}/{}", p.glob).as_ref(), false));
    let globs = globs.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let mut spec = InputSpec::new(Arc::new(desc), Arc::new(chain(plan, filestream)?), globs);
    spec.identity = match plan.identity {
        // Filebeat's `log` has no fingerprints.
        Identity::Fingerprint if filestream => {
            pillion_input::Identity::Fingerprint { offset: 0, length: 64, growing: true }
        }
        Identity::Fingerprint | Identity::Native => pillion_input::Identity::Native,
    };
    (spec.label, spec.scan_every) = (*label, options.scan_every);
    (spec.close.eof, spec.close.removed) = (options.close_eof, options.close_removed);
    spec.registry_v9 = filestream && options.words;
    if plan.deletes && filestream && options.delete {
        (spec.delete_after, spec.close.inactive) = (Some(Duration::from_secs(1)), Duration::from_secs(2));
        spec.scan_every = spec.scan_every.min(Duration::from_secs(2));
    }
    Ok(spec)
}

/// Lines as they are, or lines that begin with a blank joined to the one before.
fn chain(plan: &Plan, filestream: bool) -> Result<Chain, String> {
    let shape = if filestream { Shape::Filestream } else { Shape::Log };
    let mut options = ChainOptions { shape, ..ChainOptions::default() };
    if plan.habits.groups {
        let grouping =
            Grouping::Pattern { pattern: Pattern::new("^ ")?, negate: false, matching: Match::After, flush: None };
        options.parsers =
            vec![Parser::Multiline(Multiline { timeout: Duration::from_secs(5), ..Multiline::new(grouping) })];
    }
    Ok(Chain::new(options))
}
