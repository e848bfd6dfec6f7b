//! The binary as a user calls it: real processes, a real endpoint, real signals.
//!
//! Nothing here sleeps to be in time: each step waits for what it needs, with a limit. Each test has its own folder and
//! its own free ports.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

mod commands;
mod delete;
mod ends;
mod exec;
mod fields;
mod further;
mod hanging;
mod harness;
mod monitoring;
mod network;
mod own;
mod panics;
mod refused;
mod replicas;
mod seats;
mod several;
mod shards;
mod sweep;
mod take_over;
mod told;
