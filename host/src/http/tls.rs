//! TLS: the certificate and key of the public listener.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

/// Speaks TLS with the configured certificate, and offers HTTP/2 before HTTP/1.1.
pub fn acceptor(tls: &Tls) -> Result<TlsAcceptor> {
    let chain = chain(&tls.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).with_context(|| {
        format!(
            "listen.tls.key: {} is no private key in PEM form",
            tls.key.display()
        )
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("listen.tls: certificate and key do not go together")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let describe = || {
        format!(
            "listen.tls.certificate: {} is no chain of certificates in PEM form",
            file.display()
        )
    };
    let chain = CertificateDer::pem_file_iter(file).with_context(describe)?;
    let chain = chain
        .collect::<Result<Vec<_>, _>>()
        .with_context(describe)?;
    anyhow::ensure!(!chain.is_empty(), "{}: it holds no certificate", describe());
    Ok(chain)
}
