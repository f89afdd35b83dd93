//! A server at home: behind a proxy that reads names, and with certificates that renew themselves.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::support::pki::Pki;
use super::support::server::{self, Server};
use super::support::service::{Service, await_port, free_ports};
use super::support::vehicle::{Vehicle, v_payload};
use super::{adapted, root};

const VIN: &str = "5YJ3E1EA7KF000001";

/// A web server, as far as a proxy can tell: answers what it is sent with one word.
fn web() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 4096]);
            let _ = connection.write_all(b"web");
        }
    });
    address
}

/// A vehicle reaches the server over the proxy; whoever asks for another name reaches the web server.
async fn tells_vehicles_from_others(port: u16, pki: &Pki) {
    let proxy = SocketAddr::from(([127, 0, 0, 1], port));
    let mut vehicle = Vehicle::connect(proxy, &pki.vehicle(VIN), VIN).await;
    vehicle.send("V", "one", &v_payload(VIN, 1.0)).await;
    vehicle.expect_ack("V", "one").await;
    let other = tls_error(proxy, &pki.vehicle(VIN), "www.example.com").await;
    assert!(other.contains("corrupt message"), "the web server's answer is no TLS, but: {other}");
}

async fn tls_error(address: SocketAddr, config: &Arc<ClientConfig>, name: &'static str) -> String {
    let tcp = TcpStream::connect(address).await.unwrap();
    let connected = TlsConnector::from(Arc::clone(config)).connect(ServerName::try_from(name).unwrap(), tcp).await;
    connected.expect_err("a web server that speaks no TLS").to_string()
}

#[tokio::test]
async fn haproxy_passes_vehicles_through_by_their_name() {
    let (dir, pki, server) = server::start();
    let [port] = free_ports();
    let config = adapted(
        "deploy/home/haproxy.cfg",
        &[
            ("telemetry.example.com", 1, "localhost"),
            ("bind :443", 1, &format!("bind 127.0.0.1:{port}")),
            ("127.0.0.1:8443", 1, &server.address.to_string()),
            ("127.0.0.1:8444", 1, &web().to_string()),
            // More descriptors than tests may have.
            ("maxconn 20000", 1, "maxconn 100"),
        ],
    );
    let (file, log) = (dir.path().join("haproxy.cfg"), dir.path().join("haproxy.log"));
    std::fs::write(&file, config).unwrap();
    let haproxy = Service::start(&log, "haproxy", ["-db", "-f", file.to_str().unwrap()]);
    await_port(port, &haproxy, &log);
    tells_vehicles_from_others(port, &pki).await;
    assert!(!std::fs::read_to_string(log).unwrap().contains("WARN"), "haproxy has nothing to complain about");
}

#[tokio::test]
async fn nginx_passes_vehicles_through_by_their_name() {
    let (dir, pki, server) = server::start();
    let [port] = free_ports();
    let config = adapted(
        "deploy/home/nginx.conf",
        &[
            ("telemetry.example.com", 1, "localhost"),
            ("listen 443", 1, &format!("listen 127.0.0.1:{port}")),
            ("127.0.0.1:8443", 1, &server.address.to_string()),
            ("127.0.0.1:8444", 1, &web().to_string()),
            ("worker_connections 20000", 1, "worker_connections 100"),
        ],
    );
    let (file, log) = (dir.path().join("nginx.conf"), dir.path().join("nginx.log"));
    std::fs::write(&file, config).unwrap();
    let here = format!("daemon off; pid {}; error_log stderr;", dir.path().join("nginx.pid").display());
    let arguments = ["-e", "stderr", "-c", file.to_str().unwrap(), "-g", &here];
    let nginx = Service::start(&log, "nginx", arguments);
    await_port(port, &nginx, &log);
    tells_vehicles_from_others(port, &pki).await;
    // SIGKILL would leave its workers.
    nginx.stop();
}

fn run(program: &Path, arguments: &[&str], variables: &[(&str, &str)]) {
    let output = Command::new(program).args(arguments).envs(variables.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_private_authority_is_renewed_without_vehicles_noticing() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    let folder = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (authority, tls, renewed) = (folder("ca"), folder("tls"), folder("renewed"));
    let group = String::from_utf8(Command::new("id").arg("-gn").output().unwrap().stdout).unwrap();
    let renew = || {
        run(&root("deploy/home/private-ca"), &["localhost", &authority], &[]);
        // As certbot leaves a certificate, and calls the hook.
        std::fs::create_dir_all(&renewed).unwrap();
        std::fs::copy(format!("{authority}/tls.crt"), format!("{renewed}/fullchain.pem")).unwrap();
        std::fs::copy(format!("{authority}/tls.key"), format!("{renewed}/privkey.pem")).unwrap();
        let variables = [("RENEWED_LINEAGE", &*renewed), ("TLS_FOLDER", &*tls), ("GROUP", group.trim())];
        run(&root("deploy/home/deploy-hook"), &[], &variables);
    };
    renew();
    let first = std::fs::read(format!("{authority}/ca.crt")).unwrap();
    let mut config = server::config(&pki);
    config["tls"]["server_cert"] = json!(format!("{tls}/fullchain.pem"));
    config["tls"]["server_key"] = json!(format!("{tls}/privkey.pem"));
    config["tls"]["reload_interval"] = json!("100ms");
    let server = Server::start(&pki, &config);
    assert!(server.events("certificate_ends_soon").is_empty());
    let pki = pki.trusting(&first);
    connects(&server, &pki).await;
    renew();
    server.event("tls_reloaded").await;
    assert_eq!(std::fs::read(format!("{authority}/ca.crt")).unwrap(), first, "what vehicles trust stays");
    connects(&server, &pki).await;
    assert!(server.events("tls_reload_error").is_empty());
}

async fn connects(server: &Server, pki: &Pki) {
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    vehicle.send("V", "one", &v_payload(VIN, 1.0)).await;
    vehicle.expect_ack("V", "one").await;
}
