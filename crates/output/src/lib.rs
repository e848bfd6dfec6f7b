//! Outputs: they take requests from the queue, send them to a target and settle every event with what became of it.
//!
//! Comes in: [`Request`]s from a [`Requests`] (the queue's consumer, or a test's list). Goes out: the target's bytes, and
//! for each event of each taken slice exactly one [`Fate`] through [`AckSink::settled`].
//!
//! Always holds: nothing is settled before the target has answered for it; an event whose fate isn't known is sent
//! again, byte for byte the same; an output holds no more requests than it has workers. An output ends when its source
//! is closed and empty and everything taken is settled; whoever wants it to end sooner drops its future, and what was
//! in flight stays unsettled.
//!
//! Tested in each module against scripted servers.

pub mod any;
pub mod backoff;
mod choose;
pub mod codec;
pub mod console;
mod contract;
mod dial;
pub mod elasticsearch;
pub mod file;
pub mod format;
pub mod forward;
#[cfg(test)]
mod hanging;
pub mod hosts;
pub mod http;
mod hurry;
pub mod kafka;
pub mod logstash;
pub mod net;
mod problem;
pub mod redis;
pub mod render;
mod settle;
#[cfg(test)]
mod testing;
pub mod tls;
mod turn;
mod work;

pub use contract::{Agent, Counter, Gate, OutputContext, Requests, Stats, Taking};
pub use hurry::Hurry;
pub use pillion_queue::{AckSink, Fates, Request};
pub use problem::Problem;
