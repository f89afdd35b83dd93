//! What is to be said about certificates that can be read: dates, names, purposes. The server starts whatever they say,
//! since the clock may be wrong and clients judge for themselves. What cannot be read is an error already.

use std::path::Path;

use super::Findings;
use crate::config::Config;
use crate::tls::certificate::{Certificate, Validity};

/// Whether certificates let anybody connect at this moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dates {
    Good,
    Bad,
}

/// Renewing takes days when people are needed for it.
const SOON: i64 = 30;

impl Dates {
    fn and(self, other: Self) -> Self {
        if self == Self::Good { other } else { self }
    }
}

/// Of the vehicles' port and of the permissions API.
pub(super) fn judge(config: &Config, now: i64, findings: &mut Findings) -> Dates {
    let tls = &config.listener.tls;
    let authorities = tls.ca_file.as_ref().map_or(Dates::Good, |path| {
        let dates = judge_authorities("tls.ca_file", path, now, findings);
        // The others are the maker's, of which some are valid for years.
        if tls.maker_ca.is_none() { dates } else { Dates::Good }
    });
    let vehicles = authorities.and(judge_server("tls.server_cert", &tls.server_cert, now, findings));
    let api = config.permissions.as_ref().and_then(|permissions| permissions.api.as_ref()?.tls.as_ref());
    let Some(api) = api else { return vehicles };
    let clients = api
        .client_ca
        .as_ref()
        .map_or(Dates::Good, |path| judge_authorities("permissions.api.tls.client_ca", path, now, findings));
    vehicles.and(clients).and(judge_server("permissions.api.tls.cert", &api.cert, now, findings))
}

fn judge_authorities(key: &str, path: &Path, now: i64, findings: &mut Findings) -> Dates {
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

fn judge_server(key: &str, path: &Path, now: i64, findings: &mut Findings) -> Dates {
    let Ok((certificates, _)) = Certificate::read(path) else { return Dates::Good };
    let Some((leaf, issuers)) = certificates.split_first() else { return Dates::Good };
    for issuer in issuers.iter().filter(|issuer| issuer.validity(now) != Validity::Valid) {
        findings.warn(format!("{key}: {}: {}", issuer.subject, issuer.describe_validity(now)));
    }
    let file = path.display();
    for defect in defects(leaf, issuers) {
        findings.warn(format!("{key}: {file}: {defect}"));
    }
    let validity = leaf.describe_validity(now);
    if leaf.validity(now) != Validity::Valid {
        findings.warn(format!("{key}: {file}: {validity}, so CLIENTS WILL REFUSE IT"));
        return Dates::Bad;
    }
    let days = leaf.days_left(now);
    findings.certificates.push(format!("{key}: {}, {validity} ({days} days)", leaf.subject));
    if days < SOON {
        findings.warn(format!("{key}: {file}: {validity}, in {days} days: renew it now"));
    }
    Dates::Good
}

/// Why clients may refuse a chain, whatever the date.
fn defects(leaf: &Certificate, issuers: &[Certificate]) -> Vec<String> {
    let mut defects = Vec::new();
    if leaf.names.is_empty() {
        defects.push("no subject alternative name, so clients will refuse it".to_owned());
    }
    if leaf.is_not_for_servers {
        defects.push(
            "its extended key usage leaves servers out, so clients will refuse it; issue it for serverAuth".to_owned(),
        );
    }
    if issuers.is_empty() && leaf.names_its_issuers_address {
        defects.push(format!(
            "the leaf alone, and its issuer ({}) publishes an intermediate: vehicles find no way to the ca of their \
             configuration; append the intermediates, as in fullchain.pem",
            leaf.issuer
        ));
    }
    for certificate in std::iter::once(leaf).chain(issuers) {
        if certificate.has_weak_signature && certificate.subject != certificate.issuer {
            defects.push(format!("{}: signed with SHA-1, which clients refuse", certificate.subject));
        }
        if certificate.version < 3 {
            defects.push(format!(
                "{}: an X.509 v{} certificate, which clients refuse; issue it as v3",
                certificate.subject, certificate.version
            ));
        }
    }
    defects
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> Certificate {
        Certificate {
            subject: "CN=leaf".to_owned(),
            issuer: "CN=issuer".to_owned(),
            not_before: 0,
            not_after: 1,
            sha256: String::new(),
            names: vec!["localhost".to_owned()],
            is_not_for_servers: false,
            version: 3,
            has_weak_signature: false,
            names_its_issuers_address: false,
            issuer_key: None,
        }
    }

    #[test]
    fn each_reason_why_clients_refuse_a_chain_is_said_once() {
        let found = |leaf: Certificate, issuers: &[Certificate]| defects(&leaf, issuers).join("; ");
        assert_eq!(found(certificate(), &[]), "");
        assert!(found(Certificate { names: Vec::new(), ..certificate() }, &[]).starts_with("no subject alternative"));
        assert!(found(Certificate { is_not_for_servers: true, ..certificate() }, &[]).contains("serverAuth"));
        assert!(found(Certificate { version: 1, ..certificate() }, &[]).starts_with("CN=leaf: an X.509 v1"));
        let public = || Certificate { names_its_issuers_address: true, ..certificate() };
        assert!(found(public(), &[]).contains("append the intermediates"));
        assert_eq!(found(public(), &[certificate()]), "");
        let weak = Certificate { has_weak_signature: true, subject: "CN=mid".to_owned(), ..certificate() };
        assert_eq!(found(certificate(), &[weak]), "CN=mid: signed with SHA-1, which clients refuse");
    }
}
