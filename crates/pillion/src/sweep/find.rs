//! Which registries lie beside logs beneath a folder, and of which of them nobody works any more.
//!
//! Comes in: the folder, and the grace. Goes out: [`Search`]: the registries that aren't done, each with its [`State`], and how
//! many are.
//!
//! Always holds:
//! - An owner is dead when its lock is free, or there are no locks, and nothing of what is to be seen of it has changed
//!   during the whole grace, which this process measured by its own monotonic clock.
//! - A grace that is too short for an owner's own beat makes nobody dead.
//! - The search is bounded ([`Limits`]). What is done counts for none of them but the folders: however much of it lies there,
//!   what is left is found. What wasn't looked into is said, and counted: nobody knows what lies there.
//!
//! Tested below and by the command line's tests.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pillion_registry::Error;
use pillion_registry::beside::{self, FOLDER, Owner, RESERVED, Sighting};
use pillion_world::{FileKind, World};

use super::Root;

/// How far is looked.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Folders that are looked into.
    folders: usize,
    /// How deep.
    depth: usize,
    /// Registries of one sweep that aren't done; the next sweep takes the others.
    found: usize,
}

const LIMITS: Limits = Limits { folders: 1_000_000, depth: 32, found: 20_000 };
/// How often owners are looked at during the grace.
const LOOKS: u32 = 4;
/// Names that are looked at beside a registry that doesn't say whose it is.
const MAX_BESIDE: usize = 4096;
/// Where a registry lies in its folder.
pub(crate) const REGISTRY: &str = "registry";

/// What is known of a registry's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Somebody works on it.
    Alive,
    /// Everything was shipped.
    Done,
    /// Nobody works on it, and it isn't done.
    Dead,
    /// It can't be used: why.
    Refused(String),
}

/// A registry beside logs.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The folder of the logs.
    pub(crate) logs: PathBuf,
    /// The registry's own folder in it.
    pub(crate) dir: PathBuf,
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) owner: Owner,
    /// How its owner looked, last.
    pub(crate) sighting: Sighting,
}

/// What lies beneath a folder.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// In the order of their paths.
    pub(crate) found: Vec<Found>,
    /// Registries that are marked as done.
    pub(crate) done: u64,
    /// Folders that weren't looked into.
    pub(crate) unseen: u64,
}

/// Finds all of them, and waits until it is known of each whether its owner lives.
pub(crate) async fn find(root: &Root, grace: Duration) -> Search {
    let mut search = search(root, grace, LIMITS);
    let step = grace / LOOKS;
    for _ in 0..LOOKS {
        if step.is_zero() || !search.found.iter().any(|found| found.state == State::Dead) {
            break;
        }
        tokio::time::sleep(step).await;
        for found in search.found.iter_mut().filter(|found| found.state == State::Dead) {
            if !still(&root.world, found) {
                found.state = State::Alive;
            }
        }
    }
    search
}

fn search(root: &Root, grace: Duration, limits: Limits) -> Search {
    let mut search = Search::default();
    let mut beyond = 0;
    search.unseen = walk(root, limits, &mut |dir| {
        if beside::is_done(&root.world, dir) {
            search.done += 1;
        } else if search.found.len() >= limits.found {
            beyond += 1;
        } else if let Some(mut found) = look(&root.world, dir, grace) {
            // Whoever is just starting has the lock before anything else is there.
            if matches!(found.state, State::Refused(_)) && is_held(&root.world, dir) {
                found.state = State::Alive;
            }
            match stillborn(&root.world, &found) {
                Some(Stillborn::Nothing) => {
                    tracing::debug!(path = %dir.display(), "its owner ended before it had begun, and there is nothing to ship");
                }
                stillborn => {
                    if let Some(Stillborn::MayOwe(why)) = stillborn {
                        found.state = State::Refused(why);
                    }
                    search.found.push(found);
                }
            }
        }
    });
    if beyond > 0 {
        tracing::error!(path = %root.path.display(), beyond, "too many registries for one sweep: these are left for the next one");
    }
    search.unseen += beyond;
    search.found.sort_by(|a, b| a.dir.cmp(&b.dir));
    search
}

/// What an owner that ended before it had written down who it is has left.
enum Stillborn {
    /// It has delivered nothing, and no line can be owed.
    Nothing,
    /// Nobody knows how the logs beside it are to be read: what to do about it.
    MayOwe(String),
}

/// Looks at a folder that doesn't say who its owner is. `None`: it isn't such a one, or can't be looked at.
fn stillborn(world: &World, found: &Found) -> Option<Stillborn> {
    if !matches!(found.state, State::Refused(_)) || is_there(world, &found.dir.join(beside::OWNER)).ok()? {
        return None;
    }
    let mut begun = false;
    world
        .fs
        .read_dir(&found.dir, &mut |entry| {
            begun = !entry.name.to_str().is_some_and(beside::is_of_a_start);
            !begun
        })
        .ok()?;
    if !begun && !has_content(world, &found.logs).ok()? {
        return Some(Stillborn::Nothing);
    }
    let (dir, name) = (found.dir.display(), &found.name);
    Some(Stillborn::MayOwe(format!(
        "{} is missing, without which nobody knows how the logs beside it are to be read. Start its sidecar once more under \
         the name {name}, which ships them; or remove {dir} when they were shipped otherwise, or nobody wants them",
        beside::OWNER
    )))
}

fn is_there(world: &World, path: &Path) -> io::Result<bool> {
    match world.fs.stat(path, false) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map(|_| true),
    }
}

/// Whether a file beneath a folder of logs has a byte, as far as that can be told by a bounded number of names.
fn has_content(world: &World, logs: &Path) -> io::Result<bool> {
    let (mut folders, mut left) = (vec![logs.to_owned()], MAX_BESIDE);
    while let Some(dir) = folders.pop() {
        let mut names = Vec::new();
        world.fs.read_dir(&dir, &mut |entry| {
            names.push(entry.name.to_owned());
            names.len() <= left
        })?;
        if names.len() > left {
            return Ok(true);
        }
        left -= names.len();
        for path in names.iter().filter(|name| *name != FOLDER).map(|name| dir.join(name)) {
            let meta = world.fs.stat(&path, false)?;
            match meta.kind {
                FileKind::Dir => folders.push(path),
                // A link leads to where nobody looks from here.
                kind if kind == FileKind::Symlink || meta.len > 0 => return Ok(true),
                _ => {}
            }
        }
    }
    Ok(false)
}

fn is_held(world: &World, dir: &Path) -> bool {
    matches!(beside::lock(world, dir), Err(Error::Locked { .. }))
}

/// Shows all registries that are marked as done.
pub(super) fn each_done(root: &Root, each: &mut dyn FnMut(&Found)) {
    walk(root, LIMITS, &mut |dir| {
        if beside::is_done(&root.world, dir)
            && let Some(found) = look(&root.world, dir, Duration::ZERO)
        {
            each(&found);
        }
    });
}

/// Whether nothing has changed about an owner since it was looked at.
fn still(world: &World, found: &Found) -> bool {
    matches!(beside::sight(world, &found.dir, Path::new(REGISTRY)), Ok(now) if now == found.sighting)
}

/// Shows the folders of registries; how many folders weren't looked into.
fn walk(root: &Root, limits: Limits, each: &mut dyn FnMut(&Path)) -> u64 {
    let mut folders = vec![(root.path.clone(), 0)];
    let (mut looked, mut unseen) = (0, 0);
    while let Some((dir, depth)) = folders.pop() {
        looked += 1;
        if looked > limits.folders || depth > limits.depth {
            let why = if depth > limits.depth { "it lies too deep" } else { "there are too many folders" };
            if unseen == 0 {
                tracing::error!(path = %dir.display(), "a folder isn't looked into, and what lies in it isn't swept: {why}");
            }
            unseen += 1;
            continue;
        }
        let is_ours = dir.file_name().is_some_and(|name| name == FOLDER);
        let room = limits.folders.saturating_sub(folders.len());
        let listed =
            folders_in(&root.world, &dir, room, &mut |below| match below.file_name().and_then(|n| n.to_str()) {
                // What replicas keep there is theirs.
                Some(name) if is_ours && RESERVED.contains(&name) => {}
                _ if is_ours => each(&below),
                _ => folders.push((below, depth + 1)),
            });
        if let Err(e) = listed {
            tracing::error!(path = %dir.display(), error = %e, "a folder can't be looked into: what lies in it isn't swept");
            unseen += 1;
        }
    }
    unseen
}

/// Shows the folders in a folder, links left out, up to a number of names.
fn folders_in(world: &World, dir: &Path, room: usize, each: &mut dyn FnMut(PathBuf)) -> io::Result<()> {
    let mut names = Vec::new();
    // A network file system's client asks for the names in a folder when it has looked at it.
    let listed = world.fs.stat(dir, false).and_then(|_| {
        world.fs.read_dir(dir, &mut |entry| {
            if matches!(entry.kind, FileKind::Dir | FileKind::Unknown) {
                names.push((entry.name.to_owned(), entry.kind));
            }
            names.len() <= room
        })
    });
    match listed {
        // Somebody has removed it.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    let too_many = names.len() > room;
    for (name, kind) in names.into_iter().take(room) {
        let path = dir.join(name);
        if kind == FileKind::Dir || matches!(world.fs.stat(&path, false), Ok(meta) if meta.kind == FileKind::Dir) {
            each(path);
        }
    }
    if too_many { Err(io::Error::other("there are too many folders")) } else { Ok(()) }
}

/// The first look at one. A `grace` that can't tell whether its owner lives makes it refused. `None`: it isn't a registry's folder.
pub(crate) fn look(world: &World, dir: &Path, grace: Duration) -> Option<Found> {
    let logs = dir.parent()?.parent()?.to_owned();
    let name = dir.file_name()?.to_string_lossy().into_owned();
    let found = |state| Found {
        logs: logs.clone(),
        dir: dir.to_owned(),
        name: name.clone(),
        state,
        owner: Owner::default(),
        sighting: Sighting::default(),
    };
    if beside::is_done(world, dir) {
        // Whoever only wants to know that it is done needs no more.
        let owner = Owner::read(world, dir).unwrap_or_default();
        return Some(Found { owner, ..found(State::Done) });
    }
    let owner = match Owner::read(world, dir) {
        Ok(owner) => owner,
        Err(e) => return Some(found(State::Refused(e.to_string()))),
    };
    let beat = Duration::from_millis(owner.heartbeat_ms);
    let state = match beside::lock(world, dir) {
        Err(Error::Locked { .. }) => State::Alive,
        Err(e) => State::Refused(e.to_string()),
        // With a lock that works the beat is a second proof; without, it is the only one.
        Ok((_, locks)) if grace < beat * 2 && !(locks && grace.is_zero()) => State::Refused(format!(
            "its owner shows every {} s that it lives: a grace of {} s can't tell",
            beat.as_secs(),
            grace.as_secs()
        )),
        Ok(_) => State::Dead,
    };
    match beside::sight(world, dir, Path::new(REGISTRY)) {
        Ok(sighting) => Some(Found { owner, sighting, ..found(state) }),
        Err(e) => Some(found(State::Refused(e.to_string()))),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test plays the pods")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use pillion_registry::beside::Heart;
    use serde_json::json;

    use super::*;

    const FEW: Limits = Limits { folders: 100, depth: 4, found: 3 };

    /// A volume, and what makes a registry in it.
    fn volume() -> (tempfile::TempDir, Root) {
        let tmp = tempfile::tempdir().unwrap();
        let root = Root::open(tmp.path()).unwrap();
        (tmp, root)
    }

    fn registry(root: &Root, pod: &str, done: bool) {
        let logs = root.path.join(pod);
        let dir = logs.join(FOLDER).join("job");
        std::fs::create_dir_all(&dir).unwrap();
        Owner { view: logs, ..Owner::default() }.write(&root.world, &dir).unwrap();
        if done {
            Heart::claim(&root.world, &dir).unwrap().done(&json!({})).unwrap();
        }
    }

    fn names(search: &Search) -> Vec<String> {
        let pod = |found: &Found| found.logs.file_name().unwrap().to_string_lossy().into_owned();
        search.found.iter().map(pod).collect()
    }

    #[test]
    fn what_is_done_hides_nothing_that_is_left() {
        let (_tmp, root) = volume();
        for n in 0..20 {
            registry(&root, &format!("done-{n}"), true);
        }
        for n in 0..3 {
            registry(&root, &format!("left-{n}"), false);
        }
        let all = search(&root, Duration::ZERO, FEW);
        assert_eq!(
            (names(&all), all.done, all.unseen),
            (vec!["left-0".into(), "left-1".into(), "left-2".into()], 20, 0)
        );
        registry(&root, "left-3", false);
        let some = search(&root, Duration::ZERO, FEW);
        assert_eq!((some.found.len(), some.unseen), (3, 1), "that there is more is known");
        let mut done = 0;
        each_done(&root, &mut |found| done += usize::from(found.state == State::Done));
        assert_eq!(done, 20);
    }

    #[test]
    fn who_is_just_starting_lives() {
        let (_tmp, root) = volume();
        let dir = root.path.join("new").join(FOLDER).join("job");
        std::fs::create_dir_all(&dir).unwrap();
        let state = || search(&root, Duration::ZERO, FEW).found.remove(0).state;
        let _lock = beside::lock(&root.world, &dir).unwrap();
        assert_eq!(state(), State::Alive);
    }

    #[test]
    fn who_died_before_it_had_begun_counts_only_where_lines_may_be_owed() {
        let (_tmp, root) = volume();
        let logs = root.path.join("new");
        let dir = logs.join(FOLDER).join("job");
        std::fs::create_dir_all(&dir).unwrap();
        let states =
            || search(&root, Duration::ZERO, FEW).found.into_iter().map(|found| found.state).collect::<Vec<_>>();
        let refused = || matches!(states().as_slice(), [State::Refused(why)] if why.contains("remove ") && why.contains("owner.json"));
        assert_eq!(states(), [], "it made its folder");
        drop(beside::lock(&root.world, &dir).unwrap());
        drop(Heart::claim(&root.world, &dir).unwrap());
        for draft in ["claim.json.0011aabb", "alive.json.0011aabb", "owner.json.new"] {
            std::fs::write(dir.join(draft), "").unwrap();
        }
        std::fs::create_dir(logs.join("below")).unwrap();
        std::fs::write(logs.join("below/empty.log"), "").unwrap();
        assert_eq!(states(), [], "it claimed it, and nothing was written beside it");
        std::fs::write(logs.join("below/a.log"), "a line\n").unwrap();
        assert!(refused(), "{:?}", states());
        std::fs::remove_file(logs.join("below/a.log")).unwrap();
        assert_eq!(states(), []);
        for named in ["registry", "meta.json", "receipt.json"] {
            std::fs::create_dir(dir.join(named)).unwrap();
            assert!(refused(), "{named}: {:?}", states());
            std::fs::remove_dir(dir.join(named)).unwrap();
        }
        std::fs::write(dir.join("owner.json"), "{").unwrap();
        assert!(matches!(states().as_slice(), [State::Refused(why)] if why.contains("not JSON")), "{:?}", states());
    }

    #[test]
    fn what_is_not_looked_into_is_counted() {
        let (tmp, root) = volume();
        registry(&root, "a/b/c", false);
        assert_eq!(names(&search(&root, Duration::ZERO, FEW)), ["c"]);
        registry(&root, "a/b/c/d/e", false);
        assert_eq!(search(&root, Duration::ZERO, FEW).unseen, 1, "it lies too deep");
        let folders = Limits { folders: 3, ..FEW };
        assert!(search(&root, Duration::ZERO, folders).unseen > 0);
        let shut = tmp.path().join("shut");
        registry(&root, "shut", false);
        std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(0o000)).unwrap();
        if std::fs::read_dir(&shut).is_err() {
            assert_eq!(search(&root, Duration::ZERO, FEW).unseen, 2);
        }
        std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
}
