//! Certificates that last for a test.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};
use tempfile::TempDir;

/// An authority, and a certificate of it for `localhost` and `127.0.0.1`, as files in a folder of their own.
pub struct Certificates {
    folder: TempDir,
    authority: CertificateDer<'static>,
}

impl Certificates {
    /// New ones.
    pub fn new() -> Self {
        let folder = TempDir::with_prefix("fanfare-tls-").expect("a temporary folder");
        let mut params = CertificateParams::new(Vec::new()).expect("good parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A name of its own, or OpenSSL takes what it signs for signed by itself.
        params
            .distinguished_name
            .push(DnType::CommonName, "Fanfare's tests");
        let key = KeyPair::generate().expect("a key");
        let authority = params.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(params, key);

        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let server_key = KeyPair::generate().expect("a key");
        let server = CertificateParams::new(names).expect("good parameters");
        let server = server
            .signed_by(&server_key, &issuer)
            .expect("a certificate");

        let certificates = Self {
            authority: authority.der().clone(),
            folder,
        };
        fs::write(certificates.authority(), authority.pem()).expect("a file");
        fs::write(certificates.certificate(), server.pem()).expect("a file");
        fs::write(certificates.key(), server_key.serialize_pem()).expect("a file");
        certificates
    }

    /// The file with the authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.file("authority.pem")
    }

    /// The file with the server's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.file("certificate.pem")
    }

    /// The file with the server's key.
    pub fn key(&self) -> PathBuf {
        self.file("key.pem")
    }

    /// A client that trusts the authority and offers these protocols, such as `h2` and `http/1.1`.
    pub fn client(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.authority.clone())
            .expect("a good certificate");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("good versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        Arc::new(config)
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}
