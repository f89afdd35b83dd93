//! `fleet-telemetry check`: every problem that can be found without starting.

use std::path::Path;
use std::process::ExitCode;

#[cfg(feature = "kafka")]
use rdkafka::error::KafkaError;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::findings::Findings;
use super::{EXIT_CONFIG, say};
use crate::config::{self, Config, Env};
use crate::tls::certificate::{self, Certificate, Validity};

pub(super) fn run(file: &Path) -> ExitCode {
    let (config, warnings) = match config::load(file, &Env::of_process()) {
        Ok(loaded) => loaded,
        Err(error) => {
            say(&Findings::of(&error).report());
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let mut findings = Findings::about(file);
    findings.warnings.extend(warnings.iter().map(ToString::to_string));
    check_certificates(&config, certificate::now(), &mut findings);
    #[cfg(feature = "kafka")]
    check_kafka(&config, &mut findings);
    say(&findings.report());
    if findings.errors.is_empty() {
        say(&format!("{}: good\n{}", file.display(), routes(&config)));
        return ExitCode::SUCCESS;
    }
    ExitCode::from(EXIT_CONFIG)
}

/// What goes where, and when it is acked.
fn routes(config: &Config) -> String {
    use crate::config::AckRule;
    let lines = config.routes.iter().map(|route| {
        let dispatchers: Vec<_> = route.dispatchers.iter().map(|name| name.label()).collect();
        let ack = match route.ack {
            AckRule::OnReceipt => "on receipt".to_owned(),
            AckRule::AllDurable => "when every durable dispatcher has delivered".to_owned(),
            AckRule::By(dispatcher) => format!("when {dispatcher} has delivered"),
        };
        format!("  {} -> {}; acked {ack}\n", route.topic, dispatchers.join(", "))
    });
    lines.collect()
}

/// Names and values of properties, as librdkafka sees them; no broker is asked.
#[cfg(feature = "kafka")]
fn check_kafka(config: &Config, findings: &mut Findings) {
    for (key, value) in config.dispatchers.kafka.iter().flat_map(|kafka| &kafka.properties) {
        let mut one = rdkafka::ClientConfig::new();
        one.set(key, value);
        match one.create_native_config() {
            // Without the value, which may be a password under a misspelt name.
            Err(KafkaError::ClientConfig(_, problem, ..)) => findings.error(format!("kafka.{key}: {problem}")),
            Err(error) => findings.error(format!("kafka.{key}: {error}")),
            Ok(_) => {}
        }
    }
}

/// Of the vehicles' port, and of the permissions API.
fn check_certificates(config: &Config, now: i64, findings: &mut Findings) {
    let tls = &config.listener.tls;
    check_authorities("tls.ca_file", &tls.ca_file, now, findings);
    check_server(("tls.server_cert", &tls.server_cert), ("tls.server_key", &tls.server_key), now, findings);
    let api = config.permissions.as_ref().and_then(|permissions| permissions.api.as_ref()?.tls.as_ref());
    let Some(api) = api else { return };
    if let Some(path) = &api.client_ca {
        check_authorities("permissions.api.tls.client_ca", path, now, findings);
    }
    check_server(("permissions.api.tls.cert", &api.cert), ("permissions.api.tls.key", &api.key), now, findings);
}

fn check_authorities(key: &str, path: &Path, now: i64, findings: &mut Findings) {
    let certificates = match Certificate::read(path) {
        Ok((certificates, _)) => certificates,
        Err(error) => return findings.error(format!("{key}: {}: {error}", path.display())),
    };
    if certificates.is_empty() {
        return findings.error(format!("{key}: custom ca not properly loaded: {}", path.display()));
    }
    let invalid: Vec<_> = certificates.iter().filter(|one| one.validity(now) != Validity::Valid).collect();
    if invalid.len() == certificates.len() {
        findings.error(format!("{key}: {}: none of its certificates is valid today", path.display()));
    }
    for certificate in invalid {
        findings.warn(format!("{key}: {}: {}", certificate.subject, certificate.describe_validity(now)));
    }
}

/// A chain and its private key, each with its key in the configuration.
fn check_server(chain: (&str, &Path), private: (&str, &Path), now: i64, findings: &mut Findings) {
    let ((name, path), (key_name, key_path)) = ((chain.0, chain.1.display()), (private.0, private.1.display()));
    let key = PrivateKeyDer::from_pem_file(private.1)
        .map_err(|error| findings.error(format!("{key_name}: {key_path}: {error}")));
    let (certificates, ders) = match Certificate::read(chain.1) {
        Ok(read) => read,
        Err(error) => return findings.error(format!("{name}: {path}: {error}")),
    };
    let Some(leaf) = certificates.first() else {
        return findings.error(format!("{name}: {path}: no certificate in this file"));
    };
    if leaf.validity(now) != Validity::Valid {
        findings.error(format!("{name}: {path}: {}", leaf.describe_validity(now)));
    }
    for issuer in certificates.iter().skip(1).filter(|issuer| issuer.validity(now) != Validity::Valid) {
        findings.warn(format!("{name}: {}: {}", issuer.subject, issuer.describe_validity(now)));
    }
    if leaf.names.is_empty() {
        findings.warn(format!("{name}: {path}: no subject alternative name, so clients will refuse it"));
    }
    let Ok(key) = key else { return };
    let matches = any_supported_type(&key).and_then(|key| CertifiedKey::new(ders, key).keys_match());
    match matches {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            findings.error(format!("{key_name}: {key_path}: not the key of {name}"));
        }
        Err(error) => findings.error(format!("{key_name}: {key_path}: {error}")),
        Ok(()) => {}
    }
}
