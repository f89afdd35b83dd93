//! The authorities whose certificates let a client in, with their dates judged at each handshake.
//!
//! rustls (webpki) never looks at the dates of a trust anchor. An authority that ends while the server runs would let
//! its vehicles in for ever; one that is left out when the file is read stays out although only the clock was wrong.
//! So this verifier holds all of them and gives rustls those that are valid at the moment of the handshake.
//! Intermediates in the bundle are anchors too, as in the reference; so are those of the maker's that are built in.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::certificate::{Certificate, Validity, moment};
use super::files::Trusted;
use super::{TlsError, maker};

/// The client's certificate is good but for the dates of the authority behind it.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{key}: the authority behind the client's certificate has expired or is not valid yet, by this server's clock")]
pub struct OutOfDate {
    /// The bundle's key in the configuration.
    key: &'static str,
}

impl fmt::Debug for OutOfDate {
    /// In words, too: this is the form in which rustls shows errors of others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A client has sent more certificates than are looked into.
///
/// To find a way from a leaf to an authority, webpki tries every certificate of the client at every step, and verifies
/// signatures where names fit. Anybody can make dozens whose names all fit; one handshake with them takes as long as
/// dozens of honest ones, on a thread that vehicles need.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the client sent {sent} certificates, the limit is {MOST_CERTIFICATES}; a leaf and its intermediates are enough"
)]
struct TooManyCertificates {
    sent: usize,
}

/// Vehicles send two or three. webpki follows six intermediates, at most.
const MOST_CERTIFICATES: usize = 8;

/// Names of authorities that vehicles were seen to cope with; with hundreds they send no certificate.
const MOST_NAMED: usize = 20;

impl fmt::Debug for TooManyCertificates {
    /// As [`OutOfDate`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// All authorities of a bundle; never empty.
pub(super) struct Authorities {
    /// The bundle's key in the configuration.
    pub(super) key: &'static str,
    certificates: Vec<Certificate>,
    /// In the order of `certificates`.
    anchors: Vec<TrustAnchor<'static>>,
    /// Of all of them: a client that has nothing better is then refused with the reason.
    subjects: Vec<DistinguishedName>,
    are_optional: bool,
    provider: Arc<CryptoProvider>,
    /// The last used; vehicles connect at one time, so there is hardly ever a second one.
    epoch: ArcSwap<Epoch>,
}

/// A time in which no date of the bundle lies, so that the same authorities are valid throughout.
struct Epoch {
    /// Seconds since 1970.
    span: Range<i64>,
    /// Over the authorities that are valid; `None` without any.
    valid: Option<Arc<dyn ClientCertVerifier>>,
    /// Over the others, to tell a stranger from a vehicle whose authority is out of its dates.
    others: Option<Arc<dyn ClientCertVerifier>>,
}

impl Authorities {
    /// Those that `trusted` has of the maker's, and those of its file, `ders`.
    ///
    /// # Errors
    /// [`TlsError::BadAuthority`].
    pub(super) fn new(
        trusted: &Trusted,
        ders: &[CertificateDer<'_>],
        are_optional: bool,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let mut certificates = Vec::new();
        let built_in = |set| maker::published().iter().filter(move |authority| authority.is_in(set));
        for authority in trusted.maker.into_iter().flat_map(built_in) {
            certificates.push(authority.certificate());
            roots.roots.push(authority.anchor());
        }
        for (file, (at, der)) in
            trusted.file.iter().flat_map(|file| ders.iter().enumerate().map(move |der| (file, der)))
        {
            let bad =
                |reason| TlsError::BadAuthority { key: file.key, path: file.path.clone(), position: at + 1, reason };
            let certificate = Certificate::parse(der).map_err(bad)?;
            // The maker's bundle as a file, as it used to be needed.
            if certificates.iter().any(|known: &Certificate| known.sha256 == certificate.sha256) {
                continue;
            }
            certificates.push(certificate);
            roots.add(der.clone()).map_err(|error| bad(error.to_string()))?;
        }
        Ok(Self {
            key: trusted.file.as_ref().map_or("tls.maker_ca", |file| file.key),
            certificates,
            subjects: roots.subjects(),
            anchors: roots.roots,
            are_optional,
            provider,
            // Empty: made at the first handshake.
            epoch: ArcSwap::from_pointee(Epoch { span: 0..0, valid: None, others: None }),
        })
    }

    /// As people are told about them.
    pub(super) fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// What may keep vehicles away although nothing is wrong.
    pub(super) fn advice(&self) -> Option<String> {
        let (key, count) = (self.key, self.certificates.len());
        (count > MOST_NAMED).then(|| {
            format!(
                "{key}: the server names {count} authorities in each handshake; vehicles that see more than \
                 {MOST_NAMED} send no certificate. Leave out those that sign no vehicle"
            )
        })
    }

    /// Those that are valid at `now`.
    pub(super) fn valid(&self, now: i64) -> impl Iterator<Item = &Certificate> {
        self.certificates.iter().filter(move |certificate| certificate.validity(now) == Validity::Valid)
    }

    /// Why nobody can be verified, when not one authority is valid at `now`.
    pub(super) fn trouble(&self, now: i64) -> Option<String> {
        if self.valid(now).next().is_some() {
            return None;
        }
        let next = self.certificates.iter().map(|one| one.not_before).filter(|date| *date > now).min();
        let last = self.certificates.iter().map(|one| one.not_after).max().unwrap_or(now);
        let when = match next {
            Some(date) => format!("the next is from {}", moment(date)),
            None => format!("the last expired at {}", moment(last)),
        };
        let (count, now) = (self.certificates.len(), moment(now));
        Some(format!("none of its {count} authorities is valid, by this server's clock ({now}): {when}"))
    }

    fn epoch(&self, now: i64) -> Arc<Epoch> {
        let last = self.epoch.load();
        if last.span.contains(&now) {
            return Arc::clone(&last);
        }
        let epoch = Arc::new(self.epoch_at(now));
        self.epoch.store(Arc::clone(&epoch));
        epoch
    }

    fn epoch_at(&self, now: i64) -> Epoch {
        let dates = || self.certificates.iter().flat_map(|one| [one.not_before, one.not_after.saturating_add(1)]);
        let start = dates().filter(|date| *date <= now).max().unwrap_or(i64::MIN);
        let end = dates().filter(|date| *date > now).min().unwrap_or(i64::MAX);
        Epoch {
            span: start..end,
            valid: self.verifier(|validity| validity == Validity::Valid, now),
            others: self.verifier(|validity| validity != Validity::Valid, now),
        }
    }

    fn verifier(&self, wanted: impl Fn(Validity) -> bool, now: i64) -> Option<Arc<dyn ClientCertVerifier>> {
        let all = self.anchors.iter().zip(&self.certificates);
        let chosen = all.filter(|(_, certificate)| wanted(certificate.validity(now)));
        let roots: RootCertStore = chosen.map(|(anchor, _)| anchor.clone()).collect();
        // Fails only without anchors, as there are no revocation lists.
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider)).build().ok()
    }
}

impl ClientCertVerifier for Authorities {
    fn client_auth_mandatory(&self) -> bool {
        !self.are_optional
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let sent = 1 + intermediates.len();
        if sent > MOST_CERTIFICATES {
            return Err(CertificateError::Other(OtherError(Arc::new(TooManyCertificates { sent }))).into());
        }
        let epoch = self.epoch(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let verify = |verifier: &dyn ClientCertVerifier| verifier.verify_client_cert(end_entity, intermediates, now);
        let error = match epoch.valid.as_deref().map(verify) {
            Some(Ok(verified)) => return Ok(verified),
            Some(Err(error)) => error,
            None => CertificateError::UnknownIssuer.into(),
        };
        // Never a way in; only a better reason.
        match epoch.others.as_deref().map(verify) {
            Some(Ok(_)) => Err(CertificateError::Other(OtherError(Arc::new(OutOfDate { key: self.key }))).into()),
            _ => Err(error),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").field("certificates", &self.certificates).finish_non_exhaustive()
    }
}
