//! Whom the node trusts when it connects to others with TLS: the authorities of the system, and those of a file.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use thiserror::Error;
use tokio::sync::OnceCell;

/// Makes the configuration of TLS clients.
#[derive(Debug, Default)]
pub struct Trust {
    /// Authorities that are trusted besides those of the system.
    authorities: Vec<CertificateDer<'static>>,
    /// Made when the first connection needs it: the certificates of the system are many.
    config: OnceCell<Arc<ClientConfig>>,
}

/// A file holds no certificates of authorities.
#[derive(Debug, Error)]
#[error("{file} cannot be read: {cause}; it must be a file of certificates in PEM")]
pub struct BadAuthorities {
    file: String,
    cause: String,
}

/// TLS cannot be set up.
#[derive(Debug, Error)]
#[error("TLS cannot be set up: {0}")]
pub struct NoTls(String);

impl Trust {
    /// Trusts the authorities of the system and, where there is a file, those whose certificates it holds.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, BadAuthorities> {
        let authorities = ca_file.map(certificates).transpose()?;
        Ok(Self {
            authorities: authorities.unwrap_or_default(),
            config: OnceCell::new(),
        })
    }

    /// The configuration of a client.
    pub async fn config(&self) -> Result<Arc<ClientConfig>, NoTls> {
        let config = self.config.get_or_try_init(|| self.make()).await?;
        Ok(config.clone())
    }

    async fn make(&self) -> Result<Arc<ClientConfig>, NoTls> {
        let broken = |error: &dyn fmt::Display| NoTls(error.to_string());
        // It reads files.
        let system = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
        let system = system.await.map_err(|error| broken(&error))?;
        let mut roots = RootCertStore::empty();
        // Systems hold certificates that rustls cannot read; whoever needs one of these is told by the handshake.
        roots.add_parsable_certificates(system.certs);
        for authority in &self.authorities {
            roots
                .add(authority.clone())
                .map_err(|error| broken(&error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| broken(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

/// The certificates in a file.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BadAuthorities> {
    let unreadable = |cause: &dyn fmt::Display| BadAuthorities {
        file: path.display().to_string(),
        cause: cause.to_string(),
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))?;
    let certificates: Vec<_> = certificates
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(&error))?;
    if certificates.is_empty() {
        return Err(unreadable(&"it holds no certificate"));
    }
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| unreadable(&error))?;
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        for content in [
            None,
            Some("no certificate\n"),
            Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ca.pem");
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let error = Trust::new(Some(&path)).unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }
}
