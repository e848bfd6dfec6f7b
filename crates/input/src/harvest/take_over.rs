//! Files that go on where another input had read to (`take_over` of filestream).
//!
//! Comes in: a file that the first search of an input finds and of which its registry entries say nothing. Goes out: the
//! entry of a `log` or `container` input, or of a filestream with another id, under this input's own key.
//!
//! Always holds: an entry has one key at any moment, also through a crash; what may have been sent and isn't acknowledged
//! (`exactly_once`) goes with it; a file that an input which has just stopped was reading goes on in memory, at what is
//! in flight. A file that its input still reads isn't taken from it, and that is said. Facts: Filebeat's documentation,
//! "Take over": only files that are there at the start of the input; with `from_ids` from filestreams alone.
//! Tested in `tests/take_over.rs`.

use std::sync::Arc;

use pillion_registry::{Entry, Identifier, filestream_key, log_key};
use pillion_world::Mono;

use crate::harvest::Harvester;
use crate::harvest::account_of;
use crate::harvest::file::FileState;
use crate::harvest::identity::{Ident, entry_for, kind_of};
use crate::harvest::table::FileId;
use crate::spec::{Identity, TakeOver};

impl Harvester {
    /// Whether a file goes on where another input had read to.
    pub(crate) fn takes_over(&mut self, id: FileId, ident: &Ident, now: Mono) -> bool {
        let Some((f, input)) = self.table.get(id).and_then(|f| Some((f, self.inputs.get(usize::from(f.input))?)))
        else {
            return false;
        };
        let Some(take) = input.spec.take_over.as_ref().filter(|_| input.tours == 0) else { return false };
        let marker = matches!(input.spec.identity, Identity::InodeMarker(_)).then_some(&ident.identifier);
        let keys = keys_of(take, f, ident, marker);
        let own = entry_for(&input.spec, kind_of(input, f, ident.fingerprint_len), &ident.identifier, f);
        let path = f.path.clone();
        for key in keys {
            let Some(entry) = self.registry.get(&key).filter(|entry| entry.key != own.key) else { continue };
            let owner = self.table.owner(&key);
            if owner.is_some_and(|owner| !self.has_stopped(owner)) {
                self.say_once(&path, "a file isn't taken over: another input reads it; end that one first", &key);
                continue;
            }
            let renamed =
                entry.source != *path.text() && !matches!(entry.identifier(), Some(Identifier::Native { .. }));
            if renamed && self.is_elsewhere(&entry.source, id) {
                continue;
            }
            tracing::info!(path = %path.display(), offset = entry.offset, from = %key, "a file is taken over");
            let (kind, source) = (own.kind.clone(), Arc::clone(&own.source));
            let moved = Entry {
                key: Arc::clone(&own.key),
                kind,
                source,
                ttl_ns: own.ttl_ns,
                unknown: None,
                ..(*entry).clone()
            };
            self.registry.rekey(&key, moved.clone());
            self.resume(id, &moved, now);
            owner.into_iter().for_each(|owner| self.goes_on_for(owner, id));
            return true;
        }
        false
    }

    /// A file goes on where one that has stopped was: behind what is in flight.
    fn goes_on_for(&mut self, stopped: FileId, id: FileId) {
        self.close(stopped);
        let Some(mut old) = self.table.remove(stopped) else { return };
        if let Some(f) = self.table.get_mut(id).filter(|f| f.incarnation == old.incarnation && f.pos <= old.pos) {
            (f.pos, f.scanned_to, f.guard) = (old.pos, old.pos, old.guard);
            f.replays = old.replays.take();
        }
        self.books.close(account_of(&self.table, &old));
    }
}

/// The keys under which other inputs may know a file, the surest first.
fn keys_of(take: &TakeOver, f: &FileState, ident: &Ident, marker: Option<&Identifier>) -> Vec<String> {
    let native = Identifier::Native { ino: f.ino, dev: f.dev };
    let path = Identifier::Path(f.path.to_string_lossy().into_owned());
    if take.from_ids.is_empty() {
        let meta: Vec<_> = take.stream.iter().map(|stream| ("stream".to_owned(), stream.clone())).collect();
        return [Some(&native), Some(&path), marker].into_iter().flatten().map(|i| log_key(i, &meta)).collect();
    }
    let known = || ident.candidates.iter().chain([&native, &path]);
    take.from_ids.iter().flat_map(|from| known().map(|i| filestream_key(from, i))).collect()
}
