//! The inputs: from files to batches.
//!
//! - [`parse`]: from the bytes of a chunk to events.

pub mod parse;
