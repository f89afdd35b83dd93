//! What the listener counts.

use std::io;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use rustls::{AlertDescription, CertificateError, Error};
use strum::{IntoStaticStr, VariantArray};

use crate::config;
use crate::identity::{IdentityError, Unidentified};
use crate::places::Claim;
use crate::tls::OutOfDate;

/// Pre-labelled handles.
pub struct ListenerMetrics {
    refused: Box<[Counter]>,
    unidentified: Box<[Counter]>,
    pub(super) answered: Counter,
    pending: Gauge,
    pub(super) handshake_seconds: Histogram,
}

/// Why a connection did not become a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Refusal {
    /// The kernel gave no connection.
    Accept,
    /// As many sessions as there may be.
    #[strum(serialize = "connection_limit")]
    Connections,
    /// Too many connections from its address.
    #[strum(serialize = "address_limit")]
    Address,
    /// It was silent, and made room for another one.
    DisplacedSilent,
    /// It had spoken and kept the server waiting, and made room for another one.
    DisplacedSlow,
    /// The ClientHello did not come in time.
    ClientHelloTimeout,
    /// The handshake took too long.
    HandshakeTimeout,
    /// The client sent no certificate.
    NoCertificate,
    /// The client's certificate has expired or is not valid yet.
    CertificateDates,
    /// Nobody in `tls.ca_file` has issued the client's certificate.
    UnknownIssuer,
    /// The authority behind the client's certificate has expired or is not valid yet.
    AuthorityDates,
    /// The client's certificate is wrong in another way.
    BadCertificate,
    /// The client does not accept ours.
    #[strum(serialize = "server_certificate_refused")]
    ServerCertificate,
    /// The client is not speaking TLS, or another TLS.
    Tls,
    /// The connection broke during the handshake.
    Broken,
    /// The request was malformed, or took too long.
    Http,
}

impl Refusal {
    pub(super) fn label(self) -> &'static str {
        self.into()
    }

    /// Of a connection that had this claim to its place.
    pub(super) fn displaced(claim: Claim) -> Self {
        match claim {
            Claim::Weak => Self::DisplacedSilent,
            Claim::Fair | Claim::Firm => Self::DisplacedSlow,
        }
    }

    /// Classifies what tokio-rustls reports.
    pub(super) fn of_handshake(error: &io::Error) -> Self {
        let Some(source) = error.get_ref().and_then(|error| error.downcast_ref::<Error>()) else {
            return if error.kind() == io::ErrorKind::InvalidData { Self::Tls } else { Self::Broken };
        };
        match source {
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => Self::CertificateDates,
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => Self::UnknownIssuer,
            Error::InvalidCertificate(CertificateError::Other(other)) if other.0.is::<OutOfDate>() => {
                Self::AuthorityDates
            }
            Error::InvalidCertificate(_) => Self::BadCertificate,
            Error::AlertReceived(
                AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired,
            ) => Self::ServerCertificate,
            _ => Self::Tls,
        }
    }
}

impl ListenerMetrics {
    /// Registers the families with the current recorder, and states the configured bounds.
    #[must_use]
    pub fn register(config: &config::Listener) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "bounds are far below 2^52")]
        for (bound, value) in [
            ("connections", config.max_connections),
            ("pending_connections", config.max_pending_connections),
            ("connections_per_address", config.max_connections_per_address),
            ("handshakes", config.max_handshakes),
        ] {
            gauge!("limit", "bound" => bound).set(value as f64);
        }
        Self {
            refused: Refusal::VARIANTS
                .iter()
                .map(|refusal| counter!("connection_refused_total", "reason" => refusal.label()))
                .collect(),
            unidentified: Unidentified::VARIANTS
                .iter()
                .map(|reason| counter!("identity_refused_total", "reason" => <&str>::from(reason)))
                .collect(),
            answered: counter!("http_answered_total"),
            pending: gauge!("num_pending_connections"),
            handshake_seconds: histogram!("handshake_seconds"),
        }
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        self.refused[refusal as usize].increment(1);
    }

    pub(super) fn unidentified(&self, error: &IdentityError) {
        self.unidentified[Unidentified::from(error) as usize].increment(1);
    }
}

/// One connection that is not a session yet, for as long as it lives.
pub(super) struct Pending(Gauge);

impl Pending {
    pub(super) fn new(metrics: &ListenerMetrics) -> Self {
        metrics.pending.increment(1.0);
        Self(metrics.pending.clone())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl std::fmt::Debug for ListenerMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListenerMetrics").finish_non_exhaustive()
    }
}
