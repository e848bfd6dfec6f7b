//! The authorities that the system trusts, which TLS clients ask for.
//!
//! Comes in: nothing. Goes out: bundles of certificates, as PEM: `SSL_CERT_FILE`'s, then those that lie where they usually do, in
//! the order in which they count. Always holds: a bundle of more than [`LIMIT`] bytes isn't read. Tested below.

use std::path::Path;

use crate::World;

/// A larger file isn't read, bytes.
pub const LIMIT: usize = 16 << 20;

const USUAL: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The bundles that can be read, best first: the first one with a certificate in it is the one to use.
pub fn bundles(world: &World) -> impl Iterator<Item = Vec<u8>> {
    let chosen = std::env::var("SSL_CERT_FILE").ok().filter(|file| !file.is_empty());
    let paths = chosen.into_iter().chain(USUAL.map(str::to_owned));
    paths.filter_map(move |path| world.fs.read(Path::new(&path), LIMIT).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bundle_that_is_there_is_told_of() {
        let there = USUAL.iter().filter(|path| Path::new(path).is_file()).count();
        let chosen = std::env::var("SSL_CERT_FILE").is_ok_and(|file| Path::new(&file).is_file());
        assert_eq!(bundles(&World::real()).count(), there + usize::from(chosen));
    }
}
