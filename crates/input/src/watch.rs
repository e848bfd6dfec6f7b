//! inotify: the kernel's word that something changed in a folder.
//!
//! Comes in: folders. Goes out: [`Hint`]s. Always holds: a hint that doesn't come costs only time, since the search
//! finds what it would have told; when there are no instances or watches left, that is said once, and files are looked
//! at by time. A folder has one watch, however many paths lead to it (links, bind mounts): what happens in it is told under each.
//!
//! Tested below and in `tests/thread.rs`.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

use crate::harvest::Hint;

/// What the kernel tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Hint(Hint),
    /// The watch on this folder has ended.
    Ended(PathBuf),
}

/// The watched folders.
pub(crate) struct Watches {
    inotify: Option<Inotify>,
    /// The paths that lead to each.
    folders: HashMap<WatchDescriptor, Vec<PathBuf>>,
    /// The watch that each path has.
    paths: HashMap<PathBuf, WatchDescriptor>,
    buffer: Vec<u8>,
    said: bool,
}

/// Room for events of one call: at least one with the longest name fits.
const BUFFER: usize = 16 * 1024;

impl Watches {
    /// `wanted`: false = never watch.
    pub(crate) fn new(wanted: bool) -> Watches {
        let (folders, paths) = (HashMap::new(), HashMap::new());
        let mut watches = Watches { inotify: None, folders, paths, buffer: Vec::new(), said: !wanted };
        if wanted {
            match Inotify::init() {
                Ok(inotify) => {
                    watches.inotify = Some(inotify);
                    watches.buffer = vec![0; BUFFER];
                }
                Err(e) => watches.say(&e),
            }
        }
        watches
    }

    fn say(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.said, true) {
            tracing::warn!(
                %error,
                "inotify has nothing left (fs.inotify.max_user_instances, max_user_watches): files are looked at by time"
            );
        }
    }

    /// Begins to watch a folder; false = not possible.
    pub(crate) fn add(&mut self, folder: &Path) -> bool {
        let mask = WatchMask::CREATE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::MODIFY
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::EXCL_UNLINK
            | WatchMask::ONLYDIR;
        let Some(inotify) = &self.inotify else { return false };
        match inotify.watches().add(folder, mask) {
            Ok(wd) => {
                self.leads_to(folder, wd);
                true
            }
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => false,
            Err(e) => {
                self.say(&e);
                false
            }
        }
    }

    /// A path leads to what has this watch now, and to nothing else.
    fn leads_to(&mut self, path: &Path, wd: WatchDescriptor) {
        match self.paths.insert(path.to_owned(), wd.clone()) {
            Some(old) if old == wd => return,
            Some(old) => self.leads_no_more(path, &old),
            None => {}
        }
        self.folders.entry(wd).or_default().push(path.to_owned());
    }

    fn leads_no_more(&mut self, path: &Path, wd: &WatchDescriptor) {
        let Some(paths) = self.folders.get_mut(wd) else { return };
        paths.retain(|other| other != path);
        if paths.is_empty() {
            self.folders.remove(wd);
            // It may have gone with its folder.
            self.inotify.iter().for_each(|inotify| drop(inotify.watches().remove(wd.clone())));
        }
    }

    /// A watch has ended, or its folder has another path: which of its paths still lead to a folder is asked anew, since one
    /// path's end isn't the others'.
    fn ended(&mut self, wd: &WatchDescriptor, tell: &mut impl FnMut(Told)) {
        let Some(paths) = self.folders.remove(wd) else { return };
        self.inotify.iter().for_each(|inotify| drop(inotify.watches().remove(wd.clone())));
        paths.iter().for_each(|path| drop(self.paths.remove(path)));
        let alone = paths.len() == 1;
        for path in paths {
            match !alone && self.add(&path) {
                true => tell(Told::Hint(Hint::All)),
                false => tell(Told::Ended(path)),
            }
        }
    }

    /// Takes what the kernel has to tell, without waiting.
    pub(crate) fn read(&mut self, mut tell: impl FnMut(Told)) {
        let Some(inotify) = &mut self.inotify else { return };
        let mut ended = Vec::new();
        // Bounded, so that a writer that never rests doesn't keep the reader from reading.
        for _ in 0..16 {
            let events = match inotify.read_events(&mut self.buffer) {
                Ok(events) => events,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            for event in events {
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    tell(Told::Hint(Hint::All));
                } else if event.mask.intersects(EventMask::IGNORED | EventMask::MOVE_SELF) {
                    ended.push(event.wd);
                } else if let (Some(folders), Some(name)) = (self.folders.get(&event.wd), event.name) {
                    folders.iter().for_each(|folder| tell(Told::Hint(Hint::Path(folder.join(name)))));
                }
            }
        }
        // A folder that was moved has another path now: the search finds it there.
        ended.iter().for_each(|wd| self.ended(wd, &mut tell));
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pillion_world::{OpenHow, World};

    #[test]
    fn tells_what_happens_in_a_folder() {
        let tmp = tempfile::tempdir().unwrap();
        let fs = World::real().fs;
        let mut watches = Watches::new(true);
        assert!(watches.add(tmp.path()));
        assert!(!watches.add(&tmp.path().join("nothing")));
        let path = tmp.path().join("a");
        let file = fs.open(&path, OpenHow::Append(0o600)).unwrap();
        file.write_all(b"x").unwrap();
        fs.rename(&path, &tmp.path().join("b")).unwrap();
        let mut told = Vec::new();
        watches.read(|t| told.push(t));
        let hint = |n: &str| Told::Hint(Hint::Path(tmp.path().join(n)));
        assert_eq!(told, [hint("a"), hint("a"), hint("a"), hint("b")]);
        let dir = tmp.path().to_owned();
        drop(file);
        drop(tmp);
        told.clear();
        watches.read(|t| told.push(t));
        assert_eq!(told.last(), Some(&Told::Ended(dir)));
    }

    #[test]
    fn a_folder_with_two_paths_is_told_under_both_until_each_ends() {
        let tmp = tempfile::tempdir().unwrap();
        let path = |name: &str| tmp.path().join(name);
        for dir in ["real", "other"] {
            std::fs::create_dir(path(dir)).unwrap();
        }
        std::os::unix::fs::symlink(path("real"), path("one")).unwrap();
        std::os::unix::fs::symlink(path("real"), path("two")).unwrap();
        let mut watches = Watches::new(true);
        assert!(["one", "two", "one"].iter().all(|name| watches.add(&path(name))));
        let told = |watches: &mut Watches| {
            let mut told = Vec::new();
            watches.read(|t| told.push(t));
            told
        };
        let touch = |name: &str| drop(std::fs::File::create_new(path(name)).unwrap());
        let hint = |name: &str| Told::Hint(Hint::Path(path(name)));
        touch("real/a");
        assert_eq!(told(&mut watches), [hint("one/a"), hint("two/a")]);
        // One path leads elsewhere now: the other's watch stays.
        std::fs::remove_file(path("one")).unwrap();
        std::os::unix::fs::symlink(path("other"), path("one")).unwrap();
        assert!(watches.add(&path("one")));
        touch("real/b");
        touch("other/c");
        assert_eq!(told(&mut watches), [hint("two/b"), hint("one/c")]);
        // The folder of one of two paths is moved: the other one still leads to it.
        assert!(watches.add(&path("real")));
        World::real().fs.rename(&path("real"), &path("moved")).unwrap();
        std::fs::remove_file(path("two")).unwrap();
        std::os::unix::fs::symlink(path("moved"), path("two")).unwrap();
        assert_eq!(told(&mut watches), [Told::Hint(Hint::All), Told::Ended(path("real"))]);
        touch("moved/d");
        assert_eq!(told(&mut watches), [hint("two/d")]);
    }

    #[test]
    fn without_watches_nothing_is_told() {
        let tmp = tempfile::tempdir().unwrap();
        let mut watches = Watches::new(false);
        assert!(!watches.add(tmp.path()) && watches.fd().is_none());
        watches.read(|_| panic!("nothing to tell"));
    }
}
