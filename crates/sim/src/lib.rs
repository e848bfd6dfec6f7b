//! A seeded simulation of what the core sees, with crashes and faults. Only tests use it.
//!
//! - [`world`] is the machine: a clock, a disk, randomness, and the application that writes logs.
//! - [`run`] is a run of the core in it: harvester, ledger, registry and queue, with a target that answers as it likes.

pub mod run;
pub mod world;
