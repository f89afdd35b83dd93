//! The program as operators run it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

const FLEET_TELEMETRY: &str = env!("CARGO_BIN_EXE_fleet-telemetry");

struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

fn run(folder: &Path, arguments: &[&str]) -> Run {
    let mut command = Command::new(FLEET_TELEMETRY);
    command.current_dir(folder).args(arguments).env_remove("SUPPRESS_TLS_HANDSHAKE_ERROR_LOGGING");
    let output = command.timeout(std::time::Duration::from_secs(60)).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A folder with a complete configuration and certificates that last until `until`.
struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new(until: i32) -> Self {
        let folder = Self { folder: tempfile::tempdir().unwrap() };
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.not_after = date_time_ymd(until, 1, 1);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let mut server = CertificateParams::new(["localhost".to_owned()]).unwrap();
        server.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let server = server.signed_by(&key, &ca).unwrap();
        folder.write("ca.pem", &ca.pem());
        folder.write("cert.pem", &server.pem());
        folder.write("key.pem", &key.serialize_pem());
        folder.write(
            "config.json",
            r#"{"port": 0, "tls": {"ca_file": "ca.pem", "maker_ca": false, "server_cert": "cert.pem", "server_key": "key.pem"},
                "records": {"V": ["sqlite", "logger"], "alerts": ["logger"]}}"#,
        );
        folder
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn run(&self, arguments: &[&str]) -> Run {
        run(self.folder.path(), arguments)
    }
}

#[test]
fn explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["--help"][..], &["-h"], &["-help"], &["help"]] {
        let help = run(folder.path(), arguments);
        assert_eq!(help.code, 0);
        assert!(help.stdout.contains("fleet-telemetry certs verify"), "{}", help.stdout);
    }
    let version = run(folder.path(), &["--version"]);
    assert_eq!(version.code, 0);
    assert!(version.stdout.starts_with(concat!("fleet-telemetry ", env!("CARGO_PKG_VERSION"), " (commit ")));
}

#[test]
fn refuses_unknown_flags_and_subcommands_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["-verbose"][..], &["--confg", "x"], &["swerve"], &["certs", "verify"]] {
        let refused = run(folder.path(), arguments);
        assert_eq!(refused.code, 2, "{arguments:?}");
        assert!(refused.stderr.contains("error:"), "{}", refused.stderr);
    }
}

#[test]
fn ends_with_64_and_every_error_when_the_configuration_is_unusable() {
    let folder = Folder::new(2100);
    folder.write("bad.json", r#"{"port": -1, "prot": 2, "records": {"V": []}}"#);
    for arguments in [&["-config", "bad.json"][..], &["-config=bad.json"], &["serve", "--config", "bad.json"]] {
        let failed = folder.run(arguments);
        assert_eq!(failed.code, 64);
        for text in [
            "did you mean \"port\"?",
            "port: -1 is out of range",
            "unknown_dispatch_rule record: V",
            "tls config is empty",
        ] {
            assert!(failed.stderr.contains(text), "{text} in {}", failed.stderr);
        }
    }
    let missing = folder.run(&["-config", "none.json"]);
    assert_eq!(
        (missing.code, missing.stderr.as_str()),
        (64, "error: none.json: No such file or directory (os error 2)\n")
    );
}

#[test]
fn checks_a_good_configuration() {
    let checked = Folder::new(2100).run(&["check"]);
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
    assert!(
        checked.stdout.contains("warning: config.json: records.alerts: acked when logger has delivered"),
        "{}",
        checked.stdout
    );
    for text in [
        "config.json: good\n  tls.server_cert: CN=",
        "valid until 2100-01-01 (",
        "  V -> sqlite, logger; acked when every durable dispatcher has delivered\n",
    ] {
        assert!(checked.stdout.contains(text), "{text} in {}", checked.stdout);
    }
}

#[test]
fn checks_what_certificates_hold() {
    let folder = Folder::new(2100);
    folder.write("key.pem", &KeyPair::generate().unwrap().serialize_pem());
    folder.write("ca.pem", "-----BEGIN NOTHING-----\nAAAA\n-----END NOTHING-----\n");
    let checked = folder.run(&["check"]);
    assert_eq!(checked.code, 64);
    assert!(
        checked.stdout.contains("error: config.json: tls.ca_file: ca.pem holds no certificate; "),
        "{}",
        checked.stdout
    );
    assert!(checked.stdout.contains("tls.server_key: key.pem: not the key of tls.server_cert\n"), "{}", checked.stdout);

    fs::remove_file(folder.folder.path().join("key.pem")).unwrap();
    folder.write("cert.pem", "");
    let checked = folder.run(&["check"]);
    assert!(checked.stdout.contains("tls.server_key: key.pem: "), "{}", checked.stdout);
    assert!(checked.stdout.contains("tls.server_cert: cert.pem holds no certificate; "), "{}", checked.stdout);
}

#[cfg(feature = "kafka")]
#[test]
fn checks_the_names_and_values_of_kafka_properties() {
    let folder = Folder::new(2100);
    let text = fs::read_to_string(folder.folder.path().join("config.json")).unwrap();
    let kafka = r#""kafka": {"bootstrap.servers": "b", "sasl.pasword": "hunter2", "acks": "most", "compression.type": "zstd"}, "tls""#;
    folder.write("config.json", &text.replace("\"sqlite\"", "\"kafka\"").replace("\"tls\"", kafka));
    let checked = folder.run(&["check"]);
    assert_eq!(checked.code, 64, "{}", checked.stdout);
    for text in ["kafka.sasl.pasword: No such configuration property", "kafka.acks: Invalid value"] {
        assert!(checked.stdout.contains(&format!("error: config.json: {text}")), "{text} in {}", checked.stdout);
    }
    assert_eq!(checked.stdout.matches("error:").count(), 2, "{}", checked.stdout);
    assert!(!checked.stdout.contains("hunter2"), "{}", checked.stdout);
}

#[test]
fn says_loudly_that_certificates_have_expired_and_that_the_server_starts() {
    let checked = Folder::new(2020).run(&["check"]);
    assert_eq!(checked.code, 0, "{}", checked.stdout);
    for text in [
        "warning: config.json: tls.ca_file: ca.pem: none of its certificates is valid today, so NOBODY CAN CONNECT",
        "warning: config.json: tls.server_cert: cert.pem: expired on 2020-01-01, so CLIENTS WILL REFUSE IT",
        "config.json: good, BUT NOT TODAY",
    ] {
        assert!(checked.stdout.contains(text), "{text} in {}", checked.stdout);
    }
}

#[test]
fn checks_the_certificates_of_the_admin_api_too() {
    let folder = Folder::new(2100);
    let other = Folder::new(2020);
    for (name, as_name) in [("ca.pem", "client_ca.pem"), ("cert.pem", "api.pem")] {
        folder.write(as_name, &fs::read_to_string(other.folder.path().join(name)).unwrap());
    }
    let text = fs::read_to_string(folder.folder.path().join("config.json")).unwrap();
    let api = r#"{"permissions": {"mode": "enforce", "api": {"port": 1, "tls":
        {"cert": "api.pem", "key": "key.pem", "client_ca": "client_ca.pem"}}}, "port""#;
    folder.write("config.json", &text.replace("{\"port\"", api));
    let checked = folder.run(&["check"]);
    assert_eq!(checked.code, 64);
    for text in [
        "permissions.api.tls.client_ca: client_ca.pem: none of its certificates is valid today",
        "permissions.api.tls.cert: api.pem: expired on 2020-01-01",
        "permissions.api.tls.key: key.pem: not the key of permissions.api.tls.cert",
    ] {
        assert!(checked.stdout.contains(text), "{text} in {}", checked.stdout);
    }
}

#[test]
fn shows_and_refuses_a_bundle_that_is_not_the_makers() {
    let folder = Folder::new(2100);
    let verified = folder.run(&["certs", "verify", "ca.pem"]);
    assert_eq!(verified.code, 1);
    for text in [
        "subject      CN=rcgen self signed cert",
        "expiry       valid until 2100-01-01",
        "fingerprint  ",
        "NOT in the maker's list",
        "not in this file: Tesla Product Root CA",
        "FAILED: 1 of 1 not in the maker's production list",
    ] {
        assert!(verified.stdout.contains(text), "{text} in {}", verified.stdout);
    }
    let verified = folder.run(&["certs", "verify", "--engineering", "ca.pem"]);
    assert!(verified.stdout.contains("the maker's engineering list"), "{}", verified.stdout);
    assert_eq!(folder.run(&["certs", "verify", "nowhere.pem"]).code, 1);
}

#[test]
fn logs_in_the_configured_form() {
    let folder = Folder::new(2100);
    fs::remove_file(folder.folder.path().join("ca.pem")).unwrap();
    let text = fs::read_to_string(folder.folder.path().join("config.json")).unwrap();
    for (form, starts) in [("true", r#"{"context":"fleet-telemetry","error":"log_level: "#), ("false", "time=\"20")] {
        let keys = format!(r#"{{"log_level": "loud", "json_log_enable": {form}, "port""#);
        folder.write("config.json", &text.replace("{\"port\"", &keys));
        let stderr = folder.run(&[]).stderr;
        let line = stderr.lines().find(|line| line.contains("invalid_level")).unwrap();
        assert!(line.starts_with(starts), "{line}");
    }
}
