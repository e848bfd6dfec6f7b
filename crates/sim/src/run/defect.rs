//! Defects that are planted, one at a time, to show that the simulation finds them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::run::application::LOGS;
use pillion_world::{DirEntry, File, Fs, FsKind, Lock, Meta, OpenHow, Random, World};

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// A request is settled when it is taken, before the target has it.
    CommitBeforeAck,
    /// `File::sync` does nothing.
    MissingSync,
    /// The registry's log is never emptied: what is new is written behind a torn tail.
    TornTail,
    /// "There already" is believed for any id, and incarnations repeat.
    BelievedConflict,
    /// A size is believed that isn't the first one that a newly opened file tells: a cache's word.
    SizeBelieved,
    /// A folder is never asked for its attributes, so that old names and listings stay.
    FolderNotAsked,
}

impl Defect {
    /// All of them.
    pub const ALL: [Defect; 6] = [
        Defect::CommitBeforeAck,
        Defect::MissingSync,
        Defect::TornTail,
        Defect::BelievedConflict,
        Defect::SizeBelieved,
        Defect::FolderNotAsked,
    ];

    /// Whether it can show only where stats and names lie.
    pub fn needs_network(self) -> bool {
        matches!(self, Defect::SizeBelieved | Defect::FolderNotAsked)
    }

    /// The world as a program with this defect has it.
    pub(crate) fn world(self, world: World) -> World {
        match self {
            Defect::CommitBeforeAck => world,
            Defect::BelievedConflict => World { random: Arc::new(Repeating), ..world },
            Defect::MissingSync | Defect::TornTail | Defect::SizeBelieved | Defect::FolderNotAsked => {
                World { fs: Arc::new(BrokenFs { fs: world.fs, defect: self }), ..world }
            }
        }
    }
}

struct Repeating;

impl Random for Repeating {
    fn fill(&self, buf: &mut [u8]) {
        buf.fill(7);
    }
}

struct BrokenFs {
    fs: Arc<dyn Fs>,
    defect: Defect,
}

struct BrokenFile {
    file: Box<dyn File>,
    defect: Defect,
}

impl Fs for BrokenFs {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn File>> {
        let how = match how {
            OpenHow::Truncate(mode) if self.defect == Defect::TornTail && path.ends_with("log.json") => {
                OpenHow::Append(mode)
            }
            how => how,
        };
        let file = self.fs.open(path, how)?;
        if self.defect == Defect::SizeBelieved {
            file.stat()?;
        }
        Ok(Box::new(BrokenFile { file, defect: self.defect }))
    }
    fn stat(&self, path: &Path, follow: bool) -> io::Result<Meta> {
        if self.defect != Defect::FolderNotAsked || path != Path::new(LOGS) {
            return self.fs.stat(path, follow);
        }
        // Its parent answers for it.
        self.fs.stat(Path::new("/"), follow)
    }
    fn read_dir(&self, path: &Path, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> io::Result<()> {
        self.fs.read_dir(path, each)
    }
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.fs.canonicalize(path)
    }
    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.fs.read_link(path)
    }
    fn kind(&self, path: &Path) -> io::Result<FsKind> {
        self.fs.kind(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fs.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.fs.remove(path)
    }
    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.fs.create_dir_all(path, mode)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.fs.sync_dir(path)
    }
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.fs.try_lock(path)
    }
}

impl File for BrokenFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn write_all(&self, buf: &[u8]) -> io::Result<()> {
        self.file.write_all(buf)
    }
    fn stat(&self) -> io::Result<Meta> {
        self.file.stat()
    }
    fn sync(&self) -> io::Result<()> {
        if self.defect == Defect::MissingSync { Ok(()) } else { self.file.sync() }
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}
