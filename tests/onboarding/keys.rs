//! The application's key: made, shown, served, and found where the vehicle maker looks.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::{Value, json};

use super::program::run;
use crate::support::pki::Pki;
use crate::support::server::{self, Server, free_port};

const WELL_KNOWN: &str = "/.well-known/appspecific/com.tesla.3p.public-key.pem";

/// A server that serves its key, and the address of that.
fn site(change: impl FnOnce(&mut Value, &Path)) -> (tempfile::TempDir, Server, String) {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    run(dir.path(), &["keys", "new", "fleet.pem"]).good();
    let mut config = server::config(&pki);
    let port = free_port();
    config["onboarding"] = json!({
        "domain": "example.com",
        "key_file": dir.path().join("fleet.pem"),
        "public": {"host": "127.0.0.1", "port": port, "tls": {}},
        "tls": {"ca_file": dir.path().join("server_ca.crt")},
    });
    change(&mut config, dir.path());
    let server = Server::start(&pki, &config);
    (dir, server, format!("https://localhost:{port}"))
}

#[test]
fn a_key_is_made_once_for_its_owner_alone_and_shown_as_it_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let made = run(dir.path(), &["keys", "new", "fleet.pem", "--public", "public.pem"]).good();
    let file = dir.path().join("fleet.pem");
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let before = std::fs::read(&file).unwrap();
    let again = run(dir.path(), &["keys", "new", "fleet.pem"]);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("exists, and is never overwritten"), "{}", again.stderr);
    assert_eq!(std::fs::read(&file).unwrap(), before);

    let shown = run(dir.path(), &["keys", "show", "fleet.pem"]).good();
    let public = std::fs::read_to_string(dir.path().join("public.pem")).unwrap();
    assert!(shown.starts_with(&public), "{shown}");
    let fingerprint = shown.lines().last().unwrap().trim_start_matches("fingerprint").trim();
    assert!(fingerprint.len() == 64 && made.contains(fingerprint), "{made}{shown}");
}

#[test]
fn the_public_half_is_served_and_nothing_else_and_is_found_as_the_maker_looks() {
    let (dir, _server, address) = site(|_, _| {});
    let url = format!("{address}{WELL_KNOWN}");
    let checked = run(dir.path(), &["keys", "check", "--url", &url]).good();
    assert!(checked.contains("200, no redirect, this very key"), "{checked}");
    for other in ["/", "/status", "/metrics", "/v1/vehicles", "/.well-known/", "/fleet.pem"] {
        let missing = run(dir.path(), &["keys", "check", "--url", &format!("{address}{other}")]);
        assert_eq!(missing.code, 1, "{other}");
        assert!(missing.stderr.contains("answers 404, not 200"), "{other}: {}", missing.stderr);
    }
}

#[test]
fn a_server_with_another_key_or_none_is_told_from_ours() {
    let (dir, _server, address) = site(|_, _| {});
    let url = format!("{address}{WELL_KNOWN}");
    std::fs::remove_file(dir.path().join("fleet.pem")).unwrap();
    run(dir.path(), &["keys", "new", "fleet.pem"]).good();
    let other = run(dir.path(), &["keys", "check", "--url", &url]);
    assert_eq!(other.code, 1);
    assert!(other.stderr.contains("serves another key"), "{}", other.stderr);
    let nobody = format!("https://localhost:{}{WELL_KNOWN}", free_port());
    let nobody = run(dir.path(), &["keys", "check", "--url", &nobody]);
    assert!(nobody.code == 1 && nobody.stderr.contains("cannot be reached"), "{}", nobody.stderr);
}

#[test]
fn behind_a_proxy_it_is_served_in_the_clear() {
    let (dir, _server, address) = site(|config, _| {
        config["onboarding"]["public"].as_object_mut().unwrap().remove("tls");
    });
    let url = format!("{}{WELL_KNOWN}", address.replace("https", "http"));
    run(dir.path(), &["keys", "check", "--url", &url]).good();
}

#[test]
fn keys_that_must_not_be_used_are_refused_by_the_check_and_by_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    let mut config = server::config(&pki);
    let key = dir.path().join("fleet.pem");
    config["onboarding"] = json!({"domain": "example.com", "key_file": key});
    let refused = |config: &Value, expected: &str| {
        let Err((status, log)) = Server::try_start(&pki, config) else { panic!("it started") };
        assert_eq!(status.code(), Some(64));
        assert!(log.iter().any(|line| line.contains(expected)), "{expected}: {log:?}");
        let checked = run(dir.path(), &["check"]);
        assert!(checked.code == 64 && checked.stdout.contains(expected), "{}{}", checked.stdout, checked.stderr);
    };
    refused(&config, "No such file");
    std::fs::copy(dir.path().join("server.key"), &key).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    refused(&config, "also the key of tls.server_key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o604)).unwrap();
    refused(&config, "lets others read it");
}
