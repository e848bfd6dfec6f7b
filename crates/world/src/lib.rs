//! The world that the core may see: a clock, a file system, randomness.
//!
//! Comes in: nothing. Goes out: [`World`], a bundle of three trait objects that reader, registry and engine take
//! instead of calling the operating system. [`World::real`] is the machine; the simulation (`pillion-sim`) makes one
//! whose every step follows from a seed. What a day is called is in [`calendar`], what users and groups are called in [`names`],
//! files that rotate in [`rotated`], whom the
//! system trusts in [`authorities`].
//!
//! Always holds: no other crate of the core reads a clock, a file or a random number by itself (clippy's
//! `disallowed-methods` says so), so that one seed replays a run.
//!
//! Two further file systems lie over others: [`Beneath`], from which no path leads out, and [`Home`], with device numbers
//! that mean the same on every machine; what such a layer passes on says [`pass_fs`]. [`put_aside`] is how a file goes.
//!
//! Tested in `real.rs` against the real file system, and everywhere by the simulation.

mod aside;
pub mod authorities;
mod beneath;
pub mod calendar;
mod clock;
mod fs;
mod home;
pub mod names;
mod pass;
mod random;
mod real;
pub mod rotated;

use std::sync::Arc;

pub use aside::put_aside;
pub use beneath::Beneath;
pub use clock::{Clock, Mono, UnixMillis, rfc3339};
pub use fs::{DirEntry, File, FileKind, Fs, FsKind, Lock, Meta, OpenHow};
pub use home::Home;
pub use random::Random;
pub use real::{RealClock, RealFs, RealRandom};

/// The clock, the file system and the randomness that a component may see. Cheap to clone.
#[derive(Clone)]
pub struct World {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What the files hold.
    pub fs: Arc<dyn Fs>,
    /// Bytes that nobody can guess, or that a seed determines.
    pub random: Arc<dyn Random>,
}

impl World {
    /// The machine that this process runs on.
    pub fn real() -> World {
        World { clock: Arc::new(RealClock::new()), fs: Arc::new(RealFs), random: Arc::new(RealRandom) }
    }
}
