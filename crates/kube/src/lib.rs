//! Kubernetes: what Pillion does with manifests and objects of a cluster.
//!
//! - [`client`]: the API server.
//!
//! Known only by the binary, `pillion`: nothing on the way of a line depends on this crate.

pub mod client;

#[cfg(test)]
mod testing;
