//! What the mTLS port and the plain ports answer.

use crate::support::server::get;
use crate::support::vehicle::exchange;
use crate::{VIN, start};

#[tokio::test]
async fn status_answers_over_mtls() {
    let (_dir, pki, server) = start();
    let answer =
        exchange(server.address, &pki.vehicle(VIN), b"GET /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nmtls ok"), "{answer}");
    assert!(answer.contains("content-type: text/plain; charset=utf-8"), "{answer}");
}

#[tokio::test]
async fn what_is_not_an_upgrade_is_refused_as_the_reference_does() {
    let (_dir, pki, server) = start();
    let config = pki.vehicle(VIN);
    let upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (request, status, body) in [
        ("GET /gc_stats HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(), "400", "Bad Request\n"),
        (format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n{upgrade}connection: close\r\n\r\n"), "405", "Method Not Allowed\n"),
        ("GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, close\r\nupgrade: websocket\r\nsec-websocket-version: 8\r\n\r\n".to_owned(), "400", "Bad Request\n"),
    ] {
        let answer = exchange(server.address, &config, request.as_bytes()).await;
        assert_eq!(&answer[9..12], status, "{request}");
        assert!(answer.ends_with(body), "{answer}");
        assert!(answer.contains("sec-websocket-version: 13"), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_sends_no_request_is_cut_off() {
    let (_dir, pki, server) = crate::start_with(|config| {
        config["limits"] = serde_json::json!({ "header_timeout": "300ms", "handshake_timeout": "300ms" });
    });
    let started = std::time::Instant::now();
    exchange(server.address, &pki.vehicle(VIN), b"GET / HT").await;
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
    let silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    server.metric_becomes("connection_refused_total{reason=\"client_hello_timeout\"}", 1.0).await;
    drop(silent);
}

#[tokio::test]
async fn health_is_told_on_both_plain_ports() {
    let (_dir, _pki, server) = start();
    assert_eq!(get(server.status, "/status").await, (200, "ok".to_owned()));
    for address in [server.status, server.metrics] {
        assert_eq!(get(address, "/livez").await.0, 200);
        assert_eq!(get(address, "/readyz").await.0, 200);
    }
    assert_eq!(get(server.status, "/metrics").await.0, 404);
}
