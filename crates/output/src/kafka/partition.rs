//! Which partition an event goes to (`partition`).
//!
//! Comes in: the topic's partitions, the event's key or fields. Goes out: a partition. Facts: elastic/beats
//! `libbeat/outputs/kafka/partition.go`: FNV-1a over the key, as Filebeat, so that both put a key in the same partition.
//! Always holds: a partition of the topic is chosen, whatever the state of its leader, unless `reachable_only` is set and
//! any has one. Tested below.

use std::collections::HashMap;

use pillion_config::{Error, Section};
use pillion_world::Random;

use super::wire::Partition;

/// Turns of more topics than this aren't remembered.
const MOST_TOPICS: usize = 10_000;

/// How partitions are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By chance, and the same for so many events.
    Random(u64),
    /// In turn, each for so many events.
    RoundRobin(u64),
    /// By the hash of these fields, or of the key without any. What lacks one goes by chance, or to the first partition.
    Hash { fields: Vec<String>, random: bool },
}

/// What `partition` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PartitionOptions {
    pub(super) way: Way,
    /// Only partitions that have a leader.
    pub(super) reachable_only: bool,
}

impl PartitionOptions {
    /// Reads `partition`; by hash without it.
    pub(super) fn from_section(s: &Section<'_>) -> Result<PartitionOptions, Error> {
        let default = PartitionOptions { way: Way::Hash { fields: Vec::new(), random: true }, reachable_only: false };
        let Some(section) = s.section("partition")? else { return Ok(default) };
        let mut found = Vec::new();
        for name in ["random", "round_robin", "hash"] {
            if section.has(name) {
                found.push(name);
            }
        }
        let name = match found.as_slice() {
            [] => return Ok(default),
            [one] => *one,
            _ => return Err(s.error("partition", "there is more than one way to choose", "keep one of them")),
        };
        let Some(way) = section.section(name)? else {
            return Ok(PartitionOptions { way: Way::of(name, 1), ..default });
        };
        let reachable_only = way.bool("reachable_only")?.unwrap_or(false);
        let way = match name {
            "hash" => Way::Hash { fields: way.strings("hash")?, random: way.bool("random")?.unwrap_or(true) },
            _ => Way::of(name, way.u64_in("group_events", 1..=1_000_000)?.unwrap_or(1)),
        };
        Ok(PartitionOptions { way, reachable_only })
    }
}

impl Way {
    fn of(name: &str, group: u64) -> Way {
        match name {
            "random" => Way::Random(group),
            "round_robin" => Way::RoundRobin(group),
            _ => Way::Hash { fields: Vec::new(), random: true },
        }
    }
}

/// Chooses, and remembers whose turn it is. Each worker has its own.
pub(super) struct Partitioner {
    options: PartitionOptions,
    /// For each topic: the number that chooses now, and how many events it has chosen for.
    turns: HashMap<String, (u64, u64)>,
}

impl Partitioner {
    pub(super) fn new(options: PartitionOptions) -> Partitioner {
        Partitioner { options, turns: HashMap::new() }
    }

    /// The event's partition; `None` = the topic has none. `field` appends what is hashed of a field, and tells whether
    /// there is one.
    pub(super) fn choose(
        &mut self,
        topic: &str,
        partitions: &[Partition],
        key: Option<&[u8]>,
        field: impl FnMut(&str, &mut Vec<u8>) -> bool,
        random: &dyn Random,
    ) -> Option<i32> {
        let number = match &self.options.way {
            Way::Random(group) | Way::RoundRobin(group) => {
                let group = *group;
                self.turn(topic, group, random)
            }
            Way::Hash { fields, random: or_random } => match hash(fields, key, field) {
                Some(hash) => u64::from(hash & 0x7fff_ffff),
                None if *or_random || fields.is_empty() => random.u128() as u64,
                // As Filebeat, whose partitioner fails and is overheard.
                None => 0,
            },
        };
        let with_leader = || partitions.iter().filter(|p| p.leader >= 0);
        let reachable = if self.options.reachable_only { with_leader().count() } else { 0 };
        if reachable > 0 {
            return with_leader().nth((number % reachable as u64) as usize).map(|p| p.id);
        }
        partitions.get((number % partitions.len().max(1) as u64) as usize).map(|p| p.id)
    }

    fn turn(&mut self, topic: &str, group: u64, random: &dyn Random) -> u64 {
        if self.turns.len() > MOST_TOPICS {
            self.turns.clear();
        }
        let in_turn = matches!(self.options.way, Way::RoundRobin(_));
        if !self.turns.contains_key(topic) {
            // Many shippers that begin together don't begin with the same partition.
            self.turns.insert(topic.to_owned(), (random.u128() as u64 >> 1, 0));
        }
        let Some((number, used)) = self.turns.get_mut(topic) else { return 0 };
        if *used >= group {
            *number = if in_turn { number.wrapping_add(1) } else { random.u128() as u64 };
            *used = 0;
        }
        *used += 1;
        *number
    }
}

/// FNV-1a; `None` = there is nothing to hash.
fn hash(fields: &[String], key: Option<&[u8]>, mut field: impl FnMut(&str, &mut Vec<u8>) -> bool) -> Option<u32> {
    let mut text = Vec::new();
    if fields.is_empty() {
        text.extend_from_slice(key?);
    }
    for name in fields {
        if !field(name, &mut text) {
            return None;
        }
    }
    Some(text.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)))
}

#[cfg(test)]
mod tests {
    use pillion_config::Config;
    use pillion_world::RealRandom;

    use super::*;

    fn options(yaml: &str) -> Result<PartitionOptions, String> {
        let config = Config::from_yaml(&format!("o: {{{yaml}}}")).unwrap();
        PartitionOptions::from_section(&config.root().section("o").unwrap().unwrap()).map_err(|e| e.to_string())
    }

    /// What is chosen for twelve events among the partitions 0, 1 (without leader), 2.
    fn chosen(yaml: &str, key: Option<&[u8]>) -> Vec<Option<i32>> {
        let partitions = [0, -1, 7].iter().enumerate().map(|(id, leader)| Partition { id: id as i32, leader: *leader });
        let partitions: Vec<Partition> = partitions.collect();
        let mut partitioner = Partitioner::new(options(yaml).unwrap());
        let field = |name: &str, out: &mut Vec<u8>| {
            out.extend_from_slice(b"value");
            name == "there"
        };
        (0..12).map(|_| partitioner.choose("t", &partitions, key, field, &RealRandom)).collect()
    }

    #[test]
    fn in_turn() {
        let got = chosen("partition.round_robin.group_events: 2", None);
        let first = got[0].unwrap();
        let want: Vec<_> = (0..12).map(|i| Some((first + i / 2) % 3)).collect();
        assert_eq!(got, want);
        let got = chosen("partition.round_robin: {reachable_only: true}", None);
        assert!(got.windows(2).all(|p| p[0] != p[1]) && !got.contains(&Some(1)), "{got:?}");
    }

    #[test]
    fn by_chance_and_by_hash() {
        let got = chosen("partition.random.group_events: 12", None);
        assert!(got.iter().all(|p| *p == got[0]));
        // FNV-1a of "foobar" is 0xbf9cf968: without its highest bit 0x3f9cf968, which leaves 1 (Filebeat's choice too).
        assert_eq!(chosen("", Some(b"foobar")), [Some(0x3f9c_f968 % 3); 12]);
        let by_field = chosen("partition.hash.hash: [there]", None);
        assert!(by_field.iter().all(|p| *p == by_field[0] && p.is_some()));
        assert_eq!(chosen("partition.hash: {hash: [gone], random: false}", None), [Some(0); 12]);
        assert!(chosen("partition.hash: {hash: [gone]}", None).iter().all(Option::is_some));
    }

    /// Where Filebeat 7.17.29 and 9.5.0 put events with the number `i`, of five partitions.
    #[test]
    fn numbers_go_where_filebeat_puts_them() {
        let partitions: Vec<Partition> = (0..5).map(|id| Partition { id, leader: 0 }).collect();
        let mut partitioner = Partitioner::new(options("partition.hash.hash: [i]").unwrap());
        for (i, want) in
            [(1i64, 1), (2, 4), (3, 4), (4, 3), (6, 1), (7, 3), (8, 2), (9, 2), (10, 0), (11, 0), (12, 4), (100, 4)]
        {
            let field = |_: &str, out: &mut Vec<u8>| {
                out.extend_from_slice(&i.to_le_bytes());
                true
            };
            assert_eq!(partitioner.choose("t", &partitions, None, field, &RealRandom), Some(want), "{i}");
        }
    }

    #[test]
    fn one_way_alone() {
        assert!(options("partition: {random: {}, hash: {}}").unwrap_err().contains("more than one"));
        assert_eq!(options("").unwrap(), options("partition.hash.random: true").unwrap());
    }
}
