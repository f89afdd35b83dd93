//! The application: builds each stage once, binds every port before it serves, runs, and drains in
//! pipe order.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use metrics::gauge;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::admin::{self, Phase, Readiness, Surface, Unhealthy};
use crate::config::{self, Config};
use crate::dispatch::{ConnectError, Targets};
use crate::grants::{self, Authority, api};
use crate::http;
use crate::listener::{self, Listener};
use crate::logging::{self, RateLimited};
use crate::metrics::Metrics;
use crate::onboarding::{self, Onboarding};
use crate::open_files;
use crate::permissions::Permissions;
use crate::policy::{Policy, Routes};
use crate::port::{self, BindError};
use crate::record::Topics;
use crate::scope::Scopes;
use crate::session::budget::Budget;
use crate::session::{Pipeline, SessionMetrics};
use crate::shutdown::Shutdown;
use crate::tls::{Tls, TlsError, Watcher};

/// Everything that is needed to serve, with its ports bound.
pub struct App {
    listener: Listener,
    targets: Arc<Targets>,
    certificates: Watcher,
    /// SIGHUP: the certificates are loaded again.
    hang_up: Signal,
    shutdown: Shutdown,
    consent: Consent,
    admin: Admin,
}

/// What owners have allowed, and the listener over which that is changed.
struct Consent {
    permissions: Arc<Permissions>,
    /// Keeps the store open; `None` without the section.
    authority: Option<Arc<Authority>>,
    api: Option<tokio::task::JoinHandle<()>>,
    /// Of the API.
    tls: Option<Arc<Tls>>,
}

/// The port of that listener, bound before anything is connected, and who is let in.
struct Door {
    auth: api::Auth,
    port: TcpListener,
}

/// The plain-HTTP side, which answers before the pipe is ready and until it has ended.
struct Admin {
    state: Arc<admin::State>,
    http: config::Http,
    /// Stops the listeners.
    stop: Shutdown,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A file that the configuration names is not usable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A port cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A dispatcher did not start.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The grants cannot be read, so nobody knows what may leave.
    #[error(transparent)]
    Permissions(#[from] grants::OpenError),
    /// Nobody could use the admin API.
    #[error(transparent)]
    PermissionsApi(#[from] grants::api::AuthError),
    /// Vehicles cannot be brought here as the section says.
    #[error(transparent)]
    Onboarding(#[from] onboarding::OpenError),
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(#[source] std::io::Error),
    /// A second signal cut the drain short.
    #[error("stopped by a second signal; {unsettled} records were not delivered, none of them was acked")]
    Interrupted {
        /// Records handed to dispatchers and not settled.
        unsettled: usize,
    },
}

impl AppError {
    /// The process' exit code, by `sysexits.h` where that has one.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Onboarding(error) if error.is_configuration() => 64,
            Self::Tls(_)
            | Self::Connect(ConnectError::Config { .. })
            | Self::Permissions(grants::OpenError::Misconfigured(_))
            | Self::PermissionsApi(_) => 64,
            Self::Connect(ConnectError::Unreachable { .. })
            | Self::Permissions(_)
            | Self::Bind(_)
            | Self::Onboarding(_) => 69,
            Self::Signals(_) => 71,
            Self::Interrupted { .. } => 1,
        }
    }
}

/// Builds the server, serves until SIGTERM or SIGINT, and drains. A second signal ends it at once.
///
/// # Errors
/// [`AppError`].
pub async fn run(config: Config) -> Result<(), AppError> {
    let mut signals = Signals::new()?;
    let built = tokio::select! {
        app = App::build(config) => app?,
        () = signals.next() => return Ok(()),
    };
    let targets = Arc::clone(&built.targets);
    let shutdown = built.shutdown.clone();
    let mut serving = std::pin::pin!(built.serve());
    tokio::select! {
        () = &mut serving => return Ok(()),
        () = signals.next() => {}
    }
    tracing::info!(activity = true, "draining");
    shutdown.drain();
    tokio::select! {
        () = serving => Ok(()),
        () = signals.next() => {
            Err(AppError::Interrupted { unsettled: targets.unsettled() })
        }
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("listener", &self.listener).field("targets", &self.targets).finish_non_exhaustive()
    }
}

impl App {
    /// Checks files and binds ports first, so that a mistake there is found before anything is connected.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn build(mut config: Config) -> Result<Self, AppError> {
        tracing::info!(activity = true, version = env!("CARGO_PKG_VERSION"), "starting_server");
        let open_files = open_files::raise();
        let descriptors = open_files.fit(&mut config.listener);
        let hang_up = signal(SignalKind::hangup()).map_err(AppError::Signals)?;
        let tls = Arc::new(listener::tls::load(&config.listener.tls)?);
        let port = port::bind_host(&config.listener.host, config.listener.port).await?;
        let metrics = Arc::new(Metrics::default());
        metrics.scope(|| open_files.register());
        if let Some(log) = logging::installed() {
            log.register(&metrics);
        }
        let connected = Arc::new(OnceLock::new());
        let mut admin = Admin::start(&config, Arc::clone(&metrics), Arc::clone(&tls), Arc::clone(&connected))?;
        let door = Door::open(config.permissions.as_ref())?;
        let onboarding = config.onboarding.as_ref();
        let onboarding = onboarding.map(|section| Onboarding::open(section, &config.listener.tls)).transpose()?;

        let topics = Topics::new(config.routes.iter().map(|route| route.topic.as_str()));
        let permissions = permissions(config.permissions.as_ref(), &metrics);
        let targets = Arc::new(Targets::connect(&config, &topics, &permissions, &metrics).await?);
        let _ = connected.set(Arc::clone(&targets));

        let shutdown = Shutdown::new(config.shutdown);
        let consent =
            Consent::open(config.permissions.as_ref(), permissions, door, config.http, &metrics, &admin.stop).await?;
        let pipeline = pipeline(&config, topics, &targets, &consent, &metrics, &shutdown);
        let mut certificates = Watcher::new(config.listener.tls.reload_interval);
        let public = onboarding.as_ref().and_then(Onboarding::tls);
        std::iter::once(&tls).chain(&consent.tls).chain(public).for_each(|tls| certificates.add(tls, &metrics));
        let enforced = config.permissions.as_ref().map_or(Scopes::NONE, |permissions| permissions.rules.enforced);
        let followed = onboarding::Consent { authority: consent.authority.clone(), enforced };
        let tasks = onboarding.map(|onboarding| onboarding.serve(followed, config.http, &metrics, &admin.stop));
        admin.tasks.extend(tasks.into_iter().flatten());
        let listener = metrics.scope(|| Listener::new(port, config.listener, descriptors, tls, Arc::new(pipeline)));
        Ok(Self { listener, targets, certificates, hang_up, shutdown, consent, admin })
    }

    /// Where vehicles connect to.
    ///
    /// # Errors
    /// When the socket has none, which the system does not promise.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the shutdown starts, then drains: sessions, dispatchers, and at last the admin side.
    pub async fn serve(self) {
        let Self { listener, targets, certificates, hang_up, shutdown, consent, admin } = self;
        // Ready first: whoever reads the line may look at once.
        admin.state.readiness.advance(Phase::Ready);
        if let Ok(address) = listener.local_addr() {
            tracing::info!(activity = true, %address, "listening");
        }
        let upkeep = tokio::spawn(certificates.run(hang_up));
        let draining = {
            let (shutdown, state) = (shutdown.clone(), Arc::clone(&admin.state));
            async move {
                shutdown.draining().await;
                state.readiness.advance(Phase::Draining);
            }
        };
        tokio::join!(listener.run(), draining);
        targets.close(Instant::now() + shutdown.remaining().mul_f64(DELIVERY)).await;
        upkeep.abort();
        admin.stop().await;
        consent.close().await;
        tracing::info!(activity = true, "stopped_server");
    }
}

/// Nothing is known yet of what owners have said.
fn permissions(config: Option<&config::Permissions>, metrics: &Metrics) -> Arc<Permissions> {
    let rules = config.map(|config| config.rules.clone());
    Arc::new(rules.map_or_else(Permissions::off, |rules| metrics.scope(|| Permissions::new(rules))))
}

fn pipeline(
    config: &Config,
    topics: Topics,
    targets: &Targets,
    consent: &Consent,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> Pipeline {
    let routes = config.routes.iter().map(|route| (route.topic.as_str(), targets.route(route)));
    Pipeline {
        permissions: Arc::clone(&consent.permissions),
        policy: Policy::new(Routes::new(&topics, routes), &config.policy),
        session: config.session.clone(),
        rate_limit: config.policy.rate_limit,
        metrics: metrics.scope(|| SessionMetrics::register(&topics, &config.session)),
        shutdown: shutdown.clone(),
        refusals: RateLimited::default(),
        budget: budget(config.session.max_kept_bytes, metrics),
        topics,
    }
}

/// What sessions may keep, with a gauge that is read at each scrape.
fn budget(limit: usize, metrics: &Metrics) -> Arc<Budget> {
    let budget = Arc::new(Budget::new(limit));
    let (gauge, sampled) = (metrics.scope(|| gauge!("session_kept_bytes")), Arc::clone(&budget));
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    metrics.on_scrape(Box::new(move || gauge.set(sampled.used() as f64)));
    budget
}

/// The dispatchers' part of the time that is left for them and for what comes after: settling as lost what they could
/// not deliver, and closing the plain-HTTP side.
const DELIVERY: f64 = 0.9;

impl Door {
    /// `None` without `permissions.api`.
    fn open(config: Option<&config::Permissions>) -> Result<Option<Self>, AppError> {
        let Some(section) = config.and_then(|config| config.api.as_ref()) else { return Ok(None) };
        let auth = api::Auth::open(section)?;
        let port = port::bind("permissions.api.port", section.address)?;
        Ok(Some(Self { auth, port }))
    }
}

impl Consent {
    /// Returns when the grants are loaded: no vehicle is accepted before.
    async fn open(
        config: Option<&config::Permissions>,
        permissions: Arc<Permissions>,
        door: Option<Door>,
        http: config::Http,
        metrics: &Metrics,
        stop: &Shutdown,
    ) -> Result<Self, AppError> {
        let Some(config) = config else {
            tracing::info!(activity = true, "permissions_off");
            return Ok(Self { permissions, authority: None, api: None, tls: None });
        };
        let rules = config.rules.clone();
        let authority = metrics.within(Authority::open(config, Arc::clone(&permissions))).await?;
        tracing::info!(activity = true, mode = ?rules.mode, action = ?rules.action, strict = rules.strict, "permissions_on");
        let (api, tls) = match door {
            None => (None, None),
            Some(Door { auth, port }) => {
                let tls = auth.tls().cloned();
                if let Ok(address) = port.local_addr() {
                    tracing::info!(activity = true, %address, "permissions_api_configured");
                }
                let api = Arc::new(api::Api::new(Arc::clone(&authority), rules, auth));
                let bounds = metrics.scope(|| http::Bounds::register("permissions_api", http));
                (Some(tokio::spawn(api::serve(port, bounds, api, stop.clone().draining()))), tls)
            }
        };
        Ok(Self { permissions, authority: Some(authority), api, tls })
    }

    async fn close(self) {
        if let Some(api) = self.api {
            let _ = tokio::time::timeout(Duration::from_secs(2), api).await;
        }
    }
}

impl Admin {
    fn start(
        config: &Config,
        metrics: Arc<Metrics>,
        tls: Arc<Tls>,
        connected: Arc<OnceLock<Arc<Targets>>>,
    ) -> Result<Self, BindError> {
        let state = Arc::new(admin::State {
            readiness: Readiness::default(),
            unhealthy: Box::new(move || unhealthy(&tls, connected.get())),
            metrics,
        });
        let mut admin = Self { state, http: config.http, stop: Shutdown::new(config.shutdown), tasks: Vec::new() };
        if let Some(address) = config.admin.status {
            let port = port::bind("status_port", address)?;
            tracing::info!(activity = true, %address, "status_server_configured");
            admin.spawn(port, Surface::Status);
        }
        if let Some(address) = config.admin.metrics {
            let port = port::bind("monitoring.prometheus_metrics_port", address)?;
            tracing::info!(activity = true, %address, "metrics_server_configured");
            admin.spawn(port, Surface::Metrics);
        }
        Ok(admin)
    }

    fn spawn(&mut self, port: TcpListener, surface: Surface) {
        let stop = self.stop.clone().draining();
        self.tasks.push(tokio::spawn(admin::serve(port, surface, self.http, Arc::clone(&self.state), stop)));
    }

    async fn stop(self) {
        self.stop.drain();
        for task in self.tasks {
            // A scraper that does not hang up must not hold the process.
            let _ = tokio::time::timeout(Duration::from_secs(1), task).await;
        }
    }
}

fn unhealthy(tls: &Tls, targets: Option<&Arc<Targets>>) -> Vec<Unhealthy> {
    let trouble = tls.trouble().map(|reason| Unhealthy { part: "tls.ca_file", reason });
    let stuck = targets.into_iter().flat_map(|targets| targets.trouble());
    let stuck = stuck.map(|(dispatcher, reason)| Unhealthy { part: dispatcher.label(), reason });
    trouble.into_iter().chain(stuck).collect()
}

/// SIGTERM and SIGINT, which mean the same.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, AppError> {
        let on = |kind| signal(kind).map_err(AppError::Signals);
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
