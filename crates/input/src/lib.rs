//! The inputs: from files to batches.
//!
//! - [`InputSpec`]: what one input reads and how.
//! - [`specs_from_root`]: the inputs of a configuration.
//! - [`Harvester`]: finds files, reads them fairly, makes batches; a synchronous object over the world.
//! - [`HarvestThread`]: drives a harvester in real time, with inotify.
//! - [`Division`]: which harvester reads what, so that a mount that hangs holds up no other.
//! - [`StdinThread`]: the input `stdin`. [`net`]: the inputs `tcp`, `udp`, `unix` and `syslog`. [`Handle`]: any of these
//!   threads, running.
//! - [`parse`]: from the bytes of a chunk to events; what processors do to them then is in the crate `process`.

mod at;
mod handle;
mod harvest;
mod mount;
pub mod net;
mod options;
pub mod parse;
mod scan;
mod spec;
mod standing;
mod stdin;
mod thread;
mod unzip;
mod watch;

pub use handle::{Handle, Refused};
pub use harvest::{
    Behind, Beside, FileAccount, Harvester, Hint, InputId, Known, Loss, LossCause, Numbers, Shares, Stats, Step, Tally,
    Unseen, Whole,
};
pub use mount::Mounts;
pub use mount::divide::{Division, MAX_SHARES, Share};
pub use options::{limits, sections, specs, specs_from_root};
pub use scan::{Glob, PatternError, names_of};
pub use spec::{Backoff, Budget, Close, Compression, Identity, InputSpec, Limits, Order, Own, TakeOver};
pub use standing::Standing;
pub use stdin::StdinThread;
pub use thread::{BatchSink, HarvestThread, Report, Waker};
