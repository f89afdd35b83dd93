//! What is done with a batch, and what an answer means.
//!
//! | answer | the records |
//! |---|---|
//! | 2xx | are delivered |
//! | 400, 413, 422 to several | are sent in two halves, until it is known which one the server does not want |
//! | other 4xx but 408, 425 and 429, or to one record | are refused for good |
//! | anything else, or none | are sent again after a pause |

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use time::OffsetDateTime;

use super::body::{self, Body};
use super::client::{Answer, Client};
use super::signature::Signer;
use crate::config::{self, BatchFormat};
use crate::dispatch::batching::{Fate, Sink};
use crate::logging::RateLimited;
use crate::record::{Record, Topics};

/// Posts what vehicles of one lane have sent.
pub(super) struct Poster {
    client: Client,
    path: String,
    authority: String,
    format: BatchFormat,
    authorization: Option<HeaderValue>,
    signer: Option<Signer>,
    max_pause: Duration,
    /// How long the server has asked to be left alone.
    asked: Option<Duration>,
    topics: Topics,
    warnings: RateLimited,
}

/// Between looks at a server that has nothing to do.
const LOOK: Duration = Duration::from_secs(30);

impl Poster {
    /// Of a section that [`Self::check`] calls good.
    pub(super) fn new(config: &config::Webhook, client: Client, topics: &Topics) -> Self {
        Self {
            client,
            path: config.path.clone(),
            authority: config.authority.clone(),
            format: config.format,
            authorization: authorization(config).unwrap_or_default(),
            signer: signer(config).unwrap_or_default(),
            max_pause: config.max_pause,
            asked: None,
            topics: topics.clone(),
            warnings: RateLimited::default(),
        }
    }

    /// # Errors
    /// Which key cannot be used, and why.
    pub(super) fn check(config: &config::Webhook) -> Result<(), String> {
        authorization(config).and(signer(config).map(|_| ()))
    }

    /// The fates of all records, in their order.
    async fn post(&mut self, records: &[Record]) -> Vec<Fate> {
        // A stack instead of recursion: halves that are still to be sent, the first on top.
        let mut left = vec![records];
        let mut fates = Vec::with_capacity(records.len());
        while let Some(part) = left.pop() {
            match self.post_part(part).await {
                Outcome::All(fate) => {
                    let is_retry = matches!(fate, Fate::Retry(_));
                    fates.extend(std::iter::repeat_n(fate, part.len()));
                    if is_retry {
                        // What follows must not overtake it; what has no fate is tried again as well.
                        break;
                    }
                }
                Outcome::Halve => {
                    let (first, second) = part.split_at(part.len() / 2);
                    left.extend([second, first]);
                }
                Outcome::Unsendable(at, reason) => {
                    let (before, after) = part.split_at(at);
                    let (bad, after) = after.split_at(1);
                    if before.is_empty() {
                        fates.extend(bad.iter().map(|_| Fate::Refused(reason.clone())));
                        left.extend((!after.is_empty()).then_some(after));
                    } else {
                        left.extend([&part[at..], before]);
                    }
                }
            }
        }
        fates
    }

    async fn post_part(&mut self, records: &[Record]) -> Outcome {
        let body = match body::write(self.format, records, &self.topics) {
            Ok(body) => body,
            Err((at, reason)) => return Outcome::Unsendable(at, reason),
        };
        let head = Head::new(self, &body, records.len());
        let answer = self.client.send(|| head.request(&body.bytes)).await;
        match answer {
            Err(reason) => Outcome::All(Fate::Retry(self.suffered(reason))),
            Ok(answer) => self.judge(&answer, records.len()),
        }
    }

    fn judge(&mut self, answer: &Answer, records: usize) -> Outcome {
        let Answer { status, retry_after, words } = answer;
        if status.is_success() {
            return Outcome::All(Fate::Delivered);
        }
        let reason = if words.is_empty() { status.to_string() } else { format!("{status}: {words}") };
        match *status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {}
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
                if records > 1 =>
            {
                return Outcome::Halve;
            }
            status if status.is_client_error() => {
                self.complain(&reason, "http_records_refused");
                return Outcome::All(Fate::Refused(reason));
            }
            _ => {}
        }
        self.asked = retry_after.map(|pause| pause.min(self.max_pause));
        let reason = if status.is_redirection() { format!("{reason} (redirects are not followed)") } else { reason };
        Outcome::All(Fate::Retry(self.suffered(reason)))
    }

    fn suffered(&self, reason: String) -> String {
        self.complain(&reason, "http_request_failed");
        reason
    }

    fn complain(&self, error: &str, event: &'static str) {
        if let Some(skipped) = self.warnings.permit() {
            tracing::warn!(server = %self.authority, error, skipped, "{event}");
        }
    }
}

impl Sink for Poster {
    async fn send(&mut self, batch: &[Record]) -> Vec<Fate> {
        self.asked = None;
        self.post(batch).await
    }

    /// Whether somebody listens there, which is all that can be told without posting.
    async fn probe(&mut self) -> Result<Duration, String> {
        self.client.connect().await?;
        Ok(LOOK)
    }

    fn pause(&self) -> Option<Duration> {
        self.asked
    }
}

/// What became of a request.
enum Outcome {
    /// The same for all of its records.
    All(Fate),
    /// One of them is not wanted, and it is not known which.
    Halve,
    /// The one at this place has no form in which it can be sent.
    Unsendable(usize, String),
}

/// The head of a request, which may be sent twice.
struct Head {
    path: String,
    headers: Vec<(&'static str, HeaderValue)>,
}

impl Head {
    fn new(poster: &Poster, body: &Body, records: usize) -> Self {
        let timestamp = OffsetDateTime::now_utc().unix_timestamp().to_string();
        let signature = poster.signer.as_ref().map(|signer| signer.sign(&body.id, &timestamp, &body.bytes));
        let text = |text: &str| HeaderValue::from_str(text).expect("visible ASCII");
        let mut headers = vec![
            (HOST.as_str(), text(&poster.authority)),
            (USER_AGENT.as_str(), text(concat!("fleet-telemetry/", env!("CARGO_PKG_VERSION")))),
            (CONTENT_TYPE.as_str(), text(body::content_type(poster.format))),
            (CONTENT_LENGTH.as_str(), body.bytes.len().into()),
            ("webhook-id", text(&body.id)),
            ("webhook-timestamp", text(&timestamp)),
            ("fleet-telemetry-records", records.into()),
        ];
        headers.extend(signature.map(|signature| ("webhook-signature", text(&signature))));
        headers.extend(poster.authorization.clone().map(|value| (AUTHORIZATION.as_str(), value)));
        Self { path: poster.path.clone(), headers }
    }

    fn request(&self, body: &Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::post(&self.path);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request.body(Full::new(body.clone())).expect("names, values and path were checked")
    }
}

fn authorization(config: &config::Webhook) -> Result<Option<HeaderValue>, String> {
    let value = config.authorization.as_ref().map(|secret| {
        let mut value = HeaderValue::from_str(secret.expose())
            .map_err(|_| "http.authorization: has characters that no header can have".to_owned())?;
        value.set_sensitive(true);
        Ok(value)
    });
    value.transpose()
}

fn signer(config: &config::Webhook) -> Result<Option<Signer>, String> {
    config.signing_secret.as_ref().map(Signer::new).transpose()
}
