//! One folder that many pods share, as on a network file system.
//!
//! Comes in: the node, a name. Goes out: the folder, mounted twice: for those that write and for those that read; volumes of
//! it.
//! Always holds: both mounts are FUSE (`bindfs`) over one folder of the node, so that `statfs` says what it says on a network:
//! no inotify, changes are found by looking. The readers' mount caches names and attributes for [`CACHED`], as NFS and
//! GlusterFS clients do. Mounts and daemons are in the node's namespaces and end with it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::child::Child;
use crate::kubernetes::api;
use crate::kubernetes::node::Node;
use crate::{Outcome, wait};

/// How long names and attributes are cached on the readers' mount, in seconds.
const CACHED: u32 = 3;
const LIMIT: Duration = Duration::from_secs(20);

/// Through which mount a pod sees the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// As those that write.
    Writers,
    /// As those that read: another client with caches of its own.
    Readers,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Writers => "writers",
            Side::Readers => "readers",
        }
    }
}

/// The folder.
pub(super) struct Folder {
    place: PathBuf,
    _daemons: Vec<Child>,
}

impl Folder {
    /// Makes an empty one and mounts it.
    pub(super) fn mount(node: &Node, name: &str) -> Outcome<Folder> {
        let place = node.folder("shared").join(name);
        for part in ["server", Side::Writers.name(), Side::Readers.name()] {
            let path = place.join(part);
            fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        open(&place.join("server"))?;
        let mut daemons = Vec::new();
        for (side, seconds) in [(Side::Writers, 1), (Side::Readers, CACHED)] {
            let at = place.join(side.name());
            let mut bindfs = node.inside("bindfs")?;
            bindfs.args(["-f", "-o", &format!("attr_timeout={seconds},entry_timeout={seconds}")]);
            bindfs.arg(place.join("server")).arg(&at);
            let log = node.folder("logs").join(format!("{name}-{}.log", side.name()));
            daemons.push(Child::start(&mut bindfs, &log)?);
            wait::until("the shared folder to be mounted", LIMIT, || Ok(node.has_mounted(&at).then_some(())))?;
        }
        Ok(Folder { place, _daemons: daemons })
    }

    /// The folder itself, without any mount: what a server has.
    pub(super) fn server(&self) -> PathBuf {
        self.place.join("server")
    }

    /// Makes a volume of it and claims that as `logs`.
    pub(super) fn claim(&self, namespace: &str, side: Side) -> Outcome {
        let (name, capacity) = (format!("{namespace}-logs"), json!({"storage": "100Gi"}));
        let path = self.place.join(side.name());
        volume(&name, &path, &capacity)?;
        let spec = json!({
            "accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": name,
            "resources": {"requests": capacity},
        });
        let claim =
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "logs"}, "spec": spec});
        api::create(namespace, &claim).map(drop)
    }
}

fn volume(name: &str, path: &Path, capacity: &Value) -> Outcome {
    let spec = json!({
        "capacity": capacity, "accessModes": ["ReadWriteMany"], "storageClassName": "",
        "hostPath": {"path": path, "type": "Directory"},
    });
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec});
    api::create("", &volume).map(drop)
}

/// Lets everybody write there: pods have users of their own.
fn open(path: &Path) -> Outcome {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).map_err(|e| format!("{}: {e}", path.display()))
}
