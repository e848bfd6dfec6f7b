//! What a sweep tells: what was left, what became of it, all together.
//!
//! Comes in: entries of registries, and how adoptions ended. Goes out: JSON for receipts, lines for the log, the table of
//! `--dry-run`. It holds paths and counts, never values. Lists are bounded ([`MAX_NAMED`]).

use std::fmt::Write as _;
use std::path::Path;

use pillion_engine::receipt::{Receipt, Verdict};
use pillion_registry::Options;
use pillion_registry::foreign::{self, Bounds, Foreign};
use pillion_world::{FileKind, World};
use serde_json::{Value, json};

use super::Root;
use super::after::Gone;
use super::find::{self, Found, REGISTRY, Search, State};

/// Files that are named one by one.
const MAX_NAMED: usize = 1000;

/// What a dead owner left, by its registry: files that it didn't know of come on top.
#[derive(Debug, Default)]
pub(crate) struct Left {
    named: Vec<Value>,
    omitted: u64,
    bytes: u64,
    unreachable: Vec<String>,
}

impl Left {
    /// Compares the entries with the files. Paths are hints: they are looked at beneath the root alone.
    pub(crate) fn of(world: &World, view: &Path, read: &Foreign) -> Left {
        let mut left = Left::default();
        for entry in &read.entries {
            let source = Path::new(&*entry.source);
            if !source.starts_with(view) {
                left.unreachable.push(entry.source.to_string());
                continue;
            }
            let Ok(meta) = world.fs.stat(source, false) else { continue };
            if meta.kind != FileKind::File || (meta.len <= entry.offset && entry.intents.is_empty()) {
                continue;
            }
            left.bytes += meta.len.saturating_sub(entry.offset);
            if left.named.len() < MAX_NAMED {
                let in_flight = entry.intents.len();
                left.named.push(
                    json!({"path": &*entry.source, "from": entry.offset, "to": meta.len, "in_flight": in_flight}),
                );
            } else {
                left.omitted += 1;
            }
        }
        left.unreachable.truncate(MAX_NAMED);
        left
    }

    pub(crate) fn files(&self) -> u64 {
        self.named.len() as u64 + self.omitted
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// More of what nobody can ship from here.
    pub(super) fn add_unreachable(&mut self, paths: Vec<String>) {
        self.unreachable.extend(paths);
        self.unreachable.truncate(MAX_NAMED);
    }

    /// Files on other volumes than the registry's, or behind links: nobody can ship them from here.
    pub(crate) fn unreachable(&self) -> Vec<String> {
        self.unreachable.clone()
    }

    pub(crate) fn json(&self) -> Value {
        json!({"files": self.named, "omitted": self.omitted, "bytes": self.bytes, "unreachable": self.unreachable})
    }
}

/// How an adoption ended.
#[derive(Debug)]
pub(super) enum End {
    /// Everything was shipped, and the registry is marked as done.
    Shipped { receipt: Box<Receipt>, unreachable: Vec<String> },
    /// Something is left for the next sweep.
    Left {
        receipt: Box<Receipt>,
        failure: Option<String>,
        /// Files that no input of the configuration reads.
        unclaimed: Vec<String>,
    },
    /// Somebody is there after all.
    Alive,
    /// It couldn't be adopted.
    Failed(String),
}

/// All adoptions of a sweep.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) told_to_end: bool,
    pub(super) failed: u64,
    shipped: u64,
    /// Of these, with events that the target refused, or files out of reach.
    with_losses: u64,
    left: u64,
    alive: u64,
    done: u64,
    /// Folders that weren't looked into.
    unseen: u64,
    refused: u64,
    events: u64,
    acked: u64,
    gone: Gone,
}

impl Summary {
    /// What is known before anything is adopted.
    pub(super) fn of(search: &Search) -> Summary {
        Summary { done: search.done, unseen: search.unseen, ..Summary::default() }
    }

    pub(super) fn count_state(&mut self, found: &Found) {
        match &found.state {
            State::Alive => self.alive += 1,
            State::Done => self.done += 1,
            State::Dead => self.left += 1,
            State::Refused(why) => {
                tracing::error!(path = %found.dir.display(), "not swept: {why}");
                self.refused += 1;
            }
        }
    }

    pub(super) fn count(&mut self, found: &Found, end: End) {
        let path = found.dir.display();
        match end {
            End::Shipped { receipt, unreachable } => {
                self.shipped += 1;
                self.add(&receipt);
                let lost = receipt.verdict() != Verdict::Complete || !unreachable.is_empty();
                self.with_losses += u64::from(lost);
                tracing::info!(%path, "swept: {}", receipt.line());
                if let Some(first) = unreachable.first() {
                    let count = unreachable.len();
                    tracing::error!(%path, count, first, "files of it lay on other volumes or behind links: nobody can ship them from here");
                }
            }
            End::Left { receipt, failure, unclaimed } => {
                self.left += 1;
                self.add(&receipt);
                tracing::error!(%path, "left for the next sweep: {}", receipt.line());
                if let Some(why) = failure {
                    tracing::error!(%path, "{why}");
                }
                if let Some(first) = unclaimed.first() {
                    let count = unclaimed.len();
                    tracing::error!(%path, count, first, "no input of this configuration reads files that its owner read");
                }
            }
            End::Alive => self.alive += 1,
            End::Failed(why) => {
                self.failed += 1;
                tracing::error!(%path, "not swept: {why}");
            }
        }
    }

    pub(super) fn gone(&mut self, found: &Found, gone: Gone) {
        if gone.files > 0 {
            tracing::info!(path = %found.dir.display(), files = gone.files, bytes = gone.bytes, "shipped files went");
        }
        self.gone.files += gone.files;
        self.gone.bytes += gone.bytes;
        self.gone.kept += gone.kept;
    }

    fn add(&mut self, receipt: &Receipt) {
        let totals = receipt.accounts.totals();
        self.events += totals.events;
        self.acked += totals.acked;
    }

    /// Whether nothing is left.
    pub(super) fn is_whole(&self) -> bool {
        self.left + self.failed + self.refused + self.with_losses + self.unseen == 0 && !self.told_to_end
    }

    pub(super) fn say(&self) {
        let verdict = if self.is_whole() { "complete" } else { "incomplete" };
        let Summary { shipped, left, failed, refused, alive, done, events, acked, .. } = self;
        let mut line = format!(
            "sweep: {verdict}; {shipped} registries shipped and done, {left} left, {failed} failed, {refused} refused, \
             {alive} alive, {done} done before; {events} events, {acked} acknowledged"
        );
        if self.unseen > 0 {
            let _ = write!(line, "; {} folders or registries weren't looked into", self.unseen);
        }
        if self.gone != Gone::default() {
            let Gone { files, bytes, kept } = self.gone;
            let _ = write!(line, "; {files} shipped files of {bytes} bytes went, {kept} stay");
        }
        if self.is_whole() { tracing::info!("{line}") } else { tracing::error!("{line}") }
    }
}

/// Prints what a sweep would do. 0 when nothing is left, else 3.
pub(super) fn dry_run(root: &Root, search: &Search) -> u8 {
    let mut out = String::new();
    let mut whole = search.unseen == 0;
    for one in &search.found {
        let (state, more) = match &one.state {
            State::Alive => ("alive", String::new()),
            State::Done => ("done", String::new()),
            State::Refused(why) => ("refused", why.clone()),
            State::Dead => ("dead", what_is_left(root, one)),
        };
        whole &= matches!(one.state, State::Alive | State::Done);
        let _ = writeln!(out, "{state:8} {} {more}", one.dir.display());
    }
    crate::say(&out);
    // There may be very many of these.
    find::each_done(root, &mut |one| {
        let _ = crate::say(&format!("{:8} {}\n", "done", one.dir.display()));
    });
    out = format!("{} registries\n", search.found.len() as u64 + search.done);
    if search.unseen > 0 {
        let _ = writeln!(out, "{} folders or registries weren't looked into", search.unseen);
    }
    crate::say(&out);
    if whole { 0 } else { crate::work::INCOMPLETE }
}

fn what_is_left(root: &Root, found: &Found) -> String {
    let options = Options { path: REGISTRY.into(), ..Options::default() };
    let seen = root.beneath.narrowed(&found.logs, &found.owner.view);
    let world = seen.map(|beneath| World { fs: std::sync::Arc::new(beneath), ..World::real() });
    let data = found.owner.view.join(pillion_registry::beside::FOLDER).join(&found.name);
    let left = world.map_err(|e| e.to_string()).and_then(|world| {
        let read = foreign::read(&world, &data, &options, &Bounds::default()).map_err(|e| e.to_string())?;
        Ok(Left::of(&world, &found.owner.view, &read))
    });
    match left {
        Ok(left) => format!("{} bytes of {} files known to it", left.bytes(), left.files()),
        Err(why) => why,
    }
}
