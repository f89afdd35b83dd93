//! The rustls configuration of the admin API: our certificate, and whose certificates let a client in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::config;

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM.
    #[error("permissions.api.tls.{key}: {path}: {source}")]
    Pem {
        /// `cert`, `key` or `client_ca`.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// What happened.
        source: pem::Error,
    },
    /// What is in a file cannot be used.
    #[error("permissions.api.tls.{key}: {path}: {reason}")]
    Unusable {
        /// `cert` or `client_ca`.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// With a `client_ca`, clients show a certificate; where a token would do as well, they may.
pub(super) fn server_config(files: &config::ApiTls, has_token: bool) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the default provider has suites for TLS 1.2 and 1.3");
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(verifier(path, provider, has_token)?),
    };
    let chain = certificates("cert", &files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| TlsError::Pem {
        key: "key",
        path: files.key.clone(),
        source,
    })?;
    let mut config = builder.with_single_cert(chain, key).map_err(|error| TlsError::Unusable {
        key: "cert",
        path: files.cert.clone(),
        reason: error.to_string(),
    })?;
    // A resumed session would skip the verification of the client's certificate.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn verifier(
    path: &Path,
    provider: Arc<rustls::crypto::CryptoProvider>,
    optional: bool,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = |reason: String| TlsError::Unusable { key: "client_ca", path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("client_ca", path)? {
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| unusable(error.to_string()))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let bad = |source| TlsError::Pem { key, path: path.to_owned(), source };
    match read {
        Ok(certificates) if certificates.is_empty() => Err(bad(pem::Error::NoItemsFound)),
        Ok(certificates) => Ok(certificates),
        Err(source) => Err(bad(source)),
    }
}
