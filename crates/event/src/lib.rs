//! What travels from the reader to the acknowledgement. No I/O, and no knowledge of any other crate.
//!
//! - [`Source`]: the shared description of one incarnation of one file.
//! - [`Batch`]: one chunk of bytes of one source and the events in it: the unit from the reader to the acknowledgement.
//! - [`Slice`]: some consecutive events of a batch: what an output sends and settles.
//! - [`Fate`]: what became of an event.
//! - [`Cursor`], [`Acked`]: how far a source is delivered; only an acknowledgement moves it.
//!
//! Always holds: lines are neither copied nor parsed on the way unless a setting needs it; an event's text is a range of
//! its batch's bytes.

mod ack;
mod batch;
mod go;
mod source;

pub use ack::{Acked, Cursor, Drop, DropKind, Fate};
pub use batch::{Batch, BatchId, Event, Extent, Flags, Overlay, Slice, Stream};
pub use go::go_type;
pub use source::{EventId, FileStat, GUARD, Guard, Incarnation, InputDesc, InputKind, Render, Source};
