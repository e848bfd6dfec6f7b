//! `pillion install DIR`: this program, put on a volume that another container shares, so that an image that isn't ours can
//! run `DIR/pillion exec -- CMD`.
//!
//! Comes in: a folder, made if it isn't there. Goes out: `DIR/pillion`, executable by everybody.
//! Always holds: the file appears whole or not at all, also when several do this at once or one is killed; one that is
//! the same already isn't touched; nothing else is written, so that the root file system may be read-only.
//! Tested below.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::{complain, say, work};

/// The file's name.
const NAME: &str = "pillion";
/// Everybody may run it: the other container's user is often another.
const MODE: u32 = 0o755;

/// Installs, and gives the exit code.
pub(crate) fn install(dir: &Path) -> u8 {
    match copy(Path::new("/proc/self/exe"), dir) {
        Ok((path, true)) => say(&format!("{}\n", path.display())),
        Ok((path, false)) => say(&format!("{} is there already\n", path.display())),
        Err(e) => {
            complain(&format!(
                "error: {} can't be installed into {}: {e}\nremedy: name a folder on a volume that this user can write to",
                NAME,
                dir.display()
            ));
            work::FAILURE
        }
    }
}

/// Where it is now, and whether it had to be copied.
fn copy(program: &Path, dir: &Path) -> io::Result<(PathBuf, bool)> {
    fs::create_dir_all(dir)?;
    let path = dir.join(NAME);
    if is_same(program, &path)? {
        return Ok((path, false));
    }
    let new = dir.join(format!(".{NAME}.{}.{}", rustix::process::getpid().as_raw_nonzero(), hostname()));
    let done = fill(program, &new).and_then(|()| rename(&new, &path));
    if done.is_err() {
        let _ = fs::remove_file(&new);
    }
    done?;
    // So that a power failure doesn't take the name back.
    open(dir)?.sync_all()?;
    Ok((path, true))
}

/// Two pods on one volume have process ids of their own.
fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().replace('/', "_")
}

fn fill(program: &Path, new: &Path) -> io::Result<()> {
    let mut from = open(program)?;
    let mut to = File::options().write(true).create(true).truncate(true).mode(MODE).open(new)?;
    io::copy(&mut from, &mut to)?;
    to.flush()?;
    // The mask of new files may have taken bits away.
    to.set_permissions(Permissions::from_mode(MODE))?;
    to.sync_all()
}

fn is_same(program: &Path, installed: &Path) -> io::Result<bool> {
    let there = match fs::symlink_metadata(installed) {
        Ok(there) => there,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    if there.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, format!("{} is a folder", installed.display())));
    }
    let as_it_should_be = there.is_file() && there.permissions().mode() & 0o7777 == MODE;
    if !as_it_should_be || there.len() != fs::metadata(program)?.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (open(program)?, open(installed)?);
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let (n, m) = (read_full(&mut a, &mut left)?, read_full(&mut b, &mut right)?);
        if left.get(..n) != right.get(..m) {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

fn read_full(from: &mut File, buf: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while let Some(rest) = buf.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}

#[expect(clippy::disallowed_methods, reason = "a copy of a program isn't part of the core that is simulated")]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[expect(clippy::disallowed_methods, reason = "a copy of a program isn't part of the core that is simulated")]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    fn put(path: &Path, text: &str) {
        File::options().write(true).create(true).truncate(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn it_is_copied_once_and_replaced_when_it_differs() {
        let tmp = tempfile::tempdir().unwrap();
        let (program, dir) = (tmp.path().join("program"), tmp.path().join("shared/bin"));
        put(&program, "one");
        let (path, copied) = copy(&program, &dir).unwrap();
        assert_eq!((text(&path).as_str(), copied), ("one", true));
        let first = fs::metadata(&path).unwrap();
        assert_eq!(first.mode() & 0o7777, MODE);
        assert!(!copy(&program, &dir).unwrap().1);
        assert_eq!(fs::metadata(&path).unwrap().ino(), first.ino(), "it wasn't touched");

        put(&program, "two");
        assert!(copy(&program, &dir).unwrap().1, "the same length, other bytes");
        assert_eq!(text(&path), "two");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(copy(&program, &dir).unwrap().1, "it couldn't be run");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_link_is_replaced_and_a_folder_is_not() {
        let tmp = tempfile::tempdir().unwrap();
        let program = tmp.path().join("program");
        put(&program, "one");
        std::os::unix::fs::symlink(&program, tmp.path().join(NAME)).unwrap();
        assert!(copy(&program, tmp.path()).unwrap().1);
        assert!(fs::symlink_metadata(tmp.path().join(NAME)).unwrap().is_file());

        let other = tmp.path().join("other");
        fs::create_dir_all(other.join(NAME)).unwrap();
        assert!(copy(&program, &other).is_err());
        assert!(copy(&program, Path::new("/proc/no/such")).is_err());
    }
}
