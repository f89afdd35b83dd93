//! `check` and the start agree: what one refuses the other refuses, with the same first message.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use serde_json::{Value, json};

const FLEET_TELEMETRY: &str = env!("CARGO_BIN_EXE_fleet-telemetry");

/// A folder with certificates that last until `until`, and whatever the files below name.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(until: i32) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.not_after = date_time_ymd(until, 1, 1);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let mut server = CertificateParams::new(["localhost".to_owned()]).unwrap();
        server.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        folder.write("ca.pem", &ca.pem());
        folder.write("cert.pem", &server.signed_by(&key, &ca).unwrap().pem());
        folder.write("key.pem", &key.serialize_pem());
        folder.write("other.pem", &KeyPair::generate().unwrap().serialize_pem());
        folder.write("nothing.pem", "");
        folder.write("half.pem", "-----BEGIN CERTIFICATE-----\nAAAA");
        folder.write("short", "tooshort\n");
        folder.write("grants.json", "{\"no\": \"grants\"}");
        folder.write("good.json", "{\"entries\": []}");
        folder
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    /// A configuration that starts, with `changes` over it.
    fn configure(&self, changes: &Value) {
        let mut config = json!({
            "host": "127.0.0.1", "port": 0,
            "tls": {"ca_file": "ca.pem", "server_cert": "cert.pem", "server_key": "key.pem"},
            "records": {"V": ["sqlite"]},
        });
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        self.write("config.json", &config.to_string());
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(FLEET_TELEMETRY);
        command.current_dir(self.0.path()).arg(subcommand).env_remove("SUPPRESS_TLS_HANDSHAKE_ERROR_LOGGING");
        command
    }

    /// The exit code, and what was said.
    fn check(&self) -> (i32, String) {
        let output = self.command("check").output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }

    /// As far as the start comes: its exit code, `None` where it listens; and what was said.
    fn start(&self) -> (Option<i32>, String) {
        let mut server = self.command("serve").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        for line in BufReader::new(server.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            said.push_str(&line);
            said.push('\n');
            if line.contains("listening") {
                server.kill().unwrap();
                server.wait().unwrap();
                return (None, said);
            }
        }
        (server.wait().unwrap().code(), said)
    }
}

/// Without what logs do to quotation marks.
fn plain(text: &str) -> String {
    text.replace(['"', '\\'], "")
}

fn kafka(properties: Value) -> Value {
    let mut kafka = json!({"bootstrap.servers": "127.0.0.1:1"});
    kafka.as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
    json!({"records": {"V": ["kafka"]}, "namespace": "t", "kafka": kafka, "kafka_options": {"connect_timeout": "50ms"}})
}

fn tls(changes: Value) -> Value {
    let mut tls = json!({"ca_file": "ca.pem", "server_cert": "cert.pem", "server_key": "key.pem"});
    tls.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    json!({"tls": tls})
}

fn api(api: Value) -> Value {
    json!({"permissions": {"mode": "enforce", "api": api}})
}

fn store(store: Value) -> Value {
    json!({"permissions": {"mode": "enforce", "store": store}})
}

/// The changes, and what the first message names.
fn bad() -> Vec<(Value, &'static str)> {
    const TOKEN: &str = "0123456789abcdef";
    let mut all = vec![
        (json!({"port": -1}), "port: "),
        (json!({"port": "443"}), "port: "),
        (json!({"records": {"V": []}}), "unknown_dispatch_rule"),
        (json!({"records": {"V": ["nowhere"]}}), "records.V: "),
        (json!({"records": {"V": ["kinesis"]}}), "records.V: "),
        (json!({"reliable_ack_sources": {"V": "logger"}}), "logger cannot"),
        (json!({"tls": null}), "tls config is empty"),
        (json!({"shutdown": {"drain": "20s", "deadline": "20s"}}), "shutdown.drain: "),
        (json!({"sqlite": {"path": ""}}), "sqlite.path: "),
        (json!({"sqlite": {"path": "."}}), "sqlite.path: "),
        (json!({"sqlite": {"path": "nowhere/telemetry.db"}}), "sqlite.path: "),
        (json!({"sqlite": {"max_bytes": 1000}}), "sqlite.max_bytes: "),
        (json!({"port": 4443, "status_port": 4443, "status_host": "127.0.0.1"}), "status_port: "),
        (json!({"port": 4443, "status_port": 4443}), "status_port: "),
        (json!({"status_port": 4444, "monitoring": {"prometheus_metrics_port": 4444}}), "monitoring.prometheus"),
        (
            json!({"port": 4443, "permissions": {"mode": "off", "api": {"port": 4443, "token": TOKEN}}}),
            "permissions.api.port: ",
        ),
        (tls(json!({"ca_file": "nowhere.pem"})), "tls.ca_file: "),
        (tls(json!({"ca_file": "nothing.pem"})), "tls.ca_file: "),
        (tls(json!({"ca_file": "half.pem"})), "tls.ca_file: "),
        (tls(json!({"server_cert": "nothing.pem"})), "tls.server_cert: "),
        (tls(json!({"server_key": "nowhere.pem"})), "tls.server_key: "),
        (tls(json!({"server_key": "cert.pem"})), "tls.server_key: "),
        (tls(json!({"server_key": "other.pem"})), "tls.server_key: "),
        (api(json!({"port": 0})), "permissions.api.token: "),
        (api(json!({"port": 0, "token": "short"})), "permissions.api.token: "),
        (api(json!({"port": 0, "token": "sixteen  letters"})), "permissions.api.token: "),
        (api(json!({"port": 0, "token_file": "nowhere"})), "permissions.api.token_file: "),
        (api(json!({"port": 0, "token_file": "short"})), "permissions.api.token_file: "),
        (
            api(json!({"port": 0, "token": TOKEN, "tls": {"cert": "cert.pem", "key": "other.pem"}})),
            "permissions.api.tls.key: ",
        ),
        (store(json!({"file": {"path": "nowhere.json"}})), "permission store: "),
        (store(json!({"file": {"path": "grants.json"}})), "permission store: "),
        (store(json!({"sqlite": {"path": "nowhere/permissions.db"}})), "permission store: "),
    ];
    if cfg!(feature = "kafka") {
        let mut namespace = kafka(json!({}));
        namespace["namespace"] = json!("a b");
        all.extend([
            (namespace, "namespace: "),
            (kafka(json!({"bootstrap.servers": " "})), "kafka.bootstrap.servers: "),
            (kafka(json!({"transactional.id": "x"})), "kafka.transactional.id: "),
            (kafka(json!({"acks": "1", "enable.idempotence": true})), "kafka.acks: "),
            (kafka(json!({"sasl.pasword": "hunter2"})), "kafka.sasl.pasword: "),
            (kafka(json!({"compression.type": "best"})), "kafka.compression.type: "),
            (kafka(json!({"security.protocol": "ssl", "ssl.ca.location": "nowhere.pem"})), "kafka: "),
            (kafka(json!({"linger.ms": "900000", "message.timeout.ms": "5"})), "kafka: "),
            (kafka(json!({"security.protocol": "sasl_plaintext", "sasl.mechanism": "NOTHING"})), "kafka: "),
        ]);
    }
    all
}

#[test]
fn check_and_the_start_refuse_the_same_with_the_same_first_message() {
    let folder = Folder::new(2100);
    for (changes, names) in bad() {
        folder.configure(&changes);
        let (code, report) = folder.check();
        let first = report.lines().find_map(|line| line.strip_prefix("error: config.json: "));
        let first = first.unwrap_or_else(|| panic!("{changes}: {report}"));
        assert!(first.starts_with(names), "{changes}: {first}");
        let (started, said) = folder.start();
        assert_eq!((code, started), (64, Some(64)), "{changes}: {report}{said}");
        let said_first = said.lines().find(|line| line.starts_with("error: ") || line.contains("server_failed"));
        let said_first = said_first.unwrap_or_else(|| panic!("{changes}: {said}"));
        assert!(plain(said_first).contains(&plain(first)), "{changes}: {first} is not what was said first: {said}");
        assert!(!report.contains("hunter2") && !said.contains("hunter2"));
    }
}

#[test]
fn what_check_calls_good_listens_or_asks_somebody() {
    let mut good = vec![
        (2100, json!({}), None),
        (2020, json!({}), None),
        (2100, json!({"records": {"V": ["sqlite", "logger"]}}), None),
        (2100, api(json!({"port": 0, "token": "0123456789abcdef"})), None),
        (2100, api(json!({"port": 0, "tls": {"cert": "cert.pem", "key": "key.pem", "client_ca": "ca.pem"}})), None),
        // It may appear later.
        (2100, json!({"sqlite": {"path": "nowhere/telemetry.db", "start": "retry"}}), None),
    ];
    if cfg!(feature = "kafka") {
        good.push((2100, kafka(json!({})), Some(69)));
        good.push((2100, kafka(json!({"acks": "1", "compression.type": "zstd"})), Some(69)));
    }
    for (until, changes, expected) in good {
        let folder = Folder::new(until);
        folder.configure(&changes);
        let (code, report) = folder.check();
        assert_eq!(code, 0, "{changes}: {report}");
        assert!(report.contains("config.json: good"), "{changes}: {report}");
        let begun = std::time::Instant::now();
        let (started, said) = folder.start();
        assert_eq!(started, expected, "{changes}: {said}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{changes}: {said}");
    }
}

#[cfg(feature = "kafka")]
#[test]
fn a_port_that_is_taken_is_found_before_anything_is_connected() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut changes = kafka(json!({}));
    changes["kafka_options"] = json!({"connect_timeout": "5m"});
    changes["permissions"] = json!({
        "mode": "enforce",
        "api": {"port": taken.local_addr().unwrap().port(), "token": "0123456789abcdef"},
    });
    let folder = Folder::new(2100);
    folder.configure(&changes);
    let begun = std::time::Instant::now();
    let (code, said) = folder.start();
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("permissions.api.port"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{said}");
}
