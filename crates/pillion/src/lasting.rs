//! What becomes of the data path when this run's container ends.
//!
//! Comes in: a folder. Goes out: whether a later run finds again what is in it.
//! Always holds: where it can't be told, it is taken for lasting, and nothing is warned of.
//! Tested below, and in containers by `cargo xtask e2e image`.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statfs, statx};

const OVERLAYFS: u32 = 0x794c_7630;
const TMPFS: u32 = 0x0102_1994;

/// What becomes of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// It is there for the next run, as far as can be told from here.
    Yes,
    /// It lies in memory.
    InMemory,
    /// It lies in the container's own layer, which a restart of the container empties.
    OwnLayer,
}

/// Looks at a folder that is there.
pub(crate) fn lasting(path: &Path) -> Lasting {
    let kind = statfs(path).map_or(0, |s| s.f_type as u32);
    let with_root = matches!((mount(path), mount(Path::new("/"))), (Some(a), Some(b)) if a == b);
    judge(kind, with_root, in_container())
}

/// `with_root`: no volume is mounted there or above, so that it lies where the root does.
fn judge(kind: u32, with_root: bool, in_container: bool) -> Lasting {
    match kind {
        TMPFS => Lasting::InMemory,
        // Other snapshots than overlayfs look like a disk: then a sign of a container decides.
        _ if with_root && (kind == OVERLAYFS || in_container) => Lasting::OwnLayer,
        _ => Lasting::Yes,
    }
}

/// Which mount a path belongs to; before Linux 5.8, which device.
fn mount(path: &Path) -> Option<(bool, u64)> {
    let is = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    let told = is.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    let device = u64::from(is.stx_dev_major) << 32 | u64::from(is.stx_dev_minor);
    Some((told, if told { is.stx_mnt_id } else { device }))
}

/// Kubernetes sets the variable in every container; docker and podman leave a file.
fn in_container() -> bool {
    crate::work::in_kubernetes() || ["/.dockerenv", "/run/.containerenv"].iter().any(|file| Path::new(file).exists())
}

/// Says where what was delivered would be forgotten.
pub(crate) fn warn_of_place(data: &Path) {
    if lasting(data) == Lasting::OwnLayer {
        tracing::warn!(
            path = %data.display(),
            "path.data lies in the container's own layer: when the container restarts, it is gone, and everything is \
             sent again; mount a volume there (an emptyDir outlives a container's restart)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_own_layer_is_told_from_volumes() {
        const EXT4: u32 = 0xef53;
        for (kind, with_root, in_container, want) in [
            (OVERLAYFS, true, true, Lasting::OwnLayer),
            (OVERLAYFS, true, false, Lasting::OwnLayer),
            // An emptyDir of a node that is a container itself.
            (OVERLAYFS, false, true, Lasting::Yes),
            (EXT4, true, true, Lasting::OwnLayer),
            (EXT4, true, false, Lasting::Yes),
            (EXT4, false, true, Lasting::Yes),
            (TMPFS, false, true, Lasting::InMemory),
        ] {
            assert_eq!(judge(kind, with_root, in_container), want, "{kind:x} {with_root} {in_container}");
        }
    }

    #[test]
    fn mounts_are_told_apart() {
        assert_ne!(mount(Path::new("/proc")), mount(Path::new("/")));
        assert_eq!(mount(Path::new("/")), mount(Path::new("/.")));
        assert_eq!(mount(Path::new("/no/such/folder")), None);
        assert_eq!(lasting(Path::new("/no/such/folder")), Lasting::Yes);
    }
}
