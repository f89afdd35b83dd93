//! One certificate, as people are told about it.

use std::fmt::Write;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::logging::escape;

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
    pub(crate) has_names: bool,
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

    fn parse(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let validity = certificate.validity();
        let sha256 = Sha256::digest(der).iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Ok(Self {
            subject: escape(certificate.subject().to_string().as_bytes(), NAME_BYTES),
            issuer: escape(certificate.issuer().to_string().as_bytes(), NAME_BYTES),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            sha256,
            has_names: matches!(certificate.subject_alternative_name(), Ok(Some(names)) if !names.value.general_names.is_empty()),
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

    /// In words, with the date that matters.
    pub(crate) fn describe_validity(&self, now: i64) -> String {
        match self.validity(now) {
            Validity::NotYet => format!("not valid before {}", date(self.not_before)),
            Validity::Valid => format!("valid until {}", date(self.not_after)),
            Validity::Expired => format!("expired on {}", date(self.not_after)),
        }
    }
}

/// Seconds since the epoch.
pub(crate) fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

fn date(timestamp: i64) -> String {
    OffsetDateTime::from_unix_timestamp(timestamp)
        .map_or_else(|_| timestamp.to_string(), |time| time.date().to_string())
}
