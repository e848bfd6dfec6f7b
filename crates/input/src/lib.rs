//! The inputs: from files to batches.
//!
//! - [`InputSpec`]: what one input reads and how.
//! - [`Harvester`]: finds files, reads them fairly, makes batches; a synchronous object over the world.
//! - [`parse`]: from the bytes of a chunk to events.

mod harvest;
pub mod parse;
mod scan;
mod spec;

pub use harvest::{FileAccount, Harvester, Hint, Loss, LossCause, Stats, Step, Tally};
pub use scan::{Glob, PatternError};
pub use spec::{Backoff, Budget, Close, Identity, InputSpec, Limits, Own};
