//! A registry that another process is writing at this moment: a state of it that can be relied on.
//!
//! Comes in: a data path. Goes out: [`Foreign`], of the files that the caller asks for.
//!
//! Its owner appends to the log, puts a new checkpoint in place, empties the log, and removes the old checkpoint, in this
//! order ([`crate::disk`]), while it is read here. So the newest checkpoint is looked for before it is read and again
//! behind the log's end. When it is another one by then, the log may have been emptied in between, and everything is read
//! anew. When it is the same, the log was emptied for it at the latest before its own operations came, which are the ones
//! behind the checkpoint; what is torn at its end is being written, and wasn't durable when the reading began.
//!
//! Always holds:
//! - What was durable when the reading began is in the result, and each entry of it is a state that it really had. Where
//!   that can't be reached the result is an error, never an older state or none: who takes a shard would begin anew.
//! - Files are opened anew for each try and the folder is looked at itself before it is listed, so that a network file
//!   system's caches don't hide what its server has; `ESTALE` is one more try. There are at most [`TRIES`].
//! - As in [`crate::foreign`]: nothing is written there, and memory is bounded.
//!
//! Tested in `tests/live.rs`: a writer's steps between any two steps of the reader, and real files.

use std::io;
use std::path::Path;

use pillion_world::World;

use crate::entry::Entry;
use crate::error::Error;
use crate::foreign::{self, Bounds, Foreign};
use crate::load::{self, Faults, Limits, Loaded, Newest};
use crate::open::{Options, STORE};

/// How often a registry is read at most that is rewritten meanwhile. Its owner writes as much as it has in all before it
/// does that again, so that the second try succeeds as a rule.
const TRIES: usize = 16;
/// How many folders above the store may be as new as the store: `.pillion`, `replicas`, the member's, `registry`.
const ABOVE: usize = 4;
/// How often a checkpoint is read at most that is broken in the middle: it was whole before it got its name.
const TRIES_DAMAGED: usize = 3;

/// Reads the registry in `data_path` while its owner writes it; of its files those for which `part` holds.
///
/// Its owner has synced it at least once. The same registry is read once for several shards rather than for each.
///
/// # Errors
/// As [`foreign::read`]; also when there is no registry (`NotFound`), when its log doesn't join its checkpoint
/// (`InvalidData`: [`foreign::read`] takes what it can of that), and when it is rewritten faster than it can be read
/// (`ResourceBusy`).
pub fn read(
    world: &World,
    data_path: &Path,
    options: &Options,
    bounds: &Bounds,
    part: &dyn Fn(&Entry) -> bool,
) -> Result<Foreign, Error> {
    let home = data_path.join(&options.path).join(STORE);
    let limits = Limits { file: bounds.file, entries: bounds.entries };
    let failed = |kind: io::ErrorKind, why: &str| Error::Unreadable {
        path: home.clone(),
        source: io::Error::new(kind, why.to_owned()),
    };
    let mut last = failed(io::ErrorKind::ResourceBusy, "it is rewritten faster than it can be read");
    let mut damaged = 0;
    for _ in 0..TRIES {
        let mut faults = Faults::default();
        let loaded = match look(world, &home).and_then(|()| load::load(world, &home, limits, Some(part), &mut faults)) {
            Ok(loaded) => loaded,
            Err(e) if is_passing(&e) => {
                last = e;
                continue;
            }
            Err(e) => return Err(e),
        };
        match settled(world, &home, &loaded)? {
            State::Moved => last = failed(io::ErrorKind::ResourceBusy, "it is rewritten faster than it can be read"),
            State::None => last = failed(io::ErrorKind::NotFound, "there is no checkpoint"),
            State::Gap => last = failed(io::ErrorKind::InvalidData, "its log doesn't join its checkpoint"),
            State::Damaged if damaged + 1 < TRIES_DAMAGED => damaged += 1,
            State::Damaged | State::Good => {
                return Ok(foreign::vetted(foreign::agent_id(world, data_path), loaded, bounds, faults));
            }
        }
    }
    Err(last)
}

/// What a try gave.
enum State {
    Good,
    /// Another checkpoint was put in place meanwhile.
    Moved,
    None,
    Gap,
    Damaged,
}

/// Makes a network file system's client ask for the folder's names, and first for those on the way to it.
pub(crate) fn look(world: &World, home: &Path) -> Result<(), Error> {
    let above: Vec<&Path> = home.ancestors().skip(1).take(ABOVE).collect();
    for folder in above.into_iter().rev() {
        // It may be none of ours to look at.
        let _ = world.fs.stat(folder, true);
    }
    world.fs.stat(home, true).map(drop).map_err(|source| Error::Unreadable { path: home.into(), source })
}

/// Whether what was read can be relied on.
fn settled(world: &World, home: &Path, loaded: &Loaded<'_>) -> Result<State, Error> {
    let (id, newest) = loaded.checkpoint;
    let now = match look(world, home).and_then(|()| load::list_checkpoints(world, home)) {
        Ok(all) => all.last().map_or(0, |(id, _)| *id),
        Err(e) if is_passing(&e) => return Ok(State::Moved),
        Err(e) => return Err(e),
    };
    Ok(match newest {
        _ if now != id => State::Moved,
        Newest::Gone => State::Moved,
        _ if id == 0 => State::None,
        _ if loaded.gap => State::Gap,
        Newest::Damaged => State::Damaged,
        Newest::Whole => State::Good,
    })
}

/// Whether the same call may succeed: what a network file system's client says of names that it hasn't asked for lately.
fn is_passing(e: &Error) -> bool {
    use io::ErrorKind::{NotFound, StaleNetworkFileHandle};
    matches!(e, Error::Unreadable { source, .. } if matches!(source.kind(), NotFound | StaleNetworkFileHandle))
}
