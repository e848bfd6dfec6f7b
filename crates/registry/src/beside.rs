//! A registry that lies beside the logs, on a volume that others see too: what is in its folder beside the store, and who
//! owns it.
//!
//! ```text
//! <logs>/.pillion/<name>/      a data path like any other: filebeat.lock, meta.json, registry/
//!     owner.json               how the logs are to be seen, and who ships them: Owner
//!     claim.json               whose it is; only a claim writes it: Heart
//!     alive.json               a beat that moves while somebody works on it
//!     receipt.json             the owner's own receipt
//!     done.json                everything was shipped, and by which run; counts as long as the claim is that run's
//! ```
//! Comes in: the folder, by a [`World`]. Goes out: claims, beats, pictures of them, and what `owner.json` says.
//!
//! Always holds:
//! - No clock of one machine is compared with another's: an owner is taken for dead when its picture ([`sight`]) hasn't
//!   changed during a time that the observer measured itself, and its lock is free.
//! - A claim is written before anything else is. Who finds another's claim in its place has been deposed, and stops: also
//!   one that was paused in the midst of a beat, for a beat replaces no claim.
//! - What a run says of the folder (that it is done, that nobody need be waited for) counts only while the claim is its own: one
//!   that was paused before it said so, and was deposed meanwhile, says nothing.
//! - Every file is replaced whole (a rename). What `owner.json` says is a hint of somebody who isn't trusted.
//!
//! Why: docs/decisions/beside-logs.md. Tested below, in `tests/seat.rs` (everybody paused before every call), and end to end
//! (`pillion/tests/run/sweep.rs`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use pillion_world::{FileKind, Lock, OpenHow, World};
use serde_json::{Value, json};

use crate::disk::{LOG, sync_dir};
use crate::error::Error;
use crate::open::{LOCK, STORE, hold};

/// The folder beside the logs that no input ever reads.
pub const FOLDER: &str = ".pillion";
/// Names in it that aren't owners': what replicas have there (docs/decisions/shards.md).
pub const RESERVED: [&str; 3] = ["board", crate::note::REPLICAS, crate::note::SHARDS];
/// How often an owner's beat moves, unless it is set.
pub const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(10);
/// The owner's receipt.
pub const RECEIPT: &str = "receipt.json";

/// Who ships these logs; written at each start, behind the claim.
pub const OWNER: &str = "owner.json";
const CLAIM: &str = "claim.json";
const ALIVE: &str = "alive.json";
/// What says that everything is shipped.
pub const DONE: &str = "done.json";
/// Larger files of these aren't read, in bytes.
const MAX_OWNER: usize = 64 * 1024;
const MAX_ALIVE: usize = 4096;
/// Variables of one owner, and bytes of a value.
const MAX_VALUE: usize = 253;
const FILE_MODE: u32 = 0o600;
/// Bytes of a run's id, and what stands before it in the mark.
const RUN: usize = 32;
const MARK: &[u8] = b"{\"run\":\"";

/// The variables that an owner's configuration may be made of and that aren't secret: what the downward API gives.
pub const VARIABLES: &[&str] = &[
    "POD_NAME",
    "POD_NAMESPACE",
    "POD_UID",
    "POD_IP",
    "NODE_NAME",
    "HOSTNAME",
    "PILLION_POD_NAME",
    "PILLION_POD_UID",
    "PILLION_NODE_NAME",
];

/// Who ships these logs, and how they are to be seen by whoever goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The folder of the logs as the owner sees it: absolute, plain. What lies in it lies beside the registry.
    pub view: PathBuf,
    /// The host's name in its events; empty when it has none that is a plain name (Linux calls it `(none)` then).
    pub host: String,
    /// Its [`VARIABLES`].
    pub env: BTreeMap<String, String>,
    /// The ids of its inputs, for people.
    pub inputs: Vec<String>,
    /// How often its beat moves, ms.
    pub heartbeat_ms: u64,
}

impl Owner {
    /// Writes it down, durably.
    pub fn write(&self, world: &World, dir: &Path) -> io::Result<()> {
        let text = json!({
            "version": 1,
            "view": self.view.to_string_lossy(),
            "host": Some(&self.host).filter(|host| is_plain(host)).map_or("", |host| host),
            "env": self.env,
            "inputs": self.inputs,
            "heartbeat_ms": self.heartbeat_ms,
        });
        world.fs.replace(&dir.join(OWNER), format!("{text}\n").as_bytes(), FILE_MODE)
    }

    /// Reads it, trusting nothing.
    ///
    /// # Errors
    /// When there is none, or it is too large, of another version, or says what can't be.
    pub fn read(world: &World, dir: &Path) -> io::Result<Owner> {
        let said = |kind, why: &dyn std::fmt::Display| io::Error::new(kind, format!("{OWNER}: {why}"));
        let bytes = world.fs.read(&dir.join(OWNER), MAX_OWNER).map_err(|e| said(e.kind(), &e))?;
        Owner::parse(&bytes).map_err(|why| said(io::ErrorKind::InvalidData, &why))
    }

    fn parse(bytes: &[u8]) -> Result<Owner, &'static str> {
        let value: Value = serde_json::from_slice(bytes).map_err(|_| "not JSON")?;
        if value["version"] != 1 {
            return Err("of a version that isn't known");
        }
        let view = PathBuf::from(value["view"].as_str().ok_or("no folder of logs")?);
        let plain = |c: Component<'_>| matches!(c, Component::RootDir | Component::Normal(_));
        if !view.is_absolute() || !view.components().all(plain) || view.as_os_str().len() > 4096 {
            return Err("its folder of logs isn't a plain absolute path");
        }
        let host = value["host"].as_str().unwrap_or_default();
        if !is_plain(host) {
            return Err("its host's name isn't one");
        }
        let mut env = BTreeMap::new();
        for (name, text) in value["env"].as_object().into_iter().flatten() {
            let text = text.as_str().filter(|text| is_plain(text)).ok_or("a variable that isn't a plain name")?;
            // Others could change what the configuration does.
            if VARIABLES.contains(&name.as_str()) {
                env.insert(name.clone(), text.to_owned());
            }
        }
        let inputs = value["inputs"].as_array().into_iter().flatten();
        let inputs = inputs.filter_map(|id| id.as_str()).filter(|id| id.len() <= MAX_VALUE).take(64).map(str::to_owned);
        Ok(Owner {
            view: view.components().collect(),
            host: host.to_owned(),
            env,
            inputs: inputs.collect(),
            heartbeat_ms: value["heartbeat_ms"].as_u64().unwrap_or(0).min(3_600_000),
        })
    }
}

/// Whether a text can be a name of a pod, a host or an address: nothing that a configuration would take for more, and no
/// folder's way upwards where a path is made of it.
fn is_plain(text: &str) -> bool {
    !matches!(text, "." | "..")
        && text.len() <= MAX_VALUE
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

/// Takes only the [`VARIABLES`] that can be told to others.
pub fn variables(env: impl Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    let told = |name: &&str| Some(((*name).to_owned(), env(name).filter(|v| is_plain(v))?));
    VARIABLES.iter().filter_map(told).collect()
}

/// Takes the lock of such a folder. Where the file system has no locks at all, the claims alone part the processes: then
/// the second is `false`.
///
/// # Errors
/// As [`hold`].
pub fn lock(world: &World, dir: &Path) -> Result<(Box<dyn Lock>, bool), Error> {
    /// Stands for a lock where there are none.
    struct NoLock;
    impl Lock for NoLock {}
    match hold(world, dir) {
        Ok(lock) => Ok((lock, true)),
        Err(Error::Unwritable { source, .. }) if has_no_locks(&source) => Ok((Box::new(NoLock), false)),
        Err(e) => Err(e),
    }
}

/// `ENOLCK`, `EOPNOTSUPP`, `ENOSYS`: what file systems without locks say.
fn has_no_locks(e: &io::Error) -> bool {
    const ENOLCK: i32 = 37;
    e.kind() == io::ErrorKind::Unsupported || e.raw_os_error() == Some(ENOLCK)
}

/// A claim to a folder: alive as long as it beats.
pub struct Heart {
    world: World,
    dir: PathBuf,
    run: String,
    beat: u64,
}

/// What a beat found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The folder is still ours.
    Ours,
    /// Another run has claimed it.
    Deposed,
}

impl Heart {
    /// Claims a folder whose lock is held. From here on it isn't done any more.
    pub fn claim(world: &World, dir: &Path) -> io::Result<Heart> {
        let run = format!("{:032x}", world.random.u128());
        let beat = read_run(world, dir, ALIVE)?.map_or(0, |(_, beat)| beat.wrapping_add(1) % (1 << 53));
        let mut heart = Heart { world: world.clone(), dir: dir.to_owned(), run, beat };
        heart.write_claim()?;
        heart.move_on()?;
        heart.unmark()?;
        Ok(heart)
    }

    /// Shows that this run lives, unless another has taken its place.
    ///
    /// # Errors
    /// When the file system fails: nothing is known then, and it is to be tried again.
    pub fn beat(&mut self) -> io::Result<Beat> {
        if self.is_deposed()? {
            return Ok(Beat::Deposed);
        }
        self.move_on()?;
        Ok(Beat::Ours)
    }

    /// A claim that somebody deleted or broke is made again, unless another run beats here.
    fn is_deposed(&self) -> io::Result<bool> {
        look_anew(&self.world, &self.dir)?;
        let is_other = |found: Option<(String, u64)>| found.map(|(run, _)| run != self.run);
        if let Some(other) = is_other(read_run(&self.world, &self.dir, CLAIM)?) {
            return Ok(other);
        }
        if is_other(read_run(&self.world, &self.dir, ALIVE)?) == Some(true) {
            return Ok(true);
        }
        self.write_claim()?;
        Ok(false)
    }

    /// Durable: the mark counts only with it.
    fn write_claim(&self) -> io::Result<()> {
        self.write(CLAIM, &json!({"run": self.run}), true)
    }

    fn move_on(&mut self) -> io::Result<()> {
        self.beat = self.beat.wrapping_add(1) % (1 << 53);
        self.write(ALIVE, &json!({"run": self.run, "beat": self.beat}), false)
    }

    /// Ends the claim before everything is shipped: whoever comes next needn't wait, while an owner that wakes up finds that it
    /// was deposed all the same.
    pub fn release(&mut self) -> io::Result<Beat> {
        let beat = self.beat()?;
        if beat == Beat::Ours {
            self.write(ALIVE, &json!({"run": self.run, "beat": self.beat, "released": true}), false)?;
        }
        Ok(beat)
    }

    /// Replaces a file, by a draft that nobody else writes. What matters only to those who look now isn't synced.
    fn write(&self, name: &str, text: &Value, durable: bool) -> io::Result<()> {
        let fs = &self.world.fs;
        let new = self.dir.join(format!("{name}.{}", self.run.get(..8).unwrap_or_default()));
        let file = fs.open(&new, OpenHow::Truncate(FILE_MODE))?;
        let written = file.write_all(format!("{text}\n").as_bytes());
        let written = written.and_then(|()| if durable { file.sync() } else { Ok(()) });
        drop(file);
        let done = written.and_then(|()| fs.rename(&new, &self.dir.join(name)));
        if done.is_err() {
            let _ = fs.remove(&new);
        }
        done.and_then(|()| if durable { sync_dir(&self.world, &self.dir) } else { Ok(()) })
    }

    /// Writes down that everything is shipped, and what is to be told of it. Durable; only while the folder is ours.
    pub fn done(&mut self, told: &Value) -> io::Result<Beat> {
        let beat = self.beat()?;
        if beat == Beat::Ours {
            // First of all, so that it is found without reading the rest.
            let mut mark = serde_json::Map::from_iter([("run".to_owned(), json!(self.run))]);
            mark.extend(told.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
            self.write(DONE, &Value::Object(mark), true)?;
        }
        Ok(beat)
    }

    /// Takes away the mark of whoever has deposed this run: more may come than that one has seen.
    pub fn unmark(&self) -> io::Result<()> {
        match self.world.fs.remove(&self.dir.join(DONE)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => sync_dir(&self.world, &self.dir),
        }
    }
}

/// A network file system's client asks for the names in a folder when it has looked at it: until then it may open a file that
/// was replaced.
fn look_anew(world: &World, dir: &Path) -> io::Result<()> {
    match world.fs.stat(dir, false) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Which run a file names, and its beat; `None` when it says neither.
fn read_run(world: &World, dir: &Path, name: &str) -> io::Result<Option<(String, u64)>> {
    let bytes = match world.fs.read(&dir.join(name), MAX_ALIVE) {
        Ok(bytes) => bytes,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge) => return Ok(None),
        Err(e) => return Err(e),
    };
    Ok(run_of(&bytes))
}

fn run_of(bytes: &[u8]) -> Option<(String, u64)> {
    let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let run = value["run"].as_str().filter(|run| run.len() == RUN)?;
    Some((run.to_owned(), value["beat"].as_u64().unwrap_or(0)))
}

/// Whether the last claim was ended by whoever had it ([`Heart::release`]).
pub fn is_released(world: &World, dir: &Path) -> bool {
    let bytes = world.fs.read(&dir.join(ALIVE), MAX_ALIVE).unwrap_or_default();
    let released = serde_json::from_slice(&bytes).is_ok_and(|value: Value| value["released"] == true);
    released && run_of(&bytes).is_some_and(|(run, _)| has_claim(world, dir, &run))
}

/// Whether a name is of a file that a run makes before it has said who it is.
pub fn is_of_a_start(name: &str) -> bool {
    let draft = |of: &str| name.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    name == LOCK || draft(CLAIM) || draft(ALIVE) || draft(OWNER)
}

/// Whether a folder is marked as done, by the run whose it is.
pub fn is_done(world: &World, dir: &Path) -> bool {
    let path = dir.join(DONE);
    if !matches!(world.fs.stat(&path, false), Ok(meta) if meta.kind == FileKind::File) {
        return false;
    }
    match marked_by(world, &path) {
        Ok(Some(run)) => has_claim(world, dir, &run),
        // It was made before marks had one.
        Ok(None) => true,
        Err(_) => false,
    }
}

/// The run that a mark names, which may be long.
fn marked_by(world: &World, path: &Path) -> io::Result<Option<String>> {
    let file = world.fs.open(path, OpenHow::ReadNoFollow)?;
    let (mut begin, mut at) = ([0; MARK.len() + RUN], 0);
    while let Some(rest) = begin.get_mut(at..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at as u64)? {
            0 => break,
            n => at += n,
        }
    }
    Ok(begin.strip_prefix(MARK).and_then(|run| std::str::from_utf8(run).ok()).map(str::to_owned))
}

/// Whether a run has claimed the folder last, as far as that can be told.
fn has_claim(world: &World, dir: &Path, run: &str) -> bool {
    let claim = look_anew(world, dir).and_then(|()| read_run(world, dir, CLAIM));
    matches!(claim, Ok(Some((claimed, _))) if claimed == run)
}

/// What is to be seen of a folder's owner from outside. Two that differ: somebody works on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    alive: Option<(String, u64)>,
    /// Size, time and inode of the store's log: as they are, never compared with a clock.
    log: Option<(u64, i128, u64)>,
}

/// Looks at a folder's owner.
pub fn sight(world: &World, dir: &Path, registry: &Path) -> io::Result<Sighting> {
    look_anew(world, dir)?;
    let log = match world.fs.stat(&dir.join(registry).join(STORE).join(LOG), false) {
        Ok(meta) => Some((meta.len, meta.mtime_ns, meta.ino)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    Ok(Sighting { alive: read_run(world, dir, ALIVE)?, log })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test plays the pods")]
mod tests {
    use super::*;

    fn dir() -> (World, tempfile::TempDir) {
        (World::real(), tempfile::tempdir().unwrap())
    }

    #[test]
    fn an_owner_comes_back_as_it_was_written() {
        let (world, tmp) = dir();
        let env = |name: &str| match name {
            "POD_NAME" => Some("job-1".to_owned()),
            "NODE_NAME" => Some("${x}".to_owned()),
            _ => None,
        };
        let owner = Owner {
            view: "/logs".into(),
            host: "job-1".into(),
            env: variables(env),
            inputs: vec!["job".into()],
            heartbeat_ms: 10_000,
        };
        assert_eq!(owner.env.len(), 1, "what isn't a plain name isn't told");
        owner.write(&world, tmp.path()).unwrap();
        assert_eq!(Owner::read(&world, tmp.path()).unwrap(), owner);
        Owner { host: "(none)".into(), ..owner.clone() }.write(&world, tmp.path()).unwrap();
        assert_eq!(Owner::read(&world, tmp.path()).unwrap(), Owner { host: String::new(), ..owner });
    }

    #[test]
    fn what_an_owner_says_is_not_trusted() {
        let good = json!({"version": 1, "view": "/logs", "host": "a", "env": {"POD_NAME": "b", "LD_PRELOAD": "c"}});
        let read = Owner::parse(good.to_string().as_bytes()).unwrap();
        assert_eq!(read.env.keys().collect::<Vec<_>>(), ["POD_NAME"]);
        for (key, value) in [
            ("version", json!(2)),
            ("view", json!("logs")),
            ("view", json!("/logs/../etc")),
            ("view", json!(7)),
            ("view", json!("/".repeat(5000))),
            ("host", json!("a b")),
            ("host", json!("${PASSWORD}")),
            ("env", json!({"POD_NAME": "{a: b}"})),
            ("env", json!({"POD_NAME": "a\nb"})),
            ("env", json!({"POD_NAME": "x".repeat(254)})),
            ("env", json!({"POD_NAME": ".."})),
            ("host", json!("..")),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            assert!(Owner::parse(bad.to_string().as_bytes()).is_err(), "{bad}");
        }
        assert!(Owner::parse(b"[").is_err() && Owner::parse(b"").is_err());
        let (world, tmp) = dir();
        assert_eq!(Owner::read(&world, tmp.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(tmp.path().join(OWNER), " ".repeat(MAX_OWNER + 20_000)).unwrap();
        assert_eq!(Owner::read(&world, tmp.path()).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn who_was_deposed_learns_it_at_the_next_beat_and_marks_nothing() {
        let (world, tmp) = dir();
        let dir = tmp.path();
        let sight = || sight(&world, dir, Path::new("registry")).unwrap();
        let nobody = sight();
        let mut first = Heart::claim(&world, dir).unwrap();
        let claimed = sight();
        assert_ne!(nobody, claimed);
        assert_eq!(sight(), claimed, "looking changes nothing");
        assert_eq!(first.beat().unwrap(), Beat::Ours);
        assert_ne!(sight(), claimed);
        let mut second = Heart::claim(&world, dir).unwrap();
        assert_eq!(first.beat().unwrap(), Beat::Deposed);
        assert_eq!(first.done(&json!({})).unwrap(), Beat::Deposed);
        assert!(!is_done(&world, dir));
        assert_eq!(second.done(&json!({"verdict": "complete"})).unwrap(), Beat::Ours);
        assert!(is_done(&world, dir));
        assert!(!is_released(&world, dir));
        assert_eq!(second.release().unwrap(), Beat::Ours);
        assert!(is_released(&world, dir));
        assert_eq!(first.beat().unwrap(), Beat::Deposed, "who wakes up is deposed all the same");
        let _third = Heart::claim(&world, dir).unwrap();
        assert!(!is_released(&world, dir));
        assert_eq!(second.release().unwrap(), Beat::Deposed);
        assert!(!is_done(&world, dir), "who works on it again makes it undone first");
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 2, "nothing else is left behind");
    }

    #[test]
    fn who_was_paused_in_the_midst_of_a_beat_is_deposed_all_the_same() {
        let (world, tmp) = dir();
        let mut first = Heart::claim(&world, tmp.path()).unwrap();
        assert!(!first.is_deposed().unwrap());
        let mut second = Heart::claim(&world, tmp.path()).unwrap();
        // What the first was about to write when it was paused.
        first.move_on().unwrap();
        assert_eq!(second.beat().unwrap(), Beat::Ours);
        first.move_on().unwrap();
        assert_eq!(first.beat().unwrap(), Beat::Deposed);
    }

    #[test]
    fn a_claim_that_is_gone_or_broken_is_made_again() {
        let (world, tmp) = dir();
        let mut heart = Heart::claim(&world, tmp.path()).unwrap();
        for name in [ALIVE, CLAIM] {
            std::fs::remove_file(tmp.path().join(name)).unwrap();
            assert_eq!(heart.beat().unwrap(), Beat::Ours);
            for broken in ["", "{}", "{\"run\":5}", "{\"run\":\"x\",\"beat\":-1}", &"x".repeat(20_000)] {
                std::fs::write(tmp.path().join(name), broken).unwrap();
                assert_eq!(heart.beat().unwrap(), Beat::Ours, "{name}: {broken:.20}");
            }
        }
        let _second = Heart::claim(&world, tmp.path()).unwrap();
        std::fs::remove_file(tmp.path().join(CLAIM)).unwrap();
        assert_eq!(heart.beat().unwrap(), Beat::Deposed, "another one beats here");
    }
}
