//! Callers with client certificates.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::config::ApiTls;

/// An authority of its own, with files for the server.
struct Pki {
    folder: tempfile::TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let pki = Self { folder: tempfile::tempdir().unwrap(), ca };
        let (cert, key) = pki.issue(CertificateParams::new(["localhost".to_owned()]).unwrap());
        pki.write("ca.pem", &pki.ca.pem());
        pki.write("cert.pem", &cert);
        pki.write("key.pem", &key);
        pki
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Certificate and key, PEM.
    fn issue(&self, params: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.ca).unwrap().pem(), key.serialize_pem())
    }

    fn section(&self, token: Option<&str>) -> PermissionsApi {
        let file = |name| self.folder.path().join(name);
        PermissionsApi {
            address: "127.0.0.1:0".parse().unwrap(),
            token: token.map(|token| ApiToken::Inline(token.to_owned())),
            tls: Some(ApiTls { cert: file("cert.pem"), key: file("key.pem"), client_ca: Some(file("ca.pem")) }),
        }
    }

    /// A connection to `server`, with a certificate for `name` if there is one.
    async fn connect(&self, server: &Server, name: Option<&str>) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let mut params = CertificateParams::default();
                params.distinguished_name.push(DnType::CommonName, name);
                let (cert, key) = self.issue(params);
                let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
        };
        let tcp = TcpStream::connect(server.address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap()
    }
}

#[tokio::test]
async fn the_history_names_the_holder_of_the_certificate() {
    let pki = Pki::new();
    let server = start_with(&pki.section(None)).await;
    let stream = pki.connect(&server, Some("consent-desk")).await;
    let put = exchange(stream, "", "PUT", LOCATION, r#"{"state": "granted"}"#).await;
    assert_eq!(put.status, 200, "{}", put.body);
    let stream = pki.connect(&server, Some("auditor")).await;
    let history = exchange(stream, "", "GET", &format!("/v1/vehicles/{VIN}/history"), "").await.json();
    assert_eq!(history["changes"][0]["actor"], "consent-desk");
}

#[tokio::test]
async fn without_a_certificate_there_is_no_connection() {
    let pki = Pki::new();
    let server = start_with(&pki.section(None)).await;
    // In TLS 1.3 the client is told with its first read.
    let mut stream = pki.connect(&server, None).await;
    let _ = stream.write_all(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let error = stream.read(&mut [0; 16]).await.unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    tcp.write_all(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "plain HTTP is answered");
}

#[tokio::test]
async fn where_there_is_a_token_too_either_is_enough() {
    let pki = Pki::new();
    let server = start_with(&pki.section(Some(TOKEN))).await;
    let with_token = format!("Authorization: Bearer {TOKEN}\r\n");
    for (name, headers, status) in [
        (None, "", 401),
        (None, &*with_token, 200),
        (Some("consent-desk"), "", 200),
        (None, "Authorization: Bearer x\r\n", 401),
    ] {
        let stream = pki.connect(&server, name).await;
        assert_eq!(exchange(stream, headers, "GET", "/v1/health", "").await.status, status, "{name:?} {headers}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_its_key() {
    let pki = Pki::new();
    let open = |pki: &Pki| Auth::open(&pki.section(None)).unwrap_err().to_string();
    pki.write("ca.pem", "nothing");
    assert!(open(&pki).starts_with("permissions.api.tls.client_ca: "));
    let mut section = pki.section(None);
    section.tls.as_mut().unwrap().client_ca = None;
    assert!(matches!(Auth::open(&section), Err(super::super::AuthError::NoWayIn)));
    let pki = Pki::new();
    pki.write("key.pem", &KeyPair::generate().unwrap().serialize_pem());
    assert!(open(&pki).starts_with("permissions.api.tls.key: "), "{}", open(&pki));
}
