//! The certificate that new connections get; it can change at any time.
//!
//! Always holds: a certificate whose key doesn't fit never gets in; connections that are open go on. Tested in
//! `webhook/tests.rs`.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::generation::Generation;

/// Holds the certificate.
#[derive(Debug, Default)]
pub(crate) struct Slot(RwLock<Option<Arc<CertifiedKey>>>);

impl Slot {
    /// Serves this one from now on.
    pub(crate) fn set(&self, generation: &Generation) -> Result<(), String> {
        let chain = CertificateDer::pem_slice_iter(generation.chain.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|e| format!("the certificate: {e:?}"))?;
        let key = PrivateKeyDer::from_pem_slice(generation.key.as_bytes());
        let key = key.map_err(|_| "the certificate's key isn't PEM".to_owned())?;
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
        let certified = certified.map_err(|e| format!("certificate and key: {e}"))?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certified));
        Ok(())
    }

    /// What a server needs that serves what is in here.
    pub(crate) fn config(self: &Arc<Slot>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config =
            builder.with_no_client_auth().with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Slot {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
