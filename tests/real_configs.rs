//! Configurations of the kinds that people run the Go server with load, or fail with one message that says what to write.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use fleet_telemetry::config::DispatcherName;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::Value;

/// What `check` makes of a file.
enum Outcome {
    /// It loads; these warnings, in their order, have these beginnings.
    Good(&'static [&'static str]),
    /// It fails with this error alone.
    Bad(&'static str),
    /// It loads in a build that has this dispatcher; others say that they have not.
    With(DispatcherName),
}
use Outcome::{Bad, Good, With};

const KINDS: [(&str, Outcome); 17] = [
    ("airbrake", Good(&["airbrake: has no effect; "])),
    ("chart", Good(&["monitoring.profiler_port: has no effect", "monitoring.profiling_path: has no effect"])),
    (
        "compose_brokers_as_list",
        Bad(
            "kafka: Invalid value type []interface {} for key bootstrap.servers (expected string,bool,int,ConfigMap); \
             write it as one text, with commas: \"kafka1:9092,kafka2:9092\"",
        ),
    ),
    (
        "kafka_tls_sasl",
        Bad("kafka.acks: this value and enable.idempotence = true exclude each other; leave one of them out"),
    ),
    ("kinesis", With(DispatcherName::Kinesis)),
    ("logger_only", Good(&["records.V: acked when logger", "records.alerts: ", "records.errors: "])),
    ("mqtt_home", With(DispatcherName::Mqtt)),
    (
        "old_keys",
        Good(&[
            "rate_limit.message_interval_time_seconds: unknown key, did you mean \"message_interval_time\"?",
            "reliable_ack: has no effect",
            "reliable_ack_workers: has no effect",
            "vins_signal_tracking_enabled: has no effect",
        ]),
    ),
    ("port_as_text", Bad("port: expected an integer, found \"443\"; write 443")),
    ("pubsub", With(DispatcherName::Pubsub)),
    ("record_as_object", Bad("records.V: expected a list of strings, found an object; write [\"kafka\"]")),
    ("record_as_text", Bad("records.V: expected a list of strings, found \"kafka\"; write [\"kafka\"]")),
    ("redis", With(DispatcherName::Redis)),
    (
        "single_node_public_certificate",
        Good(&[
            "monitoring.profiler_port: has no effect",
            "monitoring.profiling_path: has no effect",
            "reliable_ack: has no effect",
        ]),
    ),
    ("statsd", Good(&["monitoring.statsd: has no effect"])),
    (
        "vehicle_keys_in_server_config",
        Good(&[
            "hostname: has no effect; it belongs into the telemetry configuration that vehicles are sent",
            "ca: has no effect",
            "fields: has no effect",
        ]),
    ),
    ("zmq", With(DispatcherName::Zmq)),
];

const HIDDEN_METRICS: &str = "monitoring.prometheus_metrics_host: 127.0.0.1 is this container alone";

/// The exit code and the report, of the file of this name beside a certificate.
fn check(folder: &Path, name: &str) -> (i32, Value) {
    check_in(folder, name, &[])
}

/// The same with environment variables.
fn check_in(folder: &Path, name: &str, env: &[(&str, &str)]) -> (i32, Value) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real_configs").join(name).with_extension("json");
    fs::copy(file, folder.join("config.json")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleet-telemetry"));
    let output = command.current_dir(folder).args(["check", "--json"]).envs(env.iter().copied()).output().unwrap();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// A folder with what the files name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut server = CertificateParams::new(["telemetry.example.com".to_owned()]).unwrap();
    server.distinguished_name.push(DnType::CommonName, "telemetry.example.com");
    let key = KeyPair::generate().unwrap();
    let certificate = server.self_signed(&key).unwrap().pem();
    for (name, text) in [("server.crt", &certificate), ("ca.pem", &certificate), ("server.key", &key.serialize_pem())] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn every_kind_loads_or_says_in_one_message_what_to_write() {
    let folder = folder();
    for (name, outcome) in &KINDS {
        let (code, report) = check(folder.path(), name);
        let (errors, mut warnings) = (texts(&report["errors"]), texts(&report["warnings"]));
        // Said where the tests run in a container.
        warnings.retain(|warning| !warning.starts_with(HIDDEN_METRICS));
        match outcome {
            Good(expected) => {
                assert_eq!((code, &errors[..]), (0, &[][..]), "{name}");
                assert_eq!(warnings.len(), expected.len(), "{name}: {warnings:#?}");
                for (warning, beginning) in warnings.iter().zip(*expected) {
                    assert!(warning.starts_with(beginning), "{name}: {warning}");
                }
            }
            Bad(expected) => assert_eq!((code, &errors[..]), (64, &[*expected][..]), "{name}"),
            With(dispatcher) if dispatcher.is_built() => {
                assert_eq!((code, &errors[..]), (0, &[][..]), "{name}: {warnings:#?}");
            }
            With(dispatcher) => {
                assert_eq!((code, errors.len()), (64, 1), "{name}: {errors:#?}");
                let missing = format!(": this build has no dispatcher \"{dispatcher}\"; it has ");
                assert!(errors[0].starts_with("records.V") && errors[0].contains(&missing), "{name}: {errors:#?}");
            }
        }
    }
}

#[test]
fn no_file_is_left_out() {
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real_configs")).unwrap();
    let files: BTreeSet<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let kinds: BTreeSet<_> = KINDS.iter().map(|(name, _)| format!("{name}.json")).collect();
    assert_eq!(files, kinds);
}

#[test]
fn the_report_says_where_records_go_in_which_form_and_how_long_the_certificate_lasts() {
    let (_, report) = check(folder().path(), "chart");
    assert_eq!(report["verdict"], "good");
    assert_eq!(
        report["routes"][2],
        serde_json::json!({
            "record": "V", "acked": "when kafka has delivered",
            "dispatchers": [{ "dispatcher": "kafka", "topic": "tesla_telemetry_V", "form": "protobuf" }],
        })
    );
    let certificate = texts(&report["certificates"])[0];
    assert!(certificate.starts_with("tls.server_cert: CN=telemetry.example.com, valid until "), "{certificate}");
    assert!(certificate.ends_with(" days)"), "{certificate}");
}

#[test]
fn a_file_that_is_missing_is_told_together_with_mistakes_in_the_text() {
    let folder = folder();
    fs::remove_file(folder.path().join("server.key")).unwrap();
    let (code, report) = check(folder.path(), "port_as_text");
    let errors = texts(&report["errors"]);
    assert_eq!((code, errors.len()), (64, 2), "{errors:#?}");
    assert!(errors[1].starts_with("tls.server_key: server.key: No such file"), "{errors:#?}");
}

#[test]
fn keys_and_certificates_in_other_forms_are_named_with_the_command_that_changes_them() {
    let folder = folder();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let error_with = |name: &str, bytes: &[u8]| {
        let before = fs::read(folder.path().join(name)).unwrap();
        write(name, bytes);
        let (code, report) = check(folder.path(), "chart");
        write(name, &before);
        let errors = texts(&report["errors"]);
        assert_eq!((code, errors.len()), (64, 1), "{errors:#?}");
        errors[0].to_owned()
    };
    let key = KeyPair::generate().unwrap();
    let der = CertificateParams::new(["x".to_owned()]).unwrap().self_signed(&key).unwrap().der().to_vec();
    assert!(error_with("server.crt", &der).contains("server.crt: DER, and PEM is needed: openssl x509 -inform der"));
    let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIH0MF8=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let error = error_with("server.key", encrypted);
    assert!(error.starts_with("tls.server_key: server.key: the key is encrypted") && error.contains("openssl pkey"));
    let request = b"-----BEGIN CERTIFICATE REQUEST-----\nMIH0MF8=\n-----END CERTIFICATE REQUEST-----\n";
    assert!(error_with("server.crt", request).contains("a request for a certificate"), "{error}");
}

#[test]
fn metrics_that_only_their_container_can_scrape_are_told() {
    let folder = folder();
    let warns = |name: &str| {
        let (_, report) = check_in(folder.path(), name, &[("KUBERNETES_SERVICE_HOST", "10.0.0.1")]);
        texts(&report["warnings"]).iter().any(|warning| warning.starts_with(HIDDEN_METRICS))
    };
    assert!(warns("single_node_public_certificate"));
    assert!(!warns("chart"));
}
