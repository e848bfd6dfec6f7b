//! The engine: from the reader's batch to the last acknowledgement, and how a run ends.
//!
//! - [`ack`], [`account`]: what became of every event, and how far every file is delivered.
//! - [`ledger`]: the one place that knows of every batch; with a disk queue, `stored` and `queued` beside it.
//! - [`drain`]: the state machine of a run's end; [`trigger`]: what starts it; [`run`]: one run.
//! - [`signals`]: to begin to listen to them without losing one.
//! - [`receipt`]: the proof. [`exec`]: a command that is wrapped.

pub mod account;
pub mod ack;
pub mod drain;
pub mod exec;
pub mod ledger;
mod queued;
pub mod receipt;
pub mod run;
pub mod settings;
pub mod signals;
mod stored;
pub mod termination;
#[cfg(test)]
mod testing;
pub mod trigger;
