//! TLS for listening ports, from PEM texts.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why a TLS configuration can't be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A text isn't PEM of the kind that is needed.
    #[error("{what}: {reason:?}")]
    Pem {
        /// Which text.
        what: &'static str,
        /// What is wrong.
        reason: rustls_pki_types::pem::Error,
    },
    /// rustls refuses certificate, key or authority.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// The authorities can't be used to check clients.
    #[error("client authorities: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// A server's configuration from its certificate chain, its key, and, when clients must show a certificate, the
/// authorities that sign those; all as PEM.
///
/// # Errors
/// When a text can't be read or used.
pub fn tls_config(chain: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates("client authorities", pem)? {
                roots.add(authority)?;
            }
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?,
            )
        }
    };
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|reason| TlsError::Pem { what: "key", reason })?;
    Ok(Arc::new(builder.with_single_cert(certificates("certificate", chain)?, key)?))
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|reason| TlsError::Pem { what, reason })
}
