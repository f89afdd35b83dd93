//! The rustls configuration of the mTLS port.
//!
//! Client certificates are required. No session is ever resumed: a resumed session would skip the
//! verification of the client's certificate, and vehicles stay connected for hours.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config;

/// The current TLS configuration; replaced whole by [`Tls::reload`].
#[derive(Debug)]
pub struct Tls {
    files: config::Tls,
    current: ArcSwap<ServerConfig>,
}

/// Why the TLS configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM.
    #[error("{key}: {path}: {source}")]
    Pem {
        /// The key in the configuration.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// What happened.
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate of the bundle is not one.
    #[error("tls.ca_file: custom ca not properly loaded: {path}: certificate {position}: {reason}")]
    BadAnchor {
        /// The bundle.
        path: PathBuf,
        /// Counted from 1.
        position: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing that a vehicle could be verified with.
    #[error(
        "tls.ca_file: {path} has no certificate that is valid now ({total} in the file, {expired} expired or not yet \
         valid); vehicles cannot be verified. See certs/README.md for where to get the vehicle maker's bundle"
    )]
    NoAnchors {
        /// The bundle.
        path: PathBuf,
        /// Certificates in it.
        total: usize,
        /// Of those, outside their validity.
        expired: usize,
    },
    /// The server's certificate and key do not go together, or are not usable.
    #[error("tls.server_cert {cert}, tls.server_key {key}: {source}")]
    ServerCertificate {
        /// The chain.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The verifier cannot be built.
    #[error("tls.ca_file: {path}: {source}")]
    Verifier {
        /// The bundle.
        path: PathBuf,
        /// What rustls says.
        source: rustls::server::VerifierBuilderError,
    },
}

impl Tls {
    /// Loads the files.
    ///
    /// # Errors
    /// [`TlsError`] names the key and the file.
    pub fn load(files: &config::Tls) -> Result<Self, TlsError> {
        Ok(Self { current: ArcSwap::from_pointee(server_config(files)?), files: files.clone() })
    }

    /// What the next handshake uses.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Loads the files again, and drops trust anchors that have expired since. Connections that exist are not touched.
    ///
    /// # Errors
    /// As [`Self::load`]; the configuration is then as before.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.store(Arc::new(server_config(&self.files)?));
        Ok(())
    }
}

fn server_config(files: &config::Tls) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = trust_anchors(&files.ca_file, SystemTime::now())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|source| TlsError::Verifier { path: files.ca_file.clone(), source })?;
    let chain = certificates("tls.server_cert", &files.server_cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.server_key).map_err(|source| TlsError::Pem {
        key: "tls.server_key",
        path: files.server_key.clone(),
        source,
    })?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the default provider has suites for TLS 1.2 and 1.3")
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|source| TlsError::ServerCertificate {
            cert: files.server_cert.clone(),
            key: files.server_key.clone(),
            source,
        })?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    // WebSockets need HTTP/1.1; offering h2 would only invite clients to a dead end.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The bundle's certificates that are valid at `now`. rustls never looks at an anchor's dates, so an
/// expired one has to be left out here. Intermediates in the bundle are anchors too, as in the reference.
fn trust_anchors(path: &Path, now: SystemTime) -> Result<RootCertStore, TlsError> {
    let now = i64::try_from(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
    let certificates = certificates("tls.ca_file", path)?;
    let mut roots = RootCertStore::empty();
    for (n, der) in certificates.iter().enumerate() {
        let bad = |reason: String| TlsError::BadAnchor { path: path.to_owned(), position: n + 1, reason };
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| bad(error.to_string()))?;
        let validity = certificate.validity();
        if now < validity.not_before.timestamp() || now > validity.not_after.timestamp() {
            tracing::warn!(
                subject = %certificate.subject(),
                not_before = %validity.not_before,
                not_after = %validity.not_after,
                "trust_anchor_not_valid_now"
            );
            continue;
        }
        roots.add(der.clone()).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        let total = certificates.len();
        return Err(TlsError::NoAnchors { path: path.to_owned(), total, expired: total });
    }
    Ok(roots)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |source| TlsError::Pem { key, path: path.to_owned(), source };
    CertificateDer::pem_file_iter(path).map_err(pem)?.collect::<Result<_, _>>().map_err(pem)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn ca(valid_days: i64) -> String {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now - time::Duration::days(30);
        params.not_after = now + time::Duration::days(valid_days);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn bundle(pem: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.crt");
        std::fs::write(&path, pem).unwrap();
        (dir, path)
    }

    #[test]
    fn expired_anchors_are_left_out() {
        let (_dir, path) = bundle(&(ca(-1) + &ca(30)));
        assert_eq!(trust_anchors(&path, SystemTime::now()).unwrap().len(), 1);
        let later = SystemTime::now() + Duration::from_secs(31 * 24 * 3600);
        let error = trust_anchors(&path, later).unwrap_err().to_string();
        assert!(error.contains("2 in the file, 2 expired") && error.contains("certs/README.md"), "{error}");
    }

    #[test]
    fn an_empty_or_missing_bundle_says_what_to_do() {
        let (_dir, path) = bundle("");
        assert!(trust_anchors(&path, SystemTime::now()).unwrap_err().to_string().contains("certs/README.md"));
        let error = trust_anchors(Path::new("/nowhere/ca.crt"), SystemTime::now()).unwrap_err().to_string();
        assert!(error.starts_with("tls.ca_file: /nowhere/ca.crt"), "{error}");
    }

    #[test]
    fn a_bundle_with_garbage_names_the_certificate() {
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let (_dir, path) = bundle(&(ca(30) + garbage));
        let error = trust_anchors(&path, SystemTime::now()).unwrap_err().to_string();
        assert!(error.contains("custom ca not properly loaded") && error.contains("certificate 2"), "{error}");
    }
}
