//! Device numbers that mean the same on every machine, for one file system.
//!
//! Comes in: a file system and the device number that a folder has on it here. Goes out: the same file system, in which
//! files of that device have the number 0.
//!
//! Why: a registry that lies on a shared volume is read on another machine, or after a remount, where the same volume has
//! another `st_dev`. With 0 for "the volume that the registry itself is on" its keys mean there what they meant here.
//! Always holds: nothing else is changed. Tested below.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::fs::{File, Fs, Meta, OpenHow};

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

    crate::pass_fs!(this => this.inner; read_dir canonicalize read_link kind rename rename_new remove remove_dir create_dir_all sync_dir try_lock);
}

impl File for HomeFile {
    fn stat(&self) -> io::Result<Meta> {
        Ok(at_home(self.inner.stat()?, self.dev))
    }

    crate::pass_file!(this => this.inner; read_at write_all sync set_len);
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
