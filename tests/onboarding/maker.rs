//! The vehicle maker, as a process of its own: `fake_fleet_api.py` over TLS, with what it was asked.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::server::free_port;

pub(crate) struct Maker {
    child: Child,
    pub(crate) port: u16,
    ca: Vec<u8>,
}

impl Maker {
    /// With the certificate of the server in `dir`; it fetches the application's key from `key_url`.
    pub(crate) fn start(dir: &Path, key_url: &str) -> Self {
        let port = free_port();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/onboarding/fake_fleet_api.py");
        let mut command = Command::new("python3");
        command.args(["-B", script, "--port", &port.to_string(), "--public-key-url", key_url]);
        command.arg("--cert").arg(dir.join("server.crt")).arg("--key").arg(dir.join("server.key"));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready"), "{line}");
        Self { child, port, ca: std::fs::read(dir.join("server_ca.crt")).unwrap() }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// What makes a configuration ask this one instead of the real one.
    pub(crate) fn section(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.url());
        json!({
            "api_urls": [self.url()],
            "authorize_url": at("/oauth2/v3/authorize"),
            "token_url": at("/oauth2/v3/token"),
            "keys_url": at("/oauth2/v3/discovery/thirdparty/keys"),
            "issuers": [at("/oauth2/v3/nts")],
            "revoke_url": at("/user/revoke/consent"),
            "pair_url": at("/_ak"),
        })
    }

    /// One endpoint misbehaves: `case` with what else it takes.
    pub(crate) fn misbehave(&self, endpoint: &str, case: Value) {
        let mut case = case;
        case["endpoint"] = endpoint.into();
        self.ask("POST", "/_fake/case", &case.to_string());
    }

    pub(crate) fn set(&self, state: &Value) {
        self.ask("POST", "/_fake/state", &state.to_string());
    }

    pub(crate) fn state(&self) -> Value {
        serde_json::from_slice(&self.ask("GET", "/_fake/state", "").body).unwrap()
    }

    /// The requests to one endpoint.
    pub(crate) fn requests(&self, endpoint: &str) -> Vec<Value> {
        let all: Vec<Value> = serde_json::from_slice(&self.ask("GET", "/_fake/requests", "").body).unwrap();
        all.into_iter().filter(|request| request["endpoint"] == endpoint).collect()
    }

    /// As a browser: what comes back.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> fleet_telemetry::onboarding::web::Answer {
        ask(&self.ca, method, &format!("{}{path}", self.url()), body)
    }
}

/// One request that trusts `ca`.
pub(crate) fn ask(ca: &[u8], method: &str, url: &str, body: &str) -> fleet_telemetry::onboarding::web::Answer {
    ask_with(ca, method, url, body, "")
}

/// The same with a cookie.
pub(crate) fn ask_with(
    ca: &[u8],
    method: &str,
    url: &str,
    body: &str,
    cookie: &str,
) -> fleet_telemetry::onboarding::web::Answer {
    use fleet_telemetry::onboarding::web::Web;
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(ca).map(Result::unwrap));
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let web = Web::new(tls.with_root_certificates(roots).with_no_client_auth().into(), Duration::from_secs(20));
    let request = hyper::Request::builder().method(method).uri(url);
    let request = request.header("content-type", "application/x-www-form-urlencoded").header("cookie", cookie);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(web.send(request, body.to_owned().into())).unwrap()
}

impl Drop for Maker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
