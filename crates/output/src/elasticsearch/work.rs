//! A piece of work on its way to `_bulk`, with what is remembered of it.
//!
//! Always holds: what is split or filtered keeps its memory, and stays of the same request. Tested in `settle.rs`.

use pillion_event::{Drop, Slice};

use crate::work::{Carried, Piece};

/// Events that the target refused, on their way to a dead-letter index.
#[derive(Clone, Debug)]
pub(super) struct Dead {
    /// For the receipt.
    pub(super) reason: Drop,
    /// The target's text.
    pub(super) text: String,
}

/// Some events to be sent in one request.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) piece: Piece,
    /// The target may have got these events before: "exists already" is then believed.
    pub(super) resent: bool,
    /// For a dead-letter index: why, one for each event; else empty.
    pub(super) dead: Vec<Dead>,
}

/// Where workers take it from.
pub(super) type Pool = crate::work::Pool<Work>;

impl From<Piece> for Work {
    fn from(piece: Piece) -> Work {
        Work { piece, resent: false, dead: Vec::new() }
    }
}

impl Carried for Work {
    fn leave_out(&mut self, gone: &dyn Fn(&Slice) -> bool) {
        let (mut kept, mut dead, mut at) = (Vec::new(), Vec::new(), 0);
        for slice in self.piece.slices() {
            let of = self.dead.get(at..at + slice.len());
            at += slice.len();
            if slice.is_empty() || !gone(slice) {
                dead.extend_from_slice(of.unwrap_or_default());
                kept.push(slice.clone());
            }
        }
        *self = self.with(kept, dead);
    }
}

impl AsRef<Piece> for Work {
    fn as_ref(&self) -> &Piece {
        &self.piece
    }
}

impl Work {
    /// The same request's events in other slices.
    pub(super) fn with(&self, slices: Vec<Slice>, dead: Vec<Dead>) -> Work {
        Work { piece: self.piece.with(slices), resent: self.resent, dead }
    }

    /// Takes all events behind the first `n` away, as work of their own.
    pub(super) fn split_off(&mut self, n: usize) -> Work {
        let front = self.piece.take_front(n);
        let behind = std::mem::replace(&mut self.piece, front);
        Work { piece: behind, resent: self.resent, dead: self.dead.split_off(n.min(self.dead.len())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Gated, lines};
    use pillion_event::DropKind;

    #[tokio::test]
    async fn what_is_left_out_takes_its_reasons_along() {
        let pool: std::sync::Arc<Pool> = crate::work::Pool::new(Gated::of(lines(6)), 6);
        let mut work = pool.next().await.unwrap();
        let dead = |n: usize| Dead {
            reason: Drop { kind: DropKind::TooLarge, type_name: n.to_string(), field: None },
            text: String::new(),
        };
        work.dead = (0..6).map(dead).collect();
        let mut rest = work.piece.clone();
        let parts = [rest.take_front(2), rest.take_front(3), rest];
        work = work.with(parts.iter().flat_map(Piece::slices).cloned().collect(), work.dead.clone());
        work.leave_out(&|slice| slice.events.start == 2);
        let left: Vec<String> = work.dead.iter().map(|dead| dead.reason.type_name.clone()).collect();
        assert_eq!((work.piece.len(), left), (3, vec!["0".to_owned(), "1".to_owned(), "5".to_owned()]));
    }
}
