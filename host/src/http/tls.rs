//! TLS: the certificate and key of the public listener.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Error, Result, anyhow, ensure};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

/// Speaks TLS with the configured certificate, and offers HTTP/2 before HTTP/1.1.
pub fn acceptor(tls: &Tls) -> Result<TlsAcceptor> {
    let chain = chain(&tls.certificate)?;
    let key = key(&tls.key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("listen.tls: certificate and key do not go together")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let is_none = format!(
        "listen.tls.certificate: {} is no chain of certificates in PEM form",
        file.display()
    );
    let failed = |error| unusable(error, "listen.tls.certificate", file, &is_none);
    let chain = CertificateDer::pem_file_iter(file).map_err(failed)?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(failed)?;
    ensure!(!chain.is_empty(), "{is_none}: it holds no certificate");
    Ok(chain)
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| {
        let is_none = format!(
            "listen.tls.key: {} is no private key in PEM form",
            file.display()
        );
        unusable(error, "listen.tls.key", file, &is_none)
    })
}

/// A file that cannot be read is told from one that was read and `is_none`.
fn unusable(error: pem::Error, key: &str, file: &Path, is_none: &str) -> Error {
    match error {
        pem::Error::Io(error) => anyhow!("{key}: {} cannot be read: {error}", file.display()),
        error => Error::new(error).context(is_none.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_told_from_what_is_no_pem() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text.pem");
        std::fs::write(&text, "no PEM\n").unwrap();
        let said = |file: &Path| {
            let errors = [chain(file).err().unwrap(), key(file).err().unwrap()];
            errors.map(|error| format!("{error:#}"))
        };
        let nowhere = folder.path().join("nowhere.pem");
        for unreadable in [folder.path(), nowhere.as_path()] {
            for (error, key) in said(unreadable).iter().zip(["certificate", "key"]) {
                let start = format!(
                    "listen.tls.{key}: {} cannot be read: ",
                    unreadable.display()
                );
                assert!(error.starts_with(&start), "{error}");
            }
        }
        for (error, kind) in said(text.as_path())
            .iter()
            .zip(["certificates", "private key"])
        {
            assert!(
                error.contains(kind) && error.contains("in PEM form: "),
                "{error}"
            );
            assert!(!error.contains("cannot be read"), "{error}");
        }
    }
}
