//! What a look at a known file means.
//!
//! Comes in: what is remembered of it and what `stat` says now. Goes out: a [`Verdict`]. No I/O.
//!
//! | what happened | what is seen | verdict | what follows |
//! |---|---|---|---|
//! | nothing | same size, same mtime | `Same` | – |
//! | append | larger | `Grown` | read on, after a check of the bytes before `pos` |
//! | copytruncate, new content shorter | smaller than what was read | `Shrunk` | new incarnation at 0; the unread rest is lost and counted |
//! | copytruncate, new content as long or longer | same size or larger, another mtime | `Touched` or `Grown` | the bytes before `pos` are others: as `Shrunk` |
//! | inode reused | same inode, another birth | `Another` | new incarnation at 0, descriptor opened anew |
//! | inode reused, births unknown | smaller, or other bytes before `pos` | `Shrunk`, or `Grown` and the check | as `Shrunk` |
//!
//! On a network file system a size that is smaller, or anything else that doesn't agree with what is known, comes here only
//! after it was asked for again (`trust.rs`).
//!
//! What is seen under another path, under another inode, or no longer at all is the business of `look.rs`:
//!
//! | what happened | what is seen | what follows |
//! |---|---|---|
//! | new file | unknown inode | new incarnation; read from 0 (or the end, as the options say) |
//! | rename | known inode, other path, the old path leads elsewhere | the path is changed, here and in the registry |
//! | hard link, link to a file that is read already | known inode, other path, the old path leads to it too | nothing: the first path counts |
//! | rotation by rename, also within one scan | known inode at the new path, unknown one at the old | both of the above |
//! | copytruncate with the copy in `paths`, fingerprints | unknown inode with the fingerprint of a file that shrank | the copy goes on with the old incarnation; nothing is lost or doubled |
//! | the same, but the copy is seen before the truncation | unknown inode while the original is as it was | another file, read from 0: its lines come twice, none is lost (as with Filebeat by inode; Filebeat by fingerprint ignores the copy for as long, and with it files that only begin alike) |
//! | deleted, descriptor open | path is gone, no name left | read to its end, then closed |
//! | deleted, no descriptor | path is gone at the end of a scan (a second look on a network file system) | the unread bytes are lost and counted |
//! | moved to where nobody looks | path is gone, still a name | as deleted |
//! | another file with the same beginning | unknown inode, known fingerprint, its owner is still there | another file: a key of its own |
//! | moved between file systems, inode changed under it | unknown inode, known fingerprint (or the same path on a network file system), its owner is gone | goes on where that one was |
//!
//! Tested below and in `tests/rotation.rs`.

use pillion_world::Meta;

use crate::harvest::file::{FileState, differ, ns};

/// What a look means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing happened.
    Same,
    /// There is more to read.
    Grown,
    /// It was written to, but isn't longer: the content may be another.
    Touched,
    /// It is shorter than what was read: cut off and begun anew.
    Shrunk,
    /// The inode belongs to another file now.
    Another,
}

/// Judges a look at a file whose device and inode are the known ones.
pub(crate) fn judge(known: &FileState, seen: &Meta) -> Verdict {
    if differ(known.birth_ns, ns(seen.birth_ns)) {
        Verdict::Another
    } else if seen.len < known.floor() {
        Verdict::Shrunk
    } else if seen.len > known.floor() {
        Verdict::Grown
    } else if known.mtime_ns != seen.mtime_ns as i64 || seen.len < known.sure_len {
        Verdict::Touched
    } else {
        Verdict::Same
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pillion_event::Incarnation;
    use pillion_world::{FileKind, Mono};
    use std::path::PathBuf;

    fn meta(len: u64, mtime_ns: i128, birth_ns: Option<i128>) -> Meta {
        Meta { kind: FileKind::File, len, ino: 1, dev: 2, mtime_ns, birth_ns, mode: 0o600, uid: 0, gid: 0, nlink: 1 }
    }

    #[test]
    fn the_table() {
        let born = Some(5);
        let mut file = FileState::new(0, PathBuf::from("/a"), &meta(100, 7, born), Incarnation(1), Mono(0));
        (file.pos, file.scanned_to) = (80, 100);
        for (len, mtime, birth, want) in [
            (100, 7, born, Verdict::Same),
            (100, 7, None, Verdict::Same),
            (101, 7, born, Verdict::Grown),
            (100, 8, born, Verdict::Touched),
            (99, 8, born, Verdict::Shrunk),
            (0, 8, born, Verdict::Shrunk),
            (100, 7, Some(6), Verdict::Another),
            (500, 7, Some(6), Verdict::Another),
        ] {
            assert_eq!(judge(&file, &meta(len, mtime, birth)), want, "{len} {mtime} {birth:?}");
        }
    }
}
