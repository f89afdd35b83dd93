//! What the TLS side offers and refuses on purpose.

use std::sync::{Arc, Mutex};

use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, SignatureScheme};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::pki::Leaf;
use crate::support::vehicle::{Vehicle, frame, request, tls, v_payload};
use crate::{VIN, start, start_with};

/// A client that notes whose certificates the server asks for, and has none.
#[derive(Debug, Default)]
struct Asked(Mutex<Vec<Vec<u8>>>);

impl ResolvesClientCert for Asked {
    fn resolve(&self, authorities: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        *self.0.lock().unwrap() = authorities.iter().map(|name| name.to_vec()).collect();
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The names of the authorities that a server with this in its configuration asks for, and whether it lets a vehicle of
/// `ca_file` in.
async fn asks_for(tls_of: impl Fn(&mut Value), eng: bool) -> (Vec<Vec<u8>>, bool) {
    let (_dir, pki, server) = start_with(|config| {
        tls_of(&mut config["tls"]);
        config["use_default_eng_ca"] = json!(eng);
    });
    let asked = Arc::new(Asked::default());
    let mut client = Arc::unwrap_or_clone(pki.anonymous());
    client.client_auth_cert_resolver = Arc::clone(&asked) as _;
    let _ = tls(server.address, &Arc::new(client)).await;
    let mut names = std::mem::take(&mut *asked.0.lock().unwrap());
    names.sort();
    names.dedup();
    let request = request(server.address);
    let is_let_in = Vehicle::try_connect(server.address, &pki.vehicle(VIN), VIN, request).await.is_ok();
    (names, is_let_in)
}

#[tokio::test]
async fn vehicles_of_the_maker_are_asked_for_and_those_of_the_file_as_well() {
    let no_file = |tls: &mut Value| tls["ca_file"] = Value::Null;
    let (production, is_let_in) = asks_for(no_file, false).await;
    // Of the fourteen, all names differ.
    assert_eq!((production.len(), is_let_in), (14, false));
    let contains =
        |names: &[Vec<u8>], part: &[u8]| names.iter().any(|name| name.windows(part.len()).any(|at| at == part));
    assert!(contains(&production, b"Tesla Motors GF Berlin Product Issuing CA"));
    let (engineering, _) = asks_for(no_file, true).await;
    assert_eq!(engineering.len(), 8);
    assert!(!contains(&engineering, b"GF Berlin"));
    let (both, is_let_in) = asks_for(|_| {}, false).await;
    assert!(is_let_in && both.len() >= 14, "{} names", both.len());
    assert!(production.iter().all(|name| both.contains(name)));
    let (file_alone, is_let_in) = asks_for(|tls| tls["maker_ca"] = json!(false), false).await;
    assert_eq!((file_alone.len(), is_let_in), (1, true));
}

#[tokio::test]
async fn only_http_1_1_is_offered() {
    let (_dir, pki, server) = start();
    let mut config = Arc::unwrap_or_clone(pki.vehicle(VIN));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = tls(server.address, &Arc::new(config.clone())).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    config.alpn_protocols = vec![b"h2".to_vec()];
    assert!(tls(server.address, &Arc::new(config)).await.is_err());
}

#[tokio::test]
async fn no_session_is_resumed_in_either_version() {
    let (_dir, pki, server) = start();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = pki.vehicle_with_versions(VIN, &[version]);
        for _ in 0..2 {
            let mut stream = tls(server.address, &config).await.unwrap();
            stream.write_all(b"GET /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
            // Tickets would come with the first application data.
            let _ = stream.read_to_end(&mut Vec::new()).await;
            let kind = stream.get_ref().1.handshake_kind().unwrap();
            assert!(matches!(kind, HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn a_certificate_for_any_usage_is_not_one_for_clients() {
    let (_dir, pki, server) = start();
    let config = pki.client(&Leaf { common_name: VIN.into(), any_usage: true, ..Leaf::default() });
    let mut byte = [0];
    if let Ok(mut stream) = tls(server.address, &config).await {
        assert!(stream.read(&mut byte).await.is_err(), "TLS 1.3 tells the client after its own handshake");
    }
    server.metric_becomes("connection_refused_total{reason=\"bad_certificate\"}", 1.0).await;
}

#[tokio::test]
async fn a_frame_right_behind_the_upgrade_request_is_read() {
    let (_dir, pki, server) = start();
    let mut stream = tls(server.address, &pki.vehicle(VIN)).await.unwrap();
    let message = frame("V", "early", VIN, &v_payload(VIN, 1.0));
    let mut bytes = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    bytes.extend([0x82, 0x80 | 126]);
    bytes.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(message);
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(5).any(|window| window == b"early") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the ack repeats the txid");
    }
}
