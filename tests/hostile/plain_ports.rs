//! Silent and slow clients of the plain ports. Probes, scrapes and revocations get their answers meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::api::{Api, TOKEN};
use crate::support::pki::Pki;
use crate::support::server::{Server, config, free_port, get};
use crate::support::vehicle::{Vehicle, exchange};

const VIN: &str = "5YJ3E1EA0PF000001";
const LOCATION: &str = "/v1/vehicles/5YJ3E1EA0PF000001/scopes/vehicle_location";
/// An answer takes milliseconds on a quiet machine; where silence kept places, it took more than twenty seconds.
const SOON: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(30);
const FLOOD: usize = 300;

/// A server with all three plain ports, and the configuration that it has.
fn start(change: impl FnOnce(&Pki, &mut Value)) -> (TempDir, Pki, Value, Server) {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    let mut config = config(&pki);
    config["permissions"] = json!({
        "mode": "enforce",
        "store": { "sqlite": { "path": pki.dir().join("permissions.db") } },
        "api": { "port": free_port(), "token": TOKEN },
    });
    change(&pki, &mut config);
    let server = Server::start(&pki, &config);
    (dir, pki, config, server)
}

/// Sockets that have sent `bytes` and read nothing, with as little room for answers as the kernel gives.
async fn flood(address: SocketAddr, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1024).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        // The server may have closed it already, for the next one.
        let _ = stream.write_all(bytes).await;
        sockets.push(stream);
    }
    sockets
}

async fn soon<T>(what: &str, answer: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let answer = tokio::time::timeout(SOON, answer).await;
    let answer = answer.unwrap_or_else(|_| panic!("{what}: no answer after {SOON:?}"));
    println!("{what}: answered after {:?}", started.elapsed());
    answer
}

/// Probes, a scrape and a revocation.
async fn everybody_is_answered(server: &Server, api: Api, meanwhile: &str) {
    for address in [server.status, server.metrics] {
        for path in ["/livez", "/readyz"] {
            assert_eq!(soon(&format!("{path} beside {meanwhile}"), get(address, path)).await.0, 200);
        }
    }
    assert_eq!(soon(&format!("a scrape beside {meanwhile}"), get(server.metrics, "/metrics")).await.0, 200);
    let answer = soon(&format!("a revocation beside {meanwhile}"), api.revoke(VIN)).await;
    assert_eq!(answer["grant"]["state"], "denied");
}

async fn refused(server: &Server, port: &str, reason: &str) -> f64 {
    server.metric(&format!("http_refused_total{{port=\"{port}\",reason=\"{reason}\"}}")).await
}

/// Waits until the server has ended the connection.
async fn ended(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(end.is_ok(), "still connected after {PATIENCE:?}");
    answer
}

#[tokio::test]
async fn silent_connections_to_every_port_keep_nobody_from_an_answer() {
    let (_dir, _pki, config, server) = start(|_, _| {});
    let api = Api::of(&config);
    let mut silent = Vec::new();
    for address in [server.status, server.metrics, api.0] {
        silent.push(flood(address, FLOOD, b"").await);
    }
    everybody_is_answered(&server, api, "silent connections").await;
    for port in ["status", "metrics", "permissions_api"] {
        assert!(refused(&server, port, "displaced").await >= 170.0, "of {FLOOD} at 128 places");
    }
}

#[tokio::test]
async fn unfinished_headers_on_every_port_keep_nobody_from_an_answer() {
    let (_dir, _pki, config, server) = start(|_, _| {});
    let api = Api::of(&config);
    let mut half = Vec::new();
    for address in [server.status, server.metrics, api.0] {
        half.push(flood(address, FLOOD, b"GET /livez HTTP/1.1\r\nhost: x\r\nx-more: ").await);
    }
    everybody_is_answered(&server, api, "unfinished headers").await;
}

#[tokio::test]
async fn scrapers_that_never_read_keep_nobody_from_an_answer() {
    let (_dir, _pki, config, server) = start(|_, _| {});
    let scrape = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200);
    let _deaf = flood(server.metrics, FLOOD, &scrape).await;
    everybody_is_answered(&server, Api::of(&config), "scrapers that never read").await;
}

#[tokio::test]
async fn stalled_handshakes_keep_no_revocation_from_getting_through() {
    let (_dir, pki, config, server) = start(|pki, config| {
        let file = |name| pki.dir().join(name);
        config["permissions"]["api"]["tls"] = json!({ "cert": file("server.crt"), "key": file("server.key") });
    });
    let Api(address) = Api::of(&config);
    let _silent = flood(address, FLOOD / 2, b"").await;
    // The start of a ClientHello.
    let _stalled = flood(address, FLOOD / 2, &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await;
    let client: Arc<ClientConfig> = pki.anonymous();
    let body = r#"{"state": "denied"}"#;
    let put = format!(
        "PUT {LOCATION} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = soon("a revocation beside stalled handshakes", exchange(address, &client, put.as_bytes())).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(refused(&server, "permissions_api", "displaced").await >= 170.0);
}

#[tokio::test]
async fn whoever_sends_no_whole_request_in_time_is_cut_off_and_one_between_requests_is_not() {
    let (_dir, _pki, _config, server) = start(|_, config| config["limits"] = json!({ "http_header_timeout": "2s" }));
    let mut kept = TcpStream::connect(server.status).await.unwrap();
    let ask = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut answer = [0; 12];
    kept.write_all(ask).await.unwrap();
    kept.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let mut silent = TcpStream::connect(server.status).await.unwrap();
    let mut dribbling = TcpStream::connect(server.status).await.unwrap();
    let started = Instant::now();
    let dribble = async {
        for byte in &ask[..ask.len() - 2] {
            let sent = dribbling.write_all(&[*byte]).await;
            if sent.is_err() || tokio::time::timeout(Duration::from_millis(500), dribbling.read_u8()).await.is_ok() {
                return;
            }
        }
        panic!("a byte now and then stretched the time to {:?}", started.elapsed());
    };
    tokio::join!(dribble, ended(&mut silent));
    // Longer than a request may take: between two of them there is more time.
    kept.write_all(ask).await.unwrap();
    let mut rest = vec![0; 4096];
    let read = tokio::time::timeout(SOON, kept.read(&mut rest)).await.unwrap().unwrap();
    assert!(read > 0, "a connection that waits between requests was closed after {:?}", started.elapsed());
    assert!(refused(&server, "status", "slow").await >= 2.0);
}

#[tokio::test]
async fn a_body_that_comes_one_byte_a_second_is_not_waited_for() {
    let (_dir, _pki, config, server) = start(|_, _| {});
    let api = Api::of(&config);
    let mut slow = TcpStream::connect(api.0).await.unwrap();
    let head = format!(
        "PUT {LOCATION} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 1000\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    let dribble = async {
        loop {
            let read = tokio::time::timeout(Duration::from_secs(1), slow.read_exact(&mut answer)).await;
            if read.is_ok() || slow.write_all(b" ").await.is_err() {
                return;
            }
        }
    };
    assert!(tokio::time::timeout(PATIENCE, dribble).await.is_ok(), "it is still read");
    assert_eq!(&answer, b"HTTP/1.1 413");
    drop(server);
}

#[tokio::test]
async fn an_address_has_half_of_a_port_and_no_port_takes_from_another() {
    let (_dir, pki, config, server) = start(|_, config| {
        config["limits"] = json!({ "max_http_connections": 8, "max_http_connections_per_address": 4 });
    });
    let _silent = flood(server.metrics, 20, b"").await;
    // All come from one address: its own make room, at half of the places.
    everybody_is_answered(&server, Api::of(&config), "silent connections from one address").await;
    assert!(refused(&server, "metrics", "displaced").await >= 16.0);
    for port in ["status", "permissions_api"] {
        assert_eq!(refused(&server, port, "displaced").await, 0.0, "{port}");
    }
    let vehicle = pki.vehicle(VIN);
    soon("a vehicle", Vehicle::connect(server.address, &vehicle, VIN)).await;
}
