//! Certificates that come late, expire, or are renewed while the server runs.
//!
//! The machine's clock stays as it is: here certificates begin and end some seconds after their test does.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::pki::Pki;
use crate::support::server::{self, Server};
use crate::support::vehicle::{self, Vehicle, v_payload};
use crate::support::wait::until;

const VIN: &str = "5YJ3E1EA7KF000013";
/// An issuer that the maker's tables know.
const MAKER: &str = "TeslaMotors";
/// For what takes some seconds, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

const FAILED: &str = "tls_reload_total{listener=\"vehicles\",result=\"failed\"}";
const SUCCEEDED: &str = "tls_reload_total{listener=\"vehicles\",result=\"succeeded\"}";
const OUT_OF_DATE: &str = "connection_refused_total{reason=\"authority_dates\"}";

type Authority = CertifiedIssuer<'static, KeyPair>;

/// In seconds from now.
#[derive(Clone, Copy)]
struct Dates {
    from: i64,
    until: i64,
}

const DAY: i64 = 86_400;
const VALID: Dates = Dates { from: -DAY, until: 365 * DAY };

/// A folder with a server's files. The authority of its certificate stays, so that clients trust what is renewed.
struct Site {
    folder: tempfile::TempDir,
    pki: Pki,
    config: Value,
    servers: Authority,
}

impl Site {
    /// For vehicles of these authorities.
    fn new(authorities: &[&Authority]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::new(folder.path());
        let mut config = server::config(&pki);
        config["tls"]["reload_interval"] = json!("100ms");
        // Nobody but who is in the bundle.
        config["tls"]["maker_ca"] = json!(false);
        let site = Self { pki, config, servers: authority("Servers", VALID), folder };
        site.write("vehicle_ca.crt", &bundle(authorities));
        let (cert, key) = site.issue(VALID);
        site.write("server.crt", &cert);
        site.write("server.key", &key);
        site
    }

    /// Turns the admin API on, for clients of this authority; its port.
    fn with_api(&mut self, clients: &Authority) -> Value {
        let (cert, key) = self.issue(VALID);
        self.write("api.crt", &cert);
        self.write("api.key", &key);
        self.write("api_ca.crt", &bundle(&[clients]));
        let port = json!(server::free_port());
        self.config["permissions"] = json!({
            "mode": "enforce",
            "store": { "sqlite": { "path": self.path("permissions.db") } },
            "api": { "port": port, "tls": {
                "cert": self.path("api.crt"), "key": self.path("api.key"), "client_ca": self.path("api_ca.crt"),
            } },
        });
        port
    }

    fn start(&self) -> Server {
        Server::start(&self.pki, &self.config)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// As careful programs replace a file.
    fn rename_over(&self, name: &str, text: &str) {
        self.write("new", text);
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    /// A certificate for the server, and its key.
    fn issue(&self, dates: Dates) -> (String, String) {
        issue(&self.servers, "server", dates)
    }

    fn client(&self, authority: &Authority) -> Arc<ClientConfig> {
        let (cert, key) = issue(authority, VIN, VALID);
        let mut roots = RootCertStore::empty();
        roots.add(self.servers.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        Arc::new(builder.with_root_certificates(roots).with_client_auth_cert(vec![der(&cert)], key).unwrap())
    }
}

fn authority(name: &str, dates: Dates) -> Authority {
    let mut params = params(name, dates);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(authority: &Authority, name: &str, dates: Dates) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = params(name, dates).signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn params(name: &str, Dates { from, until }: Dates) -> CertificateParams {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() + time::Duration::seconds(from);
    params.not_after = OffsetDateTime::now_utc() + time::Duration::seconds(until);
    params.use_authority_key_identifier_extension = true;
    params
}

fn bundle(authorities: &[&Authority]) -> String {
    authorities.iter().map(|authority| authority.pem()).collect()
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// Whether a vehicle gets as far as an ack.
async fn is_let_in(server: &Server, config: &Arc<ClientConfig>) -> bool {
    let connecting = Vehicle::try_connect(server.address, config, VIN, vehicle::request(server.address));
    let Ok(mut vehicle) = connecting.await else { return false };
    is_acked(&mut vehicle).await;
    true
}

async fn is_acked(vehicle: &mut Vehicle) {
    vehicle.send("V", "t", &v_payload(VIN, 1.0)).await;
    vehicle.expect_ack("V", "t").await;
}

/// The server's leaf; its side of the handshake is over before it has looked at ours.
async fn served(address: SocketAddr, config: &Arc<ClientConfig>) -> CertificateDer<'static> {
    let stream = vehicle::tls(address, config).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    until(what, PATIENCE, holds).await;
}

/// Runs `attempt` with dates some seconds ahead, more of them if the machine was too slow for the moments before.
async fn some_seconds_ahead(mut attempt: impl AsyncFnMut(i64) -> Option<()>) {
    for seconds in [8, 30, 120] {
        if attempt(seconds).await.is_some() {
            return;
        }
    }
    panic!("not even two minutes were enough to start a server");
}

fn is_past(moment: OffsetDateTime) -> bool {
    OffsetDateTime::now_utc() >= moment
}

#[tokio::test]
async fn a_start_before_any_authority_is_valid_says_so_and_refuses_vehicles_with_the_reason() {
    let maker = authority(MAKER, Dates { from: DAY, until: 2 * DAY });
    let site = Site::new(&[&maker]);
    let server = site.start();
    let reasons = server.readiness_becomes(503, PATIENCE).await;
    assert!(
        reasons.starts_with("tls.ca_file: none of its 1 authorities is valid, by this server's clock"),
        "{reasons}"
    );
    assert_eq!(server::get(server.status, "/livez").await.0, 200);
    assert!(!is_let_in(&server, &site.client(&maker)).await);
    server.metric_becomes(OUT_OF_DATE, 1.0).await;
    server.metric_becomes("tls_authorities{listener=\"vehicles\",state=\"not_yet_valid\"}", 1.0).await;
    let refusal = server.event("tls_handshake_error").await;
    assert_eq!(refusal["class"], "authority_dates");
    assert!(refusal["error"].as_str().unwrap().contains("has expired or is not valid yet"), "{refusal}");
    assert_eq!(server.event("no_trust_anchor_valid_now").await["level"], "error");
}

#[tokio::test]
async fn a_bundle_that_is_empty_or_cannot_be_read_ends_the_start() {
    let site = Site::new(&[&authority(MAKER, VALID)]);
    for spoil in [|path: &Path| fs::write(path, "").unwrap(), |path: &Path| fs::remove_file(path).unwrap()] {
        spoil(&site.path("vehicle_ca.crt"));
        let Err((status, log)) = Server::try_start(&site.pki, &site.config) else { panic!("it has started") };
        assert_eq!(status.code(), Some(64));
        assert!(log.iter().any(|line| line.contains("tls.ca_file: ")), "{log:#?}");
    }
}

#[tokio::test]
async fn vehicles_are_let_in_once_the_clock_is_right() {
    some_seconds_ahead(async |seconds| {
        let begin = OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
        let maker = authority(MAKER, Dates { from: seconds, until: DAY });
        let site = Site::new(&[&maker]);
        let (server, config) = (site.start(), site.client(&maker));
        let is_refused = !is_let_in(&server, &config).await;
        if is_past(begin) {
            return None;
        }
        assert!(is_refused);
        eventually("vehicles are let in", async || is_let_in(&server, &config).await).await;
        assert!(is_past(begin - time::Duration::seconds(1)), "certificates know no fractions of seconds");
        server.readiness_becomes(200, PATIENCE).await;
        server.event_where("the authority", PATIENCE, |line| line["msg"] == "trust_anchor_valid_now").await;
        assert!(server.metric(SUCCEEDED).await < 0.5, "no file was loaded again");
        Some(())
    })
    .await;
}

#[tokio::test]
async fn an_authority_that_ends_lets_nobody_in_any_more_and_disturbs_nobody_who_is() {
    some_seconds_ahead(async |seconds| {
        let end = OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
        let (ending, lasting) = (authority(MAKER, Dates { from: -DAY, until: seconds }), authority(MAKER, VALID));
        let site = Site::new(&[&ending, &lasting]);
        let (server, config) = (site.start(), site.client(&ending));
        let connecting = Vehicle::try_connect(server.address, &config, VIN, vehicle::request(server.address)).await;
        if is_past(end) {
            return None;
        }
        let mut before = connecting.unwrap();
        is_acked(&mut before).await;
        eventually("nobody is let in", async || !is_let_in(&server, &config).await).await;
        server.metric_becomes(OUT_OF_DATE, 1.0).await;
        is_acked(&mut before).await;
        assert!(is_let_in(&server, &site.client(&lasting)).await);
        server.readiness_becomes(200, PATIENCE).await;
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_key_that_comes_after_its_certificate_is_taken_within_seconds() {
    let maker = authority(MAKER, VALID);
    let mut site = Site::new(&[&maker]);
    // What operators have.
    site.config["tls"].as_object_mut().unwrap().remove("reload_interval");
    let (server, config) = (site.start(), site.client(&maker));
    let before = served(server.address, &config).await;
    let (cert, key) = site.issue(VALID);
    site.rename_over("server.crt", &cert);
    eventually("the mismatch is noticed", async || server.metric(FAILED).await > 0.5).await;
    assert!(server.event("tls_reload_error").await["error"].as_str().unwrap().contains("tls.server_key"));
    assert_eq!(served(server.address, &config).await, before, "what works stays");
    assert!(is_let_in(&server, &config).await);
    site.rename_over("server.key", &key);
    eventually("the new one is served", async || served(server.address, &config).await == der(&cert)).await;
    server.metric_becomes(SUCCEEDED, 1.0).await;
}

#[tokio::test]
async fn a_key_that_cannot_be_read_for_a_while_changes_nothing() {
    let maker = authority(MAKER, VALID);
    let site = Site::new(&[&maker]);
    let (server, config) = (site.start(), site.client(&maker));
    let before = served(server.address, &config).await;
    fs::rename(site.path("server.key"), site.path("away")).unwrap();
    eventually("tried again and again", async || server.metric(FAILED).await > 2.5).await;
    assert_eq!(served(server.address, &config).await, before);
    assert!(is_let_in(&server, &config).await);
    server.readiness_becomes(200, PATIENCE).await;
    // The same error is not repeated at each attempt.
    server.events_become("tls_reload_error", 1).await;
    fs::rename(site.path("away"), site.path("server.key")).unwrap();
    server.event_where("the recovery", PATIENCE, |line| line["msg"] == "tls_reloaded").await;
    assert_eq!(served(server.address, &config).await, before);
}

#[tokio::test]
async fn files_behind_links_that_are_swapped_are_followed() {
    let maker = authority(MAKER, VALID);
    let site = Site::new(&[&maker]);
    // As Kubernetes mounts a secret: server.crt -> ..data/server.crt, ..data -> ..1
    let names = ["vehicle_ca.crt", "server.crt", "server.key"];
    fs::create_dir(site.path("..1")).unwrap();
    symlink("..1", site.path("..data")).unwrap();
    for name in names {
        fs::rename(site.path(name), site.path("..1").join(name)).unwrap();
        symlink(Path::new("..data").join(name), site.path(name)).unwrap();
    }
    let (server, config) = (site.start(), site.client(&maker));
    let (renewed_maker, (cert, key)) = (authority(MAKER, VALID), site.issue(VALID));
    fs::create_dir(site.path("..2")).unwrap();
    for (name, text) in names.iter().zip([bundle(&[&renewed_maker]), cert.clone(), key]) {
        site.write(&format!("..2/{name}"), &text);
    }
    symlink("..2", site.path("..data_tmp")).unwrap();
    fs::rename(site.path("..data_tmp"), site.path("..data")).unwrap();
    fs::remove_dir_all(site.path("..1")).unwrap();
    eventually("the new one is served", async || served(server.address, &config).await == der(&cert)).await;
    assert!(is_let_in(&server, &site.client(&renewed_maker)).await);
    assert!(!is_let_in(&server, &config).await, "its authority is gone");
}

#[tokio::test]
async fn files_that_are_written_in_place_and_in_steps_are_followed() {
    let (maker, other) = (authority(MAKER, VALID), authority("Tesla", VALID));
    let site = Site::new(&[&maker]);
    let server = site.start();
    let both = bundle(&[&maker, &other]);
    // In the middle of a certificate.
    let (half, _) = both.split_at(both.len() - 200);
    site.write("vehicle_ca.crt", half);
    eventually("half a certificate is none", async || server.metric(FAILED).await > 0.5).await;
    assert!(is_let_in(&server, &site.client(&maker)).await);
    site.write("vehicle_ca.crt", &both);
    server.metric_becomes("tls_authorities{listener=\"vehicles\",state=\"valid\"}", 2.0).await;
    assert!(is_let_in(&server, &site.client(&maker)).await);
    server.metric_becomes(SUCCEEDED, 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_under_load_lose_no_handshake_and_touch_no_connection() {
    let maker = authority(MAKER, VALID);
    let site = Site::new(&[&maker]);
    let server = Arc::new(site.start());
    let config = site.client(&maker);
    let mut before = Vehicle::connect(server.address, &config, VIN).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (server, config, is_over) = (Arc::clone(&server), Arc::clone(&config), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut connections = 0;
                while !is_over.load(Ordering::Relaxed) {
                    assert!(is_let_in(&server, &config).await, "after {connections}");
                    connections += 1;
                }
                connections
            })
        })
        .collect();
    for _ in 0..5 {
        let (cert, key) = site.issue(VALID);
        site.rename_over("server.crt", &cert);
        site.rename_over("server.key", &key);
        eventually("the new one is served", async || served(server.address, &config).await == der(&cert)).await;
        is_acked(&mut before).await;
    }
    is_over.store(true, Ordering::Relaxed);
    for task in load {
        assert!(task.await.unwrap() > 0);
    }
    assert!(server.metric(SUCCEEDED).await > 4.5);
}

fn loopback(port: &Value) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], u16::try_from(port.as_u64().unwrap()).unwrap()))
}

/// The status of `GET /v1/health`; `None` when the handshake fails.
async fn ask_api(port: &Value, config: &Arc<ClientConfig>) -> Option<String> {
    let mut stream = vehicle::tls(loopback(port), config).await.unwrap();
    let _ = stream.write_all(b"GET /v1/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    Some(String::from_utf8(answer.get(9..12)?.to_vec()).unwrap())
}

#[tokio::test]
async fn the_admin_api_follows_its_files_and_judges_dates_too() {
    let (maker, desk, late) =
        (authority(MAKER, VALID), authority("Desk", VALID), authority("Late", Dates { from: DAY, until: 2 * DAY }));
    let mut site = Site::new(&[&maker]);
    let port = site.with_api(&late);
    let server = site.start();
    let (on_desk, too_early) = (site.client(&desk), site.client(&late));
    assert_eq!(ask_api(&port, &too_early).await, None);
    server
        .event_where("the reason", PATIENCE, |line| {
            line["msg"] == "permissions_api_unauthorized" && line["error"].to_string().contains("not valid yet")
        })
        .await;
    assert_eq!(ask_api(&port, &on_desk).await, None);
    server.readiness_becomes(200, PATIENCE).await;

    site.rename_over("api_ca.crt", &bundle(&[&desk]));
    eventually("the desk is let in", async || ask_api(&port, &on_desk).await.as_deref() == Some("200")).await;
    let before = served(loopback(&port), &on_desk).await;
    let (renewed, key) = site.issue(VALID);
    site.rename_over("api.crt", &renewed);
    let failed = "tls_reload_total{listener=\"permissions_api\",result=\"failed\"}";
    eventually("the mismatch is noticed", async || server.metric(failed).await > 0.5).await;
    assert_eq!(served(loopback(&port), &on_desk).await, before);
    site.rename_over("api.key", &key);
    eventually("the new one is served", async || served(loopback(&port), &on_desk).await == der(&renewed)).await;
    assert!(server.metric(FAILED).await < 0.5, "the vehicles' side had nothing to do with it");
}

#[tokio::test]
async fn a_hang_up_signal_loads_the_files_of_every_listener_at_once() {
    let (maker, desk) = (authority(MAKER, VALID), authority("Desk", VALID));
    let mut site = Site::new(&[&maker]);
    let port = site.with_api(&desk);
    site.config["tls"]["reload_interval"] = json!("1h");
    let server = site.start();
    for (prefix, address, client) in
        [("server", server.address, site.client(&maker)), ("api", loopback(&port), site.client(&desk))]
    {
        let (cert, key) = site.issue(VALID);
        site.write(&format!("{prefix}.crt"), &cert);
        site.write(&format!("{prefix}.key"), &key);
        server.signal("HUP");
        eventually("the new one is served", async || served(address, &client).await == der(&cert)).await;
    }
    for listener in ["vehicles", "permissions_api"] {
        let loaded = format!("tls_reload_total{{listener=\"{listener}\",result=\"succeeded\"}}");
        server.metric_becomes(&loaded, 2.0).await;
    }
}

#[tokio::test]
async fn what_is_in_force_is_logged_and_measured() {
    let ended = authority(MAKER, Dates { from: -2 * DAY, until: -DAY });
    let site = Site::new(&[&ended, &authority(MAKER, Dates { from: -DAY, until: 100 * DAY })]);
    let intermediate = authority("Servers, too", Dates { from: -DAY, until: 10 * DAY });
    let (leaf, key) = issue(&intermediate, "server", Dates { from: -DAY, until: 20 * DAY });
    site.write("server.crt", &(leaf + &intermediate.pem()));
    site.write("server.key", &key);
    let server = site.start();
    let loaded = server.event("tls_loaded").await;
    assert_eq!((&loaded["issuer"], &loaded["names"]), (&json!("CN=Servers, too"), &json!("localhost")));
    assert_eq!((&loaded["authorities"], &loaded["authorities_valid"]), (&json!(2), &json!(1)));
    assert!([19, 20].contains(&loaded["days_left"].as_i64().unwrap()), "{loaded}");
    // Leaf and intermediate.
    server.events_become("certificate_ends_soon", 2).await;
    let days = async |certificate: &str| {
        server.metric(&format!("tls_days_left{{listener=\"vehicles\",certificate=\"{certificate}\"}}")).await
    };
    assert!((9.9..=10.0).contains(&days("server").await), "the lowest of the chain");
    assert!((99.9..=100.0).contains(&days("authority").await), "the soonest that has not ended");
    server.metric_becomes("tls_authorities{listener=\"vehicles\",state=\"expired\"}", 1.0).await;

    // Of another authority, and over.
    let (cert, key) = site.issue(Dates { from: -2 * DAY, until: -DAY });
    site.write("server.crt", &cert);
    site.write("server.key", &key);
    let changed = "tls_issuer_changed";
    server.event_where(changed, PATIENCE, |line| line["msg"] == changed && line["after"] == "CN=Servers").await;
    assert_eq!(server.event("server_certificate_not_valid_now").await["level"], "error");
    assert!(days("server").await < 0.0);
}

#[tokio::test]
async fn a_server_certificate_that_has_ended_starts_and_is_complained_about() {
    let maker = authority(MAKER, VALID);
    let site = Site::new(&[&maker]);
    let (cert, key) = site.issue(Dates { from: -2 * DAY, until: -DAY });
    site.write("server.crt", &cert);
    site.write("server.key", &key);
    let server = site.start();
    assert_eq!(server.event("server_certificate_not_valid_now").await["level"], "error");
    assert!(vehicle::tls(server.address, &site.client(&maker)).await.is_err(), "vehicles that look at dates refuse it");
}
