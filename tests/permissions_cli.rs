//! `fleet-telemetry permissions`, the real program against a real API.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use assert_cmd::Command;
use fleet_telemetry::config::{self, ApiTls, ApiToken, PermissionStore, PermissionsApi};
use fleet_telemetry::grants::Authority;
use fleet_telemetry::grants::api::{self, Api, Auth};
use fleet_telemetry::http;
use fleet_telemetry::permissions::{Mode, Permissions, Rules};
use fleet_telemetry::scope::{Scope, Scopes};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::Value;
use tokio::net::TcpListener;

const TOKEN: &str = "a-token-of-the-tests";
const VIN: &str = "5YJ3E1EA1KF000001";

/// An API in a runtime of its own, and a folder to run commands in.
struct Server {
    address: SocketAddr,
    folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Server {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let address = runtime.block_on(serve(&folder.path().join("permissions.json"), Some(TOKEN), None));
        Self { address, folder, _runtime: runtime }
    }

    /// With a certificate for `localhost`, for clients whose certificate is of the same authority. Their files
    /// are `ca.pem`, `client.pem` and `client.key`.
    fn start_with_tls() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("ca.pem"), ca.pem()).unwrap();
        for (name, common_name) in [("server", "server"), ("client", "consent-desk")] {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, common_name);
            let key = KeyPair::generate().unwrap();
            std::fs::write(file(&format!("{name}.pem")), params.signed_by(&key, &ca).unwrap().pem()).unwrap();
            std::fs::write(file(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        let tls = ApiTls { cert: file("server.pem"), key: file("server.key"), client_ca: Some(file("ca.pem")) };
        let address = runtime.block_on(serve(&file("permissions.json"), None, Some(tls)));
        Self { address, folder, _runtime: runtime }
    }

    /// With `--api` and the token in the environment.
    fn run(&self, arguments: &[&str]) -> Run {
        let url = format!("http://{}", self.address);
        self.run_with(&[arguments, &["--api", &url]].concat(), Some(TOKEN))
    }

    fn run_with(&self, arguments: &[&str], token: Option<&str>) -> Run {
        run(self.folder.path(), arguments, token)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let run = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        serde_json::from_str(&run.stdout).unwrap()
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn run(folder: &Path, arguments: &[&str], token: Option<&str>) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleet-telemetry"));
    command.current_dir(folder).arg("permissions").args(arguments).env_remove("FLEET_TELEMETRY_API_TOKEN");
    if let Some(token) = token {
        command.env("FLEET_TELEMETRY_API_TOKEN", token);
    }
    let output = command.timeout(Duration::from_secs(60)).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

async fn serve(store: &Path, token: Option<&str>, tls: Option<ApiTls>) -> SocketAddr {
    let enforced = Scopes::NONE.with(Scope::VehicleLocation);
    let rules = Rules { mode: Mode::Enforce, strict: true, deny_unknown: true, enforced, ..Rules::off() };
    let config = config::Permissions {
        rules: rules.clone(),
        store: PermissionStore::File { path: store.to_owned() },
        max_stale: Duration::from_secs(60),
        api: None,
        audit_topic: None,
        kafka: None,
    };
    std::fs::write(store, r#"{"version": 1, "grants": []}"#).unwrap();
    let authority = Authority::open(&config, Arc::new(Permissions::new(rules.clone()))).await.unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let section = PermissionsApi { address, token: token.map(|token| ApiToken::Inline(token.to_owned())), tls };
    let api = Arc::new(Api::new(authority, rules, Auth::open(&section).unwrap()));
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let bounds = http::Bounds::register("permissions_api", config::Http::default());
    tokio::spawn(api::serve(listener, bounds, api, std::future::pending()));
    address
}

#[test]
fn grants_shows_and_revokes() {
    let server = Server::start();
    let granted = server.run(&["grant", VIN, "--since", "2026-01-01T00:00:00Z", "--source", "owner consent"]);
    assert_eq!(granted.stdout, format!("{VIN} vehicle_location: granted since 2026-01-01T00:00:00Z (version 1)\n"));
    assert_eq!((granted.code, granted.stderr.as_str()), (0, ""));
    let again = server.run(&["grant", VIN, "--since", "2026-01-01T00:00:00Z", "--source", "owner consent"]);
    assert!(again.stdout.ends_with("(version 1, as before)\n"), "{}", again.stdout);

    let shown = server.run(&["show", VIN]).stdout;
    assert!(
        shown.contains("vehicle_location  granted  2026-01-01T00:00:00Z  -        1        owner consent"),
        "{shown}"
    );
    assert!(shown.ends_with("\nlocation may be read: granted\n"), "{shown}");
    assert_eq!(server.run(&["revoke", VIN]).code, 0);
    let shown = server.run(&["show", VIN]).stdout;
    assert!(shown.contains("location may not be read: permission_denied; ask the owner"), "{shown}");
    assert_eq!(server.json(&["show", VIN])["access"]["location_readable"], false);

    let history = server.run(&["history", VIN]).stdout;
    let lines: Vec<_> = history.lines().collect();
    assert!(lines[1].contains("denied") && lines[2].contains("granted") && lines[2].contains("token"), "{history}");
}

#[test]
fn a_refusal_is_told_in_the_apis_words_and_exits_with_1() {
    let server = Server::start();
    let refused = server.run(&["grant", VIN, "--scope", "fuel"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(refused.stderr.starts_with("error: scope \"fuel\": must be one of vehicle_location"), "{}", refused.stderr);
    let unknown = server.run(&["show", "NOBODY"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("vehicle_unknown"), "{}", unknown.stderr);
    assert_eq!(server.run(&["grant", VIN, "--expected-version", "7"]).code, 1);
    let json = server.run(&["show", "NOBODY", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json.stdout).unwrap()["error"]["code"], "vehicle_unknown");
    let url = format!("http://{}", server.address);
    for token in [None, Some("another-token-of-16")] {
        let stranger = server.run_with(&["list", "--api", &url], token);
        assert!(stranger.code == 1 && stranger.stderr.contains("unauthorized"), "{}", stranger.stderr);
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, told) in [
        (&["list"][..], "--api http://127.0.0.1:PORT"),
        (&["list", "--api", "localhost:1"], "must be http://HOST:PORT"),
        (&["list", "--api", "https://localhost:1"], "--ca-file"),
        (&["list", "--config", "nowhere.json"], "nowhere.json"),
        (&["list", "--api", "http://127.0.0.1:1", "--token-file", "nowhere"], "nowhere"),
        (&["import", "grants.xls", "--api", "http://127.0.0.1:1"], "Give --format"),
        (&["import", "grants.csv", "--api", "http://127.0.0.1:1"], "grants.csv"),
        (&["grant"], "VIN"),
        (&["seize"], "seize"),
    ] {
        let wrong = run(folder.path(), arguments, None);
        assert_eq!(wrong.code, 2, "{arguments:?}: {}", wrong.stderr);
        assert!(wrong.stderr.contains(told), "{arguments:?}: {}", wrong.stderr);
    }
}

#[test]
fn a_server_that_is_not_there_exits_with_69_and_what_to_check() {
    let folder = tempfile::tempdir().unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = run(folder.path(), &["list", "--api", &format!("http://{closed}")], None);
    assert_eq!(gone.code, 69);
    assert!(gone.stderr.contains(&closed.to_string()) && gone.stderr.contains("permissions.api"), "{}", gone.stderr);
}

#[test]
fn imports_lists_and_exports() {
    let server = Server::start();
    let csv = "vin,scope,state,since,expires,source,note\n\
        VIN1,vehicle_location,granted,2026-01-01T00:00:00Z,,import,\n\
        VIN2,charging,denied,2026-01-01T00:00:00Z,,import,\"no, thanks\"\n";
    let path = server.file("grants.csv", csv);
    let path = path.to_str().unwrap();
    assert_eq!(server.run(&["import", path]).stdout, "2 entries changed, 0 as before\n");
    assert_eq!(server.run(&["export", "--format", "csv"]).stdout, csv);
    assert_eq!(server.run(&["export", "--output", "out.json"]).code, 0);
    let out = std::fs::read_to_string(server.folder.path().join("out.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["grants"].as_array().unwrap().len(), 2);
    assert_eq!(server.run(&["import", "out.json"]).stdout, "0 entries changed, 2 as before\n");

    let list = server.run(&["list"]).stdout;
    assert_eq!(list.lines().count(), 3, "{list}");
    let first = server.run(&["list", "--limit", "1"]).stdout;
    assert!(first.ends_with("there are more: --after VIN1\n"), "{first}");
    assert_eq!(server.json(&["list", "--after", "VIN1"])["vehicles"][0]["vin"], "VIN2");

    let bad = server.file("bad.csv", "vin,scope,state\nVIN1,charging,granted\nVIN2,charging,perhaps\n");
    let refused = server.run(&["import", bad.to_str().unwrap()]);
    assert!(refused.code == 1 && refused.stderr.contains("row 2: state \"perhaps\""), "{}", refused.stderr);
    assert_eq!(server.run(&["export", "--format", "csv"]).stdout, csv);
}

#[test]
fn takes_address_and_token_from_the_servers_configuration() {
    let server = Server::start();
    let port = server.address.port();
    let config = format!(
        r#"{{"port": 1, "tls": {{"ca_file": "a", "server_cert": "b", "server_key": "c"}}, "records": {{"V": ["logger"]}},
            "permissions": {{"mode": "enforce", "api": {{"port": {port}, "token_file": "token"}}}}}}"#
    );
    server.file("token", &format!("{TOKEN}\n"));
    server.file("server.json", &config);
    let named = server.run_with(&["grant", VIN, "--config", "server.json"], None);
    assert_eq!(named.code, 0, "{}", named.stderr);
    server.file("config.json", &config);
    let found = server.run_with(&["show", VIN], None);
    assert!(found.stdout.contains("location may be read"), "{}{}", found.stdout, found.stderr);
    server.file("config.json", &config.replace("\"api\"", "\"max_stale\": \"1h\", \"api_\""));
    assert_eq!(server.run_with(&["show", VIN], None).code, 2);
}

#[test]
fn shows_its_certificate_over_https_and_checks_the_servers() {
    let server = Server::start_with_tls();
    let url = format!("https://localhost:{}", server.address.port());
    let us = ["--api", &url, "--ca-file", "ca.pem", "--cert", "client.pem", "--key", "client.key"];
    let granted = server.run_with(&[&["grant", VIN][..], &us].concat(), None);
    assert_eq!(granted.code, 0, "{}", granted.stderr);
    let history = server.run_with(&[&["history", VIN][..], &us].concat(), None).stdout;
    assert!(history.contains("consent-desk"), "{history}");

    let without_certificate = server.run_with(&["list", "--api", &url, "--ca-file", "ca.pem"], None);
    assert_eq!(without_certificate.code, 69, "{}", without_certificate.stderr);
    let by_another_name = url.replace("localhost", "127.0.0.1");
    let stranger = server.run_with(&["list", "--api", &by_another_name, "--ca-file", "ca.pem"], None);
    assert!(stranger.code == 69 && stranger.stderr.contains("certificate"), "{}", stranger.stderr);
}
