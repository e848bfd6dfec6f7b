//! A dead sidecar's seat while a replica has it: from the claim to the mark.
//!
//! Comes in: a registry beside logs whose owner is dead, and how far the replica's own one is. Goes out: offsets in the dead one's
//! registry that follow, its receipt, and the mark that everything is shipped, or that others may have their turn.
//!
//! Always holds: an offset there moves only to what is durable here. Who claims it meanwhile gets it at once, and then nothing
//! is marked. Tested by the command line's tests (`tests/run/seats.rs`).

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use pillion_event::Incarnation;
use pillion_input::Shares as _;
use pillion_registry::beside::Beat;
use pillion_registry::foreign::Foreign;
use pillion_registry::{Entry, Registry};
use pillion_world::{FileKind, Mono};
use serde_json::{Value, json};

use super::{Ours, seen_here};
use crate::seat::Seat;
use crate::sweep::{Found, Left, Root, sit_down, swept_by, write_receipt};

/// A remainder without a line's end is looked through up to so many bytes: who reads on waits for its end.
const MAX_REST: u64 = 1 << 20;

/// How often offsets follow.
const LOOK: Duration = Duration::from_secs(2);
/// Files that are ours and that no input here has taken up by then are left to a sweep.
const UNREAD: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Turn {
    seat: Seat,
    found: Found,
    left: Left,
    refused: Vec<String>,
    /// The dead one's entries, by where their files lie here. A file that went elsewhere, and the one that took its place, may be
    /// noted of one path.
    files: HashMap<PathBuf, Vec<Entry>>,
    began: Mono,
    beaten: Mono,
    looked: Mono,
}

/// How far a file is.
struct Shipped {
    path: PathBuf,
    /// Nothing of it is left.
    done: bool,
    /// It is read here.
    known: bool,
}

impl Turn {
    /// Claims a dead owner's registry, and reads it. `None`: somebody is there after all.
    pub(super) async fn begin(
        root: &Root,
        found: &Found,
        claimed: &mut HashSet<Incarnation>,
        member: &str,
    ) -> Result<Option<(Turn, Foreign)>, String> {
        let Some((seat, read)) = sit_down(root, found, claimed).await? else { return Ok(None) };
        let left = Left::of(&seat.world, &found.owner.view, &read);
        tracing::info!(path = %found.dir.display(), files = left.files(), bytes = left.bytes(), "ships what a dead owner left");
        let mut files: HashMap<PathBuf, Vec<Entry>> = HashMap::new();
        seat.registry.visit(|entry| {
            if let Some(path) = seen_here(found, entry) {
                files.entry(path).or_default().push((**entry).clone());
            }
        });
        let began = seat.world.clock.mono();
        let refused = read.refused.clone();
        // What was nobody's has a life by now.
        let entries = files.values().flatten().cloned().collect();
        let turn = Turn { seat, found: found.clone(), left, refused, files, began, beaten: began, looked: began };
        turn.seat.registry.sync().map_err(|e| e.to_string())?;
        write_receipt(&turn.seat, &turn.told(member, false));
        Ok(Some((turn, Foreign { entries, ..read })))
    }

    /// One look; `None`: the turn is over.
    pub(super) fn go_on(mut self, ours: &Ours, registry: &Registry, member: &str) -> Option<Turn> {
        let now = self.seat.world.clock.mono();
        let pulse = self.seat.pulse.clone()?;
        if now.since(self.beaten) >= pulse.every {
            self.beaten = now;
            let beat = pulse.heart.lock().unwrap_or_else(PoisonError::into_inner).beat();
            if matches!(beat, Ok(Beat::Deposed)) {
                tracing::warn!(path = %self.found.dir.display(), "the owner of these logs is back, or somebody else has taken its place");
                return None;
            }
        }
        if now.since(self.looked) < LOOK {
            return Some(self);
        }
        self.looked = now;
        // Only what is durable here is written there.
        if registry.sync().is_err() {
            return Some(self);
        }
        let shipped = self.follow(registry);
        let late = now.since(self.began) >= UNREAD;
        let is_over = |file: &Shipped| file.done || !ours.is_ours(&file.path) || (late && !file.known);
        if self.seat.registry.sync().is_err() || !shipped.iter().all(is_over) {
            return Some(self);
        }
        let all = shipped.iter().all(|file| file.done);
        let told = self.told(member, all);
        write_receipt(&self.seat, &told);
        let mut heart = pulse.heart.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = if all { heart.done(&told) } else { heart.release() };
        match ended {
            Ok(Beat::Ours) if all => {
                tracing::info!(path = %self.found.dir.display(), "what a dead owner left is shipped")
            }
            Ok(Beat::Ours) => {
                tracing::info!(path = %self.found.dir.display(), "our part of what a dead owner left is shipped")
            }
            Ok(Beat::Deposed) => {}
            Err(e) => tracing::warn!(path = %self.found.dir.display(), "what is shipped can't be marked: {e}"),
        }
        None
    }

    /// Brings the dead one's offsets to ours; how far each file is.
    fn follow(&mut self, registry: &Registry) -> Vec<Shipped> {
        let mut own: HashMap<PathBuf, Vec<Arc<Entry>>> = HashMap::new();
        registry.visit(|entry| {
            let path = PathBuf::from(&*entry.source);
            if self.files.contains_key(&path) {
                own.entry(path).or_default().push(Arc::clone(entry));
            }
        });
        let mut shipped = Vec::new();
        for (path, entries) in &mut self.files {
            let ours = own.get(path).map(Vec::as_slice).unwrap_or_default();
            for entry in &mut *entries {
                let same = ours.iter().find(|ours| ours.incarnation == entry.incarnation);
                if let Some(ours) = same.filter(|ours| (ours.offset, &ours.intents) != (entry.offset, &entry.intents)) {
                    (entry.offset, entry.guard) = (ours.offset, ours.guard);
                    entry.intents.clone_from(&ours.intents);
                    self.seat.registry.remove(&entry.key);
                    self.seat.registry.adopt(entry.clone());
                }
            }
            // What is read at the path now tells how far it is.
            let newest = ours.iter().map(|ours| &**ours).max_by_key(|ours| ours.updated_ns);
            let judged = newest.or_else(|| entries.iter().max_by_key(|entry| entry.updated_ns));
            let done = judged.is_none_or(|entry| is_shipped(&self.seat, entry, path, &self.found));
            shipped.push(Shipped { path: path.clone(), done, known: newest.is_some() });
        }
        shipped
    }

    /// What the receipt beside the logs says.
    fn told(&self, member: &str, all: bool) -> Value {
        let mut by = swept_by();
        if let Some(by) = by.as_object_mut() {
            by.insert("replica".to_owned(), json!(member));
        }
        json!({
            "verdict": if all { "complete" } else { "incomplete" },
            "final": all,
            "of": self.found.owner.host,
            "left": self.left.json(),
            "refused": self.refused,
            "swept_by": by,
        })
    }
}

/// Whether nothing of a file is left: what has no line's end yet is nobody's to send.
fn is_shipped(seat: &Seat, entry: &Entry, path: &std::path::Path, found: &Found) -> bool {
    let Ok(below) = path.strip_prefix(&found.logs) else { return true };
    let seen = found.owner.view.join(below);
    let meta = match seat.world.fs.stat(&seen, false) {
        Ok(meta) => meta,
        Err(e) => return is_nobodys(&e),
    };
    if meta.kind != FileKind::File || meta.len <= entry.offset {
        return entry.intents.is_empty() || meta.kind != FileKind::File;
    }
    if meta.len - entry.offset > MAX_REST {
        return false;
    }
    let file = match seat.world.fs.open(&seen, pillion_world::OpenHow::ReadNoFollow) {
        Ok(file) => file,
        Err(e) => return is_nobodys(&e),
    };
    let (mut at, mut buf) = (entry.offset, [0; 8192]);
    loop {
        match file.read_at(&mut buf, at) {
            Ok(0) => return entry.intents.is_empty(),
            Ok(n) if buf.get(..n).is_some_and(|read| read.contains(&b'\n')) => return false,
            Ok(n) => at += n as u64,
            Err(_) => return false,
        }
    }
}

/// Whether a call failed since nothing is there that anybody could read: a file system that fails says nothing of that.
fn is_nobodys(e: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, NotADirectory, NotFound};
    // What isn't a regular file, or lies behind a link, isn't read beneath a root.
    matches!(e.kind(), NotFound | NotADirectory | InvalidInput) || e.raw_os_error() == Some(libc::ELOOP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_for_is_not_taken_for_shipped() {
        let is = |errno| is_nobodys(&io::Error::from_raw_os_error(errno));
        assert!([libc::ENOENT, libc::ENOTDIR, libc::ELOOP].into_iter().all(is));
        assert!(![libc::EIO, libc::ESTALE, libc::EACCES, libc::ETIMEDOUT, libc::EMFILE].into_iter().any(is));
    }
}
