//! Device numbers that mean the same on every machine, for one file system.
//!
//! Comes in: a file system and the device number that a folder has on it here. Goes out: the same file system, in which
//! files of that device have the number 0.
//!
//! Why: a registry that lies on a shared volume is read on another machine, or after a remount, where the same volume has
//! another `st_dev`. With 0 for "the volume that the registry itself is on" its keys mean there what they meant here.
//! Always holds: nothing else is changed. Tested below.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fs::{DirEntry, File, Fs, FsKind, Lock, Meta, OpenHow};

/// See the module.
pub struct Home {
    inner: Arc<dyn Fs>,
    dev: u64,
}

struct HomeFile {
    inner: Box<dyn File>,
    dev: u64,
}

fn at_home(meta: Meta, dev: u64) -> Meta {
    if meta.dev == dev { Meta { dev: 0, ..meta } } else { meta }
}

impl Home {
    /// `inner`, where the device of `folder` is 0.
    ///
    /// # Errors
    /// When the folder can't be looked at.
    pub fn of(inner: Arc<dyn Fs>, folder: &Path) -> io::Result<Home> {
        let dev = inner.stat(folder, true)?.dev;
        Ok(Home { inner, dev })
    }
}

impl Fs for Home {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn File>> {
        Ok(Box::new(HomeFile { inner: self.inner.open(path, how)?, dev: self.dev }))
    }

    fn stat(&self, path: &Path, follow: bool) -> io::Result<Meta> {
        Ok(at_home(self.inner.stat(path, follow)?, self.dev))
    }

    fn read_dir(&self, path: &Path, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> io::Result<()> {
        self.inner.read_dir(path, each)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.inner.canonicalize(path)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.inner.read_link(path)
    }

    fn kind(&self, path: &Path) -> io::Result<FsKind> {
        self.inner.kind(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename_new(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir(path)
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.inner.create_dir_all(path, mode)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.inner.try_lock(path)
    }
}

impl File for HomeFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }

    fn write_all(&self, buf: &[u8]) -> io::Result<()> {
        self.inner.write_all(buf)
    }

    fn stat(&self) -> io::Result<Meta> {
        Ok(at_home(self.inner.stat()?, self.dev))
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::RealFs;

    #[test]
    fn the_registrys_own_volume_is_0_and_others_stay() {
        let tmp = tempfile::tempdir().unwrap();
        let home = Home::of(Arc::new(RealFs), tmp.path()).unwrap();
        let path = tmp.path().join("a");
        let fs: &dyn Fs = &home;
        fs.replace(&path, b"x", 0o600).unwrap();
        let there = RealFs.stat(&path, true).unwrap();
        assert_eq!(fs.stat(&path, true).unwrap(), Meta { dev: 0, ..there });
        assert_eq!(fs.open(&path, OpenHow::Read).unwrap().stat().unwrap().dev, 0);
        assert_ne!(fs.stat(Path::new("/proc"), true).unwrap().dev, 0);
    }
}
