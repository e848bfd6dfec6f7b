//! Between the readers and the outputs: a queue bounded in events and bytes, and the contract of what comes back.
//!
//! Comes in: batches, from the harvest thread ([`Queue::push`]). Goes out: [`Request`]s, to the workers of an output
//! ([`Queue::take`]), and their fates, to whoever keeps the books ([`AckSink`]).
//!
//! Always holds:
//! - What a batch weighs is counted from [`Queue::push`] until [`Queue::release`], not until it is taken: the budget
//!   covers what is in flight too. A push beyond the limit is accepted (the reader looked at [`Queue::free`] first and
//!   made one batch), so the overshoot is one batch for each reader.
//! - Events are taken in the order in which they were pushed, each once.
//! - At most one part-filled request is in flight, so that lines gather until it is answered: at rest a line goes at
//!   once, under load requests are full, and many small writers never cause a request for each line.
//!
//! [`disk`] keeps what a reader was promised while the target is away; what it loads goes the way of the memory queue.
//!
//! Tested in `mem.rs` and `disk/tests.rs`, and by the simulation.

mod contract;
pub mod disk;
mod mem;

pub use contract::{AckSink, Fates};
pub use mem::{Limits, Part, Queue, Request, SpaceWaker};
