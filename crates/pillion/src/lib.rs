//! The binary's parts that can be tested without starting it.

pub mod cli;
