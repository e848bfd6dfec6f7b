//! The real machine behind [`crate::World`].
//!
//! Comes in: paths and byte ranges. Goes out: system calls, each interrupted one (`EINTR`) tried again.
//! Always holds: files are opened close-on-exec and non-blocking; nothing here blocks on a FIFO.
//! Tested below.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::retry_on_intr;

use crate::clock::{Clock, Mono, UnixMillis};
use crate::fs::{DirEntry, File, FileKind, Fs, FsKind, Lock, Meta, OpenHow};
use crate::random::Random;

/// The machine's clocks.
pub struct RealClock {
    origin: Instant,
}

impl RealClock {
    /// A clock whose monotonic time begins now.
    #[expect(clippy::disallowed_methods, reason = "this is where the core's time comes from")]
    #[expect(clippy::new_without_default, reason = "a clock that starts isn't a default value")]
    pub fn new() -> RealClock {
        RealClock { origin: Instant::now() }
    }
}

impl Clock for RealClock {
    fn mono(&self) -> Mono {
        Mono(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    #[expect(clippy::disallowed_methods, reason = "this is where the core's time comes from")]
    fn wall(&self) -> UnixMillis {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(d) => UnixMillis(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
            Err(before) => UnixMillis(i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms)),
        }
    }
}

/// The operating system's random numbers.
pub struct RealRandom;

impl Random for RealRandom {
    fn fill(&self, buf: &mut [u8]) {
        // Straight from the kernel: a library's own generator first gathers entropy, which takes 30 to 90 ms at a start.
        let mut rest = buf;
        while !rest.is_empty() {
            match rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty()) {
                Ok(n) => rest = rest.get_mut(n..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                // Going on without randomness could give two incarnations one name: see the trait.
                Err(_) => std::process::abort(),
            }
        }
    }
}

/// The machine's file system.
pub struct RealFs;

pub(crate) struct RealFile(pub(crate) OwnedFd);

struct RealLock {
    _fd: OwnedFd,
}

impl Lock for RealLock {}

fn kind_of_mode(mode: u32) -> FileKind {
    match rustix::fs::FileType::from_raw_mode(mode) {
        rustix::fs::FileType::RegularFile => FileKind::File,
        rustix::fs::FileType::Directory => FileKind::Dir,
        rustix::fs::FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

pub(crate) fn statx(dir: impl AsFd, path: &Path, flags: AtFlags) -> io::Result<Meta> {
    let s = retry_on_intr(|| rustix::fs::statx(dir.as_fd(), path, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME))?;
    let ns = |t: rustix::fs::StatxTimestamp| i128::from(t.tv_sec) * 1_000_000_000 + i128::from(t.tv_nsec);
    Ok(Meta {
        kind: kind_of_mode(u32::from(s.stx_mode)),
        len: s.stx_size,
        ino: s.stx_ino,
        dev: rustix::fs::makedev(s.stx_dev_major, s.stx_dev_minor),
        mtime_ns: ns(s.stx_mtime),
        birth_ns: (s.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| ns(s.stx_btime)),
        mode: u32::from(s.stx_mode) & 0o7777,
        uid: s.stx_uid,
        gid: s.stx_gid,
        nlink: u64::from(s.stx_nlink),
    })
}

/// Lists an open directory: see [`Fs::read_dir`].
pub(crate) fn list(fd: OwnedFd, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let mut buf = Vec::with_capacity(16 * 1024);
    let mut dir = rustix::fs::RawDir::new(fd, buf.spare_capacity_mut());
    while let Some(entry) = dir.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        };
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            rustix::fs::FileType::RegularFile => FileKind::File,
            rustix::fs::FileType::Directory => FileKind::Dir,
            rustix::fs::FileType::Symlink => FileKind::Symlink,
            rustix::fs::FileType::Unknown => FileKind::Unknown,
            _ => FileKind::Other,
        };
        if !each(DirEntry { name: std::ffi::OsStr::from_bytes(name), kind, ino: entry.ino() }) {
            break;
        }
    }
    Ok(())
}

/// What `statfs` says in `f_type`.
pub(crate) fn kind_of_magic(magic: u32) -> FsKind {
    // linux/magic.h, the file systems' own sources, and what coreutils' `stat` calls remote (src/stat.c). f_type is
    // sign-extended on some targets: compare 32 bits.
    match magic {
        0x6969 // NFS
        | 0x517b | 0xff53_4d42 | 0xfe53_4d42 // SMB, CIFS, SMB2
        | 0x0102_1997 // 9p
        | 0x00c3_6400 // Ceph
        | 0x0bd0_0bd0 | 0x0bd0_0bd3 // Lustre
        | 0x4750_4653 // GPFS
        | 0x1983_0326 // BeeGFS
        | 0x2003_0528 // OrangeFS
        | 0xaad7_aaea // PanFS
        | 0x0131_11a8 // IBRIX
        | 0xbeef_dead // StorNext
        | 0x5346_414f | 0x6b41_4653 // AFS, kAFS
        | 0x7375_7245 // Coda
        | 0x564c // NCP
        | 0x786f_4256 | 0x013a_adf5 // vboxsf, in the kernel and from VirtualBox
        | 0xbacb_acbc // VMware's shared folders
        | 0x7c7c_6673 // Parallels' shared folders
        // On disks that machines share:
        | 0x7461_636f // OCFS2
        | 0x0116_1970 // GFS2
        | 0x6163_6673 // ACFS
        | 0xa501_fcf5 // VxFS
        => FsKind::Network,
        0x6573_5546 => FsKind::Userspace, // sshfs, GlusterFS, s3fs, virtiofs, …
        _ => FsKind::Local,
    }
}

/// Renames without replacing. NFS and many FUSE file systems don't know that: there a second name is made, which fails as
/// well when something has it, and the first one removed.
pub(crate) fn rename_new_at(from: (BorrowedFd<'_>, &Path), to: (BorrowedFd<'_>, &Path)) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::renameat_with(from.0, from.1, to.0, to.1, rustix::fs::RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(from.0, from.1, to.0, to.1, AtFlags::empty())?;
            Ok(rustix::fs::unlinkat(from.0, from.1, AtFlags::empty())?)
        }
        done => Ok(done?),
    }
}

/// Takes a lock on an open file: see [`Fs::try_lock`].
pub(crate) fn flock(fd: OwnedFd) -> io::Result<Option<Box<dyn Lock>>> {
    match retry_on_intr(|| rustix::fs::flock(&fd, rustix::fs::FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(Some(Box::new(RealLock { _fd: fd }))),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

impl Fs for RealFs {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn File>> {
        let base = OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let (flags, mode) = match how {
            OpenHow::Read => (base | OFlags::RDONLY, 0),
            OpenHow::ReadNoFollow => (base | OFlags::RDONLY | OFlags::NOFOLLOW, 0),
            OpenHow::Append(mode) => (base | OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE, mode),
            OpenHow::Truncate(mode) => (base | OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::TRUNC, mode),
        };
        let fd = retry_on_intr(|| rustix::fs::open(path, flags, Mode::from_raw_mode(mode)))?;
        Ok(Box::new(RealFile(fd)))
    }

    fn stat(&self, path: &Path, follow: bool) -> io::Result<Meta> {
        let link = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        statx(CWD, path, AtFlags::STATX_FORCE_SYNC | link)
    }

    fn read_dir(&self, path: &Path, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> io::Result<()> {
        let flags = OFlags::CLOEXEC | OFlags::RDONLY | OFlags::DIRECTORY;
        list(retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?, each)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the real file system")]
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::canonicalize(path)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        let target = retry_on_intr(|| rustix::fs::readlink(path, Vec::new()))?;
        Ok(PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes())))
    }

    fn kind(&self, path: &Path) -> io::Result<FsKind> {
        let s = retry_on_intr(|| rustix::fs::statfs(path))?;
        Ok(kind_of_magic(s.f_type as u32))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::rename(from, to)?)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        rename_new_at((CWD, from), (CWD, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::unlink(path)?)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::rmdir(path)?)
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::EXIST) if self.stat(path, true)?.kind == FileKind::Dir => Ok(()),
            Err(rustix::io::Errno::NOENT) => match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => {
                    self.create_dir_all(parent, mode)?;
                    match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
                        // Somebody else was faster.
                        Err(rustix::io::Errno::EXIST) if self.stat(path, true)?.kind == FileKind::Dir => Ok(()),
                        made => Ok(made?),
                    }
                }
                _ => Err(rustix::io::Errno::NOENT.into()),
            },
            Err(e) => Err(e.into()),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let fd = retry_on_intr(|| {
            rustix::fs::open(path, OFlags::CLOEXEC | OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
        })?;
        Ok(rustix::fs::fsync(fd)?)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let flags = OFlags::CLOEXEC | OFlags::RDWR | OFlags::CREATE;
        let fd = retry_on_intr(|| rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)))?;
        flock(fd)
    }
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::pread(&self.0, &mut *buf, offset))?)
    }

    fn write_all(&self, mut buf: &[u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match retry_on_intr(|| rustix::io::write(&self.0, buf))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => buf = &buf[n..],
            }
        }
        Ok(())
    }

    fn stat(&self) -> io::Result<Meta> {
        // FUSE doesn't ask anew at an open: without the flag the size is what a look of a second ago made it.
        statx(&self.0, Path::new(""), AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::fdatasync(&self.0))?)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::ftruncate(&self.0, len))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_reads_lists_and_renames() {
        let tmp = tempfile::tempdir().unwrap();
        let fs: &dyn Fs = &RealFs;
        let dir = tmp.path().join("a/b");
        fs.create_dir_all(&dir, 0o700).unwrap();
        fs.create_dir_all(&dir, 0o700).unwrap();
        let path = dir.join("f");
        fs.replace(&path, b"one", 0o600).unwrap();
        let f = fs.open(&path, OpenHow::Append(0o600)).unwrap();
        f.write_all(b" two").unwrap();
        f.sync().unwrap();
        assert_eq!(fs.read(&path, 100).unwrap(), b"one two");
        assert_eq!(fs.read(&path, 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let meta = fs.stat(&path, true).unwrap();
        assert_eq!((meta.kind, meta.len, meta.mode, meta.nlink), (FileKind::File, 7, 0o600, 1));
        assert_eq!(f.stat().unwrap(), meta);
        let mut names = Vec::new();
        fs.read_dir(&dir, &mut |e| {
            names.push((e.name.to_owned(), e.kind, e.ino));
            true
        })
        .unwrap();
        assert_eq!(names, [("f".into(), FileKind::File, meta.ino)]);
        fs.remove(&path).unwrap();
        assert_eq!(f.stat().unwrap().nlink, 0);
        assert_eq!(fs.stat(&path, true).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_fifo_does_not_block_and_a_link_is_not_followed() {
        let tmp = tempfile::tempdir().unwrap();
        let fifo = tmp.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let f = RealFs.open(&fifo, OpenHow::Read).unwrap();
        assert_eq!(f.stat().unwrap().kind, FileKind::Other);
        let link = tmp.path().join("link");
        std::os::unix::fs::symlink(&fifo, &link).unwrap();
        assert!(RealFs.open(&link, OpenHow::ReadNoFollow).is_err());
        assert_eq!(RealFs.stat(&link, false).unwrap().kind, FileKind::Symlink);
        assert_eq!(RealFs.read_link(&link).unwrap(), fifo);
        assert_eq!(RealFs.read_link(&fifo).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn network_file_systems_are_known_by_what_statfs_says() {
        let network: [(&str, u32); 13] = [
            ("NFS, every version", 0x6969),
            ("SMB", 0x517b),
            ("CIFS, where f_type is a negative number", -11_317_950_i64 as u32),
            ("SMB 2 and 3", -28_095_166_i32 as u32),
            ("CephFS", 0x00c3_6400),
            ("9p", 0x0102_1997),
            ("Lustre", 0x0bd0_0bd0),
            ("GPFS", 0x4750_4653),
            ("BeeGFS", 0x1983_0326),
            ("AFS", 0x5346_414f),
            ("GFS2", 0x0116_1970),
            ("OCFS2", 0x7461_636f),
            ("vboxsf", 0x786f_4256),
        ];
        for (name, magic) in network {
            assert_eq!(kind_of_magic(magic), FsKind::Network, "{name}");
        }
        assert_eq!(kind_of_magic(0x6573_5546), FsKind::Userspace, "sshfs, GlusterFS, s3fs, JuiceFS, virtiofs");
        let local = [
            ("ext4", 0xef53),
            ("xfs", 0x5846_5342),
            ("btrfs", 0x9123_683e),
            ("tmpfs", 0x0102_1994),
            ("overlayfs", 0x794c_7630),
            ("zfs", 0x2fc1_2fc1),
            ("f2fs", 0xf2f5_2010),
            ("hostfs", 0x00c0_ffee),
        ];
        for (name, magic) in local {
            assert_eq!(kind_of_magic(magic), FsKind::Local, "{name}");
        }
    }

    #[test]
    fn a_lock_is_held_by_one() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("filebeat.lock");
        let held = RealFs.try_lock(&path).unwrap().unwrap();
        assert!(RealFs.try_lock(&path).unwrap().is_none());
        drop(held);
        assert!(RealFs.try_lock(&path).unwrap().is_some());
    }

    #[test]
    fn who_makes_the_same_folders_at_once_gets_them() {
        for round in 0..200 {
            let tmp = tempfile::tempdir().unwrap();
            let path = tmp.path().join("logs/.pillion/board/members");
            let together = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                let each = (0..4).map(|_| {
                    scope.spawn(|| {
                        together.wait();
                        RealFs.create_dir_all(&path, 0o700)
                    })
                });
                let each: Vec<_> = each.collect();
                each.into_iter().for_each(|made| made.join().unwrap().unwrap_or_else(|e| panic!("{round}: {e}")));
            });
        }
    }
}
