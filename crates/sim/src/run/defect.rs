//! Defects that are planted, one at a time, to show that the simulation finds them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::run::application::LOGS;
use pillion_world::{File, Fs, Meta, OpenHow, Random, World};

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

    pillion_world::pass_fs!(this => this.fs; read_dir canonicalize read_link kind rename remove create_dir_all sync_dir try_lock);
}

impl File for BrokenFile {
    fn sync(&self) -> io::Result<()> {
        if self.defect == Defect::MissingSync { Ok(()) } else { self.file.sync() }
    }

    pillion_world::pass_file!(this => this.file; read_at write_all stat set_len);
}
