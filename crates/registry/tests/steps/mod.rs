//! One thread's calls of the file system between those of another, as a seed has it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use pillion_world::{DirEntry, File, Fs, FsKind, Lock, Meta, OpenHow, World};

/// A file system that does something before each call.
struct Before<T: ?Sized> {
    act: Arc<dyn Fn() + Send + Sync>,
    under: Arc<T>,
}

/// A world whose file system does this before each call.
pub(crate) fn before(world: World, act: impl Fn() + Send + Sync + 'static) -> World {
    let under = Arc::clone(&world.fs);
    World { fs: Arc::new(Before { act: Arc::new(act), under }), ..world }
}

impl Before<dyn Fs> {
    fn now(&self) -> &dyn Fs {
        (self.act)();
        &*self.under
    }
}

impl Fs for Before<dyn Fs> {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn File>> {
        let under: Arc<dyn File> = self.now().open(path, how)?.into();
        Ok(Box::new(Before { act: Arc::clone(&self.act), under }))
    }
    fn stat(&self, path: &Path, follow: bool) -> io::Result<Meta> {
        self.now().stat(path, follow)
    }
    fn read_dir(&self, path: &Path, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> io::Result<()> {
        self.now().read_dir(path, each)
    }
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.now().canonicalize(path)
    }
    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.now().read_link(path)
    }
    fn kind(&self, path: &Path) -> io::Result<FsKind> {
        self.now().kind(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.now().rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.now().remove(path)
    }
    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.now().create_dir_all(path, mode)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.now().sync_dir(path)
    }
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.now().try_lock(path)
    }
}

impl Before<dyn File> {
    fn now(&self) -> &dyn File {
        (self.act)();
        &*self.under
    }
}

impl File for Before<dyn File> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.now().read_at(buf, offset)
    }
    fn write_all(&self, buf: &[u8]) -> io::Result<()> {
        // Two calls of the system, as a long write is.
        let (first, second) = buf.split_at(buf.len() / 2);
        self.now().write_all(first)?;
        self.now().write_all(second)
    }
    fn stat(&self) -> io::Result<Meta> {
        self.now().stat()
    }
    fn sync(&self) -> io::Result<()> {
        self.now().sync()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.now().set_len(len)
    }
}

/// Lets one thread do so many calls as another one grants.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<(u64, bool, bool)>,
    moved: Condvar,
}

impl Gate {
    /// Waits until a call is granted; at the end all are.
    pub(crate) fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 = true;
        self.moved.notify_all();
        while state.0 == 0 && !state.2 {
            state = self.moved.wait(state).unwrap();
        }
        state.0 = state.0.saturating_sub(1);
        state.1 = false;
    }

    /// Grants calls and waits until they are done.
    pub(crate) fn grant(&self, calls: u64) {
        let mut state = self.state.lock().unwrap();
        state.0 += calls;
        self.moved.notify_all();
        while (state.0 > 0 || !state.1) && !state.2 {
            state = self.moved.wait(state).unwrap();
        }
    }

    /// From now on everything passes.
    pub(crate) fn open(&self) {
        self.state.lock().unwrap().2 = true;
        self.moved.notify_all();
    }

    /// Whether it is open.
    pub(crate) fn is_open(&self) -> bool {
        self.state.lock().unwrap().2
    }
}
