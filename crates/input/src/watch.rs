//! inotify: the kernel's word that something changed in a folder.
//!
//! Comes in: folders. Goes out: [`Hint`]s. Always holds: a hint that doesn't come costs only time, since the search
//! finds what it would have told; when there are no instances or watches left, that is said once, and files are looked
//! at by time.
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
    folders: HashMap<WatchDescriptor, PathBuf>,
    buffer: Vec<u8>,
    said: bool,
}

/// Room for events of one call: at least one with the longest name fits.
const BUFFER: usize = 16 * 1024;

impl Watches {
    /// `wanted`: false = never watch.
    pub(crate) fn new(wanted: bool) -> Watches {
        let mut watches = Watches { inotify: None, folders: HashMap::new(), buffer: Vec::new(), said: !wanted };
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
                self.folders.insert(wd, folder.to_owned());
                true
            }
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => false,
            Err(e) => {
                self.say(&e);
                false
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
                } else if let (Some(folder), Some(name)) = (self.folders.get(&event.wd), event.name) {
                    tell(Told::Hint(Hint::Path(folder.join(name))));
                }
            }
        }
        for wd in ended {
            if let Some(folder) = self.folders.remove(&wd) {
                // A folder that was moved has another path now: the search finds it there.
                let _ = inotify.watches().remove(wd);
                tell(Told::Ended(folder));
            }
        }
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
    fn without_watches_nothing_is_told() {
        let tmp = tempfile::tempdir().unwrap();
        let mut watches = Watches::new(false);
        assert!(!watches.add(tmp.path()) && watches.fd().is_none());
        watches.read(|_| panic!("nothing to tell"));
    }
}
