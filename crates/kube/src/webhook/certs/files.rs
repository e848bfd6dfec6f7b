//! A certificate from a folder, as a mounted Secret of type `kubernetes.io/tls` has it: `tls.crt`, `tls.key`, `ca.crt`.
//!
//! Comes in: the folder. Goes out: a [`Generation`] whenever its content has changed. Always holds: a folder in the
//! middle of a change (certificate and key that don't fit, an empty file) leaves what was there in use. Tested in
//! `webhook/tests.rs`.

use std::path::{Path, PathBuf};

use pillion_world::Fs;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::Slot;
use super::generation::Generation;

/// A file larger than this isn't a certificate.
const LIMIT: usize = 1 << 20;

/// Looks at a folder again and again.
pub(crate) struct Folder {
    path: PathBuf,
    last: Option<[String; 3]>,
}

impl Folder {
    pub(crate) fn new(path: &Path) -> Folder {
        Folder { path: path.to_owned(), last: None }
    }

    /// The folder's certificate, when it is another than at the last look.
    pub(crate) fn look(&mut self, fs: &dyn Fs) -> Result<Option<Generation>, String> {
        let read = |name: &str| -> Result<String, String> {
            let path = self.path.join(name);
            let bytes = fs.read(&path, LIMIT).map_err(|e| format!("{}: {e}", path.display()))?;
            String::from_utf8(bytes).map_err(|_| format!("{}: it isn't PEM", path.display()))
        };
        // Without ca.crt the certificate is its own authority, or somebody else publishes it.
        let (chain, key) = (read("tls.crt")?, read("tls.key")?);
        let authority = read("ca.crt").unwrap_or_else(|_| chain.clone());
        let now = [chain, key, authority];
        if self.last.as_ref() == Some(&now) {
            return Ok(None);
        }
        let [chain, key, authority] = &now;
        let bad = || format!("{}: ca.crt or tls.crt isn't a certificate (PEM)", self.path.display());
        let der = CertificateDer::from_pem_slice(authority.as_bytes()).map_err(|_| bad())?;
        // Valid from when it was made, as far as a certificate says.
        let mut generation = Generation::read(0, &der, chain, key).ok_or_else(bad)?;
        generation.made = generation.valid.0;
        Slot::default().set(&generation).map_err(|e| format!("{}: {e}", self.path.display()))?;
        self.last = Some(now);
        Ok(Some(generation))
    }
}
