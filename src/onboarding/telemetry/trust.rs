//! `ca`: whose certificate the vehicle accepts as the server's.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::judge::Judgement;
use crate::tls::certificate::{Certificate, Validity};

pub(super) fn ca(value: Option<&Value>, now: i64, found: &mut Judgement) {
    let member = "ca";
    let Some(value) = value else {
        return found
            .refuse(member, "missing; give the PEM of the authorities that the server's certificate comes from");
    };
    let Some(text) = value.as_str() else { return found.refuse(member, "expected a text with PEM in it") };
    if text.trim().is_empty() {
        return found.refuse(member, "empty, which the maker refuses; give the PEM of intermediate and root");
    }
    let ders = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let ders = match ders {
        Ok(ders) if !ders.is_empty() => ders,
        _ => return found.refuse(member, "holds no certificate in PEM; is each line's end a \\n?"),
    };
    let parsed = ders.iter().map(|der| Certificate::parse(der)).collect::<Result<Vec<_>, _>>();
    match parsed {
        Err(error) => found.refuse(member, format!("holds something that is not X.509: {error}")),
        Ok(certificates) => authorities(&certificates, now, found),
    }
}

fn authorities(certificates: &[Certificate], now: i64, found: &mut Judgement) {
    let member = "ca";
    for certificate in certificates.iter().filter(|one| one.validity(now) != Validity::Valid) {
        found.warn(member, format!("{}: {}", certificate.subject, certificate.describe_validity(now)));
    }
    let has_root = certificates.iter().any(|one| one.subject == one.issuer);
    match (certificates.len(), has_root) {
        (1, true) => found.warn(
            member,
            "only a root: if its server's certificate comes from an intermediate, the maker's own script says invalid; add \
             the intermediate",
        ),
        (_, false) => found.warn(member, "no root (a certificate of its own issuer): some verifiers want one; add it"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, Issuer, KeyPair};
    use serde_json::json;

    use super::*;

    fn judged(ca: Value) -> Judgement {
        let mut found = Judgement::default();
        super::ca(Some(&ca), crate::tls::certificate::now(), &mut found);
        found
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
    }

    #[test]
    fn intermediate_and_root_are_wanted() {
        let root = CertifiedIssuer::self_signed(params("Root"), KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let issuer: &Issuer<'_, _> = &root;
        let intermediate = params("Intermediate").signed_by(&key, issuer).unwrap().pem();
        let root = root.pem();
        assert_eq!(judged(json!(format!("{intermediate}{root}"))), Judgement::default());
        assert!(judged(json!(root)).warnings[0].contains("add the intermediate"));
        assert!(judged(json!(intermediate)).warnings[0].contains("no root"));
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for bad in [
            json!(""),
            json!(" \n"),
            json!(5),
            json!("nothing"),
            json!("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
        ] {
            assert_eq!(judged(bad.clone()).errors.len(), 1, "{bad}");
        }
    }
}
