//! Who lives, and who takes part, as one member sees it.
//!
//! Comes in: what looks at the board show of signs of life. Goes out: who is dead, who shares the shards, and whether this member
//! waits for others.
//!
//! Always holds: only what this member saw itself tells of a death, by its own clock. Tested with the module above, and in
//! `tests/files.rs` for members with other settings.

use std::collections::BTreeSet;
use std::time::Duration;

use pillion_world::Mono;

use super::{BEATS, Member};
use crate::board::{Beat, Board};

/// Signs of life that may be missed until nothing is kept for somebody; what it has stays its own for the whole lease.
const MISSED: u32 = 2;
/// Nobody's sign of life is waited for longer than that, whatever lease it says.
const LONGEST: Duration = Duration::from_secs(600);
/// How many members are known at most; more aren't given shards.
const MAX_MEMBERS: usize = 1024;

/// What is known of another member's life.
pub(super) struct Life {
    pub(super) beat: Option<Beat>,
    /// When its sign of life was seen to change.
    pub(super) changed: Mono,
    /// When its removal was ordered.
    pub(super) buried: Option<Mono>,
}

impl Life {
    /// How long it may stand still: by the longer one of two leases that should be one.
    pub(super) fn lease(&self, own: Duration) -> Duration {
        let theirs = self.beat.as_ref().and_then(|beat| beat.rules.lease).unwrap_or_default();
        own.max(theirs.min(LONGEST))
    }

    /// Into how many shards it divides the files, when that isn't `own`.
    fn otherwise(&self, own: u16) -> Option<u16> {
        self.beat.as_ref()?.rules.shards.filter(|shards| *shards != own)
    }
}

impl Member {
    /// Who shows signs of life.
    pub(super) fn see(&mut self, board: &Board, now: Mono) {
        for beat in &board.beats {
            let room = self.lives.len() < MAX_MEMBERS;
            match self.lives.get_mut(&beat.member) {
                Some(life) if life.beat.as_ref() == Some(beat) => {}
                Some(life) => *life = Life { beat: Some(beat.clone()), changed: now, buried: None },
                None if room => {
                    self.lives
                        .insert(beat.member.clone(), Life { beat: Some(beat.clone()), changed: now, buried: None });
                }
                None => {}
            }
        }
        let records = board.table.iter().flat_map(|(_, table)| table.values());
        let owners: BTreeSet<&String> = records.filter_map(|record| record.owner.as_ref()).collect();
        for owner in &owners {
            if !self.lives.contains_key(*owner) {
                self.lives.insert((*owner).clone(), Life { beat: None, changed: now, buried: None });
            }
        }
        // One that is only missing in this look still counts for a lease.
        let lease = self.settings.lease;
        self.lives.retain(|name, life| {
            now.since(life.changed) < life.lease(lease)
                || owners.contains(name)
                || board.beats.iter().any(|b| b.member == *name)
        });
    }

    /// Whether a sign of life stood still for a lease until the newest look *began*: its answer may have been long on its
    /// way, and tells nothing of that time.
    pub(super) fn is_dead(&self, member: &str) -> bool {
        member != self.settings.member
            && self
                .lives
                .get(member)
                .is_some_and(|life| self.as_of.since(life.changed) >= life.lease(self.settings.lease))
    }

    fn has_shards(&self, member: &str) -> bool {
        let mut records = self.table.iter().flat_map(|(_, table)| table.values());
        records.any(|record| record.owner.as_deref() == Some(member))
    }

    /// Somebody lives who divides the files into so many shards, and comes before this member: what both read would come
    /// twice, and what each leaves to the other never. Who has shards comes first, of two that have none the first by name; where
    /// both have some, both give them back.
    pub fn yields_to(&self) -> Option<u16> {
        let me = &self.settings.member;
        let have = self.has_shards(me) || !self.locals.is_empty();
        let others = self.lives.iter().filter_map(|(name, life)| {
            let shards = life.otherwise(self.settings.shards)?;
            let leaves = life.beat.as_ref().is_some_and(|beat| beat.leaving);
            let is_first = self.has_shards(name) || (!have && !leaves && name < me);
            (is_first && !self.is_dead(name)).then_some(shards)
        });
        others.min()
    }

    /// Who is there to have shards, in an order that all agree on.
    pub(super) fn members(&self) -> Vec<String> {
        let there = |(name, life): (&String, &Life)| {
            let wants = life.beat.as_ref().is_some_and(|beat| !beat.leaving);
            let wants = wants && life.otherwise(self.settings.shards).is_none();
            // Whoever came after another's death and whoever knows of it soon divide the shards in the same way.
            let moves = self.as_of.since(life.changed) < life.lease(self.settings.lease) * MISSED / BEATS;
            (wants && moves && *name != self.settings.member).then(|| name.clone())
        };
        let mut members: BTreeSet<String> = self.lives.iter().filter_map(there).collect();
        if !self.leaving {
            members.insert(self.settings.member.clone());
        }
        members.into_iter().collect()
    }
}
