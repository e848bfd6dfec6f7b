//! A seeded simulation of what the core sees, with crashes and faults. Only tests use it.
//!
//! [`world`] is the machine: a clock, a disk, randomness, and the application that writes logs.

pub mod world;
