//! Which registry entry a file goes on with.
//!
//! Comes in: a file that isn't bound to a key yet. Goes out: its key, incarnation and first offset, written into the
//! registry. A fingerprint decides continuity only: an entry whose file is still there is never another file's.
//!
//! A growing fingerprint is what Filebeat 9.5 makes of a file shorter than the fingerprint's range: the SHA-256 of the
//! hexadecimal text of all its bytes, with their number beside it in the registry; it is taken up again by hashing as
//! many bytes of what the file is now. The key changes once, when the range is complete. Two files that are there
//! together with the same fingerprint: the second one's key gets `~` and a hash of its path.
//!
//! Tested in `tests/identity.rs`.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use pillion_event::{Guard, Incarnation, InputKind};
use pillion_registry::{Entry, FilestreamState, Identifier, Kind, LogState, LogWords, Registry, tied};
use pillion_world::{File, Mono};

use crate::harvest::file::{FileState, Replays, differ};
use crate::harvest::look::missing;
use crate::harvest::path::FilePath;
use crate::harvest::table::FileId;
use crate::harvest::trust::{has_to_be_checked, holds};
use crate::harvest::{Beside, Harvester, Input};
use crate::spec::{Identity, InputSpec};

/// A life that ended by truncation; a copy of the file may go on with it.
pub(crate) struct Former {
    pub(crate) pos: u64,
    pub(crate) len: u64,
    pub(crate) guard: Guard,
    /// The file that had it.
    pub(crate) path: FilePath,
    /// The input that read it, and the search in which its end was found: it may have listed the folder before the copy came.
    pub(crate) input: u16,
    pub(crate) ended_in: u32,
}

/// What became of binding a file.
#[derive(Debug)]
pub(crate) enum Bind {
    /// It has a key.
    Bound,
    /// It is empty, or too short for its fingerprint.
    TooShort,
    /// Whose entry it is shows at the end of the search.
    Later,
    /// Somebody beside it may be reading it: the next search looks again.
    Waits,
    /// Nothing is known of it here: other processes have to be asked.
    Unknown,
    /// It is another path of what another file in the table was: that one goes on here.
    Merged,
    /// A call failed: to be tried again.
    Failed(io::Error),
}

/// What tells a file apart, and the registry keys under which its earlier state may be.
pub(crate) struct Ident {
    pub(crate) identifier: Identifier,
    pub(crate) fingerprint_len: u32,
    /// The best first.
    pub(crate) candidates: Vec<Identifier>,
}

/// The lengths of all growing fingerprints in the registry.
pub(crate) fn growing_lengths(registry: &Registry) -> BTreeSet<u32> {
    let length = |e: &Arc<Entry>| match &e.kind {
        Kind::Filestream(f) => f.fingerprint_len.and_then(|l| u32::try_from(l).ok()).filter(|l| *l > 0),
        Kind::Log(_) => None,
    };
    let mut lengths = BTreeSet::new();
    registry.visit(|entry| lengths.extend(length(entry)));
    lengths
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

/// Filebeat's key of a file that is shorter than the fingerprint's range.
fn growing_of(raw: &[u8]) -> String {
    sha256(hex(raw).as_bytes())
}

/// Whether a file has a fingerprint. `len`: of how many bytes it is made, 0 = of all that the setting says.
pub(crate) fn bears(identity: &Identity, known: &str, len: u64, fd: &dyn File) -> io::Result<bool> {
    let Identity::Fingerprint { offset, length, .. } = identity else { return Ok(true) };
    if len > *length {
        // No fingerprint that grows is longer: whoever wrote it down was set otherwise.
        return Ok(false);
    }
    // A file that is shorter than what the fingerprint skips was taken up by all of its bytes.
    let offset = if len > 0 && len <= *offset { 0 } else { *offset };
    let raw = read_exactly(fd, offset, if len > 0 { len } else { *length } as usize)?;
    let hash = if len > 0 { growing_of(&raw) } else { sha256(&raw) };
    Ok(known.split('~').next() == Some(&*hash))
}

/// Reads up to `len` bytes at `offset`.
pub(crate) fn read_exactly(file: &dyn File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut out = vec![0; len];
    let mut at = 0;
    while at < len {
        match file.read_at(&mut out[at..], offset + at as u64)? {
            0 => break,
            n => at += n,
        }
    }
    out.truncate(at);
    Ok(out)
}

impl Harvester {
    /// Binds a file to a registry key. `late`: all files of the search have been seen.
    pub(crate) fn bind(&mut self, id: FileId, late: bool, now: Mono) -> Bind {
        let ident = match self.identify(id, now) {
            Ok(Some(ident)) => ident,
            Ok(None) => return Bind::TooShort,
            Err(e) => return Bind::Failed(e),
        };
        let Some(f) = self.table.get(id) else { return Bind::TooShort };
        let Some(input) = self.inputs.get(usize::from(f.input)) else { return Bind::TooShort };
        let fingerprint = matches!(input.spec.identity, Identity::Fingerprint { .. });
        let (path, is_first) = (f.path.clone(), input.tours == 0);
        let keys = self.keys_of(id, &ident);
        if let Some(bound) = self.asks_others(id, &keys, now) {
            return bound;
        }
        for key in &keys {
            let Some(entry) = self.registry.get(key).filter(|entry| !self.is_others_entry(entry)) else { continue };
            let shifted = fingerprint && entry.source != *path.text();
            if shifted && self.sharing.is_some() {
                // Many go at once where several share: whose entry it is shows what was read by it.
                match self.has_bytes(&entry, id, now) {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(e) => return Bind::Failed(e),
                }
            }
            match self.table.owner(key) {
                Some(owner) if owner == id => return Bind::Bound,
                Some(owner) => match self.owner_state(owner, id) {
                    Owner::Present => continue,
                    Owner::Gone if late => {
                        self.merge(owner, id, now);
                        return Bind::Merged;
                    }
                    Owner::Gone | Owner::Unknown if late => continue,
                    Owner::Gone | Owner::Unknown => return Bind::Later,
                },
                None if shifted && !late && self.is_elsewhere(&entry.source, id) => return Bind::Later,
                None if shifted && !is_first && !self.fits_former(key, id) => continue,
                None => {
                    self.resume(id, &entry, now);
                    self.rekey(id, &ident);
                    return Bind::Bound;
                }
            }
        }
        self.begins_or_waits(id, &ident, now)
    }

    /// Nothing is known of a file: it begins, unless a sidecar reads it or has left a cursor beside it, or it is another input's.
    fn begins_or_waits(&mut self, id: FileId, ident: &Ident, now: Mono) -> Bind {
        match self.left_beside(id, &ident.identifier, now) {
            Ok(Beside::Nothing) => {}
            Ok(Beside::Waits) => return Bind::Waits,
            Ok(Beside::Left(_)) => {
                self.rekey(id, ident);
                return Bind::Bound;
            }
            Err(e) => return Bind::Failed(e),
        }
        if self.takes_over(id, ident, now) {
            return Bind::Bound;
        }
        self.begin(id, ident);
        if let Some(f) = self.table.get(id) {
            tracing::debug!(path = %f.path.display(), key = self.table.key_of(f).as_deref().unwrap_or_default(), "a file begins");
        }
        Bind::Bound
    }

    /// The keys under which a file's earlier state may be, the best first.
    pub(crate) fn keys_of(&self, id: FileId, ident: &Ident) -> Vec<Arc<str>> {
        let Some(f) = self.table.get(id) else { return Vec::new() };
        let Some(input) = self.inputs.get(usize::from(f.input)) else { return Vec::new() };
        let kind = kind_of(input, f, ident.fingerprint_len);
        ident.candidates.iter().map(|i| entry_for(&input.spec, kind.clone(), i, f).key).collect()
    }

    /// What tells the file apart; `None` = it is too short yet.
    pub(crate) fn identify(&mut self, id: FileId, now: Mono) -> io::Result<Option<Ident>> {
        let Some(f) = self.table.get(id) else { return Ok(None) };
        let Some(input) = self.inputs.get(usize::from(f.input)) else { return Ok(None) };
        if f.len == 0 {
            return Ok(None);
        }
        let simple = |identifier: Identifier| {
            Ok(Some(Ident { candidates: vec![identifier.clone()], identifier, fingerprint_len: 0 }))
        };
        match input.spec.identity.clone() {
            Identity::Native => simple(Identifier::Native { ino: f.ino, dev: f.dev }),
            Identity::Path => simple(Identifier::Path(f.path.to_string_lossy().into_owned())),
            Identity::InodeMarker(marker) => {
                let content = self.world.fs.read(&marker, 64 * 1024)?;
                let marker = String::from_utf8_lossy(&content).into_owned();
                simple(Identifier::InodeMarker { ino: f.ino, marker })
            }
            Identity::Fingerprint { offset, length, growing } => {
                let draining = self.is_file_draining(id);
                let growing = growing || draining;
                // At the drain every file is taken up, also one that is shorter than what its fingerprint skips.
                let offset = if draining && f.len <= offset { 0 } else { offset };
                if f.len < offset + if growing { 1 } else { length } {
                    return Ok(None);
                }
                self.ensure_open(id, now)?;
                let Some(f) = self.table.get(id) else { return Ok(None) };
                let Some(fd) = &f.fd else { return Ok(None) };
                let raw = read_exactly(&**fd, offset, length as usize)?;
                if raw.is_empty() || (!growing && (raw.len() as u64) < length) {
                    return Ok(None);
                }
                self.without_zeros(id, &raw, offset, now)?;
                Ok(Some(self.fingerprint(f, &raw, length)))
            }
        }
    }

    fn fingerprint(&self, f: &FileState, raw: &[u8], length: u64) -> Ident {
        let complete = raw.len() as u64 >= length;
        let hash = if complete { sha256(raw) } else { growing_of(raw) };
        let mut candidates = Vec::new();
        let mut both = |hash: &str| {
            candidates.push(tied(hash, f.path.as_os_str().as_bytes()));
            candidates.push(Identifier::Fingerprint(hash.to_owned()));
        };
        both(&hash);
        let until = if complete { raw.len() as u32 + 1 } else { raw.len() as u32 };
        for len in self.lengths.range(..until).rev() {
            if let Some(prefix) = raw.get(..*len as usize) {
                both(&growing_of(prefix));
            }
        }
        let free = |i: &Identifier| {
            let key = self
                .inputs
                .get(usize::from(f.input))
                .map(|input| entry_for(&input.spec, kind_of(input, f, 0), i, f).key);
            key.is_none_or(|k| self.registry.get(&k).is_none())
        };
        let plain = Identifier::Fingerprint(hash.clone());
        let identifier = if free(&plain) { plain } else { tied(&hash, f.path.as_os_str().as_bytes()) };
        Ident { identifier, fingerprint_len: if complete { 0 } else { raw.len() as u32 }, candidates }
    }

    /// Goes on where an earlier run, or a former life, has stopped.
    pub(crate) fn resume(&mut self, id: FileId, entry: &Entry, now: Mono) {
        let former = self.former.remove(&entry.key);
        let (incarnation, fingerprint) = (self.new_incarnation(), self.is_fingerprinted(id));
        let Some(f) = self.table.get_mut(id) else { return };
        let another = !fingerprint && differ(f.birth_ns, entry.birth_ns);
        let beyond = entry.intents.iter().map(|i| i.to).max().unwrap_or(0).max(entry.offset);
        f.path.share(&entry.source);
        let mut may_have_arrived = false;
        if another || beyond > f.len {
            tracing::info!(path = %f.path.display(), offset = entry.offset, size = f.len, "the file was truncated or replaced meanwhile: read from its beginning");
            f.incarnation = incarnation;
            (f.pos, f.scanned_to, f.guard) = (0, 0, Guard::default());
            may_have_arrived = beyond > entry.offset;
        } else {
            f.incarnation = entry.incarnation;
            (f.pos, f.guard) = (entry.offset, entry.guard);
            if let Some(former) = former {
                f.pos = former.pos;
                f.guard = former.guard;
            } else {
                f.replays = replays_of(entry, entry.offset);
            }
            f.scanned_to = f.pos;
        }
        if let Kind::Filestream(s) = &entry.kind {
            f.fingerprint_len = s.fingerprint_len.unwrap_or(0) as u32;
        }
        let check = has_to_be_checked(f, entry, fingerprint);
        self.table.own_key(id, &entry.key);
        let known = if check { self.content_is_known(id, now) } else { Ok(true) };
        let Some(f) = self.table.get_mut(id) else { return };
        if known.is_err() {
            // To be checked at the next look.
            f.mtime_ns = 0;
        } else if let Ok(false) = known {
            tracing::info!(path = %f.path.display(), "the file has another content than was read: read from its beginning");
            f.incarnation = incarnation;
            (f.pos, f.scanned_to, f.guard, f.replays) = (0, 0, Guard::default(), None);
            may_have_arrived = beyond > entry.offset;
        }
        if may_have_arrived {
            // Or not: nobody can send it again.
            f.tally.lose(beyond - entry.offset);
            self.books.lose(&f.path, entry.offset, beyond, super::LossCause::Truncated);
        }
        if f.is_compressed() && !f.unread() {
            self.close(id);
        }
        self.write_entry(id);
        if let Some(f) = self.table.get(id) {
            tracing::debug!(path = %f.path.display(), key = %entry.key, pos = f.pos, incarnation = %f.incarnation, "a file goes on");
        }
    }

    /// Goes on where a dead sidecar has stopped, whose registry lies beside the file.
    fn left_beside(&mut self, id: FileId, identifier: &Identifier, now: Mono) -> io::Result<Beside> {
        let Some((f, shares)) = self.table.get(id).zip(self.shares()) else { return Ok(Beside::Nothing) };
        let left = match shares.beside(&f.path, f.ino)? {
            Beside::Left(left) => left,
            other => return Ok(other),
        };
        let Some(entry) = self.fitting(left, id, now)? else { return Ok(Beside::Nothing) };
        let (Some(f), true) = (self.table.get(id), entry.incarnation != Incarnation(0)) else {
            return Ok(Beside::Nothing);
        };
        let Some(input) = self.inputs.get(usize::from(f.input)) else { return Ok(Beside::Nothing) };
        tracing::info!(path = %f.path.display(), offset = entry.offset, "a file goes on that a dead sidecar has read");
        let len = match &entry.kind {
            Kind::Filestream(state) => state.fingerprint_len.unwrap_or(0) as u32,
            Kind::Log(_) => 0,
        };
        let own = entry_for(&input.spec, kind_of(input, f, len), identifier, f);
        let entry =
            Entry { key: own.key, kind: own.kind, source: own.source, ttl_ns: own.ttl_ns, unknown: None, ..entry };
        self.registry.upsert(entry.clone());
        self.resume(id, &entry, now);
        Ok(Beside::Left(Vec::new()))
    }

    /// Begins with a file that nothing is known of.
    fn begin(&mut self, id: FileId, ident: &Ident) {
        let Some(f) = self.table.get(id) else { return };
        let Some(input) = self.inputs.get(usize::from(f.input)) else { return };
        let entry = entry_for(&input.spec, kind_of(input, f, ident.fingerprint_len), &ident.identifier, f);
        let key = Arc::clone(&entry.key);
        self.registry.upsert(entry);
        self.table.own_key(id, &key);
        if ident.fingerprint_len > 0 && self.lengths.len() < 4096 {
            self.lengths.insert(ident.fingerprint_len);
        }
        if let Some(f) = self.table.get_mut(id) {
            f.fingerprint_len = ident.fingerprint_len;
        }
    }

    /// Writes a file's path, offset and incarnation into the registry.
    pub(crate) fn write_entry(&self, id: FileId) {
        let Some(f) = self.table.get(id) else { return };
        let (Some(key), Some(input)) = (self.table.key_of(f), self.inputs.get(usize::from(f.input))) else { return };
        let fresh = Entry {
            key: Arc::clone(&key),
            kind: kind_of(input, f, f.fingerprint_len),
            source: Arc::clone(f.path.text()),
            offset: f.pos,
            ttl_ns: -1,
            updated_ns: 0,
            incarnation: f.incarnation,
            birth_ns: f.birth_ns,
            guard: f.guard,
            intents: Vec::new(),
            unknown: None,
        };
        let entry = match self.registry.get(&key) {
            Some(old) if old.incarnation == f.incarnation => {
                if old.source == fresh.source && old.kind == fresh.kind && old.birth_ns == fresh.birth_ns {
                    return;
                }
                Entry { offset: old.offset, guard: old.guard, ..fresh }
            }
            _ => fresh,
        };
        self.registry.upsert(entry);
    }

    /// Whether a file of which nothing is read yet still has the fingerprint that its key says. Later, the bytes before
    /// `pos` tell, except where nothing but its content tells a file from another ([`pillion_world::FsKind::Userspace`]).
    pub(crate) fn fingerprint_holds(&self, id: FileId) -> io::Result<bool> {
        let opened = self.table.get(id).filter(|f| f.pos == 0 || f.userspace).and_then(|f| Some((f, f.fd.as_deref()?)));
        opened.map_or(Ok(true), |(f, fd)| self.has_fingerprint(f, fd))
    }

    /// Whether this has the fingerprint that a file's key says; so too where its key says none.
    pub(crate) fn has_fingerprint(&self, f: &FileState, fd: &dyn File) -> io::Result<bool> {
        let Some(key) = self.table.key_of(f) else { return Ok(true) };
        let spec = self.inputs.get(usize::from(f.input)).map(|i| &i.spec.identity);
        let Some(Identifier::Fingerprint(known)) = pillion_registry::identifier_of(&key) else { return Ok(true) };
        let Some(identity) = spec else { return Ok(true) };
        bears(identity, &known, u64::from(f.fingerprint_len), fd)
    }

    /// The file's fingerprint has grown to its full length, or to more than it had: its key changes once it is
    /// complete.
    pub(crate) fn grow_fingerprint(&mut self, id: FileId, now: Mono) {
        let Some(f) = self.table.get(id) else { return };
        let Some(Identity::Fingerprint { offset, length, .. }) =
            self.inputs.get(usize::from(f.input)).map(|i| i.spec.identity.clone())
        else {
            return;
        };
        if f.fingerprint_len == 0 || f.key.is_none() || f.len < offset + length {
            return;
        }
        if let Ok(Some(ident)) = self.identify(id, now) {
            self.rekey(id, &ident);
        }
    }

    fn rekey(&mut self, id: FileId, ident: &Ident) {
        if ident.fingerprint_len > 0 {
            return;
        }
        let Some(f) = self.table.get(id) else { return };
        let (Some(old), Some(input)) = (self.table.key_of(f), self.inputs.get(usize::from(f.input))) else { return };
        if f.fingerprint_len == 0 || ident.candidates.is_empty() {
            return;
        }
        let entry = entry_for(&input.spec, kind_of(input, f, 0), &ident.identifier, f);
        let key = Arc::clone(&entry.key);
        self.registry.rekey(&old, Entry { offset: 0, guard: Guard::default(), ..entry });
        self.table.own_key(id, &key);
        if let Some(f) = self.table.get_mut(id) {
            f.fingerprint_len = 0;
            f.source = std::sync::Weak::new();
        }
    }

    /// Gives up a file's key: its content began anew under a fingerprint, so that the old key is another file's. Where nobody
    /// looks for a copy (`None`), the entry stays for whoever does later.
    pub(crate) fn unbind(&mut self, id: FileId, former: Option<Former>) {
        let Some(key) = self.table.free_key(id) else { return };
        if let Some(f) = self.table.get_mut(id) {
            f.fingerprint_len = 0;
        }
        former.into_iter().for_each(|former| drop(self.former.insert(Arc::clone(&key), former)));
    }

    /// Where the file is that has a key that another one could take up.
    fn owner_state(&self, owner: FileId, id: FileId) -> Owner {
        let (Some(o), Some(f)) = (self.table.get(owner), self.table.get(id)) else { return Owner::Unknown };
        if self.may_be_others(owner) {
            // It may have a name that is another process': then this is another file that begins alike.
            Owner::Unknown
        } else if o.gone {
            if f.len >= o.len { Owner::Gone } else { Owner::Present }
        } else if self.inputs.get(usize::from(o.input)).is_some_and(|i| i.tour.has_seen(o.seen)) {
            Owner::Present
        } else {
            Owner::Unknown
        }
    }

    /// Whether another file is where an entry says that its file is.
    pub(crate) fn is_elsewhere(&mut self, source: &str, id: FileId) -> bool {
        let Some(f) = self.table.get(id) else { return false };
        let symlinks = self.inputs.get(usize::from(f.input)).is_some_and(|i| i.spec.symlinks);
        let there = self.is_there(std::path::Path::new(source), symlinks);
        let Some(f) = self.table.get(id) else { return false };
        match there {
            Ok(there) => there.is_some_and(|meta| !f.is(&meta)),
            Err(e) => !missing(&e),
        }
    }

    /// Whether a file can be a copy of what a truncated one was; an entry without a former life may be taken up too.
    fn fits_former(&self, key: &str, id: FileId) -> bool {
        let (Some(former), Some(f)) = (self.former.get(key), self.table.get(id)) else { return true };
        let Some(fd) = &f.fd else { return false };
        f.len >= former.pos && (former.guard.len == 0 || holds(&**fd, former.pos, former.guard).unwrap_or(false))
    }

    /// The file that was `old` goes on as what was found as `new`.
    pub(crate) fn merge(&mut self, old: FileId, new: FileId, now: Mono) {
        self.close(new);
        let Some(new) = self.table.remove(new) else { return };
        let group = self.group(new.input);
        self.close(old);
        self.table.relocate(group, old, |f| {
            f.path.clone_from(&new.path);
            f.input = new.input;
            (f.dev, f.ino, f.birth_ns, f.mtime_ns) = (new.dev, new.ino, new.birth_ns, new.mtime_ns);
            (f.len, f.seen) = (new.len, new.seen);
            (f.gone, f.deleted, f.missed) = (false, false, 0);
            (f.network, f.userspace, f.drain) = (new.network, new.userspace, new.drain);
            f.source = std::sync::Weak::new();
        });
        self.follow_inode(old);
        self.write_entry(old);
        self.consider(old, now);
    }

    /// With `native` a file that goes on under another inode is found again by that one: its key changes.
    fn follow_inode(&mut self, id: FileId) {
        let Some(f) = self.table.get(id) else { return };
        let (Some(old), Some(input)) = (self.table.key_of(f), self.inputs.get(usize::from(f.input))) else { return };
        if input.spec.identity != Identity::Native {
            return;
        }
        let identifier = Identifier::Native { ino: f.ino, dev: f.dev };
        let entry = entry_for(&input.spec, kind_of(input, f, 0), &identifier, f);
        let key = Arc::clone(&entry.key);
        if key == old || self.table.owner(&key).is_some() {
            return;
        }
        self.registry.rekey(&old, Entry { offset: 0, guard: Guard::default(), ..entry });
        self.table.own_key(id, &key);
    }

    /// A search of an input has ended: counts what truncated files still had before it began and nobody has taken up.
    pub(crate) fn settle_former(&mut self, input: usize) {
        let number = self.inputs.get(input).map(|i| i.tour.number);
        let is_over = |f: &Former| usize::from(f.input) == input && Some(f.ended_in) != number;
        let over: Vec<_> = self.former.extract_if(|_, former| is_over(former)).collect();
        for (key, former) in over {
            self.registry.remove(&key);
            if former.len > former.pos {
                self.books.lose(&former.path, former.pos, former.len, super::LossCause::Truncated);
                let group = self.inputs.iter().map(|i| i.group).collect::<BTreeSet<_>>();
                let id = group.into_iter().find_map(|g| self.table.by_path(g, &former.path));
                if let Some(f) = id.and_then(|id| self.table.get_mut(id)) {
                    f.tally.lose(former.len - former.pos);
                }
            }
        }
    }
}

enum Owner {
    Present,
    Gone,
    Unknown,
}

/// The ranges behind `pos` that may have been sent by an earlier run; `None` = there are none.
pub(crate) fn replays_of(entry: &Entry, pos: u64) -> Option<Box<Replays>> {
    let mut next: Replays = entry.intents.iter().filter(|i| i.to > pos && i.to > i.from).copied().collect();
    next.make_contiguous().sort_unstable();
    (!next.is_empty()).then(|| Box::new(next))
}

/// Whether the bytes before `pos` are those that are remembered.
pub(crate) fn guard_holds(fd: &dyn File, pos: u64, guard: Guard) -> io::Result<bool> {
    let len = u64::from(guard.len);
    if len == 0 || pos < len {
        return Ok(true);
    }
    let bytes = read_exactly(fd, pos - len, len as usize)?;
    Ok(bytes.len() < usize::from(guard.len) || Guard::of(&bytes) == guard)
}

/// What all registry entries of an input's files have in common.
pub(crate) fn words_of(spec: &InputSpec) -> Arc<LogWords> {
    let input_type = match spec.desc.kind {
        kind @ (InputKind::Container | InputKind::Docker) => kind.as_str(),
        _ => "log",
    };
    Arc::new(LogWords { input_type: input_type.to_owned(), prev_id: String::new(), meta: spec.meta.clone() })
}

pub(crate) fn kind_of(input: &Input, f: &FileState, fingerprint_len: u32) -> Kind {
    let spec = &input.spec;
    if spec.is_filestream() {
        let v9 = spec.registry_v9;
        let fingerprinted = matches!(spec.identity, Identity::Fingerprint { .. });
        return Kind::Filestream(FilestreamState {
            fingerprint_len: (fingerprint_len > 0 || (v9 && fingerprinted)).then_some(u64::from(fingerprint_len)),
            eof: v9.then_some(false),
        });
    }
    Kind::Log(LogState { ino: f.ino, dev: f.dev, words: Arc::clone(&input.words) })
}

pub(crate) fn entry_for(spec: &InputSpec, kind: Kind, identifier: &Identifier, f: &FileState) -> Entry {
    let source = Arc::clone(f.path.text());
    let mut entry = Entry::new(kind, &spec.desc.id, identifier, source, f.incarnation);
    (entry.offset, entry.birth_ns, entry.guard) = (f.pos, f.birth_ns, f.guard);
    entry
}
