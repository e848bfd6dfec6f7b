//! Which mount a path lies on, without asking the mount.
//!
//! Comes in: `/proc/self/mountinfo` (proc(5)), and the links on the way to a path. Goes out: the path's mount, and whether
//! a call into it can hang because another machine doesn't answer.
//!
//! Always holds: nothing on a network mount is asked for anything, not even its root: only links that lie on local ones
//! are read. Where the table can't be read, everything is local, as in a world without mounts. A mount that comes later
//! isn't known: its files belong to whoever reads the folder that it is on.
//!
//! Tested below.

pub(crate) mod divide;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use pillion_world::World;

/// Where the kernel tells about mounts.
const TABLE: &str = "/proc/self/mountinfo";
/// A longer table isn't read: a node of Kubernetes with thousands of mounts has less than 1 MiB.
const MAX_TABLE: usize = 8 << 20;
/// Links on the way to a path, as the kernel has it (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// File systems whose calls wait for somebody else: another machine, or a process of this one (FUSE).
const NETWORK: [&str; 27] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "fuse",
    "fuseblk",
    "9p",
    "virtiofs",
    "ceph",
    "lustre",
    "gpfs",
    "afs",
    "kafs",
    "coda",
    "vboxsf",
    "ocfs2",
    "gfs2",
    "glusterfs",
    "beegfs",
    "pvfs2",
    "panfs",
    "ncpfs",
    "vmhgfs",
    "prl_fs",
    "acfs",
    "autofs",
];

/// A mount, as far as readers have to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    id: u64,
    parent: u64,
    point: PathBuf,
    /// `major:minor`: what mounts of one file system have in common.
    device: Arc<str>,
    network: bool,
}

/// The mounts of this process.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    all: Vec<Mount>,
}

/// What a path lies on: the device of a network file system, or any local one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum On {
    Local,
    Network(Arc<str>),
}

/// A path without the links that lead to it, as far as they lie on local file systems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) path: PathBuf,
    pub(crate) on: On,
    /// The first network file system on the way there, which can hang too; else what it lies on.
    pub(crate) through: On,
}

impl Mounts {
    /// The mounts as they are now.
    pub fn read(world: &World) -> Mounts {
        Mounts::parse(&world.fs.read(Path::new(TABLE), MAX_TABLE).unwrap_or_default())
    }

    /// Reads a table. A line that isn't one is left out.
    pub(crate) fn parse(table: &[u8]) -> Mounts {
        Mounts { all: table.split(|b| *b == b'\n').filter_map(mount).collect() }
    }

    /// Whether there is any mount that can hang.
    pub(crate) fn any_network(&self) -> bool {
        self.all.iter().any(|m| m.network)
    }

    /// Where a path lies. It needn't be there.
    pub(crate) fn place(&self, world: &World, path: &Path) -> Placed {
        let mut at = PathBuf::from("/");
        let mut rest: Vec<OsString> = Vec::new();
        push_parts(&mut rest, path);
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let through = self.on(&next);
            if through != On::Local {
                let path = rest.iter().rev().fold(next, |path, name| path.join(name));
                return Placed { on: self.on(&path), path, through };
            }
            match world.fs.read_link(&next) {
                Ok(target) if links < MAX_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    push_parts(&mut rest, &target);
                }
                _ => at = next,
            }
        }
        Placed { on: On::Local, path: at, through: On::Local }
    }

    /// What a path without links lies on: from the root, the mounts that cover each other, one after the other.
    fn on(&self, path: &Path) -> On {
        let is_root =
            |m: &&Mount| m.point == Path::new("/") && !self.all.iter().any(|p| p.id == m.parent && p.id != m.id);
        let Some(mut on) = self.all.iter().find(is_root) else { return On::Local };
        let mut prefix = PathBuf::new();
        for part in path.components() {
            prefix.push(part);
            let covers = |on: &Mount, m: &&Mount| m.parent == on.id && m.id != on.id && m.point == prefix;
            while let Some(above) = self.all.iter().find(|m| covers(on, m)) {
                on = above;
            }
        }
        on.to_on()
    }

    /// What is mounted below a folder, up to `depth` folders deep.
    fn below(&self, folder: &Path, depth: usize) -> impl Iterator<Item = On> {
        let is_below = move |m: &&Mount| {
            m.point.strip_prefix(folder).is_ok_and(|rest| (1..=depth).contains(&rest.components().count()))
        };
        self.all.iter().filter(is_below).map(Mount::to_on)
    }

    /// Where network file systems are mounted, but for these.
    pub(crate) fn points_without(&self, these: &[On]) -> Vec<PathBuf> {
        let foreign = |m: &&Mount| m.network && !these.contains(&m.to_on());
        self.all.iter().filter(foreign).map(|m| m.point.clone()).collect()
    }

    /// Where these are mounted.
    pub(crate) fn points_of(&self, these: &[On]) -> Vec<PathBuf> {
        self.all.iter().filter(|m| these.contains(&m.to_on())).map(|m| m.point.clone()).collect()
    }
}

impl Mount {
    fn to_on(&self) -> On {
        if self.network { On::Network(Arc::clone(&self.device)) } else { On::Local }
    }
}

/// Puts the parts of a path before what is still to be walked; the next one is the last.
fn push_parts(rest: &mut Vec<OsString>, path: &Path) {
    let parts: Vec<OsString> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect();
    rest.extend(parts.into_iter().rev());
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue` (proc(5)).
fn mount(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|b| *b == b' ');
    let mut text = || words.next().and_then(|word| std::str::from_utf8(word).ok());
    let (id, parent, device) = (text()?.parse().ok()?, text()?.parse().ok()?, text()?.into());
    words.next()?;
    let point = unescaped(words.next()?);
    words.find(|word| *word == b"-")?;
    let kind = std::str::from_utf8(words.next()?).ok()?;
    // `fuse.sshfs`, `fuse.glusterfs`, …
    let network = NETWORK.contains(&kind) || kind.starts_with("fuse.");
    Some(Mount { id, parent, point, device, network })
}

/// A mount point as the table has it: blanks, tabs, line ends and backslashes as three octal digits.
fn unescaped(word: &[u8]) -> PathBuf {
    let (mut out, mut rest) = (Vec::with_capacity(word.len()), word);
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:20 / /proc rw - proc proc rw
24 22 0:25 / /data rw shared:2 master:1 - nfs4 10.0.0.1:/ rw,vers=4.1
25 22 0:26 / /mnt/b\\040c rw - fuse.sshfs me@there: rw
26 22 0:25 /jobs /mnt/jobs rw - nfs4 10.0.0.1:/jobs rw
27 22 0:30 / /mnt/over rw - nfs 10.0.0.2:/ rw
28 27 0:31 / /mnt/over rw - tmpfs tmpfs rw
not a line
29 24 0:32 / /data/local rw - tmpfs tmpfs rw
";

    fn on(path: &str) -> Option<String> {
        match Mounts::parse(MOUNTS.as_bytes()).on(Path::new(path)) {
            On::Local => None,
            On::Network(device) => Some(device.to_string()),
        }
    }

    #[test]
    fn a_path_lies_on_the_last_mount_that_covers_it() {
        let mounts = Mounts::parse(MOUNTS.as_bytes());
        assert!(mounts.any_network() && mounts.all.len() == 8);
        for (path, device) in [
            ("/", None),
            ("/data", Some("0:25")),
            ("/data/a/b", Some("0:25")),
            ("/database", None),
            ("/mnt/jobs/x", Some("0:25")),
            ("/mnt/b c/x", Some("0:26")),
            ("/mnt/over/x", None),
            ("/data/local/x", None),
        ] {
            assert_eq!(on(path).as_deref(), device, "{path}");
        }
        assert!(!Mounts::default().any_network());
        assert_eq!(Mounts::default().on(Path::new("/data")), On::Local);
        let below: Vec<_> = mounts.below(Path::new("/mnt"), 1).filter(|on| *on != On::Local).collect();
        assert_eq!(below.len(), 3);
        assert_eq!(mounts.below(Path::new("/"), 1).filter(|on| *on != On::Local).count(), 1);
    }

    #[test]
    fn links_are_followed_up_to_a_network_mount() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path();
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, dir.join(name)).unwrap();
        link("/data/pods", "far");
        link("far", "further");
        link("circle", "circle");
        let (mounts, world) = (Mounts::parse(MOUNTS.as_bytes()), World::real());
        let on = On::Network("0:25".into());
        let far = Placed { path: "/data/pods/x/a.log".into(), through: on.clone(), on: on.clone() };
        for path in ["far/x/a.log", "further/x/a.log", "none/../far/x/a.log"] {
            assert_eq!(mounts.place(&world, &dir.join(path)), far, "{path}");
        }
        assert_eq!(mounts.place(&world, &dir.join("circle/a")).on, On::Local);
        assert_eq!(
            mounts.place(&world, Path::new("/data/local/x")),
            Placed { path: "/data/local/x".into(), on: On::Local, through: on }
        );
        assert_eq!(mounts.place(&world, Path::new("/mnt/../data/./x")).path, Path::new("/data/x"));
    }

    #[test]
    fn this_machine_has_a_root() {
        let mounts = Mounts::read(&World::real());
        assert_eq!(mounts.on(Path::new("/proc/self")), On::Local);
        assert!(mounts.all.iter().any(|m| m.point == Path::new("/")));
    }
}
