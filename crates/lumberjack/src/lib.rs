//! The Beats protocol, version 2 ("Lumberjack"): what Filebeat speaks to Logstash. No knowledge of Pillion.
//!
//! - [`WindowWriter`]: rendered events in, the bytes of one window out, plain or compressed.
//! - [`Client`]: sends windows over one connection and reports their acknowledgements.
//! - [`Decoder`]: the server's parser: bytes in pieces in, whole windows out, within [`Limits`].
//! - [`serve`]: the server's side of one connection: windows out, each with the right to acknowledge it.
//!
//! A client announces a window of n events, sends them with sequences 1 to n, and is told by the server up to which
//! sequence they are done. Always holds: what is kept of the other side's bytes is bounded; what isn't acknowledged is
//! to be sent again, so that events may come twice but aren't lost.

mod ack;
mod client;
mod decode;
mod frame;
mod server;
mod window;

pub use ack::{AckDecoder, fuzz_acks};
pub use client::{Client, ClientError, ClientOptions, Progress, WindowId};
pub use decode::{Decoder, Limits, Window, fuzz_windows};
pub use frame::ProtocolError;
pub use pillion_deflate::Level;
pub use server::{AckHandle, Received, ServerError, ServerOptions, serve};
pub use window::WindowWriter;
