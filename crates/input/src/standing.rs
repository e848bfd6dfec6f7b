//! Where reading stands, in a few numbers.
//!
//! Comes in: what a harvester counts. Goes out: the same, to any thread at any time, also while the reading thread hangs.
//! Tested with the harvester.

/// What a reading thread has before it, and what it holds. Of standard input and sockets nothing but what is left out, and of
/// sockets what was dropped, is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Bytes between what is in batches and the ends of the files, as their sizes were last seen.
    pub unread_bytes: u64,
    /// Files with such bytes.
    pub unread_files: u64,
    /// Files that are known.
    pub files: u64,
    /// Open descriptors.
    pub open: u64,
    /// How often a file was opened since the start.
    pub opened: u64,
    /// Files that weren't taken up since the table is full.
    pub refused: u64,
    /// How often a file was found at another path since the start.
    pub renamed: u64,
    /// How often a file began anew since it was truncated.
    pub truncated: u64,
    /// Files that are gone, and that the registry has forgotten.
    pub forgotten: u64,
    /// Lines and events that the configuration left out.
    pub filtered: u64,
    /// Events beyond what `rate_limit` lets through.
    pub limited: u64,
    /// Datagrams that the kernel dropped.
    pub datagrams: u64,
    /// Bytes that were destroyed before they could be read.
    pub lost: u64,
}

impl Standing {
    /// Adds another thread's.
    pub fn add(&mut self, other: &Standing) {
        self.unread_bytes += other.unread_bytes;
        self.unread_files += other.unread_files;
        self.files += other.files;
        self.open += other.open;
        self.opened += other.opened;
        self.refused += other.refused;
        self.renamed += other.renamed;
        self.truncated += other.truncated;
        self.forgotten += other.forgotten;
        self.filtered += other.filtered;
        self.limited += other.limited;
        self.datagrams += other.datagrams;
        self.lost += other.lost;
    }
}
