//! The picture as a table for people, and as JSON for programs. Tested below.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pillion_shards::Shard;
use serde_json::{Value, json};

use super::behind::Count;
use super::{Life, Picture};
use crate::sharing::settings::Board;

/// The longest name that a column is made as wide as.
const WIDEST: usize = 40;

fn word(life: Life) -> &'static str {
    match life {
        Life::Alive => "alive",
        Life::Leaving => "leaving",
        Life::Still => "still",
        Life::Gone => "gone",
        Life::Fixed => "fixed",
    }
}

/// Replicas with their shards; those without shards too.
fn replicas(picture: &Picture) -> BTreeMap<&str, (Life, Vec<Shard>)> {
    let mut all: BTreeMap<&str, (Life, Vec<Shard>)> =
        picture.lives.iter().map(|(member, life)| (member.as_str(), (*life, Vec::new()))).collect();
    for (shard, record) in &picture.table {
        if let Some((_, shards)) = record.owner.as_deref().and_then(|owner| all.get_mut(owner)) {
            shards.push(*shard);
        }
    }
    all
}

fn unowned(picture: &Picture) -> Vec<Shard> {
    picture.table.iter().filter(|(_, record)| record.owner.is_none()).map(|(shard, _)| *shard).collect()
}

pub(super) fn json(picture: &Picture) -> String {
    let sharing = &picture.sharing;
    let counts = |shards: &[Shard]| match picture.behind.as_ref().map(|behind| behind.of(shards.iter().copied())) {
        Some(Some(Count { files, bytes })) => (json!(files), json!(bytes)),
        _ => (Value::Null, Value::Null),
    };
    let shards: Vec<Value> = picture
        .table
        .iter()
        .map(|(shard, record)| {
            let (files, bytes) = counts(&[*shard]);
            json!({"shard": shard.0, "owner": record.owner, "epoch": record.epoch, "registry": record.registry,
                "files": files, "behind_bytes": bytes})
        })
        .collect();
    let members: Vec<Value> = replicas(picture)
        .into_iter()
        .map(|(member, (life, shards))| {
            let (files, bytes) = counts(&shards);
            json!({"member": member, "life": word(life), "shards": shards.len(), "files": files, "behind_bytes": bytes})
        })
        .collect();
    let all: Vec<Shard> = picture.table.keys().copied().collect();
    let (files, bytes) = counts(&all);
    let unowned: Vec<u16> = unowned(picture).into_iter().map(|shard| shard.0).collect();
    let board = match sharing.board {
        Board::Kubernetes { .. } => "kubernetes",
        Board::Files => "files",
        Board::Static { .. } => "static",
    };
    let whole = json!({
        "root": sharing.root, "count": sharing.count, "lease_ms": sharing.lease.as_millis() as u64,
        "board": board, "place": picture.place, "whole": picture.is_whole(), "unowned": unowned,
        "files": files, "behind_bytes": bytes, "replicas": members, "shards": shards, "problems": picture.problems,
    });
    format!("{whole:#}\n")
}

pub(super) fn table(picture: &Picture) -> String {
    let sharing = &picture.sharing;
    let mut out = format!(
        "{} shards of {} · board: {} · lease {:?}\n\n",
        sharing.count,
        sharing.root.display(),
        picture.place,
        sharing.lease
    );
    let replicas = replicas(picture);
    let names = replicas.keys().map(|name| name.len());
    let wide = names.max().unwrap_or_default().clamp("REPLICA".len(), WIDEST);
    let behind = |shards: &[Shard]| match picture.behind.as_ref().map(|behind| behind.of(shards.iter().copied())) {
        Some(Some(count)) => (count.files.to_string(), size(count.bytes)),
        Some(None) => ("?".to_owned(), "?".to_owned()),
        None => ("-".to_owned(), "-".to_owned()),
    };
    let _ = writeln!(out, "{:wide$}  {:7}  {:>6}  {:>8}  {:>10}", "REPLICA", "LIFE", "SHARDS", "FILES", "BEHIND");
    let mut line = |name: &str, life: &str, shards: &[Shard]| {
        let (files, bytes) = behind(shards);
        let _ = writeln!(out, "{name:wide$}  {life:7}  {:>6}  {files:>8}  {bytes:>10}", shards.len());
    };
    for (member, (life, shards)) in &replicas {
        line(member, word(*life), shards);
    }
    let unowned = unowned(picture);
    if !unowned.is_empty() {
        line("(nobody)", "", &unowned);
    }
    line("all", "", &picture.table.keys().copied().collect::<Vec<_>>());
    let _ = writeln!(out, "\n{:>5}  {:wide$}  {:>6}  {:>8}  {:>10}", "SHARD", "OWNER", "EPOCH", "FILES", "BEHIND");
    for (shard, record) in &picture.table {
        let (files, bytes) = behind(&[*shard]);
        let owner = record.owner.as_deref().unwrap_or("(nobody)");
        let _ = writeln!(out, "{:>5}  {owner:wide$}  {:>6}  {files:>8}  {bytes:>10}", shard.0, record.epoch);
    }
    for problem in &picture.problems {
        let _ = writeln!(out, "\nnot known: {problem}");
    }
    out
}

/// Bytes with a unit that people read.
fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes >= 1 << shift) {
        Some((unit, shift)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pillion_shards::Record;

    use super::super::behind::Behind;
    use super::*;
    use crate::sharing::settings::Sharing;

    fn picture() -> Picture {
        let record = |owner: Option<&str>, epoch| Record {
            owner: owner.map(str::to_owned),
            epoch,
            registry: owner.map(|owner| format!("{owner}/{epoch}")),
        };
        let counts = [(Shard(0), Count { files: 3, bytes: 1536 }), (Shard(2), Count::default())];
        Picture {
            sharing: Sharing {
                root: "/logs".into(),
                count: 4,
                lease: Duration::from_secs(15),
                grace: Duration::from_secs(60),
                board: Board::Kubernetes { namespace: None, group: "pillion".into() },
            },
            place: "Lease logging/pillion".into(),
            table: [
                (0, record(Some("a-1"), 2)),
                (1, record(Some("b-2"), 1)),
                (2, record(None, 0)),
                (3, record(Some("a-1"), 7)),
            ]
            .into_iter()
            .map(|(shard, record)| (Shard(shard), record))
            .collect(),
            lives: BTreeMap::from([
                ("a-1".into(), Life::Alive),
                ("b-2".into(), Life::Still),
                ("c-3".into(), Life::Alive),
            ]),
            behind: Some(Behind {
                shards: counts.into_iter().chain([(Shard(3), Count { files: 1, bytes: 10 })]).collect(),
            }),
            problems: vec!["the registry of b-2: it is away".into()],
        }
    }

    #[test]
    fn people_see_a_table() {
        let expected = "\
4 shards of /logs · board: Lease logging/pillion · lease 15s

REPLICA   LIFE     SHARDS     FILES      BEHIND
a-1       alive         2         4     1.5 KiB
b-2       still         1         ?           ?
c-3       alive         0         0         0 B
(nobody)                1         0         0 B
all                     4         ?           ?

SHARD  OWNER     EPOCH     FILES      BEHIND
    0  a-1            2         3     1.5 KiB
    1  b-2            1         ?           ?
    2  (nobody)       0         0         0 B
    3  a-1            7         1        10 B

not known: the registry of b-2: it is away
";
        let shown = table(&picture());
        let plain =
            |text: &str| text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
        assert_eq!(plain(&shown), plain(expected), "{shown}");
    }

    #[test]
    fn programs_read_json() {
        let picture = picture();
        let shown: Value = serde_json::from_str(&json(&picture)).unwrap();
        assert_eq!((&shown["whole"], &shown["unowned"]), (&json!(false), &json!([2])));
        assert_eq!(
            shown["replicas"][0],
            json!({"member": "a-1", "life": "alive", "shards": 2, "files": 4, "behind_bytes": 1546})
        );
        assert_eq!(shown["replicas"][1]["behind_bytes"], Value::Null);
        assert_eq!(
            shown["shards"][3],
            json!({"shard": 3, "owner": "a-1", "epoch": 7, "registry": "a-1/7", "files": 1, "behind_bytes": 10})
        );
        assert_eq!(shown["behind_bytes"], Value::Null, "a part of it isn't known");
        let without = Picture { behind: None, ..picture };
        assert!(serde_json::from_str::<Value>(&json(&without)).unwrap()["shards"][0]["files"].is_null());
    }

    #[test]
    fn sizes() {
        for (bytes, shown) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")]
        {
            assert_eq!(size(bytes), shown);
        }
        assert!(size(u64::MAX).ends_with("GiB"));
    }
}
