//! What the chart and the compose file configure is what the server takes.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fleet_telemetry::config::file::FileConfig;
use fleet_telemetry::config::{self, Config, DispatcherName, Env};
use serde_json::{Value, json};

#[path = "support/mod.rs"]
mod support;

use support::pki::Pki;
use support::server::{Server, free_port};
use support::vehicle::{Vehicle, v_payload};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What the chart makes of a template with these settings; `scripts/setup test` has put helm there.
fn helm(template: &str, arguments: &[&str]) -> String {
    let mut helm = Command::new(root("target/tools/chart/bin/helm"));
    helm.args(["template", "test"]).arg(root("helm/fleet-telemetry")).arg("--show-only").arg(template).args(arguments);
    let output = helm.output().expect("scripts/setup test fetches helm");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The configuration in the chart's ConfigMap.
fn configuration(arguments: &[&str]) -> String {
    let made = helm("templates/configmap.yaml", arguments);
    let (_, block) = made.split_once("config.json: |\n").unwrap();
    block.lines().map(|line| line.trim_start_matches("    ").to_owned() + "\n").collect()
}

/// In an environment that has every secret.
fn resolved(text: &str) -> Config {
    let env: Env =
        ["KAFKA_PASSWORD", "MQTT_PASSWORD", "WEBHOOK_SECRET"].map(|name| (name, "c2VjcmV0")).into_iter().collect();
    let (config, _) = config::resolve(FileConfig::parse(text.as_bytes()).unwrap(), &env).unwrap_or_else(|problems| {
        panic!("{:#?} in {text}", problems.errors);
    });
    config
}

fn ci_values() -> Vec<PathBuf> {
    let files = fs::read_dir(root("helm/fleet-telemetry/ci")).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn every_set_of_values_makes_a_configuration_that_loads() {
    let sets = ci_values();
    assert!(sets.len() >= 5, "{sets:?}");
    for values in sets {
        let config = resolved(&configuration(&["--values", values.to_str().unwrap()]));
        assert_eq!((config.listener.port, config.admin.status.unwrap().port()), (8443, 8080), "{values:?}");
        assert!(!config.admin.metrics.unwrap().ip().is_loopback(), "{values:?}");
    }
}

#[test]
fn records_go_to_kafka_where_there_is_one_and_else_stay_here() {
    let to = |arguments: &[&str]| resolved(&configuration(arguments)).routes[0].dispatchers.clone();
    let tls = ["--set", "tls.secretName=tls"];
    assert_eq!(to(&tls), [DispatcherName::Sqlite]);
    assert_eq!(to(&[&tls[..], &["--set", "kafka.bootstrapServers=kafka:9092"]].concat()), [DispatcherName::Kafka]);
}

#[test]
fn a_password_of_kafka_comes_from_its_secret_and_never_into_the_config_map() {
    let values = root("helm/fleet-telemetry/ci/kafka-values.yaml");
    let text = configuration(&["--values", values.to_str().unwrap()]);
    assert!(text.contains("\"sasl.password\": \"${KAFKA_PASSWORD}\""), "{text}");
    assert_eq!(resolved(&text).dispatchers.kafka.unwrap().properties["sasl.password"], "c2VjcmV0");
    let pods = helm("templates/deployment.yaml", &["--values", values.to_str().unwrap()]);
    assert!(pods.contains("secretKeyRef:"), "{pods}");
}

#[test]
fn a_pod_has_time_to_end() {
    let values = root("helm/fleet-telemetry/ci/everything-values.yaml");
    let pods = helm("templates/deployment.yaml", &["--kube-version", "1.36.0", "--values", values.to_str().unwrap()]);
    assert!(pods.contains("terminationGracePeriodSeconds: 75"), "10 s, 60 s, and a moment: {pods}");
    assert!(pods.contains("sleep: { seconds: 10 }"), "{pods}");
}

#[test]
fn the_configurations_of_the_compose_file_load() {
    for (file, dispatcher) in
        [("sqlite", DispatcherName::Sqlite), ("kafka", DispatcherName::Kafka), ("mqtt", DispatcherName::Mqtt)]
    {
        let config = resolved(&fs::read_to_string(root(&format!("deploy/config/{file}.json"))).unwrap());
        assert_eq!(config.routes.len(), 4);
        assert!(config.routes.iter().all(|route| route.dispatchers == [dispatcher]), "{file}");
    }
}

#[tokio::test]
async fn a_vehicle_streams_to_what_the_chart_configures_and_health_says_that_it_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new(folder.path());
    let mut config: Value =
        serde_json::from_str(&configuration(&["--set", "tls.secretName=tls,tls.caSecretName=ca"])).unwrap();
    config["tls"]["server_cert"] = json!(folder.path().join("server.crt"));
    config["tls"]["server_key"] = json!(folder.path().join("server.key"));
    config["tls"]["ca_file"] = json!(folder.path().join("vehicle_ca.crt"));
    config["sqlite"]["path"] = json!(folder.path().join("telemetry.db"));
    config["host"] = json!("127.0.0.1");
    config["port"] = json!(0);
    for port in ["/status_port", "/monitoring/prometheus_metrics_port"] {
        *config.pointer_mut(port).unwrap() = json!(free_port());
    }
    let server = Server::start(&pki, &config);
    let vin = "5YJ3E1EA1KF000001";
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(vin), vin).await;
    vehicle.send("V", "first", &v_payload(vin, 65.0)).await;
    vehicle.expect_ack("V", "first").await;
    let health = |address: String| {
        let mut health = Command::new(env!("CARGO_BIN_EXE_fleet-telemetry"));
        let output = health.args(["health", "--timeout", "2", "--address", &address]).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let status = server.status.to_string();
    let ready = tokio::task::spawn_blocking(move || health(status)).await.unwrap();
    assert_eq!(ready.0, 0, "{}", ready.1);
    let nobody = format!("127.0.0.1:{}", free_port());
    let failed = tokio::time::timeout(
        Duration::from_secs(20),
        tokio::task::spawn_blocking(move || {
            Command::new(env!("CARGO_BIN_EXE_fleet-telemetry"))
                .args(["health", "--address", &nobody])
                .status()
                .unwrap()
                .code()
        }),
    );
    assert_eq!(failed.await.unwrap().unwrap(), Some(1));
}
