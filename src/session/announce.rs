//! What others learn of a connection: connectivity records, and the log line of its end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{Io, Session, SessionEnd};
use crate::proto::vehicle_connectivity::ConnectivityEvent;
use crate::record::{RecordKind, connectivity};
use crate::shutdown::Shutdown;

/// How long a connectivity record may wait for room in a full dispatcher.
const CONNECTIVITY_GRACE: Duration = Duration::from_secs(5);

impl<IO: Io> Session<IO> {
    /// Sends a connectivity record, if somebody wants it.
    pub(super) async fn announce(&mut self, event: ConnectivityEvent) {
        let pipeline = Arc::clone(&self.pipeline);
        let Some(route) = pipeline.policy.route(RecordKind::Connectivity) else { return };
        let record = connectivity::record(self.intake.origin(), event, &pipeline.permissions);
        let mut outcome = route.dispatch(&record, None);
        let handed_off = async {
            while let Err(blocked) = outcome {
                route.blocked_at(&blocked).outbox().room().await;
                outcome = route.resume(blocked, None);
            }
        };
        if !in_time(handed_off, event, &pipeline.shutdown).await {
            let device_id = self.intake.origin().identity.device_id();
            // Spelt as the reference server spells them.
            match event {
                ConnectivityEvent::Disconnected => tracing::error!(device_id, "connectivity_deregisteration_error"),
                _ => tracing::error!(device_id, "connectivity_registeration_error"),
            }
        }
    }

    pub(super) fn log_end(&self, end: SessionEnd) {
        let bytes = self.intake.bytes();
        tracing::info!(
            activity = true,
            device_id = self.intake.origin().identity.device_id(),
            txid = &*self.intake.origin().connection_id,
            socket_id = %self.socket_id,
            reason = end.label(),
            V = %bytes.v,
            alerts = %bytes.alerts,
            errors = %bytes.errors,
            other = %bytes.other,
            total = %bytes.total(),
            duration_sec = self.opened.elapsed().as_secs(),
            "socket_disconnected"
        );
    }
}

/// Whether a hand-off ends while there is time for it. The end of the process leaves none to a connection that is only
/// beginning, and to one that has ended what is left of the sessions' time.
async fn in_time(handed_off: impl Future<Output = ()>, event: ConnectivityEvent, shutdown: &Shutdown) -> bool {
    let timeout = tokio::time::timeout(CONNECTIVITY_GRACE, handed_off);
    let cut_short = async {
        shutdown.clone().draining().await;
        if event == ConnectivityEvent::Disconnected {
            tokio::time::sleep_until(shutdown.announced_by()).await;
        }
    };
    tokio::select! {
        biased;
        handed_off = timeout => handed_off.is_ok(),
        () = cut_short => false,
    }
}
