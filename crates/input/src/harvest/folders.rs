//! What is known of the folders in which files are looked for.
//!
//! Comes in: a folder's path. Goes out: on which kind of file system it lies, and whether anything in it is read at all.
//! Always holds: a local folder that was met is shown to the watcher; a folder that can't be asked for is taken for one on a
//! network. Tested with the searches.

use std::path::{Path, PathBuf};

use pillion_world::FsKind;

use crate::harvest::Harvester;

/// A folder, as far as the harvester has to know it.
pub(crate) struct Folder {
    pub(crate) network: bool,
    /// On a file system whose descriptors may not follow files ([`FsKind::Userspace`]).
    pub(crate) userspace: bool,
    /// Nothing in it is read: Pillion writes there.
    pub(crate) own: bool,
    /// A watch tells what happens in it.
    pub(crate) watched: bool,
    /// The path without links.
    pub(crate) real: PathBuf,
    /// How often it was listed.
    pub(crate) seen: u32,
    /// Its device and inode when it was listed last: another folder at its path has no watch.
    pub(crate) inode: (u64, u64),
}

impl Harvester {
    /// What is known of a folder; looked up once for each search.
    pub(crate) fn folder(&mut self, dir: &Path) -> &Folder {
        if !self.folders.contains_key(dir) {
            self.at.set(dir);
            // What can't be asked for is taken for the worst but one: descriptors follow files on most.
            let kind = self.world.fs.kind(dir).unwrap_or(FsKind::Network);
            let (network, userspace) = (kind.is_network(), kind == FsKind::Userspace);
            let real = self.world.fs.canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
            let own = self.own.dirs.iter().any(|d| real.starts_with(d));
            if !network && !own {
                self.unwatched.push(dir.to_owned());
            }
            self.folders.insert(
                dir.to_owned(),
                Folder { network, userspace, own, watched: false, real, seen: 0, inode: (0, 0) },
            );
        }
        // It was just put there; a folder that nothing is known of would be one on a network.
        self.folders.entry(dir.to_owned()).or_insert_with(|| Folder {
            network: true,
            userspace: false,
            own: false,
            watched: false,
            real: dir.to_owned(),
            seen: 0,
            inode: (0, 0),
        })
    }
}
