//! The inputs `tcp`, `udp`, `unix` and `syslog`: what comes over sockets, which can't be read twice.
//!
//! Comes in: connections and datagrams. Goes out: batches whose sources have no registry key, as of standard input.
//!
//! - `options.rs`: their options, [`Listen`]. `bind.rs`: sockets that listen.
//! - `frame.rs`: where messages of a stream begin and end.
//! - `port.rs`: from messages to batches. `stream.rs`, `datagram.rs`: the tasks that read.
//! - `thread.rs`: the one thread of all network inputs, [`NetThread`].
//!
//! Always holds:
//! - Nothing is read from a connection or a datagram socket while the queue has no space: senders over TCP and Unix
//!   sockets wait, and the kernel drops what UDP sends beyond its buffer. Those drops are counted, told, and make the
//!   receipt incomplete.
//! - An unfinished message is kept in memory up to `max_message_size`, all of them together up to [`HELD_LIMIT`]; what is
//!   beyond is left out, and the event says that it is cut. (Filebeat closes the connection, and what it held is lost.)
//! - The drain accepts what connected before it, reads what has arrived, tells the others that it ends, and reads on
//!   until they have ended or are quiet for [`QUIET`].
//!
//! Facts: Beats 7.17.29 `filebeat/input/{tcp,udp,unix,syslog}`, `filebeat/inputsource`. Tested in each module and end to
//! end (`crates/pillion/tests/run/network.rs`).

mod bind;
mod datagram;
mod frame;
mod options;
mod port;
mod stream;
mod thread;

use std::time::Duration;

pub use options::{Address, Listen};
pub use thread::NetThread;

/// What an input didn't get whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// Datagrams that the kernel dropped.
    pub datagrams: u64,
    /// Messages that were cut: to `max_message_size`, or at [`HELD_LIMIT`].
    pub cut: u64,
    /// Senders that were cut off while they were sending.
    pub abandoned: u64,
}

impl Missed {
    fn add(&mut self, more: &Missed) {
        self.datagrams += more.datagrams;
        self.cut += more.cut;
        self.abandoned += more.abandoned;
    }
}

/// Bytes of one read.
const CHUNK: usize = 64 * 1024;

/// Bytes of unfinished messages beyond [`CHUNK`] for each connection that are kept for all connections together.
const HELD_LIMIT: usize = 256 << 20;

/// For so long nothing has to come before the drain believes that nothing will.
const QUIET: Duration = Duration::from_millis(100);

/// For so long at most the drain reads from those who go on sending.
const LINGER: Duration = Duration::from_secs(5);

/// How many connections one input has at most when its options don't say it; further ones wait in the kernel.
const CONNECTIONS: usize = 4096;
