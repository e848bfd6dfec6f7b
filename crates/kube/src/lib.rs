//! Kubernetes: what Pillion does with manifests and objects of a cluster.
//!
//! - [`autodiscover`]: which inputs the containers of a node have.
//! - [`client`]: the API server.
//! - [`inject`]: from an object to the edits that put Pillion beside its work; [`manifest`]: the same for the text of a
//!   file; [`yaml`]: edits in a text that else stays as it is; [`diff`]: what changed in it.
//! - [`pods`], [`metadata`], [`news`]: what is known of pods, for events and for autodiscovery.
//! - [`shards`]: the board of replicas that share files.
//! - [`webhook`]: the same as a mutating admission webhook.
//!
//! Known only by the binary, `pillion`: nothing on the way of a line depends on this crate.

pub mod autodiscover;
pub mod client;
pub mod diff;
pub mod inject;
pub mod manifest;
pub mod metadata;
pub mod news;
pub mod pods;
pub mod shards;
mod slim;
pub mod webhook;
pub mod yaml;

#[cfg(test)]
mod testing;
