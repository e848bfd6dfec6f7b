//! What is known of the folders in which files are looked for.
//!
//! Comes in: a folder's path. Goes out: on which kind of file system it lies, and whether anything in it is read at all.
//! Always holds: a local folder that was met is shown to the watcher; a folder that can't be asked for is taken for one on a
//! network. Tested with the searches.

use std::path::{Path, PathBuf};

use pillion_world::{FsKind, Mono};

use crate::harvest::live::Life;
use crate::harvest::{Harvester, Input};

/// So many folders that are gone aren't worth the work.
const SPARE: usize = 64;

/// A folder, as far as the harvester has to know it.
pub(crate) struct Folder {
    pub(crate) network: bool,
    /// On a file system whose descriptors may not follow files ([`FsKind::Userspace`]).
    pub(crate) userspace: bool,
    /// Nothing in it is read: Pillion writes there.
    pub(crate) own: bool,
    /// A file that is read was found in it.
    pub(crate) held: bool,
    /// A watch tells what happens in it.
    pub(crate) watched: bool,
    /// The path without links.
    pub(crate) real: PathBuf,
    /// How often it was listed.
    pub(crate) seen: u32,
    /// When it was met, or listed last.
    pub(crate) at: Mono,
    /// By which input.
    pub(crate) by: Option<u16>,
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
            let at = self.world.clock.mono();
            self.folders.insert(
                dir.to_owned(),
                Folder {
                    network,
                    userspace,
                    own,
                    held: false,
                    watched: false,
                    real,
                    seen: 0,
                    at,
                    by: None,
                    inode: (0, 0),
                },
            );
        }
        // It was just put there; a folder that nothing is known of would be one on a network.
        self.folders.entry(dir.to_owned()).or_insert_with(|| Folder {
            network: true,
            userspace: false,
            own: false,
            held: false,
            watched: false,
            real: dir.to_owned(),
            seen: 0,
            at: Mono(0),
            by: None,
            inode: (0, 0),
        })
    }

    /// Folders in which no input looks any more, by its patterns.
    pub(crate) fn forget_folders(&mut self) {
        let roots: Vec<_> = self.inputs.iter().flat_map(|i| i.spec.paths.iter().map(|g| g.root())).collect();
        self.folders.retain(|dir, _| roots.iter().any(|root| dir.starts_with(root) || root.starts_with(dir)));
    }

    /// After a search: once half of the folders may be gone, those that no whole search has listed since of the input that did
    /// last; where that one has gone, of any. What is forgotten and there is met again. Until an input has searched twice there
    /// are no more than its first search met, and what came to watched folders, each of which made it search again.
    pub(crate) fn forget_gone_folders(&mut self) {
        if self.folders.len() < self.folders_kept * 2 + SPARE {
            return;
        }
        let reads = |i: &&Input| matches!(i.life, Life::Reading | Life::Ending);
        let inputs = &self.inputs;
        let any = inputs.iter().filter(reads).map(|i| i.tour.begun_before()).min().unwrap_or_default();
        let since = |by: Option<u16>| {
            let input = by.and_then(|by| inputs.get(usize::from(by))).filter(reads);
            input.map_or(any, |i| i.tour.begun_before())
        };
        self.folders.retain(|_, f| f.at >= since(f.by));
        self.folders_kept = self.folders.len();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use pillion_event::{InputDesc, InputKind};
    use pillion_registry::{Options, Registry};
    use pillion_world::World;

    use super::*;
    use crate::parse::{Chain, ChainOptions};
    use crate::{Budget, Glob, InputSpec, Limits, Own};

    #[test]
    fn folders_that_come_and_go_are_forgotten_and_those_that_stay_are_not() {
        let (tmp, world) = (tempfile::tempdir().unwrap(), World::real());
        let (registry, _) = Registry::open(&world, &tmp.path().join("data"), &Options::default()).unwrap();
        let chain = Arc::new(Chain::new(ChainOptions::default()));
        let spec = |pattern: &str, every_ms| {
            let glob = Glob::new(tmp.path().join(pattern).as_os_str(), true).unwrap();
            let desc = Arc::new(InputDesc::bare(InputKind::Log, ""));
            let mut spec = InputSpec::new(desc, Arc::clone(&chain), vec![glob]);
            spec.scan_every = Duration::from_millis(every_ms);
            spec
        };
        // The other input's second search never comes: it keeps nothing of this one's folders.
        let specs = vec![spec("pods/*/*.log", 1), spec("stays/*.log", 3_600_000)];
        for dir in ["pods/stays", "stays"] {
            std::fs::create_dir_all(tmp.path().join(dir)).unwrap();
        }
        let registry = Arc::new(registry);
        let own = Own::default();
        let mut harvester = Harvester::new(world, registry, specs, &own, Limits::default(), &Arc::default());
        let mut most = 0;
        for n in 0..300 {
            let pod = tmp.path().join(format!("pods/{n}"));
            std::fs::create_dir(&pod).unwrap();
            let tours = harvester.inputs[0].tours;
            while harvester.inputs[0].tours < tours + 2 {
                harvester.step(Budget::UNLIMITED);
            }
            std::fs::remove_dir(&pod).unwrap();
            most = most.max(harvester.folders.len());
        }
        assert!(most < 3 * SPARE, "{most}");
        for dir in ["pods", "pods/stays", "stays"] {
            assert!(harvester.folders.contains_key(&tmp.path().join(dir)), "{dir}");
        }
    }
}
