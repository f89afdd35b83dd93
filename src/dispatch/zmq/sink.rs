//! Hands records to the socket.

use std::time::Duration;

use bytes::Bytes;
use metrics::{Counter, counter};
use omq_tokio::{Context, Message, Socket};

use super::watch::Subscriptions;
use crate::config::{self, Form, NoSubscriber};
use crate::dispatch::batching::{Fate, Sink};
use crate::record::{Record, Topics};

/// Owns the socket.
pub(super) struct Publisher {
    /// Its threads do the work of the socket.
    context: Context,
    /// `None` once it is closed.
    socket: Option<Socket>,
    subscriptions: Subscriptions,
    no_subscriber: NoSubscriber,
    form: Form,
    kinds: Box<[Kind]>,
}

/// One record type.
struct Kind {
    /// `<namespace>_<type>`, the first frame.
    topic: Bytes,
    messages: Counter,
    bytes: Counter,
}

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// For what subscribers have not taken yet.
const LINGER: Duration = Duration::from_secs(1);

impl Publisher {
    pub(super) fn new(
        config: &config::Zmq,
        namespace: &str,
        form: Form,
        topics: &Topics,
        (context, socket): (Context, Socket),
        subscriptions: Subscriptions,
    ) -> Self {
        let kinds = topics.table(|_, topic| {
            let family = |name: &'static str| counter!(name, "record_type" => topic.to_owned());
            Kind {
                topic: format!("{namespace}_{topic}").into(),
                messages: family("zmq_publish_total"),
                bytes: family("zmq_publish_total_bytes"),
            }
        });
        Self { context, socket: Some(socket), subscriptions, no_subscriber: config.no_subscriber, form, kinds }
    }

    /// Why nothing can be sent now.
    fn trouble(&self) -> Option<&'static str> {
        match self.no_subscriber {
            NoSubscriber::Wait if self.subscriptions.count() == 0 => Some("nobody subscribes (zmq.no_subscriber)"),
            _ => None,
        }
    }

    async fn publish(&self, record: &Record) -> Fate {
        let payload = match record.encoded(self.form) {
            Ok(payload) => Bytes::copy_from_slice(payload),
            Err(error) => return Fate::Refused(error.to_string()),
        };
        if let Some(trouble) = self.trouble() {
            return Fate::Retry(trouble.to_owned());
        }
        let Some(socket) = &self.socket else { return Fate::Retry("closed".to_owned()) };
        let kind = &self.kinds[record.kind().index()];
        let bytes = kind.topic.len() + payload.len();
        match socket.send(Message::multipart([kind.topic.clone(), payload])).await {
            Ok(()) => {
                kind.messages.increment(1);
                kind.bytes.increment(bytes as u64);
                Fate::Delivered
            }
            Err(error) => Fate::Refused(error.to_string()),
        }
    }
}

impl Sink for Publisher {
    async fn send(&mut self, batch: &[Record]) -> Vec<Fate> {
        let mut fates = Vec::with_capacity(batch.len());
        for record in batch {
            fates.push(self.publish(record).await);
        }
        fates
    }

    async fn probe(&mut self) -> Result<Duration, String> {
        self.trouble().map_or(Ok(LOOK), |trouble| Err(trouble.to_owned()))
    }

    async fn close(&mut self) {
        if let Some(socket) = self.socket.take() {
            let _ = socket.close_with_linger(Some(LINGER)).await;
        }
        self.context.term();
    }
}
