//! One thread's calls of the file system between those of another, as a seed has it.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use pillion_world::{File, Fs, OpenHow, World};

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

    pillion_world::pass_fs!(this => this.now(); stat read_dir canonicalize read_link kind rename remove create_dir_all sync_dir try_lock);
}

impl Before<dyn File> {
    fn now(&self) -> &dyn File {
        (self.act)();
        &*self.under
    }
}

impl File for Before<dyn File> {
    fn write_all(&self, buf: &[u8]) -> io::Result<()> {
        // Two calls of the system, as a long write is.
        let (first, second) = buf.split_at(buf.len() / 2);
        self.now().write_all(first)?;
        self.now().write_all(second)
    }

    pillion_world::pass_file!(this => this.now(); read_at stat sync set_len);
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
