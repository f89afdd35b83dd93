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

    /// Only certificates, under the names that certbot gives them.
    fn for_init() -> Self {
        let folder = Self::new(2099);
        let path = folder.folder.path();
        fs::create_dir(path.join("tls")).unwrap();
        fs::rename(path.join("cert.pem"), path.join("tls/fullchain.pem")).unwrap();
        fs::rename(path.join("key.pem"), path.join("tls/privkey.pem")).unwrap();
        fs::remove_file(path.join("config.json")).unwrap();
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

#[test]
fn init_makes_a_configuration_that_the_server_starts_with() {
    for records in ["telemetry.db", "kafka://127.0.0.1:9092", "mqtt://127.0.0.1", "https://example.com/telemetry"] {
        let folder = Folder::for_init();
        let made = folder.run(&["init", "--certificates", "tls", "--records", records, "--location", "ask"]);
        assert_eq!(made.code, 0, "{records}: {}", made.stderr);
        assert!(made.stdout.contains("config.json: good"), "{}", made.stdout);
        let check = folder.run(&["check"]);
        assert_eq!((check.code, check.stdout.contains("error: ")), (0, false), "{}", check.stdout);
        let token = fs::metadata(folder.folder.path().join("permissions.token")).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&token.permissions()) & 0o777, 0o640);
        // What is there is never replaced.
        let before = fs::read(folder.folder.path().join("config.json")).unwrap();
        let again = folder.run(&["init", "--certificates", "tls", "--records", "other.db", "--location", "pass-all"]);
        assert_eq!((again.code, again.stderr.contains("config.json exists")), (1, true));
        assert_eq!(fs::read(folder.folder.path().join("config.json")).unwrap(), before);
    }
}

#[test]
fn init_asks_for_what_it_is_not_told() {
    let folder = Folder::for_init();
    let answer = |input: &'static str| {
        let mut command = Command::new(FLEET_TELEMETRY);
        command.current_dir(folder.folder.path()).arg("init").write_stdin(input).output().unwrap()
    };
    let made = answer("nowhere\ntls\n\npass-all\n");
    let said = String::from_utf8(made.stderr).unwrap();
    assert!(made.status.success(), "{said}");
    assert!(said.contains("nowhere: has neither fullchain.pem with privkey.pem"), "{said}");
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.folder.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(config["records"]["V"], serde_json::json!(["sqlite"]));
    assert!(config.get("permissions").is_none());
}

#[test]
fn init_leaves_nothing_behind_that_the_server_would_not_start_with() {
    let folder = Folder::for_init();
    fs::write(folder.folder.path().join("tls/privkey.pem"), "not a key").unwrap();
    let made = folder.run(&["init", "--certificates", "tls", "--records", "telemetry.db", "--location", "ask"]);
    assert_eq!(made.code, 64);
    assert!(made.stderr.contains("tls.server_key") && made.stderr.contains("nothing was written"), "{}", made.stderr);
    for file in ["config.json", "permissions.token"] {
        assert!(!folder.folder.path().join(file).exists(), "{file}");
    }
}

#[test]
fn shells_and_the_manual_know_every_subcommand() {
    let folder = tempfile::tempdir().unwrap();
    let help = run(folder.path(), &["help"]).stdout;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.contains(&"serve") && commands.contains(&"completions"), "{commands:?}");
    assert_eq!(run(folder.path(), &["man", "."]).code, 0);
    let bash = run(folder.path(), &["completions", "bash"]).stdout;
    for command in commands.into_iter().filter(|command| *command != "help") {
        assert!(bash.contains(&format!("fleet__telemetry,{command})")), "{command}: {bash}");
        let page = fs::read_to_string(folder.path().join(format!("fleet-telemetry-{command}.1"))).unwrap();
        assert!(page.contains(".SH NAME"), "{page}");
    }
    let nowhere = run(folder.path(), &["man", "nowhere"]);
    assert_eq!((nowhere.code, nowhere.stderr.starts_with("error: nowhere: ")), (1, true), "{}", nowhere.stderr);
}
