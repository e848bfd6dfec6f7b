//! Who gets which shard: evenly, and with as few moves as that takes.
//!
//! Comes in: the members, and who has each shard now. Goes out: who is to have it.
//! Always holds: nobody has more than one shard more than anybody else; a shard moves only when its owner has more than
//! its part, or is gone; who sees the same, decides the same, also when half of it is done already: how large a part is
//! depends on the members alone.
//! Tested below, with properties.

/// Who is to have each shard: an index into the members, of which there are `members` (at least one). `now`: who has it.
/// Members are in an order that all agree on.
pub fn spread(now: &[Option<usize>], members: usize) -> Vec<usize> {
    let members = members.max(1);
    let (part, over) = (now.len() / members, now.len() % members);
    let mut room: Vec<usize> = (0..members).map(|member| part + usize::from(member < over)).collect();
    // Owners keep what fits into their part, the rest goes to whoever has room, in order.
    let mut out: Vec<Option<usize>> = now
        .iter()
        .map(|owner| {
            let room = room.get_mut((*owner)?)?;
            *room = room.checked_sub(1)?;
            *owner
        })
        .collect();
    let mut next = 0;
    for owner in out.iter_mut().filter(|o| o.is_none()) {
        while room.get(next) == Some(&0) {
            next += 1;
        }
        if let Some(room) = room.get_mut(next) {
            *room -= 1;
            *owner = Some(next);
        }
    }
    out.into_iter().map(|owner| owner.unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn loads(owners: &[usize], members: usize) -> Vec<usize> {
        (0..members).map(|m| owners.iter().filter(|o| **o == m).count()).collect()
    }

    #[test]
    fn a_newcomer_gets_its_part_and_nothing_else_moves() {
        let one = spread(&[None; 64], 1);
        assert_eq!(one, [0; 64]);
        let now: Vec<_> = one.into_iter().map(Some).collect();
        let two = spread(&now, 2);
        assert_eq!(loads(&two, 2), [32, 32]);
        let now: Vec<_> = two.iter().copied().map(Some).collect();
        let three = spread(&now, 3);
        assert_eq!(loads(&three, 3), [22, 21, 21]);
        assert_eq!(two.iter().zip(&three).filter(|(a, b)| a != b).count(), 21);
    }

    proptest! {
        #[test]
        fn even_and_only_what_must_move_moves(
            now in proptest::collection::vec(proptest::option::of(0_usize..7), 1..130),
            members in 1_usize..7,
        ) {
            let then = spread(&now, members);
            let loads_then = loads(&then, members);
            let (least, most) = (loads_then.iter().min().unwrap(), loads_then.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{loads_then:?}");
            // What a member has beyond its part has to move, and no other of its shards does.
            let had: Vec<usize> = (0..members).map(|m| now.iter().filter(|o| **o == Some(m)).count()).collect();
            let moved = now.iter().zip(&then).filter(|(a, b)| a.is_some_and(|a| a < members && a != **b)).count();
            let must: usize = had.iter().zip(&loads_then).map(|(had, then)| had.saturating_sub(*then)).sum();
            prop_assert_eq!(moved, must);
            // Whatever part of it is done, what stays is the same.
            let halfway: Vec<Option<usize>> = now
                .iter()
                .zip(&then)
                .enumerate()
                .map(|(shard, (now, then))| match (*now == Some(*then), shard % 3) {
                    (true, _) | (_, 0) => Some(*then),
                    (_, 1) => None,
                    _ => *now,
                })
                .collect();
            let rest = spread(&halfway, members);
            prop_assert!(halfway.iter().zip(&then).zip(&rest).all(|((half, a), b)| *half != Some(*a) || a == b));
        }
    }
}
