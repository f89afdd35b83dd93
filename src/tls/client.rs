//! TLS towards others: from files to a rustls configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::config::ClientTls;

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientTlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{section}.{key}: {}: {source}", path.display())]
    Pem {
        /// The section in the configuration.
        section: String,
        /// The key in it.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A file without a certificate that can be used.
    #[error("{section}.{key}: {} holds no certificate that can be used", path.display())]
    Empty {
        /// The section in the configuration.
        section: String,
        /// The key in it.
        key: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// Nobody is trusted.
    #[error("{section}.ca_file: not given, and this system has no authorities ({message}); name a PEM bundle")]
    NoAuthorities {
        /// The section in the configuration.
        section: String,
        /// What was tried.
        message: String,
    },
    /// Certificate and key do not go together.
    #[error("{section}.key_file: {source}")]
    Certificate {
        /// The section in the configuration.
        section: String,
        /// What rustls says.
        source: rustls::Error,
    },
    /// A name that no certificate can have.
    #[error("{section}.server_name: {name:?} is no name of a host and no address")]
    Name {
        /// The section in the configuration.
        section: String,
        /// As given, or the host's.
        name: String,
    },
}

/// Makes the configuration; blocks while the file system does.
///
/// # Errors
/// [`ClientTlsError`] names the key and the file.
pub fn client(tls: &ClientTls) -> Result<Arc<ClientConfig>, ClientTlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .with_root_certificates(authorities(tls)?);
    let Some((cert, key)) = &tls.certificate else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let chain = certificates(tls, "cert_file", cert)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|source| bad_pem(tls, "key_file", key, source))?;
    let config = builder.with_client_auth_cert(chain, key);
    config.map(Arc::new).map_err(|source| ClientTlsError::Certificate { section: tls.path.clone(), source })
}

/// The name that the certificate of `host` must have.
///
/// # Errors
/// When it is none.
pub fn server_name(tls: &ClientTls, host: &str) -> Result<ServerName<'static>, ClientTlsError> {
    let name = tls.server_name.as_deref().unwrap_or(host);
    let error = |_| ClientTlsError::Name { section: tls.path.clone(), name: name.to_owned() };
    ServerName::try_from(name.to_owned()).map_err(error)
}

fn authorities(tls: &ClientTls) -> Result<RootCertStore, ClientTlsError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &tls.ca_file else {
        let found = rustls_native_certs::load_native_certs();
        // Some of a system's may be too odd for rustls.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let message = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
            return Err(ClientTlsError::NoAuthorities { section: tls.path.clone(), message });
        }
        return Ok(roots);
    };
    let (added, _) = roots.add_parsable_certificates(certificates(tls, "ca_file", path)?);
    if added == 0 { Err(empty(tls, "ca_file", path)) } else { Ok(roots) }
}

fn certificates(
    tls: &ClientTls,
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, ClientTlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>());
    let certificates = read.map_err(|source| bad_pem(tls, key, path, source))?;
    if certificates.is_empty() { Err(empty(tls, key, path)) } else { Ok(certificates) }
}

fn bad_pem(tls: &ClientTls, key: &'static str, path: &Path, source: pem::Error) -> ClientTlsError {
    ClientTlsError::Pem { section: tls.path.clone(), key, path: path.to_owned(), source }
}

fn empty(tls: &ClientTls, key: &'static str, path: &Path) -> ClientTlsError {
    ClientTlsError::Empty { section: tls.path.clone(), key, path: path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(ca_file: Option<PathBuf>, certificate: Option<(PathBuf, PathBuf)>) -> ClientTls {
        ClientTls { path: "mqtt.tls".to_owned(), ca_file, certificate, server_name: None }
    }

    #[test]
    fn files_that_cannot_be_used_are_named_with_their_keys() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key, other) = (dir.path().join("cert"), dir.path().join("key"), dir.path().join("other"));
        let pair = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
        std::fs::write(&cert, pair.cert.pem()).unwrap();
        std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        std::fs::write(&other, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let with = |ca: &Path, cert: &Path, key: &Path| {
            client(&tls(Some(ca.to_owned()), Some((cert.to_owned(), key.to_owned()))))
        };
        assert!(with(&cert, &cert, &key).is_ok());
        let nowhere = dir.path().join("nowhere");
        for (result, expected) in [
            (with(&nowhere, &cert, &key), format!("mqtt.tls.ca_file: {}: ", nowhere.display())),
            (with(&key, &cert, &key), format!("mqtt.tls.ca_file: {} holds no certificate", key.display())),
            (with(&cert, &key, &key), format!("mqtt.tls.cert_file: {} holds no certificate", key.display())),
            (with(&cert, &cert, &cert), format!("mqtt.tls.key_file: {}: ", cert.display())),
            (with(&cert, &cert, &other), "mqtt.tls.key_file: ".to_owned()),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.starts_with(&expected), "{error}, not {expected}");
        }
    }

    #[test]
    fn the_name_is_the_hosts_unless_another_is_given() {
        let host = server_name(&tls(None, None), "broker.example").unwrap();
        assert_eq!(host.to_str(), "broker.example");
        let named = ClientTls { server_name: Some("10.0.0.1".to_owned()), ..tls(None, None) };
        assert_eq!(server_name(&named, "broker.example").unwrap().to_str(), "10.0.0.1");
        let error = server_name(&tls(None, None), "not a name").unwrap_err().to_string();
        assert_eq!(error, "mqtt.tls.server_name: \"not a name\" is no name of a host and no address");
    }
}
