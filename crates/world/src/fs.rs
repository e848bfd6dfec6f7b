//! The file system as the core sees it: the few calls that reading logs and keeping a registry need.
//!
//! Every call may fail with any `io::Error`; callers must expect `EINTR` to have been retried already, short reads,
//! `ESTALE` on network file systems, `ENOSPC` and `EDQUOT` on writes.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

/// What a directory entry or a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link (only where links aren't followed).
    Symlink,
    /// A FIFO, a socket, a device: never read.
    Other,
    /// The file system didn't say (`DT_UNKNOWN`): `stat` tells.
    Unknown,
}

/// What `stat` says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: FileKind,
    /// Size in bytes; on a network file system it may run ahead of the readable data or lag behind it.
    pub len: u64,
    /// Inode number.
    pub ino: u64,
    /// Device number (`st_dev`): means nothing on another machine or after a remount of a network file system.
    pub dev: u64,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Birth of the inode, nanoseconds since 1970; `None` where the file system doesn't keep it. Another birth under
    /// the same inode number is another file.
    pub birth_ns: Option<i128>,
    /// Permission bits (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names; 0 = deleted while open.
    pub nlink: u64,
}

/// What kind of file system a path lies on, as `statfs` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FsKind {
    /// Changes come from this machine alone: inotify sees them, attributes are true.
    Local,
    /// NFS, SMB, 9p, …: no inotify across clients, attributes are cached and may lie.
    Network,
    /// FUSE: as a network one; besides, inode numbers may be made of paths and descriptors may not follow them, so that what a
    /// descriptor reads and what its `stat` tells may be of two files (sshfs and others over libfuse; not GlusterFS).
    Userspace,
}

impl FsKind {
    /// Whether changes can come from another machine, and attributes can lie.
    pub fn is_network(self) -> bool {
        self != FsKind::Local
    }
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenHow {
    /// Read only, non-blocking (a FIFO doesn't hang), close-on-exec. Follows symlinks.
    Read,
    /// As [`OpenHow::Read`], but a symlink at the last component is an error (`ELOOP`).
    ReadNoFollow,
    /// Write only at the end (`O_APPEND`), made with this mode when missing.
    Append(u32),
    /// Write only, made with this mode, emptied when it exists.
    Truncate(u32),
}

/// One entry of a directory.
#[derive(Debug)]
pub struct DirEntry<'a> {
    /// Its name, without the folder.
    pub name: &'a OsStr,
    /// Its kind; may be [`FileKind::Unknown`].
    pub kind: FileKind,
    /// Its inode number as the directory has it.
    pub ino: u64,
}

/// Held while this process owns a lock file; dropping it releases the lock.
pub trait Lock: Send + Sync {}

/// The file system.
pub trait Fs: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn File>>;

    /// Looks at a path; the attributes are asked of the server where a network file system honours that
    /// (`AT_STATX_FORCE_SYNC`). `follow`: through a symlink at the last component.
    fn stat(&self, path: &Path, follow: bool) -> io::Result<Meta>;

    /// Lists a directory, without `.` and `..`, in the directory's own order, until `each` returns false.
    fn read_dir(&self, path: &Path, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> io::Result<()>;

    /// The path with all symlinks resolved.
    fn canonicalize(&self, path: &Path) -> io::Result<std::path::PathBuf>;

    /// Where a symbolic link leads, as it is written in it; `EINVAL` when the path is none. Only the path itself is asked
    /// for, never what the link leads to.
    fn read_link(&self, path: &Path) -> io::Result<std::path::PathBuf>;

    /// Which kind of file system a path lies on.
    fn kind(&self, path: &Path) -> io::Result<FsKind>;

    /// Renames within one file system, replacing what was there. Durable only after [`Fs::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// The same, but an error (`EEXIST`) when something is there. Where the file system can't do it in one step, a crash may
    /// leave the file with both names.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.stat(to, false).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.rename(from, to)
    }

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory; a link to one stays (`ENOTDIR`). A file system that has no such call says `Unsupported`.
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes a directory and its parents, with this mode for what is new.
    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes an exclusive advisory lock (`flock`) on a file, made when missing; `Ok(None)` when another process
    /// holds it.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;
}

/// An open file.
pub trait File: Send + Sync {
    /// Reads at an offset; may be short; 0 = end of file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes everything at the end (files opened with [`OpenHow::Append`] or [`OpenHow::Truncate`]). After an error
    /// any prefix may have been written.
    fn write_all(&self, buf: &[u8]) -> io::Result<()>;

    /// What `fstat` says; on a network file system the server is asked where that is possible (`AT_STATX_FORCE_SYNC`).
    fn stat(&self) -> io::Result<Meta>;

    /// Makes the data and the size durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;

    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Whether reading costs little only from one byte on to the next: bytes at other places may be far.
    fn is_sequential(&self) -> bool {
        false
    }
}

impl dyn Fs + '_ {
    /// Reads a whole small file; `Err(FileTooLarge)` when it holds more than `limit` bytes.
    pub fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenHow::Read)?;
        let mut out = Vec::new();
        loop {
            let at = out.len();
            out.resize(at + 16 * 1024, 0);
            let n = file.read_at(&mut out[at..], at as u64)?;
            out.truncate(at + n);
            if n == 0 {
                return Ok(out);
            }
            if out.len() > limit {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
            }
        }
    }

    /// Replaces a file so that a crash leaves the old content or the new, whole: written beside it, synced, renamed,
    /// the directory synced.
    pub fn replace(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = Path::new(&name);
        let file = self.open(new, OpenHow::Truncate(mode))?;
        file.write_all(content)?;
        file.sync()?;
        drop(file);
        self.rename(new, path)?;
        match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => self.sync_dir(dir),
            _ => self.sync_dir(Path::new(".")),
        }
    }
}
