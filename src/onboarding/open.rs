//! From the configuration to what serves: the key is read and judged, the port bound, and only then is anything
//! answered.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::key::{FleetKey, KeyError};
use super::public;
use super::telemetry::{Document, Facts, Judgement, build, judge};
use crate::config;
use crate::http::Bounds;
use crate::metrics::Metrics;
use crate::port::{self, BindError};
use crate::shutdown::Shutdown;
use crate::tls::certificate;
use crate::tls::{Tls, TlsError};

/// Everything of the section, ready to serve.
#[derive(Debug)]
pub struct Onboarding {
    key: FleetKey,
    public: Option<Door>,
}

/// The public listener, bound.
#[derive(Debug)]
struct Door {
    port: TcpListener,
    tls: Option<Arc<Tls>>,
}

/// Why the section cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The key.
    #[error("onboarding.key_file: {0}")]
    Key(#[from] KeyError),
    /// One key for two purposes.
    #[error(
        "onboarding.key_file: {}: also the key of {tls_key}; whoever has one must not have the other: make another one \
         with `fleet-telemetry keys new`",
        path.display()
    )]
    Shared {
        /// Its value.
        path: PathBuf,
        /// The configuration's key of the TLS key.
        tls_key: &'static str,
    },
    /// The listener's certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The listener's port.
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl OpenError {
    /// Whether another configuration is the remedy.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        !matches!(self, Self::Bind(_))
    }
}

/// Reads the key, and sees that no TLS listener uses it.
///
/// # Errors
/// [`OpenError`].
pub fn key(section: &config::Onboarding, server: &config::Tls) -> Result<FleetKey, OpenError> {
    let key = FleetKey::read_private(&section.key_file)?;
    let own = section.public.as_ref().and_then(|public| public.tls.as_ref());
    let own = own.map(|tls| ("onboarding.public.tls.key", &tls.key));
    for (tls_key, path) in std::iter::once(("tls.server_key", &server.server_key)).chain(own) {
        // What cannot be read is reported where it is used.
        if FleetKey::read(path).is_ok_and(|other| other.point() == key.point()) {
            return Err(OpenError::Shared { path: section.key_file.clone(), tls_key });
        }
    }
    Ok(key)
}

/// What keeps the section from being used, told without binding anything.
#[must_use]
pub fn problems(section: &config::Onboarding, server: &config::Tls) -> Vec<String> {
    let key = key(section, server).err().map(|error| error.to_string());
    let files = section.public.as_ref().and_then(public::files);
    let tls = files.iter().flat_map(Tls::problems).map(|error| error.to_string());
    let telemetry = section.telemetry.iter().flat_map(|telemetry| judged(section, telemetry).errors);
    key.into_iter().chain(tls).chain(telemetry).collect()
}

/// What the vehicle maker would say of `onboarding.telemetry`.
#[must_use]
pub fn judged(section: &config::Onboarding, telemetry: &config::Telemetry) -> Judgement {
    let facts = Facts { domain: Some(section.domain.clone()), now: certificate::now(), ..Facts::default() };
    let named = |text: String| format!("onboarding.telemetry.{text}");
    match build::of_server(telemetry) {
        Err(error) => Judgement { errors: vec![error], ..Judgement::default() },
        Ok(config) => {
            let found = judge(&Document { vins: Vec::new(), config }, &facts);
            Judgement {
                errors: found.errors.into_iter().map(named).collect(),
                warnings: found.warnings.into_iter().map(named).collect(),
            }
        }
    }
}

impl Onboarding {
    /// Reads files and binds the port.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(section: &config::Onboarding, server: &config::Tls) -> Result<Self, OpenError> {
        let key = key(section, server)?;
        let public = section.public.as_ref().map(Door::open).transpose()?;
        tracing::info!(activity = true, domain = %section.domain, key = %key.fingerprint(), "onboarding_on");
        Ok(Self { key, public })
    }

    /// Of the public listener.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.public.as_ref()?.tls.as_ref()
    }

    /// Answers until `stop` drains.
    pub fn serve(self, http: config::Http, metrics: &Metrics, stop: &Shutdown) -> Option<JoinHandle<()>> {
        let Door { port, tls } = self.public?;
        let bounds = metrics.scope(|| Bounds::register("onboarding", http));
        let router: Router = public::router(&self.key);
        let stop = stop.clone();
        Some(tokio::spawn(async move { public::serve(port, bounds, tls, router, stop.draining()).await }))
    }
}

impl Door {
    fn open(section: &config::OnboardingPublic) -> Result<Self, OpenError> {
        let tls = public::files(section).map(Tls::load).transpose()?.map(Arc::new);
        let port = port::bind("onboarding.public.port", section.address)?;
        if let Ok(address) = port.local_addr() {
            tracing::info!(activity = true, %address, tls = tls.is_some(), "onboarding_server_configured");
        }
        Ok(Self { port, tls })
    }
}
