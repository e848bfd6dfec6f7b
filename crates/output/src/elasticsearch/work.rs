//! A piece of work on its way to `_bulk`, with what is remembered of it.
//!
//! Always holds: what is split or filtered keeps its memory, and stays of the same request. Tested in `settle.rs`.

use pillion_event::{Drop, Slice};

use crate::work::Piece;

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
