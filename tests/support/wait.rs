//! Waiting for what comes about by itself.

use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Looks until there is something to be found; panics with `what` when there is nothing within `patience`.
pub async fn found<T>(what: &str, patience: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "after {patience:?} still not: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Looks until `holds`; panics with `what` when it does not within `patience`.
pub async fn until(what: &str, patience: Duration, mut holds: impl AsyncFnMut() -> bool) {
    found(what, patience, async || holds().await.then_some(())).await;
}
