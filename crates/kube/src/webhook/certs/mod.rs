//! The webhook's certificates: made here and kept in a Secret, or read from files.
//!
//! Comes in: time, files, the API server. Goes out: what is served ([`Slot`]). The rules are in `keeper`, the
//! certificates in `generation`. Tested in `tests.rs`: two replicas from seeds, with conflicts, crashes, pauses and lost
//! answers, verified at each instant against what every API server trusts.

pub(crate) mod files;
pub(crate) mod generation;
pub(crate) mod keeper;
mod slot;
#[cfg(test)]
mod tests;

pub(crate) use slot::Slot;
