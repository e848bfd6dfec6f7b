//! The bytes of the protocol that both sides share.
//!
//! Every frame: a version byte, a type byte, a payload; integers are big-endian u32. Sources: the text `PROTOCOL.md` of
//! logstash-input-beats and `protocol/v2/protocol.go` of go-lumber.

/// The version byte of the Beats protocol.
pub(crate) const V2: u8 = b'2';
/// The version byte of the protocol of logstash-forwarder, whose `D` frames servers still read.
pub(crate) const V1: u8 = b'1';
/// Window size: u32 count of the data frames that follow.
pub(crate) const WINDOW: u8 = b'W';
/// JSON data: u32 sequence, u32 length, bytes.
pub(crate) const JSON: u8 = b'J';
/// Key/value data of version 1: u32 sequence, u32 pairs, for each: u32 length and key, u32 length and value.
pub(crate) const DATA: u8 = b'D';
/// Compressed: u32 length, a zlib stream of whole frames.
pub(crate) const COMPRESSED: u8 = b'C';
/// Acknowledgement: u32 sequence; all up to it are done.
pub(crate) const ACK: u8 = b'A';

/// The length of a window frame and of an acknowledgement.
pub(crate) const SHORT_FRAME: usize = 6;
/// The length of a JSON frame's header.
pub(crate) const JSON_HEADER: usize = 10;

/// A frame of one integer: window size, acknowledgement, or the header of a compressed frame.
pub(crate) fn short(version: u8, kind: u8, value: u32) -> [u8; SHORT_FRAME] {
    let [a, b, c, d] = value.to_be_bytes();
    [version, kind, a, b, c, d]
}

/// How the other side breaks the protocol, or a limit. The connection can't go on after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The first byte of a frame is no known version.
    #[error("byte {0:#04x} is no version of the Beats protocol")]
    Version(u8),
    /// The type byte isn't known, or not allowed there.
    #[error("a frame of type {0:#04x} is not allowed here")]
    FrameType(u8),
    /// More is acknowledged than was sent.
    #[error("sequence {seq} is acknowledged, but only {sent} events were sent")]
    AckBeyond {
        /// The acknowledged sequence.
        seq: u32,
        /// The events of the oldest window in flight; 0 when there is none.
        sent: u32,
    },
    /// The window holds more events than the limit.
    #[error("a window of {count} events; at most {max} are allowed")]
    WindowTooLarge {
        /// The announced events.
        count: u32,
        /// The limit.
        max: u32,
    },
    /// A frame is longer than the limit.
    #[error("a frame of {len} bytes; at most {max} are allowed")]
    FrameTooLarge {
        /// The announced bytes.
        len: u64,
        /// The limit.
        max: usize,
    },
    /// The events of one window are larger than the limit.
    #[error("the events of a window take more than {max} bytes")]
    WindowBytes {
        /// The limit.
        max: usize,
    },
    /// Compressed frames within compressed frames beyond the limit.
    #[error("compressed frames are nested more than {0} deep")]
    Nesting(usize),
    /// A compressed frame can't be read.
    #[error("a compressed frame: {0}")]
    Inflate(#[from] pillion_deflate::InflateError),
    /// A compressed frame ends within a frame.
    #[error("a compressed frame ends within a frame")]
    SplitFrame,
    /// Data without an announced window, or more of it than was announced.
    #[error("a data frame beyond the announced window")]
    BeyondWindow,
    /// A window begins before the last one was complete.
    #[error("a window begins while {missing} events of the last one are missing")]
    WindowIncomplete {
        /// The missing events.
        missing: u32,
    },
    /// The sequences of a window don't grow.
    #[error("sequence {seq} follows sequence {last}")]
    Sequence {
        /// This event's sequence.
        seq: u32,
        /// The one before it.
        last: u32,
    },
}
