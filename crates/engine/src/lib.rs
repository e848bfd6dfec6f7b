//! The engine.

pub mod account;
pub mod ack;
pub mod drain;
#[cfg(test)]
mod testing;
