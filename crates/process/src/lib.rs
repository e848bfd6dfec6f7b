//! Processors and conditions: what a configuration does to events between reading and queueing.
//!
//! Comes in: `processors` of a configuration, then batches. Goes out: the same batches, with some events changed
//! ([`pillion_event::Overlay`]) and some gone.
//!
//! - [`Processors`]: the processors of one input, typed: its own, then the global ones.
//! - [`Pipeline`]: the same, bound to the input whose events they see.
//! - [`Doc`]: one event while it is processed.
//! - [`Condition`]: `when` and `if`.
//! - [`Shape`]: how events look before any processor; the outputs' renderer knows it, and is joined in the binary.
//! - [`Outside`]: processors that the binary tells something first: [`Machine`], [`Cloud`], [`kubernetes`].
//! - [`kubernetes`]: pods' metadata, from whoever knows them.
//! - [`fqdn`]: the machine's full name.
//! - [`json`]: decoding as Go does, for the parsers of inputs too.
//! - [`syslog`]: messages of RFC 3164 and RFC 5424, for the processor, filestream's parser and the input. [`Zone`]: time zones.
//!
//! Always holds:
//! - An event that no processor changes stays as it was read: neither copied nor parsed. What is the same for all events
//!   of an input is put into the input's description, and costs nothing for each event.
//! - The same bytes and the same read time give the same events, whenever they are processed: a batch can be replayed.
//!   The exceptions are what is known of pods, which changes with the cluster, and what `cache`, `rate_limit`
//!   and scripts remember of events before; events keep their ids all the same.
//! - A processor that fails lets the event pass, as in Filebeat; a dropped event is counted and acknowledged as part of
//!   its range.
//!
//! Tested by the tables in each module, and against the real Filebeat (`cargo xtask e2e differential`).

mod action;
pub mod check;
mod cloud;
#[cfg(test)]
mod compared;
mod condition;
mod doc;
mod docker;
pub mod fqdn;
mod generations;
pub mod json;
pub mod kubernetes;
mod machine;
mod options;
mod pipeline;
mod running;
pub mod syslog;
mod tree;
mod zone;

pub use action::SCRIPT;
pub use cloud::{Cloud, Provider, Request};
pub use condition::{Bounds, Condition, KINDS, Literal, Look, Network};
pub use doc::{Doc, Got, Shape, Stage};
pub use machine::{Machine, machine};
pub use options::{Outside, Processors, Steps, listed};
pub use pipeline::{LeftOut, Pipeline};
pub use zone::Zone;
