//! `fleet-telemetry check`: every problem that can be found without starting.

use std::path::Path;
use std::process::ExitCode;

use super::findings::Findings;
use super::{EXIT_CONFIG, say};
use crate::config::{self, Config, Env};
use crate::preflight;
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
    let judgement = preflight::judge(&config);
    findings.warnings.extend(judgement.warnings);
    findings.errors.extend(judgement.errors);
    let dates = check_certificates(&config, certificate::now(), &mut findings);
    say(&findings.report());
    if findings.errors.is_empty() {
        let verdict = match dates {
            Dates::Good => "good",
            Dates::Bad => "good, BUT NOT TODAY: certificates are not valid, see the warnings",
        };
        say(&format!("{}: {verdict}\n{}", file.display(), routes(&config)));
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

/// Whether certificates let anybody connect at this moment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dates {
    Good,
    Bad,
}

impl Dates {
    fn and(self, other: Self) -> Self {
        if self == Self::Good { other } else { self }
    }
}

/// Dates and names, of the vehicles' port and of the permissions API. The server starts whatever they are: the clock
/// may be wrong. What cannot be read is an error already.
fn check_certificates(config: &Config, now: i64, findings: &mut Findings) -> Dates {
    let tls = &config.listener.tls;
    let authorities = tls.ca_file.as_ref().map_or(Dates::Good, |path| {
        let dates = check_authorities("tls.ca_file", path, now, findings);
        // The others are the maker's, of which some are valid for years.
        if tls.maker_ca.is_none() { dates } else { Dates::Good }
    });
    let vehicles = authorities.and(check_server("tls.server_cert", &tls.server_cert, now, findings));
    let api = config.permissions.as_ref().and_then(|permissions| permissions.api.as_ref()?.tls.as_ref());
    let Some(api) = api else { return vehicles };
    let clients = api
        .client_ca
        .as_ref()
        .map_or(Dates::Good, |path| check_authorities("permissions.api.tls.client_ca", path, now, findings));
    vehicles.and(clients).and(check_server("permissions.api.tls.cert", &api.cert, now, findings))
}

fn check_authorities(key: &str, path: &Path, now: i64, findings: &mut Findings) -> Dates {
    let Ok((certificates, _)) = Certificate::read(path) else { return Dates::Good };
    let invalid: Vec<_> = certificates.iter().filter(|one| one.validity(now) != Validity::Valid).collect();
    for certificate in &invalid {
        findings.warn(format!("{key}: {}: {}", certificate.subject, certificate.describe_validity(now)));
    }
    if invalid.is_empty() || invalid.len() < certificates.len() {
        return Dates::Good;
    }
    let consequence =
        "none of its certificates is valid today, so NOBODY CAN CONNECT until one is, or the clock is right";
    findings.warn(format!("{key}: {}: {consequence}", path.display()));
    Dates::Bad
}

fn check_server(key: &str, path: &Path, now: i64, findings: &mut Findings) -> Dates {
    let Ok((certificates, _)) = Certificate::read(path) else { return Dates::Good };
    let Some((leaf, issuers)) = certificates.split_first() else { return Dates::Good };
    for issuer in issuers.iter().filter(|issuer| issuer.validity(now) != Validity::Valid) {
        findings.warn(format!("{key}: {}: {}", issuer.subject, issuer.describe_validity(now)));
    }
    if leaf.names.is_empty() {
        findings.warn(format!("{key}: {}: no subject alternative name, so clients will refuse it", path.display()));
    }
    if leaf.validity(now) == Validity::Valid {
        return Dates::Good;
    }
    let validity = leaf.describe_validity(now);
    findings.warn(format!("{key}: {}: {validity}, so CLIENTS WILL REFUSE IT", path.display()));
    Dates::Bad
}
