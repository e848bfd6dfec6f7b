//! The application that writes logs, and whoever else changes or looks at the disk beside the process under test.
//!
//! What is written here is durable at once, and no call fails by accident: only as it would on any disk (`ENOENT`, …).

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use pillion_world::Meta;
use rustix::io::Errno;

use super::disk::{By, Content, Data, Place, new_dir};
use super::{State, lock};

/// The application's hand on the disk. Paths are absolute; missing directories are made.
pub struct App {
    state: Arc<Mutex<State>>,
}

/// A file that the application keeps open and writes to, whatever becomes of its name. After a crash of the machine each
/// call fails: the application has ended with it.
pub struct AppFile {
    state: Arc<Mutex<State>>,
    boot: u64,
    ino: u64,
}

impl App {
    pub(super) fn new(state: Arc<Mutex<State>>) -> App {
        App { state }
    }

    /// Makes a directory and its parents.
    pub fn create_dir_all(&self, path: impl AsRef<Path>) -> io::Result<()> {
        lock(&self.state).app_dir(path.as_ref())
    }

    /// Appends to a file, made when missing.
    pub fn append(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        self.open(path)?.write(bytes)
    }

    /// Puts a new file (another inode) with this content in the place of what is there.
    pub fn replace(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        match self.delete(path.as_ref()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        self.append(path, bytes)
    }

    /// Opens a file for appending, made when missing.
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<AppFile> {
        let mut state = lock(&self.state);
        let place = state.app_place(path.as_ref())?;
        let ino = match place.ino {
            Some(ino) => ino,
            None => state.app_make(&place, Content::File(Data::default()))?,
        };
        state.disk.data(ino)?;
        state.disk.node_mut(ino)?.app_handles += 1;
        Ok(AppFile { state: Arc::clone(&self.state), boot: state.boot, ino })
    }

    /// Renames, replacing what is there.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let mut state = lock(&self.state);
        let to = state.app_place(to.as_ref())?;
        let from = state.disk.find(from.as_ref(), false)?;
        state.disk.rename(&from, &to, By::App)
    }

    /// Removes a name; the content stays while it is open.
    pub fn delete(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut state = lock(&self.state);
        let place = state.disk.find(path.as_ref(), false)?;
        let State { disk, rng, faults, .. } = &mut *state;
        if disk.is_network(&place.real) && rng.chance(faults.forgotten) {
            disk.forget_readers(place.ino.ok_or(Errno::NOENT)?);
        }
        disk.unlink(&place, By::App)
    }

    /// Copies a file's content into a new file in the place of what is there: the first half of `copytruncate`.
    pub fn copy(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let content = self.read(from)?;
        self.replace(to, &content)
    }

    /// Cuts or extends a file: to 0, the second half of `copytruncate`.
    pub fn truncate(&self, path: impl AsRef<Path>, len: usize) -> io::Result<()> {
        let mut state = lock(&self.state);
        let (ino, now) = (state.disk.lookup(path.as_ref(), true)?, state.now_ns());
        state.disk.set_len(ino, len, now, By::App)
    }

    /// Copies, then cuts, with nothing between: no line is lost by it.
    pub fn copytruncate(&self, path: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        self.copy(&path, to)?;
        self.truncate(path, 0)
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, target: impl AsRef<Path>, path: impl AsRef<Path>) -> io::Result<()> {
        let mut state = lock(&self.state);
        let place = state.app_place(path.as_ref())?;
        state.app_make(&place, Content::Link(target.as_ref().to_owned()))?;
        Ok(())
    }

    /// Gives a file a second name.
    pub fn hard_link(&self, path: impl AsRef<Path>, new: impl AsRef<Path>) -> io::Result<()> {
        let mut state = lock(&self.state);
        let ino = state.disk.lookup(path.as_ref(), true)?;
        let place = state.app_place(new.as_ref())?;
        match place.ino {
            Some(_) => Err(Errno::EXIST.into()),
            None => state.disk.link(place.dir, place.name, ino, By::App),
        }
    }

    /// Lets another program hold the lock on a file, until [`App::unlock`].
    pub fn lock(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let ino = self.open(path)?.ino;
        lock(&self.state).locks.insert(ino, None);
        Ok(())
    }

    /// Releases another program's lock.
    pub fn unlock(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut state = lock(&self.state);
        let ino = state.disk.lookup(path.as_ref(), true)?;
        state.locks.remove(&ino);
        Ok(())
    }

    /// A file's whole content.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let state = lock(&self.state);
        let ino = state.disk.lookup(path.as_ref(), true)?;
        Ok(state.disk.data(ino)?.now.clone())
    }

    /// What a path truly is.
    pub fn meta(&self, path: impl AsRef<Path>) -> io::Result<Meta> {
        let state = lock(&self.state);
        let ino = state.disk.lookup(path.as_ref(), true)?;
        state.disk.meta(ino)
    }

    /// The names in a directory, in alphabetical order.
    pub fn list(&self, path: impl AsRef<Path>) -> io::Result<Vec<String>> {
        let state = lock(&self.state);
        let ino = state.disk.lookup(path.as_ref(), true)?;
        Ok(state.disk.names(ino)?.keys().map(|n| n.to_string_lossy().into_owned()).collect())
    }
}

impl AppFile {
    fn open(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = lock(&self.state);
        if state.boot == self.boot { Ok(state) } else { Err(Errno::STALE.into()) }
    }

    /// Appends.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.open()?;
        let now = state.now_ns();
        state.disk.append(self.ino, bytes, now, By::App)
    }

    /// Cuts or extends.
    pub fn set_len(&self, len: usize) -> io::Result<()> {
        let mut state = self.open()?;
        let now = state.now_ns();
        state.disk.set_len(self.ino, len, now, By::App)
    }

    /// The inode's number.
    pub fn ino(&self) -> u64 {
        self.ino
    }
}

impl Drop for AppFile {
    fn drop(&mut self) {
        let Ok(mut state) = self.open() else { return };
        if let Ok(node) = state.disk.node_mut(self.ino) {
            node.app_handles = node.app_handles.saturating_sub(1);
        }
        state.disk.reap(self.ino);
    }
}

impl State {
    fn app_dir(&mut self, path: &Path) -> io::Result<()> {
        let mut at = std::path::PathBuf::from("/");
        for part in path.components().skip(1) {
            at.push(part);
            let place = self.disk.find(&at, true)?;
            match place.ino {
                Some(ino) => {
                    self.disk.names(ino)?;
                }
                None => {
                    self.app_make(&place, new_dir())?;
                }
            }
        }
        Ok(())
    }

    /// Where a path leads; its directories are made.
    fn app_place(&mut self, path: &Path) -> io::Result<Place> {
        if let Some(parent) = path.parent() {
            self.app_dir(parent)?;
        }
        self.disk.find(path, true)
    }

    fn app_make(&mut self, place: &Place, content: Content) -> io::Result<u64> {
        let (now, mode) = (self.now_ns(), if matches!(content, Content::Dir { .. }) { 0o755 } else { 0o644 });
        let State { disk, rng, .. } = self;
        disk.make(place, content, mode, now, By::App, rng)
    }
}
