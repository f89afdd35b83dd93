//! One certificate, as people are told about it.

use std::net::{Ipv4Addr, Ipv6Addr};

use data_encoding::HEXLOWER;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::escape::escape;

/// In seconds.
const DAY: i64 = 86_400;
/// Longest name that is shown, in bytes.
const NAME_BYTES: usize = 200;

/// What people want to know about a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    /// Seconds since the epoch.
    pub(crate) not_before: i64,
    /// Seconds since the epoch.
    pub(crate) not_after: i64,
    /// Lower-case hexadecimal, without separators.
    pub(crate) sha256: String,
    /// DNS names and addresses that a server certificate is for.
    pub(crate) names: Vec<String>,
    /// The usages that it is limited to leave servers out.
    pub(crate) is_not_for_servers: bool,
    /// X.509 version, from 1.
    pub(crate) version: u32,
    /// Signed with SHA-1.
    pub(crate) has_weak_signature: bool,
    /// It says where its issuer's certificate can be fetched, as those of the public authorities do.
    pub(crate) names_its_issuers_address: bool,
    /// Which key of its issuer has signed it, when it says so: authorities of the same name differ here.
    pub(crate) issuer_key: Option<String>,
}

/// Where `now` lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    NotYet,
    Valid,
    Expired,
}

/// Why a PEM file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// The file.
    #[error("{0}")]
    Pem(#[from] pem::Error),
    /// Not X.509.
    #[error("certificate {number} is not valid X.509: {message}")]
    Malformed { number: usize, message: String },
}

impl Certificate {
    /// All certificates of a PEM file, and the same as DER.
    pub(crate) fn read(path: &std::path::Path) -> Result<(Vec<Self>, Vec<CertificateDer<'static>>), CertificateError> {
        let ders = match CertificateDer::pem_file_iter(path) {
            Ok(ders) => ders.collect::<Result<Vec<_>, _>>()?,
            Err(pem::Error::NoItemsFound) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let parse = |(at, der): (usize, &CertificateDer<'_>)| {
            Self::parse(der).map_err(|message| CertificateError::Malformed { number: at + 1, message })
        };
        let certificates = ders.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
        Ok((certificates, ders))
    }

    /// Of one certificate's DER; the error is in words.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let validity = certificate.validity();
        Ok(Self {
            subject: escape(certificate.subject().to_string().as_bytes(), NAME_BYTES),
            issuer: escape(certificate.issuer().to_string().as_bytes(), NAME_BYTES),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            sha256: HEXLOWER.encode(&Sha256::digest(der)),
            names: names(&certificate),
            is_not_for_servers: is_not_for_servers(&certificate),
            version: certificate.version().0 + 1,
            has_weak_signature: WEAK_SIGNATURES
                .contains(&certificate.signature_algorithm.algorithm.to_id_string().as_str()),
            names_its_issuers_address: names_its_issuers_address(&certificate),
            issuer_key: issuer_key(&certificate),
        })
    }

    /// At `now`, in seconds since the epoch.
    pub(crate) fn validity(&self, now: i64) -> Validity {
        if now < self.not_before {
            Validity::NotYet
        } else if now > self.not_after {
            Validity::Expired
        } else {
            Validity::Valid
        }
    }

    /// Whole days until it ends; negative when that has been.
    pub(crate) fn days_left(&self, now: i64) -> i64 {
        (self.not_after - now).div_euclid(DAY)
    }

    /// In words, with the date that matters.
    pub(crate) fn describe_validity(&self, now: i64) -> String {
        match self.validity(now) {
            Validity::NotYet => format!("not valid before {}", date(self.not_before)),
            Validity::Valid => format!("valid until {}", date(self.not_after)),
            Validity::Expired => format!("expired on {}", date(self.not_after)),
        }
    }
}

/// RSA and ECDSA with SHA-1.
const WEAK_SIGNATURES: [&str; 2] = ["1.2.840.113549.1.1.5", "1.2.840.10045.4.1"];

fn is_not_for_servers(certificate: &X509Certificate<'_>) -> bool {
    let Ok(Some(usage)) = certificate.extended_key_usage() else { return false };
    !usage.value.any && !usage.value.server_auth
}

fn names_its_issuers_address(certificate: &X509Certificate<'_>) -> bool {
    /// `id-ad-caIssuers`
    const CA_ISSUERS: &str = "1.3.6.1.5.5.7.48.2";
    certificate.extensions().iter().any(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => {
            access.accessdescs.iter().any(|one| one.access_method.to_id_string() == CA_ISSUERS)
        }
        _ => false,
    })
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(escape(name.as_bytes(), NAME_BYTES)),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d).to_string()),
            ref bytes => <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

fn issuer_key(certificate: &X509Certificate<'_>) -> Option<String> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(issuer) => {
            issuer.key_identifier.as_ref().map(|key| HEXLOWER.encode(key.0))
        }
        _ => None,
    })
}

/// Seconds since the epoch.
pub(crate) fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// Seconds since the epoch as RFC 3339, UTC.
pub(crate) fn moment(timestamp: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(timestamp).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| timestamp.to_string())
}

fn date(timestamp: i64) -> String {
    OffsetDateTime::from_unix_timestamp(timestamp)
        .map_or_else(|_| timestamp.to_string(), |time| time.date().to_string())
}
