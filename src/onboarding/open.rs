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
#[cfg(feature = "sqlite")]
use super::{
    fleet_api::FleetApi,
    follow::Follower,
    owners::Owners,
    pages::{self, Pages},
    vault::{Vault, VaultError},
    web::Web,
};
use crate::config;
use crate::grants::Authority;
use crate::http::Bounds;
use crate::metrics::Metrics;
use crate::port::{self, BindError};
use crate::scope::Scopes;
use crate::shutdown::Shutdown;
use crate::tls::certificate;
#[cfg(feature = "sqlite")]
use crate::tls::client;
use crate::tls::client::ClientTlsError;
use crate::tls::{Tls, TlsError};

/// Everything of the section, ready to serve.
#[derive(Debug)]
pub struct Onboarding {
    key: FleetKey,
    public: Option<Door>,
    #[cfg(feature = "sqlite")]
    section: config::Onboarding,
    /// `None` without `application` and `tokens`.
    #[cfg(feature = "sqlite")]
    owners: Option<Owners>,
}

/// What consent is written to.
#[derive(Debug)]
pub struct Consent {
    /// `None` without the section `permissions`.
    pub authority: Option<Arc<Authority>>,
    /// The scopes that need a grant.
    pub enforced: Scopes,
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
    /// Others cannot be asked.
    #[error(transparent)]
    Client(ClientTlsError),
    /// Tokens cannot be kept.
    #[cfg(feature = "sqlite")]
    #[error(transparent)]
    Vault(VaultError),
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
        #[cfg(feature = "sqlite")]
        let owners = owners(section)?;
        let public = section.public.as_ref().map(Door::open).transpose()?;
        tracing::info!(activity = true, domain = %section.domain, key = %key.fingerprint(), "onboarding_on");
        Ok(Self {
            key,
            public,
            #[cfg(feature = "sqlite")]
            section: section.clone(),
            #[cfg(feature = "sqlite")]
            owners,
        })
    }

    /// Of the public listener.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.public.as_ref()?.tls.as_ref()
    }

    /// Answers until `stop` drains, and follows owners' consent.
    pub fn serve(
        self,
        consent: Consent,
        http: config::Http,
        metrics: &Metrics,
        stop: &Shutdown,
    ) -> Vec<JoinHandle<()>> {
        let mut tasks = Vec::new();
        let mut router: Router = public::router(&self.key);
        #[cfg(feature = "sqlite")]
        if let Some(owners) = self.owners {
            let every = self.section.refresh;
            let follower = consent
                .authority
                .map(|authority| Arc::new(Follower::new(owners.clone(), authority, consent.enforced, every)));
            if let Some(follower) = &follower {
                let (follower, stop) = (Arc::clone(follower), stop.clone());
                tasks.push(tokio::spawn(async move {
                    tokio::select! {
                        () = follower.run() => {}
                        () = stop.draining() => {}
                    }
                }));
            }
            let pages = Pages::new(self.section, self.key, owners, follower);
            router = pages::router(Arc::new(pages)).merge(router);
        }
        #[cfg(not(feature = "sqlite"))]
        let _ = consent;
        if let Some(Door { port, tls }) = self.public {
            let bounds = metrics.scope(|| Bounds::register("onboarding", http));
            let stop = stop.clone();
            tasks.push(tokio::spawn(async move { public::serve(port, bounds, tls, router, stop.draining()).await }));
        }
        tasks
    }
}

/// With `application` and `tokens`, owners can connect.
#[cfg(feature = "sqlite")]
fn owners(section: &config::Onboarding) -> Result<Option<Owners>, OpenError> {
    let Some(tokens) = &section.tokens else { return Ok(None) };
    let tls = client::client(&section.tls).map_err(OpenError::Client)?;
    let Some(api) = FleetApi::new(section, Web::new(tls, section.timeout)) else { return Ok(None) };
    let vault = Vault::open(tokens).map_err(OpenError::Vault)?;
    Ok(Some(Owners::new(api, vault)))
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
