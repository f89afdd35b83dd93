//! A server with its key and its listener for everybody, and a vehicle maker beside it.

use std::path::Path;

use serde_json::{Value, json};

use super::maker::Maker;
use super::program::{Run, run};
use crate::support::pki::Pki;
use crate::support::server::{self, Server, free_port};

pub(crate) const WELL_KNOWN: &str = "/.well-known/appspecific/com.tesla.3p.public-key.pem";
pub(crate) const RED: &str = "5YJ3E1EA1KF000001";
pub(crate) const BLUE: &str = "7SAYGDEF9NF000002";

pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) maker: Maker,
    /// Of the listener for everybody.
    pub(crate) public: String,
    pub(crate) server: Option<Server>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(|_, _| {})
    }

    /// With a configuration that `change` has changed.
    pub(crate) fn with(change: impl FnOnce(&mut Value, &Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        run(dir.path(), &["keys", "new", "fleet.pem"]).good();
        let port = free_port();
        let public = format!("https://localhost:{port}");
        let maker = Maker::start(dir.path(), &format!("{public}{WELL_KNOWN}"));
        let mut config = server::config(&pki);
        config["onboarding"] = json!({
            "domain": "example.com",
            "key_file": dir.path().join("fleet.pem"),
            "public": {"host": "127.0.0.1", "port": port, "tls": {}},
            "tls": {"ca_file": dir.path().join("server_ca.crt")},
            "timeout": "2s",
            "application": {
                "client_id": "test-client",
                "client_secret": "test-secret",
                "redirect_uri": format!("{public}/callback"),
            },
            "tokens": {"path": dir.path().join("onboarding.db"), "key": "0123456789abcdef".repeat(4)},
            "maker": maker.section(),
        });
        change(&mut config, dir.path());
        let server = Some(Server::start(&pki, &config));
        Self { dir, maker, public, server }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        run(self.dir.path(), arguments)
    }

    pub(crate) fn register(&self) {
        self.run(&["partner", "register", "--unchecked"]).good();
    }
}

/// What an owner's browser does at the maker's page.
impl Site {
    /// Opens `link`, ticks `allowed`, and presses Allow: where the maker sends the browser back to.
    pub(crate) fn allow(&self, link: &str, allowed: &[&str]) -> String {
        let (page, query) = link.split_once('?').unwrap();
        let path = page.strip_prefix(&self.maker.url()).unwrap();
        let ticks: String = allowed.iter().map(|scope| format!("&allow_{scope}=1")).collect();
        let answer = self.maker.ask("POST", path, &format!("{query}{ticks}&answer=allow"));
        assert_eq!(answer.status, 302, "{:?}", answer.body);
        answer.headers["location"].to_str().unwrap().to_owned()
    }

    pub(crate) fn link(&self) -> String {
        self.run(&["consent", "link"]).good().trim().to_owned()
    }

    /// An owner with everything allowed.
    pub(crate) fn connect(&self) {
        let back = self.allow(&self.link(), &["vehicle_device_data", "vehicle_location"]);
        self.run(&["consent", "finish", &back]).good();
    }

    pub(crate) fn pair(&self, vin: &str) {
        assert_eq!(self.maker.ask("POST", &format!("/_ak/example.com?vin={vin}"), "").status, 200);
    }
}

/// What vehicles are told, by `onboarding.telemetry`.
pub(crate) fn telemetry(dir: &Path) -> Value {
    json!({
        "hostname": "telemetry.example.com",
        "ca_file": dir.join("server_ca.crt"),
        "fields": {"Soc": 60, "Location": {"interval_seconds": 10, "minimum_delta": 25}},
    })
}
