//! A part of the real file system from which no path leads out, whatever those who write there do.
//!
//! Comes in: a folder, held by a descriptor, and the name under which it is to be seen. Goes out: an [`Fs`] in which that
//! folder lies at that name and nothing else exists.
//!
//! Always holds:
//! - Every path is resolved from the descriptor by `openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
//!   RESOLVE_NO_MAGICLINKS`; where a seccomp profile or an old kernel refuses that, folder by folder with `O_NOFOLLOW`,
//!   which gives the same. A path with `..` doesn't exist.
//! - Only regular files are opened, and directories to be listed: a FIFO, a socket, a device or a link is an error. What is
//!   at the name is looked at before it is opened, non-blocking, and again by the descriptor afterwards.
//! - Names are changed (renamed, removed, made) in a folder held by a descriptor, never by a path from above.
//!
//! Tested below with either way of resolving, and with registries of hostile pods by `pillion sweep`'s tests.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::fs::{DirEntry, File, FileKind, Fs, FsKind, Lock, Meta, OpenHow};
use crate::real::{RealFile, flock, kind_of_magic, list, rename_new_at, statx};

/// How often a resolution is tried again that a rename elsewhere has disturbed (`EAGAIN`).
const TRIES: usize = 8;

/// A folder from which no path leads out.
#[derive(Debug)]
pub struct Beneath {
    root: OwnedFd,
    view: PathBuf,
    /// `openat2` isn't to be had here.
    walks: AtomicBool,
}

impl Beneath {
    /// The folder at `root`, which the caller trusts, seen at `view` (absolute).
    ///
    /// # Errors
    /// When it can't be opened, or `view` isn't a plain absolute path.
    pub fn open(root: &Path, view: &Path) -> io::Result<Beneath> {
        let flags = OFlags::CLOEXEC | OFlags::PATH | OFlags::DIRECTORY;
        let root = retry_on_intr(|| rustix::fs::open(root, flags, Mode::empty()))?;
        Beneath::seen_at(root, view, false)
    }

    /// A folder in this one, alone and seen at `view`. It is found without following links.
    pub fn narrowed(&self, folder: &Path, view: &Path) -> io::Result<Beneath> {
        let fd = self.resolve(&self.relative(folder)?, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        Beneath::seen_at(fd, view, self.walks.load(Ordering::Relaxed))
    }

    fn seen_at(root: OwnedFd, view: &Path, walks: bool) -> io::Result<Beneath> {
        let plain = |c: Component<'_>| matches!(c, Component::RootDir | Component::Normal(_));
        if !view.is_absolute() || !view.components().all(plain) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain absolute path"));
        }
        Ok(Beneath { root, view: view.components().collect(), walks: AtomicBool::new(walks) })
    }

    /// The path from the root; empty for the root itself. What isn't beneath doesn't exist.
    fn relative(&self, path: &Path) -> io::Result<PathBuf> {
        let rest = path.strip_prefix(&self.view).map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
        let plain = rest.components().all(|c| matches!(c, Component::Normal(_)));
        if plain { Ok(rest.components().collect()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Opens a path from the root without following any link.
    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let mut tries = TRIES;
        while !self.walks.load(Ordering::Relaxed) && tries > 0 {
            tries -= 1;
            match retry_on_intr(|| rustix::fs::openat2(&self.root, path, flags, mode, within)) {
                Err(Errno::AGAIN) => {}
                Err(Errno::NOSYS) => self.walks.store(true, Ordering::Relaxed),
                // A seccomp profile says so; or the file does, and walking says it again.
                Err(Errno::PERM) => break,
                done => return Ok(done?),
            }
        }
        self.walk(path, flags, mode)
    }

    /// The same folder by folder.
    fn walk(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let mut names = path.components().filter_map(|c| match c {
            Component::Normal(name) => Some(name),
            _ => None,
        });
        let Some(mut name) = names.next() else { return Ok(openat(self.root.as_fd(), OsStr::new("."), flags, mode)?) };
        let mut dir: Option<OwnedFd> = None;
        for next in names {
            let above = dir.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
            dir = Some(openat(
                above,
                name,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?);
            name = next;
        }
        Ok(openat(dir.as_ref().map_or(self.root.as_fd(), AsFd::as_fd), name, flags, mode)?)
    }

    /// The folder that a path lies in, and its name there.
    fn parent<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let rel = self.relative(path)?;
        let name = path.file_name().filter(|_| !rel.as_os_str().is_empty());
        let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, "the root itself stays"))?;
        let dir = rel.parent().unwrap_or(Path::new(""));
        Ok((self.resolve(dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?, name))
    }

    /// What is at a name, itself: `None` when nothing is.
    fn look(&self, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Meta>> {
        match statx(dir, Path::new(name), AtFlags::STATX_FORCE_SYNC | AtFlags::SYMLINK_NOFOLLOW) {
            Ok(meta) => Ok(Some(meta)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Opens a regular file.
    fn open_file(&self, path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        let (dir, name) = self.parent(path)?;
        if let Some(there) = self.look(dir.as_fd(), name)? {
            only_files(there.kind)?;
        }
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        let fd = openat(dir.as_fd(), name, flags, Mode::from_raw_mode(mode))?;
        only_files(statx(&fd, Path::new(""), AtFlags::EMPTY_PATH)?.kind)?;
        Ok(fd)
    }

    /// Opens a folder for reading.
    fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(&self.relative(path)?, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }
}

fn openat(dir: BorrowedFd<'_>, name: &OsStr, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| rustix::fs::openat(dir, name, flags, mode))
}

fn only_files(kind: FileKind) -> io::Result<()> {
    match kind {
        FileKind::File => Ok(()),
        FileKind::Symlink => Err(Errno::LOOP.into()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

impl Fs for Beneath {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn File>> {
        let (flags, mode) = match how {
            OpenHow::Read | OpenHow::ReadNoFollow => (OFlags::RDONLY, 0),
            OpenHow::Append(mode) => (OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE, mode),
            OpenHow::Truncate(mode) => (OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE, mode),
        };
        let file = RealFile(self.open_file(path, flags, mode)?);
        if matches!(how, OpenHow::Truncate(_)) {
            // Only when it is known to be a file.
            file.set_len(0)?;
        }
        Ok(Box::new(file))
    }

    fn stat(&self, path: &Path, follow: bool) -> io::Result<Meta> {
        if self.relative(path)?.as_os_str().is_empty() {
            return statx(&self.root, Path::new(""), AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC);
        }
        let (dir, name) = self.parent(path)?;
        let meta = self.look(dir.as_fd(), name)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        if follow && meta.kind == FileKind::Symlink { Err(Errno::LOOP.into()) } else { Ok(meta) }
    }

    fn read_dir(&self, path: &Path, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> io::Result<()> {
        list(self.open_dir(path)?, each)
    }

    /// There are no links: the path itself, when something is there.
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.stat(path, true)?;
        Ok(self.view.join(self.relative(path)?).components().collect())
    }

    /// There are no links.
    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.stat(path, false)?;
        Err(Errno::INVAL.into())
    }

    fn kind(&self, path: &Path) -> io::Result<FsKind> {
        let fd = self.resolve(&self.relative(path)?, OFlags::PATH, Mode::empty())?;
        Ok(kind_of_magic(retry_on_intr(|| rustix::fs::fstatfs(&fd))?.f_type as u32))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from_dir, from), (to_dir, to)) = (self.parent(from)?, self.parent(to)?);
        Ok(rustix::fs::renameat(from_dir, from, to_dir, to)?)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from_dir, from), (to_dir, to)) = (self.parent(from)?, self.parent(to)?);
        rename_new_at((from_dir.as_fd(), Path::new(from)), (to_dir.as_fd(), Path::new(to)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        let mut at = self.view.clone();
        for name in &self.relative(path)? {
            at.push(name);
            let (dir, name) = self.parent(&at)?;
            match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.open_dir(path).map(drop)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if self.view.starts_with(path) && self.view != path {
            return Ok(()); // above the root: not ours to change, and so nothing to be made durable
        }
        Ok(rustix::fs::fsync(self.open_dir(path)?)?)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        flock(self.open_file(path, OFlags::RDWR | OFlags::CREATE, 0o600)?)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test plays the pods")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// `/view` is a folder with a file and everything hostile beside it; each test with either way of resolving.
    fn hostile(each: impl Fn(&Beneath, &Path)) {
        for walks in [false, true] {
            let tmp = tempfile::tempdir().unwrap();
            let root = tmp.path().join("root");
            std::fs::create_dir_all(root.join("dir/deep")).unwrap();
            std::fs::write(tmp.path().join("secret"), "not yours").unwrap();
            std::fs::write(root.join("dir/a.log"), "line\n").unwrap();
            symlink("../secret", root.join("up")).unwrap();
            symlink(tmp.path().join("secret"), root.join("absolute")).unwrap();
            symlink("..", root.join("updir")).unwrap();
            symlink("dir", root.join("inner")).unwrap();
            symlink("/proc/self/root", root.join("magic")).unwrap();
            rustix::fs::mkfifoat(rustix::fs::CWD, root.join("fifo"), Mode::from_raw_mode(0o600)).unwrap();
            let beneath = Beneath::open(&root, Path::new("/view")).unwrap();
            beneath.walks.store(walks, Ordering::Relaxed);
            each(&beneath, tmp.path());
            assert_eq!(std::fs::read(tmp.path().join("secret")).unwrap(), b"not yours");
        }
    }

    #[test]
    fn what_lies_beneath_is_read_and_written() {
        hostile(|fs, _| {
            let dynamic: &dyn Fs = fs;
            assert_eq!(dynamic.read(Path::new("/view/dir/a.log"), 100).unwrap(), b"line\n");
            dynamic.replace(Path::new("/view/dir/b"), b"one", 0o600).unwrap();
            fs.create_dir_all(Path::new("/view/x/y/z"), 0o700).unwrap();
            fs.create_dir_all(Path::new("/view/x/y/z"), 0o700).unwrap();
            fs.rename(Path::new("/view/dir/b"), Path::new("/view/x/y/z/b")).unwrap();
            assert_eq!(
                fs.rename_new(Path::new("/view/dir/a.log"), Path::new("/view/x/y/z/b")).unwrap_err().kind(),
                io::ErrorKind::AlreadyExists
            );
            let file = fs.open(Path::new("/view/x/y/z/b"), OpenHow::Append(0o600)).unwrap();
            file.write_all(b" two").unwrap();
            assert_eq!(dynamic.read(Path::new("/view/x/y/z/b"), 100).unwrap(), b"one two");
            drop(fs.open(Path::new("/view/x/y/z/b"), OpenHow::Truncate(0o600)).unwrap());
            assert_eq!(fs.stat(Path::new("/view/x/y/z/b"), true).unwrap().len, 0);
            fs.remove(Path::new("/view/x/y/z/b")).unwrap();
            assert!(fs.remove_dir(Path::new("/view/x/y")).is_err(), "not empty");
            fs.remove_dir(Path::new("/view/x/y/z")).unwrap();
            fs.remove_dir(Path::new("/view/x/y")).unwrap();
            fs.sync_dir(Path::new("/view/x")).unwrap();
            fs.sync_dir(Path::new("/")).unwrap();
            assert_eq!(fs.canonicalize(Path::new("/view/dir/./a.log")).unwrap(), Path::new("/view/dir/a.log"));
            assert_eq!(fs.stat(Path::new("/view"), true).unwrap().kind, FileKind::Dir);
            assert_eq!(fs.kind(Path::new("/view/dir")).unwrap(), FsKind::Local);
            let lock = fs.try_lock(Path::new("/view/lock")).unwrap().unwrap();
            assert!(fs.try_lock(Path::new("/view/lock")).unwrap().is_none());
            drop(lock);
            let mut names = Vec::new();
            let mut each = |e: DirEntry<'_>| {
                names.push(e.name.to_owned());
                true
            };
            fs.read_dir(Path::new("/view/dir"), &mut each).unwrap();
            names.sort();
            assert_eq!(names, ["a.log", "deep"]);
        });
    }

    #[test]
    fn nothing_leads_out() {
        hostile(|fs, tmp| {
            let absolute = tmp.join("secret");
            let outside = [
                "/view/up",
                "/view/absolute",
                "/view/updir/secret",
                "/view/../secret",
                "/view/dir/../../secret",
                "/view/magic/etc/passwd",
                "/view/inner/a.log",
                "/secret",
                "/view2/x",
                "/",
                "view/dir/a.log",
                "/view/fifo",
                "/view/dir",
                "/view",
            ];
            for path in outside.into_iter().map(Path::new).chain([&*absolute]) {
                for how in [OpenHow::Read, OpenHow::ReadNoFollow, OpenHow::Append(0o600), OpenHow::Truncate(0o600)] {
                    assert!(fs.open(path, how).is_err(), "{path:?} {how:?}");
                }
                assert!(fs.try_lock(path).is_err(), "{path:?}");
                let is_beneath = ["/view/dir", "/view"].contains(&path.to_str().unwrap());
                assert!(is_beneath || fs.rename(Path::new("/view/dir/a.log"), &path.join("x")).is_err(), "{path:?}");
            }
            for path in ["/view/updir", "/view/inner", "/view/magic", "/", "/view/..", "/view/dir/.."].map(Path::new) {
                assert!(fs.read_dir(path, &mut |_| true).is_err(), "{path:?}");
                assert!(fs.create_dir_all(&path.join("new"), 0o700).is_err(), "{path:?}");
                assert!(fs.narrowed(path, Path::new("/v")).is_err(), "{path:?}");
            }
            assert!(fs.stat(Path::new("/view/up"), true).is_err());
            assert_eq!(fs.stat(Path::new("/view/up"), false).unwrap().kind, FileKind::Symlink);
            assert!(fs.remove(Path::new("/view")).is_err());
            for link in ["/view/inner", "/view/updir", "/view", "/view/updir/x"] {
                assert!(fs.remove_dir(Path::new(link)).is_err(), "{link}");
            }
            // A link is removed itself, never what it leads to.
            fs.remove(Path::new("/view/up")).unwrap();
        });
    }

    #[test]
    fn a_part_of_it_is_as_closed() {
        hostile(|fs, _| {
            let part = fs.narrowed(Path::new("/view/dir"), Path::new("/logs")).unwrap();
            let dynamic: &dyn Fs = &part;
            assert_eq!(dynamic.read(Path::new("/logs/a.log"), 100).unwrap(), b"line\n");
            assert!(part.open(Path::new("/logs/../fifo"), OpenHow::Read).is_err());
            assert!(part.open(Path::new("/view/dir/a.log"), OpenHow::Read).is_err());
            for view in ["logs", "/logs/..", ""] {
                assert!(fs.narrowed(Path::new("/view/dir"), Path::new(view)).is_err(), "{view}");
            }
        });
    }

    #[test]
    fn a_folder_that_is_swapped_for_a_link_leads_nowhere() {
        hostile(|fs, tmp| {
            let part = fs.narrowed(Path::new("/view/dir"), Path::new("/logs")).unwrap();
            std::fs::rename(tmp.join("root/dir"), tmp.join("root/old")).unwrap();
            symlink("..", tmp.join("root/dir")).unwrap();
            assert!(fs.open(Path::new("/view/dir/secret"), OpenHow::Read).is_err());
            // What is held is held.
            assert!(part.open(Path::new("/logs/a.log"), OpenHow::Read).is_ok());
        });
    }
}
