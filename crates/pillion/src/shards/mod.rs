//! `pillion shards`: who has which shard, whether its owner lives, and how far behind it is.
//!
//! Comes in: the configuration that the replicas have. Goes out: a table for people, or JSON; exit code 0 when every shard
//! has an owner that lives, else 3.
//!
//! The way: two looks at the board, so far apart that a sign of life must have moved between them → [`behind`]: the registries
//! that the board names, and the files that they know → [`show`].
//!
//! Always holds: nothing is written, neither on the board nor on the file system. What others wrote isn't trusted: nothing
//! outside of the shared folder is looked at. Tested below, and by the command line's tests (`tests/run/shards.rs`).

mod behind;
mod show;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pillion_config::{Config, Error};
use pillion_engine::settings::EngineSettings;
use pillion_kube::client::{Target, own_namespace};
use pillion_kube::shards::{Leases, Settings};
use pillion_registry::{Options, note};
use pillion_shards::files::Files;
use pillion_shards::{BEATS, Backend, Beat, Record, Shard, Table};
use pillion_world::{Beneath, World};

use crate::cli::Shards;
use crate::sharing::blocking::Threads;
use crate::sharing::settings::{Board, Sharing};
use crate::work::{INCOMPLETE, fail};
use behind::Behind;

/// What this process is called on a board, where it never writes.
const OBSERVER: &str = "observer";

/// What can be told of a replica's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Its sign of life moved between the two looks.
    Alive,
    /// The same, and it gives its shards back.
    Leaving,
    /// Its sign of life stood still: others take its shards when that lasts for a lease.
    Still,
    /// It has none.
    Gone,
    /// Parts are fixed: nobody shows signs of life.
    Fixed,
}

/// All that is shown.
struct Picture {
    sharing: Sharing,
    /// Where the board is, in a few words.
    place: String,
    /// Every shard, also those that nobody ever took.
    table: Table,
    lives: BTreeMap<String, Life>,
    /// `None`: it wasn't asked for.
    behind: Option<Behind>,
    problems: Vec<String>,
}

impl Picture {
    /// Whether every shard has an owner that lives.
    fn is_whole(&self) -> bool {
        let lives = |owner: &String| {
            let life = self.lives.get(owner).copied().unwrap_or(Life::Gone);
            matches!(life, Life::Alive | Life::Leaving | Life::Fixed)
        };
        self.table.values().all(|record| record.owner.as_ref().is_some_and(lives))
    }
}

pub(crate) fn shards(flags: &Shards) -> u8 {
    let options = pillion_telemetry::Options::to_stderr(tracing::Level::WARN, pillion_telemetry::Form::Text);
    let _ = pillion_telemetry::init(options, &World::real());
    let (sharing, registry) = match settings(flags) {
        Ok(settings) => settings,
        Err(e) => return crate::refuse(&[e]),
    };
    // Nothing leads out of it, whatever is written there.
    let world = match Beneath::open(&sharing.root, &sharing.root) {
        Ok(beneath) => World { fs: Arc::new(beneath), ..World::real() },
        Err(e) => return fail(&format!("pillion.shards.root: {}: {e}", sharing.root.display())),
    };
    let picture = match look(flags, sharing, &world) {
        Ok(picture) => picture,
        Err(why) => return fail(&why),
    };
    let picture = with_behind(flags, picture, &world, &registry);
    crate::say(&if flags.json { show::json(&picture) } else { show::table(&picture) });
    if picture.is_whole() { 0 } else { INCOMPLETE }
}

fn settings(flags: &Shards) -> Result<(Sharing, Options), Error> {
    let config = Config::load(&World::real(), &flags.run.load)?;
    let root = config.root();
    let sharing = Sharing::from_root(&root)?.ok_or_else(|| {
        let remedy = "name the replicas' configuration with -c; `pillion help shards` says what it needs";
        root.error("pillion.shards", "this configuration shares no files between replicas", remedy)
    })?;
    Ok((sharing, EngineSettings::from_section(&root)?.registry))
}

fn look(flags: &Shards, sharing: Sharing, world: &World) -> Result<Picture, String> {
    let mut problems = Vec::new();
    let (place, seen) = match &sharing.board {
        Board::Static { of, .. } => (format!("static, {of} parts"), None),
        Board::Files => {
            let files = Files::new(world.clone(), &sharing.root, OBSERVER, sharing.lease, None, Threads);
            (
                format!("files in {}", sharing.root.join(".pillion/board").display()),
                Some(two_looks(&files, sharing.lease)?),
            )
        }
        Board::Kubernetes { namespace, group } => {
            let (target, namespace) = cluster(flags, namespace.as_deref())?;
            let place = format!("Lease {namespace}/{group}");
            let settings = Settings {
                namespace,
                group: group.clone(),
                member: OBSERVER.to_owned(),
                lease: sharing.lease,
                shards: None,
            };
            let leases = Leases::new(World::real(), target, &settings);
            (place, Some(two_looks(&leases, sharing.lease)?))
        }
    };
    let (mut table, mut lives) = seen.unwrap_or_default();
    for shard in (0..sharing.count).map(Shard) {
        let record = table.entry(shard).or_default();
        if record.registry.is_none() {
            noted(world, &sharing, shard, record, &mut problems);
        }
    }
    table.retain(|shard, _| shard.0 < sharing.count);
    for owner in table.values().filter_map(|record| record.owner.as_ref()) {
        let unknown = if matches!(sharing.board, Board::Static { .. }) { Life::Fixed } else { Life::Gone };
        lives.entry(owner.clone()).or_insert(unknown);
    }
    Ok(Picture { sharing, place, table, lives, behind: None, problems })
}

/// What the file system says of a shard of which the board doesn't.
fn noted(world: &World, sharing: &Sharing, shard: Shard, record: &mut Record, problems: &mut Vec<String>) {
    match note::read(world, &sharing.root, shard.0) {
        Ok(Some(note)) => {
            if matches!(sharing.board, Board::Static { .. }) {
                record.owner = note::member_of(&note.registry).map(str::to_owned);
            }
            record.epoch = record.epoch.max(note.epoch);
            record.registry = Some(note.registry);
        }
        Ok(None) => {}
        Err(e) => problems.push(format!("shard {shard}: its note: {e}")),
    }
}

/// Where the API server is, and the namespace of the Leases.
fn cluster(flags: &Shards, namespace: Option<&str>) -> Result<(Target, String), String> {
    let target = match &flags.api_server {
        Some(url) => Target::at(url),
        None => Target::in_cluster(&|name| std::env::var(name).ok()),
    };
    let target = target.map_err(|problem| {
        format!("{problem}\nOr run it in a replica: `kubectl exec POD -- pillion shards -c …`, or beside `kubectl proxy` with --api-server")
    })?;
    let own = || own_namespace(&World::real());
    let namespace = namespace.map(str::to_owned).or_else(own);
    let namespace = namespace.ok_or("the namespace of the Leases isn't known: set pillion.shards.namespace")?;
    Ok((target, namespace))
}

/// The table, and who lives.
type Seen = (Table, BTreeMap<String, Life>);

/// Two looks, between which each sign of life should have moved twice.
fn two_looks(backend: &impl Backend, lease: Duration) -> Result<Seen, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("the runtime can't start: {e}"))?;
    let looked = runtime.block_on(async {
        let first = backend.look().await?;
        tokio::time::sleep(lease * 2 / BEATS).await;
        Ok::<_, String>((first, backend.look().await?))
    });
    runtime.shutdown_background();
    let (first, second) = looked.map_err(|why| format!("the board can't be read: {why}"))?;
    let before: BTreeMap<&str, &Beat> = first.beats.iter().map(|beat| (beat.member.as_str(), beat)).collect();
    let lives = second.beats.iter().map(|beat| {
        let life = match before.get(beat.member.as_str()) {
            Some(old) if old.stamp == beat.stamp => Life::Still,
            _ if beat.leaving => Life::Leaving,
            _ => Life::Alive,
        };
        (beat.member.clone(), life)
    });
    let lives = lives.collect();
    Ok((second.table.map(|(_, table)| table).unwrap_or_default(), lives))
}

fn with_behind(flags: &Shards, mut picture: Picture, world: &World, options: &Options) -> Picture {
    if flags.behind {
        let (behind, problems) = behind::measure(world, &picture.sharing, &picture.table, options);
        picture.behind = Some(behind);
        picture.problems.extend(problems);
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;
    use pillion_shards::{Later, Rules, Version, Wrote};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A board that shows one state after the other.
    struct Scripted(AtomicUsize, Vec<pillion_shards::Board>);

    impl Backend for Scripted {
        fn beat(&self, _: bool) -> Later<'_, Result<(), String>> {
            Box::pin(async { Err("only looked at".to_owned()) })
        }
        fn look(&self) -> Later<'_, Result<pillion_shards::Board, String>> {
            let next = self.1.get(self.0.fetch_add(1, Ordering::Relaxed)).cloned();
            Box::pin(async { next.ok_or_else(|| "away".to_owned()) })
        }
        fn write(&self, _: Option<Version>, _: Table) -> Later<'_, Wrote> {
            Box::pin(async { Wrote::Unknown })
        }
        fn bury(&self, _: Beat) -> Later<'_, Result<(), String>> {
            Box::pin(async { Err("only looked at".to_owned()) })
        }
    }

    fn beat(member: &str, stamp: &str, leaving: bool) -> Beat {
        Beat { member: member.to_owned(), stamp: stamp.to_owned(), leaving, rules: Rules::default() }
    }

    #[test]
    fn life_is_what_moves_between_two_looks() {
        let board = |beats: Vec<Beat>| pillion_shards::Board { beats, table: None };
        let first =
            board(vec![beat("a", "1", false), beat("b", "1", false), beat("c", "1", false), beat("e", "1", false)]);
        let second =
            board(vec![beat("a", "2", false), beat("b", "1", false), beat("c", "2", true), beat("d", "1", false)]);
        let scripted = Scripted(AtomicUsize::new(0), vec![first.clone(), second]);
        let (_, lives) = two_looks(&scripted, Duration::from_millis(10)).unwrap();
        let lives: Vec<(&str, Life)> = lives.iter().map(|(member, life)| (member.as_str(), *life)).collect();
        assert_eq!(lives, [("a", Life::Alive), ("b", Life::Still), ("c", Life::Leaving), ("d", Life::Alive)]);
        let scripted = Scripted(AtomicUsize::new(0), vec![first]);
        assert!(two_looks(&scripted, Duration::from_millis(10)).unwrap_err().contains("away"));
    }
}
