//! Who reads what: inputs divided by the mounts that they can reach, so that one that hangs holds up no other.
//!
//! Comes in: the inputs, the mounts. Goes out: [`Share`]s, each for a harvester of its own.
//!
//! Always holds:
//! - Without a network mount under any pattern there is one share, and it is all inputs, as they are.
//! - All local mounts are one share: what a disk doesn't answer it doesn't answer to anybody. Each network file system is
//!   another; what can reach several is read by a share for these together.
//! - Two shares never have a registry key in common. Keys are shared by the inputs of a group (the inputs of type `log`,
//!   the patterns of one filestream): a group is divided only by device, and only where its keys have the device or the
//!   path in them. Where a fingerprint or a marker tells files apart, or links to files are followed, a group stays whole.
//! - There are at most [`MAX_SHARES`] shares; the mounts beyond share the last one, and that is said.
//!
//! Tested below and in the program's readers.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use pillion_world::World;
use pillion_world::rotated::Names;

use crate::harvest::{GroupName, group_name};
use crate::mount::{Mounts, On};
use crate::spec::{Identity, InputSpec, Own};

/// Threads that read files, at most: each costs a stack and, with its malloc arena, some 100 KB.
pub const MAX_SHARES: usize = 8;

/// What one harvester reads.
#[derive(Clone, Debug, Default)]
pub struct Share {
    /// Its inputs. One whose patterns lie on several mounts is in several shares, each with its own patterns.
    pub inputs: Vec<InputSpec>,
    /// What it must not read, without asking a mount that is another share's.
    pub own: Own,
    /// Where the network file systems are mounted that it reads; none: it reads local files alone.
    pub mounts: Vec<PathBuf>,
}

/// All inputs, divided.
#[derive(Clone, Debug)]
pub struct Division {
    /// At least one.
    pub shares: Vec<Share>,
    /// How many mounts have no share of their own, since there are too many.
    pub crowded: usize,
    /// The share of each group that an input which comes later could be of.
    homes: HashMap<GroupName, usize>,
}

/// The patterns of an input that go together: the input's number, and theirs.
type Part = (usize, Vec<usize>);

/// What has to be read by one harvester.
struct Piece {
    on: BTreeSet<On>,
    parts: Vec<Part>,
}

impl Division {
    /// Divides the inputs. `live`: further ones may come, of which nothing is known yet: inputs that could share a key with
    /// one of those stay together.
    pub fn of(world: &World, mounts: &Mounts, inputs: Vec<InputSpec>, own: &Own, live: bool) -> Division {
        let mut pieces: Vec<Piece> = Vec::new();
        if mounts.any_network() {
            for group in groups(&inputs) {
                pieces.extend(divide(world, mounts, &inputs, &group, live));
            }
        }
        let mut shares: Vec<(Vec<On>, Vec<Part>)> = Vec::new();
        if live {
            shares.push((Vec::new(), Vec::new()));
        }
        for piece in pieces {
            let to_home = live && piece.parts.iter().any(|(input, _)| !inputs[*input].is_filestream());
            let mut on: Vec<On> = piece.on.into_iter().filter(|on| *on != On::Local).collect();
            match shares.iter_mut().enumerate().find(|(i, share)| share.0 == on || (to_home && *i == 0)) {
                Some((_, share)) => {
                    share.0.append(&mut on);
                    share.1.extend(piece.parts);
                }
                None => shares.push((on, piece.parts)),
            }
        }
        if shares.iter().all(|(on, _)| on.is_empty()) {
            return Division { shares: vec![whole(inputs, own)], crowded: 0, homes: HashMap::new() };
        }
        let crowded = crowd(&mut shares, usize::from(live));
        let mut homes = HashMap::new();
        let placed = placed(world, mounts, own);
        let shares = shares
            .into_iter()
            .enumerate()
            .map(|(i, (on, parts))| {
                let inputs = taken(&inputs, parts);
                homes.extend(inputs.iter().filter(|_| live).map(|input| (group_name(input), i)));
                let own = Own { foreign: mounts.points_without(&on), ..placed.clone() };
                Share { inputs, own, mounts: mounts.points_of(&on) }
            })
            .collect();
        Division { shares, crowded, homes }
    }

    /// Which share an input belongs to that comes later.
    pub fn home(&self, input: &InputSpec) -> usize {
        self.homes.get(&group_name(input)).copied().unwrap_or(0)
    }
}

/// The inputs as they are, for one harvester.
fn whole(inputs: Vec<InputSpec>, own: &Own) -> Share {
    Share { inputs, own: own.clone(), mounts: Vec::new() }
}

/// The numbers of the inputs of each group, in their order.
fn groups(inputs: &[InputSpec]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(GroupName, Vec<usize>)> = Vec::new();
    for (number, input) in inputs.iter().enumerate() {
        let name = group_name(input);
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, numbers)) => numbers.push(number),
            None => groups.push((name, vec![number])),
        }
    }
    groups.into_iter().map(|(_, numbers)| numbers).collect()
}

/// Divides one group: what can reach the same file system stays together.
fn divide(world: &World, mounts: &Mounts, inputs: &[InputSpec], group: &[usize], live: bool) -> Vec<Piece> {
    let by_place = |input: &InputSpec| matches!(input.identity, Identity::Native | Identity::Path) && !input.symlinks;
    let together = live || !group.iter().all(|number| by_place(&inputs[*number]));
    let mut pieces: Vec<Piece> = Vec::new();
    for &number in group {
        for (pattern, glob) in inputs[number].paths.iter().enumerate() {
            let root = mounts.place(world, &glob.root());
            let mut on = BTreeSet::from([root.on, root.through]);
            on.extend(mounts.below(&root.path, glob.depth()));
            let mut piece = Piece { on, parts: vec![(number, vec![pattern])] };
            pieces = pieces
                .into_iter()
                .filter_map(|other| {
                    if !together && other.on.is_disjoint(&piece.on) {
                        return Some(other);
                    }
                    piece.on.extend(other.on);
                    piece.parts.extend(other.parts);
                    None
                })
                .collect();
            pieces.push(piece);
        }
    }
    pieces
}

/// Puts the shares beyond the limit into the last one; how many went there with it. The first `fixed` stay where they are.
fn crowd(shares: &mut Vec<(Vec<On>, Vec<Part>)>, fixed: usize) -> usize {
    // Local files have their own thread even when there are more mounts than threads.
    if let Some(free) = shares.get_mut(fixed..) {
        free.sort_by_key(|(on, _)| !on.is_empty());
    }
    let beyond = shares.split_off(shares.len().min(MAX_SHARES));
    let crowded = if beyond.is_empty() { 0 } else { beyond.len() + 1 };
    if let Some(last) = shares.last_mut() {
        for (on, parts) in beyond {
            last.0.extend(on);
            last.1.extend(parts);
        }
    }
    crowded
}

/// The inputs of a share, each with the patterns that are its.
fn taken(inputs: &[InputSpec], mut parts: Vec<Part>) -> Vec<InputSpec> {
    parts.sort_unstable();
    let mut out: Vec<(usize, InputSpec)> = Vec::new();
    for (number, patterns) in parts {
        let input = &inputs[number];
        let paths = patterns.iter().map(|pattern| input.paths[*pattern].clone());
        match out.last_mut() {
            Some((last, taken)) if *last == number => taken.paths.extend(paths),
            _ => out.push((number, InputSpec { paths: paths.collect(), ..input.clone() })),
        }
    }
    out.into_iter().map(|(_, input)| input).collect()
}

/// What isn't read, by the paths without the links that lead there.
fn placed(world: &World, mounts: &Mounts, own: &Own) -> Own {
    let place = |path: &PathBuf| mounts.place(world, path).path;
    Own {
        dirs: own.dirs.iter().map(place).collect(),
        files: own.files.iter().map(place).collect(),
        rotated: own.rotated.iter().map(|names| Names { dir: place(&names.dir), ..names.clone() }).collect(),
        foreign: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::tests::MOUNTS;
    use crate::parse::{Chain, ChainOptions};
    use crate::scan::Glob;
    use pillion_event::{InputDesc, InputKind};
    use std::sync::Arc;

    fn input(kind: InputKind, id: &str, paths: &[&str]) -> InputSpec {
        let globs = paths.iter().map(|p| Glob::new(p.as_ref(), true).unwrap()).collect();
        InputSpec::new(Arc::new(InputDesc::bare(kind, id)), Arc::new(Chain::new(ChainOptions::default())), globs)
    }

    fn log(paths: &[&str]) -> InputSpec {
        input(InputKind::Log, "", paths)
    }

    fn stream(id: &str, paths: &[&str]) -> InputSpec {
        let identity = Identity::Fingerprint { offset: 0, length: 1024, growing: true };
        InputSpec { identity, ..input(InputKind::Filestream, id, paths) }
    }

    /// The roots of the patterns of each share.
    fn divided(inputs: Vec<InputSpec>, live: bool) -> Vec<Vec<String>> {
        let mounts = Mounts::parse(MOUNTS.as_bytes());
        let division = Division::of(&World::real(), &mounts, inputs, &Own::default(), live);
        let roots = |share: &Share| -> Vec<String> {
            share.inputs.iter().flat_map(|i| i.paths.iter().map(|g| g.root().display().to_string())).collect()
        };
        division.shares.iter().map(roots).collect()
    }

    #[test]
    fn each_network_file_system_is_read_apart() {
        let one = |roots: &[&str]| -> Vec<String> { roots.iter().map(|r| (*r).to_owned()).collect() };
        for (what, inputs, want) in [
            ("local files", vec![log(&["/no/a/*", "/no/b/*"]), log(&["/x/*"])], vec![one(&["/no/a", "/no/b", "/x"])]),
            (
                "one input",
                vec![log(&["/no/a/*", "/data/a/*", "/no/b/*"])],
                vec![one(&["/no/a", "/no/b"]), one(&["/data/a"])],
            ),
            ("network alone", vec![log(&["/data/*"]), log(&["/mnt/b c/*"])], vec![one(&["/data"]), one(&["/mnt/b c"])]),
            ("one device", vec![log(&["/data/x/*", "/mnt/jobs/*"])], vec![one(&["/data/x", "/mnt/jobs"])]),
            (
                "a mount below",
                vec![log(&["/mnt/*/*"]), log(&["/data/*"]), log(&["/no/*"])],
                vec![one(&["/mnt", "/data", "/no"])],
            ),
            (
                "a mount below is another group's business",
                vec![log(&["/mnt/*/*"]), stream("a", &["/no/*"]), stream("b", &["/mnt/b c/*"])],
                vec![one(&["/no"]), one(&["/mnt"]), one(&["/mnt/b c"])],
            ),
            ("too deep", vec![log(&["/*.log", "/data/x/y/*"])], vec![one(&["/", "/data/x/y"])]),
            ("deep enough", vec![log(&["/no/*.log", "/data/x/y/*"])], vec![one(&["/no"]), one(&["/data/x/y"])]),
            ("a file system on a network", vec![log(&["/data/local/*", "/no/*"])], vec![one(&["/data/local", "/no"])]),
            ("fingerprints", vec![stream("a", &["/no/*", "/data/*"])], vec![one(&["/no", "/data"])]),
            (
                "fingerprints of two",
                vec![stream("a", &["/data/*"]), stream("b", &["/no/*"])],
                vec![one(&["/no"]), one(&["/data"])],
            ),
            (
                "links",
                vec![InputSpec { symlinks: true, ..log(&["/no/*"]) }, log(&["/data/*"])],
                vec![one(&["/no", "/data"])],
            ),
        ] {
            let mut got = divided(inputs, false);
            let mut want = want;
            got.iter_mut().chain(&mut want).for_each(|share| share.sort());
            got.sort();
            want.sort();
            assert_eq!(got, want, "{what}");
        }
    }

    #[test]
    fn what_may_come_later_finds_its_group() {
        let inputs = || vec![stream("a", &["/data/*"]), log(&["/mnt/b c/*"]), stream("b", &["/no/*"])];
        let got = divided(inputs(), true);
        assert_eq!(got, [["/mnt/b c"], ["/no"], ["/data"]]);
        let mounts = Mounts::parse(MOUNTS.as_bytes());
        let division = Division::of(&World::real(), &mounts, inputs(), &Own::default(), true);
        assert_eq!(division.home(&log(&["/data/*"])), 0);
        assert_eq!(division.home(&stream("a", &["/no/*"])), 2);
        assert_eq!(division.home(&stream("new", &["/data/*"])), 0);
        assert_eq!(divided(Vec::new(), true), [Vec::<String>::new()]);
    }

    #[test]
    fn beyond_the_limit_mounts_share_a_thread() {
        let table: String = (0..20).fold("1 0 8:1 / / rw - ext4 / rw\n".into(), |t, i| {
            format!("{t}{} 1 0:{} / /n{i} rw - nfs4 s:/ rw\n", i + 10, i + 30)
        });
        let paths: Vec<String> = (0..20).map(|i| format!("/n{i}/*")).chain(["/no/*".into()]).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let (world, mounts) = (World::real(), Mounts::parse(table.as_bytes()));
        let division = Division::of(&world, &mounts, vec![log(&paths)], &Own::default(), false);
        assert_eq!((division.shares.len(), division.crowded), (MAX_SHARES, 14));
        let patterns: Vec<usize> = division.shares.iter().map(|s| s.inputs[0].paths.len()).collect();
        assert_eq!(patterns, [1, 1, 1, 1, 1, 1, 1, 14]);
        assert!(division.shares[0].mounts.is_empty() && division.shares[7].mounts.len() == 14);
    }

    #[test]
    fn a_mount_of_another_share_is_not_asked_for_what_is_ours() {
        let own = Own { dirs: vec!["/data/pillion".into()], files: vec!["/mnt/b c/flag".into()], ..Own::default() };
        let mounts = Mounts::parse(MOUNTS.as_bytes());
        let inputs = vec![log(&["/data/x/*", "/no/*"])];
        let division = Division::of(&World::real(), &mounts, inputs, &own, false);
        let foreign: Vec<_> = division.shares.iter().map(|s| s.own.foreign.len()).collect();
        assert_eq!(foreign, [4, 2]);
        assert!(division.shares.iter().all(|s| s.own.dirs == own.dirs && s.own.files == own.files));
    }
}
