//! TLS. Towards others: `client`. For every listener: one way to make a server's rustls configuration from files, and to keep it in step with
//! them.
//!
//! What cannot be used at the start ends it ([`TlsError`]). Afterwards [`Watcher`] replaces the configuration when the
//! files change, and keeps the one that works until the new files do. Dates are not a reason to refuse files, as clocks
//! may be wrong at the start and certificates end while the server runs: those of clients' authorities are judged at
//! each handshake, and all of them are logged and measured.
//!
//! No session is ever resumed: a resumed one would skip the verification of the client's certificate, and vehicles
//! stay connected for hours.

mod authorities;
pub(crate) mod certificate;
pub mod client;
mod files;
pub(crate) mod maker;
mod metrics;
mod report;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WantsServerCert};
use rustls::{ConfigBuilder, InconsistentKeys, ServerConfig, WantsVerifier};

use self::authorities::Authorities;
pub use self::authorities::OutOfDate;
use self::certificate::Certificate;
pub use self::files::{Clients, File, Files, Trusted};
use self::files::{Contents, Digest};
pub use self::watch::Watcher;

/// The TLS of one listener.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    loaded: ArcSwap<Loaded>,
}

/// What is in force; replaced whole.
#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// The server's, leaf first; never empty.
    chain: Vec<Certificate>,
    /// `None` when clients show no certificates.
    authorities: Option<Arc<Authorities>>,
    /// Of the files that it is made from.
    digest: Digest,
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{key}: {path}: {source}{}", whose(path, source))]
    Unreadable {
        /// The key in the configuration.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not PEM, or holds no key.
    #[error("{key}: {path}: {source}")]
    Pem {
        /// The key in the configuration.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A file is in another form than PEM in the clear.
    #[error("{key}: {path}: {form}")]
    OtherForm {
        /// The key in the configuration.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// Which form, and the command that changes it.
        form: String,
    },
    /// A file that needs certificates has none.
    #[error("{key}: {path} holds no certificate; certs/README.md says what belongs into it and where to get that")]
    Empty {
        /// The key in the configuration.
        key: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// One of a file's certificates cannot be used.
    #[error("{key}: {path}: certificate {position}: {reason}")]
    Malformed {
        /// The key in the configuration.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// Counted from 1.
        position: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// One of the authorities cannot be used; in the reference server's words.
    #[error("{key}: custom ca not properly loaded: {path}: certificate {position}: {reason}")]
    BadAuthority {
        /// The key in the configuration.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// Counted from 1.
        position: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The key is another certificate's.
    #[error("{key}: {path}: not the key of {cert}")]
    OtherKey {
        /// The key in the configuration.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// The certificate's key in the configuration.
        cert: &'static str,
    },
    /// The server's certificate and key are not usable.
    #[error("{}, {}: {source}", .files.cert, .files.key)]
    ServerCertificate {
        /// Both of them.
        files: Box<Files>,
        /// What rustls says.
        source: rustls::Error,
    },
}

impl Tls {
    /// Loads the files, and says what they hold.
    ///
    /// # Errors
    /// [`TlsError`] names the key and the file.
    pub fn load(files: Files) -> Result<Self, TlsError> {
        let loaded = Loaded::new(&files, &Contents::read(&files))?;
        report::loaded("tls_loaded", files.listener, &loaded, certificate::now());
        Ok(Self { loaded: ArcSwap::from_pointee(loaded), files })
    }

    /// Everything that would keep these files from being used, by the same judge.
    #[must_use]
    pub fn problems(files: &Files) -> Vec<TlsError> {
        let contents = Contents::read(files);
        let (chain, key) = (chain(files, &contents), key(files, &contents));
        let pair = match (&chain, &key) {
            (Ok((_, ders)), Ok(key)) => {
                with_certificate(files, builder().with_no_client_auth(), ders.clone(), key.clone_key()).err()
            }
            _ => None,
        };
        [authorities(files, &contents).err(), chain.err(), key.err(), pair].into_iter().flatten().collect()
    }

    /// Advice about files that can be used, each with its key.
    #[must_use]
    pub fn advice(files: &Files) -> Vec<String> {
        let authorities = authorities(files, &Contents::read(files)).ok().flatten();
        authorities.iter().filter_map(|authorities| authorities.advice()).collect()
    }

    /// What the next handshake uses.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.load().config)
    }

    /// Why no client can be let in at the moment, whatever it shows.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.loaded.load().authorities.as_ref()?.trouble(certificate::now())
    }

    /// Puts other contents of the files in force. Connections that exist are not touched.
    ///
    /// # Errors
    /// As [`Self::load`]; everything is then as before.
    fn replace(&self, contents: &Contents) -> Result<(), TlsError> {
        let after = Arc::new(Loaded::new(&self.files, contents)?);
        let before = self.loaded.swap(Arc::clone(&after));
        report::loaded("tls_reloaded", self.files.listener, &after, certificate::now());
        report::issuer(self.files.listener, &before.chain, &after.chain);
        Ok(())
    }
}

impl Loaded {
    fn new(files: &Files, contents: &Contents) -> Result<Self, TlsError> {
        let authorities = authorities(files, contents)?;
        let builder = match &authorities {
            None => builder().with_no_client_auth(),
            Some(authorities) => builder().with_client_cert_verifier(Arc::clone(authorities) as _),
        };
        let (chain, ders) = chain(files, contents)?;
        let config = with_certificate(files, builder, ders, key(files, contents)?)?;
        Ok(Self { config: Arc::new(finish(config)), chain, authorities, digest: contents.digest() })
    }
}

/// Who may read a file that this process may not.
fn whose(path: &std::path::Path, error: &std::io::Error) -> String {
    use std::os::unix::fs::MetadataExt;
    if error.kind() != std::io::ErrorKind::PermissionDenied {
        return String::new();
    }
    let user = rustix::process::geteuid().as_raw();
    match std::fs::metadata(path) {
        Ok(file) => format!(
            "; it belongs to user {} and group {} with mode {:o}, and this process runs as user {user}: give the file to \
             that user, or its group",
            file.uid(),
            file.gid(),
            file.mode() & 0o7777
        ),
        Err(_) => format!("; this process runs as user {user}, which may not look into the folder"),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn builder() -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the default provider has suites for TLS 1.2 and 1.3")
}

fn with_certificate(
    files: &Files,
    builder: ConfigBuilder<ServerConfig, WantsServerCert>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    builder.with_single_cert(chain, key).map_err(|source| match source {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::OtherKey { key: files.key.key, path: files.key.path.clone(), cert: files.cert.key }
        }
        source => TlsError::ServerCertificate { files: Box::new(files.clone()), source },
    })
}

fn authorities(files: &Files, contents: &Contents) -> Result<Option<Arc<Authorities>>, TlsError> {
    let Some(trusted) = files.clients.trusted() else { return Ok(None) };
    let ders = match &trusted.file {
        Some(file) => certificates(file, contents.authorities(file)?)?,
        None => Vec::new(),
    };
    Ok(Some(Arc::new(Authorities::new(trusted, &ders, files.clients.are_optional(), provider())?)))
}

/// The server's certificates, leaf first: as people see them, and as they are sent.
fn chain(files: &Files, contents: &Contents) -> Result<(Vec<Certificate>, Vec<CertificateDer<'static>>), TlsError> {
    let ders = certificates(&files.cert, contents.cert(&files.cert)?)?;
    Ok((parse_chain(&files.cert, &ders)?, ders))
}

fn key(files: &Files, contents: &Contents) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = contents.key(&files.key)?;
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|source| files.key.other_form(pem).unwrap_or_else(|| files.key.bad_pem(source)))
}

fn finish(mut config: ServerConfig) -> ServerConfig {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    // WebSockets need HTTP/1.1; offering h2 would only invite clients to a dead end.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

fn certificates(file: &File, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let ders = match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(ders) => ders,
        Err(source) => return Err(file.bad_pem(source)),
    };
    if ders.is_empty() {
        let empty = || TlsError::Empty { key: file.key, path: file.path.clone() };
        return Err(file.other_form(pem).unwrap_or_else(empty));
    }
    Ok(ders)
}

fn parse_chain(file: &File, ders: &[CertificateDer<'_>]) -> Result<Vec<Certificate>, TlsError> {
    let malformed =
        |at, reason| TlsError::Malformed { key: file.key, path: file.path.clone(), position: at + 1, reason };
    let parse =
        |(at, der): (usize, &CertificateDer<'_>)| Certificate::parse(der).map_err(|reason| malformed(at, reason));
    ders.iter().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests;
