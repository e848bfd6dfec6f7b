//! The dead-letter file: events that the target refused for good, one JSON object a line.
//!
//! Always holds: only the owner can read it (0600); an event counts as written only after it is synced; the file never
//! grows beyond its limit: what doesn't fit is dropped, and said once. Tested in `tests.rs`.

use std::path::PathBuf;
use std::sync::Arc;

use pillion_event::{Fate, Slice};
use pillion_world::{File, OpenHow, World};

use super::request::write_error;
use super::settle::count;
use super::work::{Dead, Work};
use crate::render::{Renderer, write_timestamp};
use crate::{AckSink, Fates, Stats};

/// An open dead-letter file, shared by the workers of an output.
pub(super) struct DeadLetterFile {
    world: World,
    path: PathBuf,
    limit: u64,
    renderer: Arc<Renderer>,
    open: Option<(Box<dyn File>, u64)>,
    warned: bool,
}

impl DeadLetterFile {
    pub(super) fn new(world: World, path: PathBuf, limit: u64, renderer: Arc<Renderer>) -> DeadLetterFile {
        DeadLetterFile { world, path, limit, renderer, open: None, warned: false }
    }

    /// Writes the events of a work that was refused, and settles each.
    pub(super) fn take(&mut self, work: &Work, sink: &dyn AckSink, stats: &Stats) {
        let (text, fits) = self.render(work);
        let written = if text.is_empty() { Ok(()) } else { self.write(&text) };
        if let Err(e) = &written {
            self.warn(&format!("can't be written: {e}"));
        } else if fits < work.piece.len() {
            self.warn("is full");
        }
        for (place, ((batch, index, _), dead)) in work.piece.events().zip(&work.dead).enumerate() {
            let reason = dead.reason.clone();
            let fate = if written.is_ok() && place < fits { Fate::DeadLettered(reason) } else { Fate::Dropped(reason) };
            count(&fate, 1, stats);
            sink.settled(&Slice { batch: Arc::clone(batch), events: index..index + 1 }, Fates::All(fate));
        }
    }

    /// The lines that still fit, and how many they are.
    fn render(&mut self, work: &Work) -> (Vec<u8>, usize) {
        let mut room = self.room();
        let (mut text, mut fits) = (Vec::new(), 0);
        for ((batch, _, event), dead) in work.piece.events().zip(&work.dead) {
            let at = text.len();
            text.extend_from_slice(b"{\"@timestamp\":\"");
            write_timestamp(self.world.clock.wall().0, &mut text);
            write_reason(dead, &mut text);
            self.renderer.write(batch, event, &mut text);
            text.extend_from_slice(b"}\n");
            let len = (text.len() - at) as u64;
            if len > room {
                text.truncate(at);
                break;
            }
            room -= len;
            fits += 1;
        }
        (text, fits)
    }

    fn room(&mut self) -> u64 {
        if self.open.is_none() {
            let file = self.world.fs.open(&self.path, OpenHow::Append(0o600));
            self.open = file.and_then(|f| f.stat().map(|m| (f, m.len))).ok();
        }
        // Where it can't be opened, writing says why.
        self.limit.saturating_sub(self.open.as_ref().map_or(0, |(_, len)| *len))
    }

    fn write(&mut self, text: &[u8]) -> std::io::Result<()> {
        let Some((file, len)) = &mut self.open else {
            return self
                .world
                .fs
                .open(&self.path, OpenHow::Append(0o600))
                .map(|_| ())
                .and_then(|()| Err(std::io::Error::other("it could not be opened")));
        };
        let before = *len;
        let result = file.write_all(text).and_then(|()| file.sync());
        match &result {
            Ok(()) => *len = before + text.len() as u64,
            Err(_) => {
                // No half lines; and the next attempt opens it anew.
                let _ = file.set_len(before);
                self.open = None;
            }
        }
        result
    }

    fn warn(&mut self, what: &str) {
        if !self.warned {
            self.warned = true;
            tracing::error!(
                "the dead-letter file {} {what}: events that the target refuses are dropped",
                self.path.display()
            );
        }
    }
}

fn write_reason(dead: &Dead, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\",\"error\":{");
    write_error(dead, out);
    out.extend_from_slice(b"},\"event\":");
}
