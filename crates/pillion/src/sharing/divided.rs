//! Who divides the shared files otherwise than this replica: fixed parts beside replicas with a board, or parts of another number.
//!
//! Comes in: the replicas' folders. Goes out: the name of one that runs. Two divisions at once read files twice, for as long as
//! both go on: neither looks at what the other one takes.
//!
//! Always holds: whoever asks holds the lock of its own registry, so that of two that begin at once one sees the other. Who can't
//! be asked for is taken for running. *Limit:* where locks don't reach other machines, nobody is seen.
//! Tested below, and in `adopt.rs`.

use std::io;
use std::path::Path;

use pillion_registry::note;
use pillion_world::World;

use super::ours::listed;

/// The name of a fixed part's replica.
pub(super) fn part_name(index: u16, of: u16) -> String {
    format!("part-{index}-of-{of}")
}

/// Of how many parts a replica has one, by its name; `None`: it has a board.
fn parts(member: &str) -> Option<u16> {
    let (index, of) = member.strip_prefix("part-")?.split_once("-of-")?;
    let (index, of) = (index.parse().ok()?, of.parse().ok()?);
    (part_name(index, of) == member).then_some(of)
}

/// One that runs and divides the files otherwise than `member` does.
///
/// # Errors
/// When they can't be listed.
pub(super) fn divides_otherwise(world: &World, root: &Path, member: &str) -> io::Result<Option<String>> {
    let own = parts(member);
    let others = listed(world, root, |name| parts(name) != own)?;
    Ok(others.into_iter().find(|other| note::is_running(world, root, other)))
}

#[cfg(test)]
mod tests {
    use super::super::ours::replicas;
    use super::*;
    use pillion_registry::{Options, Registry};

    #[test]
    fn names_tell_how_the_files_are_divided() {
        for (name, of) in [
            ("part-1-of-2", Some(2)),
            ("part-64-of-64", Some(64)),
            ("part-01-of-2", None),
            ("part-1-of-2-00000000ff", None),
            ("pillion-00000000ff", None),
        ] {
            assert_eq!(parts(name), of, "{name}");
        }
    }

    #[test]
    fn who_runs_and_divides_otherwise_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (world, root) = (World::real(), dir.path());
        let start = |member: &str| {
            let data = note::data_path(root, member).unwrap();
            Registry::open(&world, &data, &Options::default()).unwrap().0
        };
        let other = |member: &str| divides_otherwise(&world, root, member).unwrap();
        let _one = start("part-1-of-2");
        let board = start("pod-00000000ff");
        assert_eq!(other("part-2-of-2").as_deref(), Some("pod-00000000ff"));
        assert_eq!(other("pod-00000000aa").as_deref(), Some("part-1-of-2"));
        drop(board);
        assert_eq!(other("part-2-of-2"), None, "it has ended");
        assert_eq!(other("part-1-of-3").as_deref(), Some("part-1-of-2"));
        // What isn't a replica's folder.
        std::fs::create_dir_all(replicas(root).join("half")).unwrap();
        world.fs.open(&replicas(root).join("file"), pillion_world::OpenHow::Truncate(0o600)).unwrap();
        assert_eq!(other("part-2-of-2"), None);
        assert!(!replicas(root).join("half").join("filebeat.lock").exists(), "looking makes nothing");
    }
}
