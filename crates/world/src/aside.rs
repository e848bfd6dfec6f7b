//! Files that are to go for good: first they are put aside, so that what is removed is what was looked at.
//!
//! Comes in: a file, a place where nobody looks for it, and what has to hold. Goes out: whether it lies there now and that
//! holds. Always holds: it is renamed in one step and without replacing anything, and looked at again there by its descriptor;
//! what was swapped or written meanwhile goes back to its name. A crash in between leaves it in that place. Nothing is removed
//! here but a second name of the same file.
//! Tested by those who use it, with a crash and a swap at every step of the file system: the sweep and the harvester.

use std::io;
use std::path::Path;

use crate::{File, Fs, OpenHow};

/// Puts a file aside. `aside`: a path on its file system, in a folder of ours (made when it is missing) in which nobody else
/// has this name; what lies there already was put there before. `fits`: whether this is the file that is meant, and may go.
///
/// False: it doesn't fit, and has its name, or has it again.
///
/// # Errors
/// A call that failed; the file is where it was, or aside.
pub fn put_aside(
    fs: &dyn Fs,
    from: &Path,
    aside: &Path,
    fits: &dyn Fn(&dyn File) -> io::Result<bool>,
) -> io::Result<bool> {
    let folder = aside.parent().unwrap_or(Path::new("/"));
    if fs.stat(aside, false).is_err() {
        let file = fs.open(from, OpenHow::ReadNoFollow)?;
        if !fits(&*file)? {
            return Ok(false);
        }
        // It is there for certain before anything is put into it.
        fs.create_dir_all(folder, 0o700)?;
        folder.parent().map_or(Ok(()), |above| fs.sync_dir(above))?;
        // In one step, on NFS too: nothing is there, in a folder that is ours. Two names and then one less would take away what
        // somebody put in the file's place in between.
        fs.rename(from, aside)?;
        fs.sync_dir(folder)?;
    }
    if let (Ok(put), Ok(there)) = (fs.stat(aside, false), fs.stat(from, false))
        && (put.ino, put.dev) == (there.ino, there.dev)
    {
        // A second name that an earlier attempt couldn't take back.
        fs.remove(aside)?;
        return Ok(false);
    }
    // By now, or since a process that was killed here, it is where nobody looks for it.
    let looked = fs.open(aside, OpenHow::ReadNoFollow).and_then(|file| fits(&*file));
    if !matches!(looked, Ok(true)) {
        // Also what can't be opened: a link, whose place this isn't.
        fs.rename_new(aside, from)?;
    }
    looked
}
