//! The engine.

pub mod account;
pub mod ack;
pub mod drain;
pub mod receipt;
#[cfg(test)]
mod testing;
pub mod trigger;
