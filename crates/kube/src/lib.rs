//! Kubernetes: what Pillion does with manifests and objects of a cluster.
//!
//! - [`client`]: the API server.
//! - [`inject`]: from an object to the edits that put Pillion beside its work.
//! - [`webhook`]: the same as a mutating admission webhook.
//!
//! Known only by the binary, `pillion`: nothing on the way of a line depends on this crate.

pub mod client;
pub mod inject;
pub mod webhook;

#[cfg(test)]
mod testing;
