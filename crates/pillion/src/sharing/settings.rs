//! `pillion.shards`: which files are shared, and by what the replicas agree.
//!
//! Comes in: the configuration. Goes out: [`Sharing`], or what is wrong with it. Always holds: what is accepted here can
//! be used as it stands: names that are names everywhere, times by which a dead replica can be told from a slow one.
//! Documented in docs/configuration.md. Tested below.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use pillion_config::{Error, Section};

/// Shards, unless `pillion.shards.count` says otherwise.
const COUNT: u16 = 64;
/// As many as a table on the board may have.
const COUNTS: RangeInclusive<u64> = 1..=1024;
/// How long a sign of life must stand still, unless `pillion.shards.lease` says otherwise.
const LEASE: Duration = Duration::from_secs(15);
/// Less, and a slow answer looks like a death; more, and nobody ships a dead replica's files for too long.
const LEASES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
/// How long nothing of a sidecar must have moved, unless `pillion.shards.grace` says otherwise: as a sweep has it.
const GRACE: Duration = crate::sweep::GRACE;
/// What the replicas are called together, unless `pillion.shards.group` says otherwise.
const GROUP: &str = "pillion";
/// The longest name of a group: a member's name comes behind it.
const GROUP_LENGTH: usize = 40;
/// Kubernetes' longest label: <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>.
const LABEL_LENGTH: usize = 63;

/// `pillion.shards`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// `root`: the shared folder, as it is mounted here. Absolute. Paths beneath it are the same in all replicas.
    pub root: PathBuf,
    /// `count`: into how many shards the files are divided, 1 to 1024; the same in all replicas, for ever.
    pub count: u16,
    /// `lease`: how long a replica's sign of life must stand still until others take its shards. 1 s to 10 min.
    pub lease: Duration,
    /// `grace`: how long nothing of a sidecar with a registry beside its logs must have moved until its files are taken. 0 is
    /// for file systems with working locks alone.
    pub grace: Duration,
    /// `board`: by what the replicas agree.
    pub board: Board,
}

/// Where it is written who has which shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Board {
    /// Leases of `coordination.k8s.io`.
    Kubernetes {
        /// `namespace`; `None` = the pod's own.
        namespace: Option<String>,
        /// `group`: the name of the table's Lease, and the first part of the replicas'. A DNS label of at most 40 bytes.
        group: String,
    },
    /// Files beneath the root, on a file system with working locks.
    Files,
    /// Nobody has to agree: each of a fixed number of replicas has its part for ever.
    Static {
        /// Which part this one has: 1 to `of`.
        index: u16,
        /// How many parts there are, at most as many as shards.
        of: u16,
    },
}

impl Sharing {
    /// Reads `pillion.shards`; `None` when it isn't there.
    ///
    /// # Errors
    /// What can't be used, with its place and the remedy.
    pub fn from_root(root: &Section<'_>) -> Result<Option<Sharing>, Error> {
        let Some(shards) = root.section("pillion.shards")? else { return Ok(None) };
        let folder = shards.str("root")?.filter(|path| !path.is_empty()).ok_or_else(|| {
            let remedy = "name the folder that all replicas see, such as `root: /logs`";
            shards.error("root", "which files the replicas share isn't said", remedy)
        })?;
        if !folder.starts_with('/') {
            return Err(shards.error("root", "it isn't an absolute path", "begin it with `/`, such as /logs"));
        }
        let count = shards.u64_in("count", COUNTS)?.and_then(|n| u16::try_from(n).ok()).unwrap_or(COUNT);
        let lease = shards.duration("lease")?.unwrap_or(LEASE);
        if !LEASES.contains(&lease) {
            let reason = "within that time a dead replica can't be told from a slow one, or is missed for too long";
            return Err(shards.error("lease", reason, "use 1s to 10m; 15s is a good choice"));
        }
        let grace = shards.duration("grace")?.unwrap_or(GRACE);
        let board = board(&shards, count)?;
        if root.str("pillion.registry.beside_logs")?.is_some_and(|on| !on.is_empty() && on != "false") {
            let reason = "replicas keep their registries beneath `pillion.shards.root`";
            return Err(root.error("pillion.registry.beside_logs", reason, "remove this option"));
        }
        Ok(Some(Sharing { root: PathBuf::from(folder), count, lease, grace, board }))
    }
}

fn board(shards: &Section<'_>, count: u16) -> Result<Board, Error> {
    let index = shards.str("index")?.filter(|part| !part.is_empty());
    let group = name(shards, "group", GROUP_LENGTH)?;
    let namespace = name(shards, "namespace", LABEL_LENGTH)?;
    let kind = shards.choice("board", &["kubernetes", "files", "static"])?;
    if let Some(other) = kind.filter(|kind| *kind != "static" && index.is_some()) {
        let reason = format!("a fixed part isn't for `board: {other}`, where the replicas agree on their parts");
        return Err(shards.error("index", reason, "remove one of the two"));
    }
    match (kind, index) {
        (Some("kubernetes"), _) => {
            Ok(Board::Kubernetes { namespace, group: group.unwrap_or_else(|| GROUP.to_owned()) })
        }
        (Some("files"), _) => Ok(Board::Files),
        (_, Some(text)) => part(&text, count).ok_or_else(|| {
            let reason = format!("{} isn't a part of the {count} shards", shards.shown("index"));
            shards.error("index", reason, format!("write `2/4` for the second of four replicas; at most {count}"))
        }),
        (Some(_), None) => {
            let remedy = "write `index: 1/4`, or start with `--shard 1/4`, for the first of four replicas";
            Err(shards.error("index", "which part this replica has isn't said", remedy))
        }
        (None, None) => {
            let remedy = "write `board: kubernetes` in a cluster, `files` where the shared file system has working locks, \
                          or give each replica a fixed part with `--shard 1/4`";
            Err(shards.error("board", "by what the replicas agree isn't said", remedy))
        }
    }
}

/// `I/N`.
fn part(text: &str, count: u16) -> Option<Board> {
    let (index, of) = text.split_once('/')?;
    let (index, of) = (index.trim().parse().ok()?, of.trim().parse().ok()?);
    ((1..=count).contains(&of) && (1..=of).contains(&index)).then_some(Board::Static { index, of })
}

/// A DNS label of RFC 1123.
fn name(shards: &Section<'_>, key: &str, longest: usize) -> Result<Option<String>, Error> {
    let Some(name) = shards.str(key)?.filter(|name| !name.is_empty()) else { return Ok(None) };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.len() > longest || !name.chars().all(plain) || name.starts_with('-') || name.ends_with('-') {
        let reason = format!("{} can't be a name in Kubernetes", shards.shown(key));
        let remedy = format!("use at most {longest} small letters, digits and `-`, with neither end a `-`");
        return Err(shards.error(key, reason, remedy));
    }
    Ok(Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pillion_config::Config;

    fn read(yaml: &str) -> Result<Option<Sharing>, Error> {
        Sharing::from_root(&Config::from_yaml(yaml)?.root())
    }

    fn shards(yaml: &str) -> Result<Sharing, Error> {
        read(&format!("pillion.shards: {{{yaml}}}")).map(|sharing| sharing.expect("it is there"))
    }

    #[test]
    fn nothing_is_shared_by_default() {
        assert_eq!(read("filebeat.inputs: []").unwrap(), None);
    }

    #[test]
    fn boards_and_their_settings() {
        let kubernetes = |namespace: Option<&str>, group: &str| Board::Kubernetes {
            namespace: namespace.map(str::to_owned),
            group: group.to_owned(),
        };
        for (yaml, board) in [
            ("board: kubernetes", kubernetes(None, "pillion")),
            ("board: kubernetes, namespace: logging, group: eu-1", kubernetes(Some("logging"), "eu-1")),
            ("board: files", Board::Files),
            ("board: static, index: 2/4", Board::Static { index: 2, of: 4 }),
            ("index: 64/64", Board::Static { index: 64, of: 64 }),
            ("index: 1/1", Board::Static { index: 1, of: 1 }),
        ] {
            let got = shards(&format!("root: /logs, {yaml}")).unwrap();
            let (lease, grace) = (Duration::from_secs(15), Duration::from_secs(60));
            let want = Sharing { root: "/logs".into(), count: 64, lease, grace, board };
            assert_eq!(got, want, "{yaml}");
        }
        let all = shards("root: /logs, count: 1024, lease: 1s, index: 1024/1024").unwrap();
        assert_eq!((all.count, all.lease), (1024, Duration::from_secs(1)));
    }

    #[test]
    fn what_cant_be_used_is_refused_with_its_place_and_a_remedy() {
        for (yaml, key, remedy) in [
            ("board: files", "root", "root: /logs"),
            ("root: logs, board: files", "root", "begin it with"),
            ("root: /logs", "board", "board: kubernetes"),
            ("root: /logs, board: file", "board", "did you mean `files`"),
            ("root: /logs, board: static", "index", "--shard 1/4"),
            ("root: /logs, board: files, index: 1/2", "index", "remove one"),
            ("root: /logs, index: 0/4", "index", "2/4"),
            ("root: /logs, index: 5/4", "index", "2/4"),
            ("root: /logs, index: 3", "index", "2/4"),
            ("root: /logs, index: 1/65", "index", "at most 64"),
            ("root: /logs, board: files, count: 0", "count", "1 to 1024"),
            ("root: /logs, board: files, count: 1025", "count", "1 to 1024"),
            ("root: /logs, board: files, lease: 0", "lease", "1s to 10m"),
            ("root: /logs, board: files, lease: 1h", "lease", "1s to 10m"),
            ("root: /logs, board: kubernetes, group: Mine", "group", "small letters"),
            ("root: /logs, board: kubernetes, group: -x", "group", "small letters"),
            ("root: /logs, board: kubernetes, namespace: a/b", "namespace", "small letters"),
        ] {
            let error = shards(yaml).unwrap_err().to_string();
            assert!(error.contains(&format!("pillion.shards.{key}")) && error.contains(remedy), "{yaml}: {error}");
        }
        let both = "pillion: {shards: {root: /logs, board: files}, registry.beside_logs: true}";
        assert!(read(both).unwrap_err().to_string().contains("pillion.registry.beside_logs"));
        assert!(read("pillion.shards: 4").is_err());
    }
}
