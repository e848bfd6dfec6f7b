//! Where the board is kept: the one interface of all backends.
//!
//! Comes in: what a [`Member`](crate::Member) orders. Goes out: what became of it.
//! Always holds: each call ends within a time that the backend bounds itself (a fraction of the lease), and never
//! pretends: what isn't known to have been done is an error, or [`Wrote::Unknown`].
//! Tested with each backend.

use std::future::Future;
use std::pin::Pin;

use crate::board::{Beat, Board, Table, Version};
use crate::order::Wrote;

/// What a backend's call gives, later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A board that all members see. Errors say why, in words for the log.
pub trait Backend: Send + Sync {
    /// Renews the own sign of life: another stamp than before.
    fn beat(&self, leaving: bool) -> Later<'_, Result<(), String>>;

    /// Reads the whole board, past every cache.
    fn look(&self) -> Later<'_, Result<Board, String>>;

    /// Replaces the table if it still is this version; `None`: if there is none. [`Wrote::Unknown`]: with the reason said.
    fn write(&self, over: Option<Version>, table: Table) -> Later<'_, Wrote>;

    /// Removes somebody's sign of life if it still is the same.
    fn bury(&self, beat: Beat) -> Later<'_, Result<(), String>>;
}
