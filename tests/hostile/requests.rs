//! Requests that are too much, never end, or mean two things at once: behind the handshake, and on the plain ports.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::api::{Api, TOKEN};
use crate::support::pki::Pki;
use crate::support::process;
use crate::support::server::{self, Server, free_port, start, start_with};
use crate::support::vehicle::{PATIENCE, UPGRADE, tls};
use crate::witness::Witness;

const VIN: &str = "5YJ3E1EA0PF000001";
const MIB: usize = 1 << 20;

/// Where requests are taken.
#[derive(Clone, Copy, Debug)]
enum Port {
    Vehicles,
    Status,
    Metrics,
    Permissions,
}

const PORTS: [Port; 4] = [Port::Vehicles, Port::Status, Port::Metrics, Port::Permissions];

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A server with all four ports.
struct Site {
    server: Server,
    pki: Pki,
    api: Api,
    _dir: tempfile::TempDir,
}

impl Site {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        let mut config = server::config(&pki);
        config["permissions"] = json!({
            "mode": "enforce",
            "store": { "sqlite": { "path": dir.path().join("permissions.db") } },
            "api": { "port": free_port(), "token": TOKEN },
        });
        let server = Server::start(&pki, &config);
        Self { api: Api::of(&config), server, pki, _dir: dir }
    }

    async fn open(&self, port: Port) -> Box<dyn Stream> {
        let plain = async |address: SocketAddr| TcpStream::connect(address).await.unwrap();
        match port {
            Port::Vehicles => Box::new(tls(self.server.address, &self.pki.vehicle(VIN)).await.unwrap()),
            Port::Status => Box::new(plain(self.server.status).await),
            Port::Metrics => Box::new(plain(self.server.metrics).await),
            Port::Permissions => Box::new(plain(self.api.0).await),
        }
    }

    /// Sends `head` and then `filler` until `bytes` have gone or the server takes no more: how many it took, and what
    /// it said.
    async fn pour(&self, port: Port, head: &str, filler: &[u8], bytes: usize) -> (usize, String) {
        let mut stream = self.open(port).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let chunk = filler.repeat((64 * 1024 / filler.len()).max(1));
        let pouring = async {
            let mut sent = 0;
            while sent < bytes && stream.write_all(&chunk).await.is_ok() {
                sent += chunk.len();
            }
            sent
        };
        let sent = tokio::time::timeout(PATIENCE, pouring).await.expect("it is taken, or the connection ends");
        (sent, read_all(&mut *stream).await.expect("the server ends it"))
    }

    async fn everybody_is_answered(&self) {
        assert_eq!(server::get(self.server.status, "/livez").await.0, 200);
        assert_eq!(server::get(self.server.metrics, "/livez").await.0, 200);
        assert_eq!(self.api.ask("GET", "/v1/health", "").await.0, 200);
    }
}

/// Until the end, however it comes; `None` when it does not come in time.
async fn read_all(stream: &mut dyn Stream) -> Option<String> {
    let mut answer = Vec::new();
    let end = async { while matches!(stream.read_buf(&mut answer).await, Ok(1..)) {} };
    tokio::time::timeout(PATIENCE, end).await.ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn floods_of_headers_are_cut_off_on_every_port_and_cost_no_memory() {
    let site = Site::start();
    let witness = Witness::of(&site.server, &site.pki);
    site.everybody_is_answered().await;
    let before = process::resident_bytes(site.server.pid());
    for port in PORTS {
        for (what, head, filler, bytes) in [
            ("20 MB of headers", "GET /livez HTTP/1.1\r\n", &b"x-filler: 0123456789abcdef\r\n"[..], 20 * MIB),
            ("one header of 20 MB", "GET /livez HTTP/1.1\r\nx: ", b"x", 20 * MIB),
            ("a request line of 1 MB", "GET /", b"x", 20 * MIB),
        ] {
            let (sent, answer) = site.pour(port, head, filler, bytes).await;
            assert!(sent < 8 * MIB, "{what} on {port:?}: {sent} bytes were taken");
            let status = answer.get(9..12).unwrap_or_default();
            assert!(matches!(status, "" | "400" | "414" | "431"), "{what} on {port:?}: {answer}");
        }
        let mut stream = site.open(port).await;
        let many: String = (0..2000).map(|n| format!("x-{n}: 1\r\n")).collect();
        let _ = stream.write_all(format!("GET /livez HTTP/1.1\r\n{many}\r\n").as_bytes()).await;
        let answer = read_all(&mut *stream).await.expect("the server ends it");
        assert!(matches!(answer.get(9..12).unwrap_or_default(), "" | "400" | "431"), "2,000 headers: {answer}");
    }
    let grown = process::resident_bytes(site.server.pid()).saturating_sub(before);
    println!("240 MB of headers: memory grew by {} KiB", grown / 1024);
    assert!(grown < 16 << 20, "memory grew by {grown} bytes");
    site.everybody_is_answered().await;
    witness.testify("floods of headers").await;
}

#[tokio::test]
async fn a_body_that_nobody_asked_for_is_not_kept() {
    let site = Site::start();
    let witness = Witness::of(&site.server, &site.pki);
    let before = process::resident_bytes(site.server.pid());
    for port in PORTS {
        for path in ["/status", "/", "/v1/import"] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n\
                 content-length: 99999999999\r\n\r\n"
            );
            let (sent, answer) = site.pour(port, &head, b"[", 200 * MIB).await;
            assert!(sent < 32 * MIB, "{path} on {port:?}: {sent} bytes were taken");
            assert!(!answer.contains("HTTP/1.1 500"), "{path} on {port:?}: {answer}");
        }
    }
    let grown = process::resident_bytes(site.server.pid()).saturating_sub(before);
    println!("bodies without an end: memory grew by {} KiB", grown / 1024);
    assert!(grown < 48 << 20, "memory grew by {grown} bytes");
    site.everybody_is_answered().await;
    witness.testify("bodies without an end").await;
}

#[tokio::test]
async fn headers_that_come_byte_by_byte_are_waited_for_only_so_long() {
    let (_dir, pki, server) = start_with(|config| config["limits"] = json!({ "header_timeout": "1s" }));
    let witness = Witness::of(&server, &pki);
    let mut stream = tls(server.address, &pki.vehicle(VIN)).await.unwrap();
    let started = Instant::now();
    let dribble = async {
        for byte in UPGRADE.iter().cycle().filter(|byte| **byte != b'\n') {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, dribble).await.expect("the server ends it");
    println!("headers byte by byte were waited for {} ms", started.elapsed().as_millis());
    server.metric_becomes("connection_refused_total{reason=\"http\"}", 1.0).await;
    witness.testify("headers byte by byte").await;
}

#[tokio::test]
async fn requests_whose_answers_nobody_reads_keep_no_place() {
    let (_dir, pki, server) = start_with(|config| config["limits"] = json!({ "header_timeout": "1s" }));
    let witness = Witness::of(&server, &pki);
    let before = process::descriptors(server.pid());
    let mut stream = tls(server.address, &pki.vehicle(VIN)).await.unwrap();
    let requests = b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    let pour = async { while stream.write_all(&requests).await.is_ok() {} };
    let _ = tokio::time::timeout(Duration::from_secs(2), pour).await;
    let deadline = Instant::now() + PATIENCE;
    while process::descriptors(server.pid()) > before {
        assert!(Instant::now() < deadline, "its place is still taken after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    witness.testify("answers that nobody reads").await;
}

#[tokio::test]
async fn a_request_that_means_two_things_is_answered_once_at_most() {
    let site = Site::start();
    let hidden = "GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n";
    let length = hidden.len();
    for port in PORTS {
        for (what, request) in [
            (
                "two lengths",
                format!(
                    "POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\ncontent-length: {length}\r\n\r\n{hidden}"
                ),
            ),
            (
                "a list of lengths",
                format!("POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 0, {length}\r\n\r\n{hidden}"),
            ),
            (
                "a signed length",
                format!("POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length: +{length}\r\n\r\n{hidden}"),
            ),
            (
                "chunks and a length",
                format!(
                    "POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n"
                ),
            ),
            (
                "a coding that is none",
                format!(
                    "POST /livez HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\ncontent-length: {length}\r\n\r\n{hidden}"
                ),
            ),
            (
                "two codings",
                format!(
                    "POST /livez HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n"
                ),
            ),
            (
                "a folded line",
                format!(
                    "POST /livez HTTP/1.1\r\nhost: x\r\nx: a\r\n content-length: 0\r\ncontent-length: {length}\r\n\r\n{hidden}"
                ),
            ),
            (
                "a space before the colon",
                format!("POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length : {length}\r\n\r\n{hidden}"),
            ),
            (
                "a bare carriage return",
                format!("POST /livez HTTP/1.1\r\nhost: x\rcontent-length: {length}\r\n\r\n{hidden}"),
            ),
            (
                "a NUL in a header",
                format!("POST /livez HTTP/1.1\r\nhost: x\r\nx: a\0b\r\ncontent-length: {length}\r\n\r\n{hidden}"),
            ),
        ] {
            let mut stream = site.open(port).await;
            let _ = stream.write_all(request.as_bytes()).await;
            let _ = stream.shutdown().await;
            let answer = read_all(&mut *stream).await.expect("the server ends it");
            let answers = answer.matches("HTTP/1.1 ").count();
            assert!(answers <= 1, "{what} on {port:?} has {answers} answers: {answer}");
        }
        // Bare line feeds end lines, as RFC 9112 allows: still one request.
        let mut stream = site.open(port).await;
        let bare = format!("POST /livez HTTP/1.1\nhost: x\ncontent-length: {length}\n\n{hidden}");
        stream.write_all(bare.as_bytes()).await.unwrap();
        let _ = stream.shutdown().await;
        let answer = read_all(&mut *stream).await.expect("the server ends it");
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "bare line feeds on {port:?}: {answer}");
    }
    site.everybody_is_answered().await;
}

#[tokio::test]
async fn what_follows_an_upgrade_is_frames_and_never_a_request() {
    let (_dir, pki, server) = start();
    let witness = Witness::of(&server, &pki);
    let mut stream = tls(server.address, &pki.vehicle(VIN)).await.unwrap();
    let request = b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(&[UPGRADE, request, UPGRADE].concat()).await.unwrap();
    let answer = read_all(&mut stream).await.expect("the server ends it");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.starts_with("HTTP/1.1 101 ") && !answer.contains("mtls ok"), "{answer}");
    server.metric_becomes("session_end_total{reason=\"protocol\"}", 1.0).await;
    witness.testify("requests behind the upgrade").await;
}
