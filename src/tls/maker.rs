//! The vehicle maker's certificate authorities, built in as trust anchors: names and keys, as the `webpki-roots` crate
//! has those of the web.
//!
//! `certs/vehicle_ca.csv` has a line for each that the maker has published, roots and intermediates. None of them has
//! name constraints.

use std::sync::LazyLock;

use data_encoding::BASE64;
use rustls::pki_types::{Der, TrustAnchor};
use serde::{Deserialize, Deserializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::{FromDer, X509Name};

use super::certificate::Certificate;
use crate::config::MakerCa;

const LIST: &str = include_str!("../../certs/vehicle_ca.csv");

/// One authority.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Authority {
    /// Of the certificate; lower-case hexadecimal.
    #[serde(rename = "sha256_fingerprint")]
    pub(crate) sha256: String,
    #[serde(rename = "subject_cn")]
    pub(crate) common_name: String,
    #[serde(rename = "issuer_cn")]
    issuer: String,
    /// Seconds since the epoch.
    #[serde(deserialize_with = "time")]
    not_before: i64,
    /// Seconds since the epoch.
    #[serde(deserialize_with = "time")]
    not_after: i64,
    #[serde(deserialize_with = "yes")]
    production: bool,
    #[serde(deserialize_with = "yes")]
    engineering: bool,
    /// DER.
    #[serde(rename = "subject_der_base64", deserialize_with = "base64")]
    subject: Vec<u8>,
    /// SubjectPublicKeyInfo, DER.
    #[serde(rename = "spki_der_base64", deserialize_with = "base64")]
    key: Vec<u8>,
}

impl Authority {
    pub(crate) fn is_in(&self, set: MakerCa) -> bool {
        match set {
            MakerCa::Production => self.production,
            MakerCa::Engineering => self.engineering,
        }
    }

    /// Whether a certificate, DER, has the name and the key of this one.
    pub(crate) fn has_key_of(&self, certificate: &[u8]) -> bool {
        x509_parser::parse_x509_certificate(certificate).is_ok_and(|(_, certificate)| {
            certificate.public_key().raw == self.key && certificate.subject().as_raw() == self.subject
        })
    }

    /// As people are told about it. Its certificate is not there, only what it says.
    pub(super) fn certificate(&self) -> Certificate {
        let subject = X509Name::from_der(&self.subject).map(|(_, name)| name.to_string());
        Certificate {
            subject: subject.unwrap_or_else(|_| self.common_name.clone()),
            issuer: format!("CN={}", self.issuer),
            not_before: self.not_before,
            not_after: self.not_after,
            sha256: self.sha256.clone(),
            names: Vec::new(),
            is_not_for_servers: false,
            version: 3,
            has_weak_signature: false,
            names_its_issuers_address: false,
            issuer_key: None,
        }
    }

    pub(super) fn anchor(&self) -> TrustAnchor<'static> {
        TrustAnchor {
            subject: content(&self.subject),
            subject_public_key_info: content(&self.key),
            name_constraints: None,
        }
    }
}

/// All that the maker has published.
pub(crate) fn published() -> &'static [Authority] {
    static PUBLISHED: LazyLock<Vec<Authority>> = LazyLock::new(|| read(LIST).expect("the list is complete"));
    &PUBLISHED
}

pub(crate) fn read(list: &str) -> Result<Vec<Authority>, csv::Error> {
    csv::Reader::from_reader(list.as_bytes()).deserialize().collect()
}

/// What is in a SEQUENCE; webpki wants names and keys without its header.
fn content(sequence: &[u8]) -> Der<'static> {
    let (_, sequence) = x509_parser::der_parser::asn1_rs::Sequence::from_der(sequence).expect("a DER sequence");
    Der::from(sequence.content.into_owned())
}

fn time<'de, D: Deserializer<'de>>(field: D) -> Result<i64, D::Error> {
    let text = String::deserialize(field)?;
    OffsetDateTime::parse(&text, &Rfc3339).map(OffsetDateTime::unix_timestamp).map_err(serde::de::Error::custom)
}

fn yes<'de, D: Deserializer<'de>>(field: D) -> Result<bool, D::Error> {
    Ok(String::deserialize(field)? == "yes")
}

fn base64<'de, D: Deserializer<'de>>(field: D) -> Result<Vec<u8>, D::Error> {
    BASE64.decode(String::deserialize(field)?.as_bytes()).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_of_each_set_as_the_maker_has_published() {
        let count = |set| published().iter().filter(|authority| authority.is_in(set)).count();
        assert_eq!((count(MakerCa::Production), count(MakerCa::Engineering), published().len()), (14, 8, 16));
        for authority in published() {
            assert!(authority.sha256.len() == 64 && authority.sha256.bytes().all(|b| b"0123456789abcdef".contains(&b)));
        }
    }

    #[test]
    fn each_has_the_name_and_a_key_that_can_be_used() {
        for authority in published() {
            let certificate = authority.certificate();
            assert!(certificate.subject.contains(&authority.common_name), "{certificate:?}");
            assert!(certificate.not_before < certificate.not_after);
            let (rest, key) = x509_parser::x509::SubjectPublicKeyInfo::from_der(&authority.key).unwrap();
            assert!(rest.is_empty() && key.parsed().is_ok(), "{}", authority.common_name);
            let anchor = authority.anchor();
            assert!(
                authority.subject.ends_with(&anchor.subject)
                    && authority.key.ends_with(&anchor.subject_public_key_info)
            );
        }
    }
}
