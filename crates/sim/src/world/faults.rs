//! What may go wrong while the process runs. Each is a chance in 10,000 for one call.

/// Chances of faults, each in 10,000 calls of the process under test; the application's own calls never fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A look fails with `EIO`: at a path, at an open file, at what kind of file system it is, at a listing, of which any
    /// number of names was told before; or a file can't be opened for reading. The next one may succeed.
    pub look_error: u32,
    /// A read returns fewer bytes than there are.
    pub short_read: u32,
    /// A read fails with `EIO`; the next one may succeed.
    pub read_error: u32,
    /// A write fails with `ENOSPC` after any number of its bytes.
    pub no_space: u32,
    /// A write or the making of a file fails with `EIO`; of a write any number of bytes are there.
    pub write_error: u32,
    /// A sync fails with `EIO`. As on Linux, what it should have written may be lost though it is still to be seen, and
    /// the next sync says that all is well.
    pub sync_error: u32,
    /// A rename, removal or sync of a directory fails with `EIO`; half of them have taken effect.
    pub dir_error: u32,
    /// On a network file system: an open file has become stale (`ESTALE`, for good), or a look at a path, opening or listing
    /// fails so (once).
    pub stale_handle: u32,
    /// On a network file system, for each name that the application removes: the server forgets the file though it is open
    /// (`ESTALE`, for good), and its inode number is free.
    pub forgotten: u32,
    /// On a network file system: a size as it was before the last change, from a path or an open file. The first `stat` of
    /// a newly opened file never lies (close-to-open consistency).
    pub stale_size: u32,
    /// On a network file system: a size ahead of the data that can be read.
    pub size_ahead: u32,
    /// On a network file system: a part of what came since a file was opened reads as zeros, though there is data behind it: its
    /// writer's machine sends pages in any order. Not once that was read.
    pub hole: u32,
    /// On a network file system: a path leads to what was there before its last change: the old inode, or nothing, for
    /// `stat` and `open` alike. Not once the directory itself was looked at after the change.
    pub stale_name: u32,
    /// On a network file system: a listing is old: it leaves out a name, or shows one that is gone. Not once the directory
    /// itself was looked at after the change.
    pub stale_dir: u32,
    /// A listing doesn't tell an entry's kind.
    pub unknown_kind: u32,
}

impl Faults {
    /// Everything works.
    pub const NONE: Faults = Faults {
        look_error: 0,
        short_read: 0,
        read_error: 0,
        no_space: 0,
        write_error: 0,
        sync_error: 0,
        dir_error: 0,
        stale_handle: 0,
        forgotten: 0,
        stale_size: 0,
        size_ahead: 0,
        hole: 0,
        stale_name: 0,
        stale_dir: 0,
        unknown_kind: 0,
    };

    /// Each kind of fault now and then: the usual mixture for long runs.
    pub const SOME: Faults = Faults {
        look_error: 50,
        short_read: 1000,
        read_error: 50,
        no_space: 50,
        write_error: 50,
        sync_error: 50,
        dir_error: 50,
        stale_handle: 50,
        forgotten: 3000,
        stale_size: 300,
        size_ahead: 300,
        hole: 300,
        stale_name: 200,
        stale_dir: 200,
        unknown_kind: 500,
    };
}
