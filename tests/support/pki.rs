//! A certificate authority for vehicles and one for the server, made for one test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub struct Pki {
    vehicles: Issuer<'static, KeyPair>,
    server_ca: CertificateDer<'static>,
    dir: PathBuf,
}

/// What a client certificate says, beyond its chain.
#[derive(Clone, Default)]
pub struct Leaf {
    pub common_name: String,
    pub units: Vec<String>,
    /// Extended key usages besides clientAuth, as arcs.
    pub usages: Vec<Vec<u64>>,
    pub expired: bool,
    /// anyExtendedKeyUsage instead of clientAuth.
    pub any_usage: bool,
}

impl Pki {
    /// Writes `vehicle_ca.crt`, `server_ca.crt`, `server.crt` and `server.key` to `dir`.
    pub fn new(dir: &Path) -> Self {
        Self::with_issuer(dir, "TeslaMotors")
    }

    pub fn with_issuer(dir: &Path, vehicle_issuer: &str) -> Self {
        let (vehicles, vehicle_ca_pem, _) = authority(vehicle_issuer);
        let (servers, server_ca_pem, server_ca) = authority("Test Server CA");
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &servers).unwrap();
        std::fs::write(dir.join("vehicle_ca.crt"), vehicle_ca_pem).unwrap();
        std::fs::write(dir.join("server_ca.crt"), server_ca_pem).unwrap();
        std::fs::write(dir.join("server.crt"), certificate.pem()).unwrap();
        std::fs::write(dir.join("server.key"), key.serialize_pem()).unwrap();
        Self { vehicles, server_ca, dir: dir.to_owned() }
    }

    /// The same vehicles, which know their server by this authority (PEM) from now on.
    pub fn trusting(mut self, server_ca: &[u8]) -> Self {
        self.server_ca = CertificateDer::from_pem_slice(server_ca).unwrap();
        self
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes `client.crt` and `client.key`, of the authority that signs vehicles' certificates.
    pub fn write_client(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.vehicles).unwrap();
        std::fs::write(self.dir.join("client.crt"), certificate.pem()).unwrap();
        std::fs::write(self.dir.join("client.key"), key.serialize_pem()).unwrap();
    }

    /// A client configuration with a vehicle's certificate.
    pub fn vehicle(&self, vin: &str) -> Arc<ClientConfig> {
        self.client(&Leaf { common_name: vin.to_owned(), ..Leaf::default() })
    }

    /// As [`Self::vehicle`], for certain TLS versions.
    pub fn vehicle_with_versions(
        &self,
        vin: &str,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let leaf = Leaf { common_name: vin.to_owned(), ..Leaf::default() };
        self.client_from(&leaf, &self.vehicles, versions)
    }

    pub fn client(&self, leaf: &Leaf) -> Arc<ClientConfig> {
        self.client_from(leaf, &self.vehicles, rustls::ALL_VERSIONS)
    }

    /// A certificate of the same shape from an authority that the server does not know, whatever its name.
    pub fn stranger(&self, vin: &str, issuer: &str) -> Arc<ClientConfig> {
        let (issuer, _, _) = authority(issuer);
        self.client_from(&Leaf { common_name: vin.to_owned(), ..Leaf::default() }, &issuer, rustls::ALL_VERSIONS)
    }

    pub fn anonymous(&self) -> Arc<ClientConfig> {
        Arc::new(self.builder(rustls::ALL_VERSIONS).with_no_client_auth())
    }

    /// Who signs the vehicles' certificates.
    pub fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.vehicles
    }

    /// A client with any chain, its leaf first.
    pub fn client_with_chain(&self, chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<ClientConfig> {
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        Arc::new(self.builder(rustls::ALL_VERSIONS).with_client_auth_cert(chain, key).unwrap())
    }

    fn client_from(
        &self,
        leaf: &Leaf,
        issuer: &Issuer<'static, KeyPair>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, leaf.common_name.as_str());
        for unit in &leaf.units {
            params.distinguished_name.push(DnType::OrganizationalUnitName, unit.as_str());
        }
        let usage = if leaf.any_usage { ExtendedKeyUsagePurpose::Any } else { ExtendedKeyUsagePurpose::ClientAuth };
        params.extended_key_usages = vec![usage];
        params.extended_key_usages.extend(leaf.usages.iter().cloned().map(ExtendedKeyUsagePurpose::Other));
        if leaf.expired {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let certificate = params.signed_by(&key, issuer).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        Arc::new(self.builder(versions).with_client_auth_cert(vec![certificate.der().clone()], key).unwrap())
    }

    fn builder(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.server_ca.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
    }
}

fn authority(common_name: &str) -> (Issuer<'static, KeyPair>, String, CertificateDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).unwrap();
    (Issuer::new(params, key), certificate.pem(), certificate.der().clone())
}
