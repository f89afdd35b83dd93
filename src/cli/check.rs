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
use crate::config::{self, Config, Env, Tls};
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
    check_certificates(&config.listener.tls, certificate::now(), &mut findings);
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

fn check_certificates(tls: &Tls, now: i64, findings: &mut Findings) {
    check_authorities(&tls.ca_file, now, findings);
    check_server(tls, now, findings);
}

fn check_authorities(path: &Path, now: i64, findings: &mut Findings) {
    let certificates = match Certificate::read(path) {
        Ok((certificates, _)) => certificates,
        Err(error) => return findings.error(format!("tls.ca_file: {}: {error}", path.display())),
    };
    if certificates.is_empty() {
        return findings.error(format!("tls.ca_file: custom ca not properly loaded: {}", path.display()));
    }
    let invalid: Vec<_> = certificates.iter().filter(|one| one.validity(now) != Validity::Valid).collect();
    if invalid.len() == certificates.len() {
        findings.error(format!("tls.ca_file: {}: none of its certificates is valid today", path.display()));
    }
    for certificate in invalid {
        findings.warn(format!("tls.ca_file: {}: {}", certificate.subject, certificate.describe_validity(now)));
    }
}

fn check_server(tls: &Tls, now: i64, findings: &mut Findings) {
    let path = tls.server_cert.display();
    let key = PrivateKeyDer::from_pem_file(&tls.server_key)
        .map_err(|error| findings.error(format!("tls.server_key: {}: {error}", tls.server_key.display())));
    let (certificates, ders) = match Certificate::read(&tls.server_cert) {
        Ok(read) => read,
        Err(error) => return findings.error(format!("tls.server_cert: {path}: {error}")),
    };
    let Some(leaf) = certificates.first() else {
        return findings.error(format!("tls.server_cert: {path}: no certificate in this file"));
    };
    if leaf.validity(now) != Validity::Valid {
        findings.error(format!("tls.server_cert: {path}: {}", leaf.describe_validity(now)));
    }
    for issuer in certificates.iter().skip(1).filter(|issuer| issuer.validity(now) != Validity::Valid) {
        findings.warn(format!("tls.server_cert: {}: {}", issuer.subject, issuer.describe_validity(now)));
    }
    if leaf.names.is_empty() {
        findings.warn(format!("tls.server_cert: {path}: no subject alternative name, so vehicles will refuse it"));
    }
    let Ok(key) = key else { return };
    let matches = any_supported_type(&key).and_then(|key| CertifiedKey::new(ders, key).keys_match());
    match matches {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            findings.error(format!("tls.server_key: {}: not the key of tls.server_cert", tls.server_key.display()));
        }
        Err(error) => findings.error(format!("tls.server_key: {}: {error}", tls.server_key.display())),
        Ok(()) => {}
    }
}
