//! What is done with a batch, and what an error means.

use std::time::Duration;

use tokio_postgres::Client;

use super::connection::{Database, Failure};
use super::rows;
use crate::dispatch::batching::{Fate, Sink};
use crate::logging::RateLimited;
use crate::record::{Record, Topics};

/// Writes what vehicles of one lane have sent.
pub(super) struct Writer {
    database: Database,
    client: Option<Client>,
    topics: Topics,
    warnings: RateLimited,
}

/// Between looks at a database that has nothing to do.
const LOOK: Duration = Duration::from_secs(30);

impl Writer {
    pub(super) fn new(database: Database, topics: &Topics) -> Self {
        Self { database, client: None, topics: topics.clone(), warnings: RateLimited::default() }
    }

    async fn connected(&mut self) -> Result<&mut Client, Failure> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = Some(self.database.connect().await?);
        }
        self.client.as_mut().ok_or_else(|| Failure::Away("no connection".to_owned()))
    }

    /// Commits all of `records`, or nothing.
    async fn commit(&mut self, records: &[Record]) -> Result<(), Failure> {
        let (limit, schema, topics) = (self.database.timeout, self.database.schema.clone(), self.topics.clone());
        let client = self.connected().await?;
        let written = tokio::time::timeout(limit, rows::write(client, &schema, records, &topics)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                // A transaction that was not ended must not be the next one's.
                self.client = None;
                Err(error.into())
            }
            Err(_) => {
                self.client = None;
                Err(Failure::Away(format!("no commit within {limit:?}")))
            }
        }
    }

    fn complain(&self, error: &str, event: &'static str) {
        if let Some(skipped) = self.warnings.permit() {
            tracing::warn!(database = self.database.place(), error, skipped, "{event}");
        }
    }
}

impl Sink for Writer {
    async fn send(&mut self, batch: &[Record]) -> Vec<Fate> {
        // Parts that are still to be written, the first on top.
        let mut left = vec![batch];
        let mut fates = Vec::with_capacity(batch.len());
        while let Some(part) = left.pop() {
            match self.commit(part).await {
                Ok(()) => fates.extend(std::iter::repeat_n(Fate::Delivered, part.len())),
                Err(Failure::Refused(_)) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    left.extend([second, first]);
                }
                Err(Failure::Refused(reason)) => {
                    self.complain(&reason, "postgres_record_refused");
                    fates.push(Fate::Refused(reason));
                }
                Err(Failure::Away(reason)) => {
                    self.complain(&reason, "postgres_commit_failed");
                    fates.push(Fate::Retry(reason));
                    // What follows must not overtake it; what has no fate is tried again as well.
                    break;
                }
            }
        }
        fates
    }

    async fn probe(&mut self) -> Result<Duration, String> {
        let limit = self.database.timeout;
        let client = self.connected().await.map_err(|failure| match failure {
            Failure::Refused(reason) | Failure::Away(reason) => reason,
        })?;
        match tokio::time::timeout(limit, client.simple_query("")).await {
            Ok(Ok(_)) => Ok(LOOK),
            Ok(Err(error)) => {
                self.client = None;
                Err(error.to_string())
            }
            Err(_) => {
                self.client = None;
                Err(format!("no answer within {limit:?}"))
            }
        }
    }
}
