//! The inputs: from files to batches.
//!
//! - [`InputSpec`]: what one input reads and how.
//! - [`specs_from_root`]: the inputs of a configuration.
//! - [`Harvester`]: finds files, reads them fairly, makes batches; a synchronous object over the world.
//! - [`HarvestThread`]: drives a harvester in real time, with inotify.
//! - [`StdinThread`]: the input `stdin`. [`Handle`]: either thread, running.
//! - [`parse`]: from the bytes of a chunk to events; what processors do to them then is in the crate `process`.

mod at;
mod handle;
mod harvest;
mod options;
pub mod parse;
mod scan;
mod spec;
mod stdin;
mod thread;
mod watch;

pub use handle::Handle;
pub use harvest::{FileAccount, Harvester, Hint, InputId, Loss, LossCause, Stats, Step, Tally};
pub use options::{specs, specs_from_root};
pub use scan::{Glob, PatternError};
pub use spec::{Backoff, Budget, Close, Identity, InputSpec, Limits, Own};
pub use stdin::StdinThread;
pub use thread::{BatchSink, HarvestThread, Report, Waker};
