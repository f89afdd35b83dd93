//! All dispatchers that the routes use: connected side by side, watched, closed together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::{join_all, try_join_all};
use metrics::gauge;

use super::{ConnectError, Dispatcher, DispatcherMetrics, Health, Late, Route, Target, connect};
use crate::config::{self, Config, DispatcherName, InFlight, Start};
use crate::metrics::Metrics;
use crate::permissions::Permissions;
use crate::record::Topics;

/// The dispatchers, by name.
#[derive(Debug)]
pub struct Targets {
    all: BTreeMap<DispatcherName, Target>,
    /// Without these, records are not safe or the operator wants no server: readiness depends on them.
    needed: BTreeSet<DispatcherName>,
}

/// What connecting takes, again and again.
#[derive(Clone)]
struct Connecting {
    dispatchers: Arc<config::Dispatchers>,
    topics: Topics,
    permissions: Arc<Permissions>,
    metrics: Arc<Metrics>,
}

impl Targets {
    /// Connects every dispatcher that a route uses. Returns when all that are required are ready to deliver; the
    /// others go on trying.
    ///
    /// # Errors
    /// The first [`ConnectError`] of one that is required.
    pub async fn connect(
        config: &Config,
        topics: &Topics,
        permissions: &Arc<Permissions>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ConnectError> {
        let connecting = Connecting {
            permissions: Arc::clone(permissions),
            dispatchers: Arc::new(config.dispatchers.clone()),
            topics: topics.clone(),
            metrics: Arc::clone(metrics),
        };
        let used: BTreeSet<_> = config.routes.iter().flat_map(|route| &route.dispatchers).copied().collect();
        let targets = try_join_all(used.iter().map(|name| connecting.target(*name))).await?;
        let decides = |name| config.routes.iter().any(|route| route.deciders.contains(&name));
        // A log that nobody reads is no reason to send vehicles elsewhere, unless their acks wait for it.
        let required =
            |name| connecting.dispatchers.target(name).start == Start::Required && name != DispatcherName::Logger;
        let needed = used.iter().filter(|name| decides(**name) || required(**name));
        Ok(Self { needed: needed.copied().collect(), all: used.iter().copied().zip(targets).collect() })
    }

    /// Where the records of one type go.
    ///
    /// # Panics
    /// For a route that was not in the configuration of [`Self::connect`].
    #[must_use]
    pub fn route(&self, route: &config::Route) -> Route {
        Route::new(route.dispatchers.iter().map(|name| self.all[name].clone()).collect(), &route.deciders)
    }

    /// What keeps those that are needed from delivering.
    pub fn trouble(&self) -> impl Iterator<Item = (DispatcherName, String)> {
        self.needed.iter().filter_map(|name| match self.all[name].dispatcher.health() {
            Health::Healthy => None,
            Health::Unhealthy(reason) => Some((*name, reason)),
        })
    }

    /// Records handed to dispatchers and not settled.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.all.values().map(|target| target.dispatcher.outbox().used().records).sum()
    }

    /// Closes all dispatchers at the same time.
    pub async fn close(&self, deadline: Instant) {
        join_all(self.all.values().map(|target| close(&*target.dispatcher, deadline))).await;
    }
}

impl Connecting {
    async fn target(&self, name: DispatcherName) -> Result<Target, ConnectError> {
        let policy = self.dispatchers.target(name);
        let metrics = self.metrics.scope(|| Arc::new(DispatcherMetrics::register(name, &self.topics)));
        let dispatcher = match policy.start {
            Start::Required => self.clone().dispatcher(name).await?,
            Start::Retry => {
                let connecting = self.clone();
                Arc::new(Late::start(name, move || connecting.clone().dispatcher(name)))
            }
        };
        sample_outbox(&dispatcher, &self.metrics);
        Ok(Target { dispatcher, metrics, when_full: policy.when_full, form: policy.form })
    }

    async fn dispatcher(self, name: DispatcherName) -> Result<Arc<dyn Dispatcher>, ConnectError> {
        let Self { dispatchers, topics, permissions, metrics } = self;
        // A dispatcher may register metrics of its own wherever it likes.
        metrics.within(connect(name, &dispatchers, &topics, &permissions)).await
    }
}

/// Shows how full a dispatcher is, read at each scrape so that it cannot drift.
fn sample_outbox(dispatcher: &Arc<dyn Dispatcher>, metrics: &Metrics) {
    let name = dispatcher.name().label();
    let gauges = |records: &'static str, bytes: &'static str| {
        let [records, bytes] = metrics.scope(|| [records, bytes].map(|family| gauge!(family, "dispatcher" => name)));
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        move |bound: InFlight| {
            records.set(bound.records as f64);
            bytes.set(bound.bytes as f64);
        }
    };
    let limit = gauges("dispatcher_unsettled_limit", "dispatcher_unsettled_bytes_limit");
    let used = gauges("dispatcher_unsettled_records", "dispatcher_unsettled_bytes");
    let dispatcher = Arc::clone(dispatcher);
    metrics.on_scrape(Box::new(move || {
        // The limit too: that of a dispatcher which comes up late is not known before.
        limit(dispatcher.outbox().limit());
        used(dispatcher.outbox().used());
    }));
}

async fn close(dispatcher: &dyn Dispatcher, deadline: Instant) {
    tracing::info!(activity = true, dispatcher = dispatcher.name().label(), "attempting_to_close");
    dispatcher.close(deadline).await;
    let unsettled = dispatcher.outbox().used().records;
    if unsettled > 0 {
        tracing::error!(dispatcher = dispatcher.name().label(), unsettled, "producer_close_error");
    }
}
