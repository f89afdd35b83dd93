//! Certificates of simulated vehicles, and of a development set-up.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

/// The issuer name that servers accept for vehicles without further conditions.
const VEHICLE_CA: &str = "TeslaMotors";
const SERVER_CA: &str = "fleet-telemetry development CA";

/// Why certificates could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is not the PEM it should be.
    #[error("{path}: {source}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// Making a certificate.
    #[error("certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Using a certificate.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The files of a development set-up in one folder.
#[derive(Clone, Debug)]
pub struct Files {
    /// Signs vehicles; the server's `ca_file`.
    pub vehicle_ca: PathBuf,
    /// Its key.
    pub vehicle_ca_key: PathBuf,
    /// The server's certificate, for `localhost` and `127.0.0.1`.
    pub server: PathBuf,
    /// Its key.
    pub server_key: PathBuf,
    /// What vehicles check the server against.
    pub server_ca: PathBuf,
}

impl Files {
    /// The names in `dir`.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            vehicle_ca: dir.join("vehicle_ca.crt"),
            vehicle_ca_key: dir.join("vehicle_ca.key"),
            server: dir.join("server.crt"),
            server_key: dir.join("server.key"),
            server_ca: dir.join("server_ca.crt"),
        }
    }

    /// Makes whatever is missing; true when something was. A certificate is never left without its key:
    /// if one of a group is missing, the group is made anew.
    ///
    /// # Errors
    /// [`CertsError`].
    pub fn create(&self) -> Result<bool, CertsError> {
        let vehicle_missing = !(self.vehicle_ca.exists() && self.vehicle_ca_key.exists());
        let server_missing = !(self.server.exists() && self.server_key.exists() && self.server_ca.exists());
        if let Some(dir) = self.server.parent() {
            fs::create_dir_all(dir).map_err(|source| CertsError::File { path: dir.into(), source })?;
        }
        if vehicle_missing {
            let (ca, key) = authority(VEHICLE_CA)?;
            write(&self.vehicle_ca_key, &key.serialize_pem(), 0o600)?;
            write(&self.vehicle_ca, &ca.self_signed(&key)?.pem(), 0o644)?;
        }
        if server_missing {
            self.create_server()?;
        }
        Ok(vehicle_missing || server_missing)
    }

    /// The CA's key is not kept: nothing else is to be signed with it.
    fn create_server(&self) -> Result<(), CertsError> {
        let (ca, ca_key) = authority(SERVER_CA)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "localhost");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        valid_for_decades(&mut params);
        let ca_certificate = ca.self_signed(&ca_key)?;
        let certificate = params.signed_by(&key, &Issuer::new(ca, ca_key))?;
        write(&self.server_key, &key.serialize_pem(), 0o600)?;
        write(&self.server, &certificate.pem(), 0o644)?;
        write(&self.server_ca, &ca_certificate.pem(), 0o644)
    }
}

/// Signs vehicles' certificates and makes their TLS configurations. The whole fleet shares one key; the
/// certificates differ.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    fleet_key: KeyPair,
    signing_key: Arc<dyn SigningKey>,
    base: ClientConfig,
}

impl Authority {
    /// Reads the CA that signs vehicles and the CA that signed the server.
    ///
    /// # Errors
    /// [`CertsError`].
    pub fn load(files: &Files, post_quantum: bool) -> Result<Self, CertsError> {
        let issuer_key = KeyPair::from_pem(&read(&files.vehicle_ca_key)?)?;
        let issuer = Issuer::from_ca_cert_pem(&read(&files.vehicle_ca)?, issuer_key)?;
        let fleet_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let der = PrivateKeyDer::try_from(fleet_key.serialize_der()).expect("rcgen writes PKCS #8");
        let signing_key = aws_lc_rs::sign::any_supported_type(&der)?;
        Ok(Self { issuer, fleet_key, signing_key, base: client_config(&files.server_ca, post_quantum)? })
    }

    /// A TLS configuration with a fresh certificate for `vin`.
    ///
    /// # Errors
    /// [`CertsError::Make`].
    pub fn vehicle(&self, vin: &str) -> Result<Arc<ClientConfig>, CertsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, vin);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        valid_for_decades(&mut params);
        let certificate = params.signed_by(&self.fleet_key, &self.issuer)?;
        let certified = CertifiedKey::new(vec![certificate.der().clone()], self.signing_key.clone());
        let mut config = self.base.clone();
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        Ok(Arc::new(config))
    }
}

/// The certificates of a PEM file.
///
/// # Errors
/// [`CertsError::Pem`].
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| CertsError::Pem { path: path.into(), source })
}

/// The key of a PEM file.
///
/// # Errors
/// [`CertsError::Pem`].
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| CertsError::Pem { path: path.into(), source })
}

/// The trust anchors of a PEM file.
///
/// # Errors
/// [`CertsError`].
pub fn read_roots(path: &Path) -> Result<RootCertStore, CertsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// Full handshakes only, and without the post-quantum exchange unless asked for: vehicles are embedded
/// devices, and its cost would otherwise be measured as the server's.
fn client_config(server_ca: &Path, post_quantum: bool) -> Result<ClientConfig, CertsError> {
    let mut provider = aws_lc_rs::default_provider();
    if !post_quantum {
        provider.kx_groups = vec![kx_group::X25519, kx_group::SECP256R1];
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(read_roots(server_ca)?)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn authority(name: &str) -> Result<(CertificateParams, KeyPair), CertsError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for_decades(&mut params);
    Ok((params, key))
}

fn valid_for_decades(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(2045, 1, 1);
}

fn read(path: &Path) -> Result<String, CertsError> {
    fs::read_to_string(path).map_err(|source| CertsError::File { path: path.into(), source })
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertsError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| CertsError::File { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_keeps_the_files_and_replaces_an_incomplete_group() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let files = Files::in_dir(&dir.path().join("dev"));
        assert!(files.create().expect("created"));
        let before = (read(&files.vehicle_ca).expect("file"), read(&files.server).expect("file"));
        assert!(!files.create().expect("kept"));
        assert_eq!(before, (read(&files.vehicle_ca).expect("file"), read(&files.server).expect("file")));

        fs::remove_file(&files.server_key).expect("removed");
        assert!(files.create().expect("made anew"));
        assert_eq!(before.0, read(&files.vehicle_ca).expect("file"));
        assert_ne!(before.1, read(&files.server).expect("file"));
    }

    #[test]
    fn keys_are_readable_by_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("temporary folder");
        let files = Files::in_dir(dir.path());
        files.create().expect("created");
        for key in [&files.vehicle_ca_key, &files.server_key] {
            assert_eq!(fs::metadata(key).expect("file").permissions().mode() & 0o077, 0);
        }
    }
}
