//! TLS against servers that have what old sites have.
