//! `http`: batches of records, posted to a URL.

use std::fmt;
use std::time::Duration;

use super::client_tls::FileClientTls;
use super::duration::{DAY, HOUR, MINUTE, SECOND};
use super::error::{ConfigError, Problems};
use super::file::FileConfig;
use super::secret::FileSecret;
use super::section::Section;
use super::targets::FileTarget;
use super::{ClientTls, DispatcherName, Env, InFlight, Route, Secret};

/// `http`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileWebhook {
    /// As for every dispatcher.
    pub target: FileTarget,
    /// Where batches are posted.
    pub url: Option<String>,
    /// `ndjson`, `json_array` or `protobuf`.
    pub format: Option<String>,
    /// `Authorization` of each request.
    pub authorization: FileSecret,
    /// Requests are signed with it.
    pub signing_secret: FileSecret,
    /// Towards the server.
    pub tls: Option<FileClientTls>,
    /// Records of a request.
    pub batch: Option<i64>,
    /// Their bytes.
    pub batch_bytes: Option<i64>,
    /// How long a request may wait for more records.
    pub linger: Option<Duration>,
    /// Requests at the same time.
    pub connections: Option<i64>,
    /// For a connection, at the start in all.
    pub connect_timeout: Option<Duration>,
    /// For an answer.
    pub timeout: Option<Duration>,
    /// The longest pause between attempts.
    pub max_pause: Option<Duration>,
    /// Records taken and not confirmed.
    pub max_unsettled: Option<i64>,
    /// Their bytes.
    pub max_unsettled_bytes: Option<i64>,
}

/// How a batch is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchFormat {
    /// A JSON object a line.
    #[default]
    Ndjson,
    /// One JSON array of the same objects.
    JsonArray,
    /// Messages of `proto/webhook.proto`, each behind its length.
    Protobuf,
}

/// A URL, and how batches are posted to it.
#[derive(Clone)]
pub struct Webhook {
    /// Over TLS.
    pub is_https: bool,
    /// Name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `Host` of each request.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// How a batch is written.
    pub format: BatchFormat,
    /// `Authorization` of each request.
    pub authorization: Option<Secret>,
    /// Requests are signed with it.
    pub signing_secret: Option<Secret>,
    /// Towards the server.
    pub tls: ClientTls,
    /// Records and bytes of a request, at most.
    pub batch: InFlight,
    /// How long a request may wait for more records.
    pub linger: Duration,
    /// Requests at the same time; a vehicle's are never.
    pub connections: usize,
    /// For a connection, at the start in all.
    pub connect_timeout: Duration,
    /// For an answer.
    pub timeout: Duration,
    /// The longest pause between attempts.
    pub max_pause: Duration,
    /// Taken and not confirmed; above, vehicles wait.
    pub max_unsettled: InFlight,
}

impl fmt::Debug for Webhook {
    /// Without the path, which may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("authority", &self.authority)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl FileWebhook {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            target: FileTarget::read(section),
            url: section.secret("url"),
            format: section.value("format"),
            authorization: FileSecret::read(section, "authorization", "authorization_file"),
            signing_secret: FileSecret::read(section, "signing_secret", "signing_secret_file"),
            tls: section.object("tls", FileClientTls::read),
            batch: section.value("batch"),
            batch_bytes: section.value("batch_bytes"),
            linger: section.duration("linger"),
            connections: section.value("connections"),
            connect_timeout: section.duration("connect_timeout"),
            timeout: section.duration("timeout"),
            max_pause: section.duration("max_pause"),
            max_unsettled: section.value("max_unsettled"),
            max_unsettled_bytes: section.value("max_unsettled_bytes"),
        }
    }

    /// As for every dispatcher; the format says which form payloads have.
    pub(super) fn target(&self) -> FileTarget {
        let form = if self.format.as_deref() == Some("protobuf") { "protobuf" } else { "json" };
        FileTarget { form: Some(form.to_owned()), ..self.target.clone() }
    }
}

/// Only if a route uses it, and then it has to be there.
pub(super) fn resolve(file: &FileConfig, routes: &[Route], env: &Env, problems: &mut Problems) -> Option<Webhook> {
    if !routes.iter().any(|route| route.dispatchers.contains(&DispatcherName::Http)) {
        return None;
    }
    let Some(file) = &file.http else {
        problems.error(ConfigError::NotConfigured { dispatcher: "HTTP" });
        return None;
    };
    let format = match file.format.as_deref() {
        None | Some("ndjson") => BatchFormat::Ndjson,
        Some("json_array") => BatchFormat::JsonArray,
        Some("protobuf") => BatchFormat::Protobuf,
        Some(other) => {
            problems.not_allowed("http.format", other, "ndjson, json_array, protobuf");
            BatchFormat::default()
        }
    };
    let url = url(file.url.as_deref(), problems).unwrap_or_else(Url::nowhere);
    if !url.is_https && file.tls.is_some() {
        let problem = "is for https, but http.url begins with http://; change it, or leave http.tls out".to_owned();
        problems.error(ConfigError::Conflict { key: "http.tls", problem });
    }
    let moment = Duration::from_millis(10);
    Some(Webhook {
        is_https: url.is_https,
        host: url.host,
        port: url.port,
        authority: url.authority,
        path: url.path,
        format,
        authorization: file.authorization.resolve("http.authorization", env, problems),
        signing_secret: file.signing_secret.resolve("http.signing_secret", env, problems),
        tls: file.tls.clone().unwrap_or_default().resolve("http.tls", problems),
        batch: InFlight {
            // A request of some 150 kB of JSON: far below what servers take, and its overhead is small.
            records: problems.number("http.batch", file.batch, 1..=100_000, 500),
            bytes: problems.number("http.batch_bytes", file.batch_bytes, 1024..=1 << 30, 1 << 20),
        },
        // Receivers mostly have a cost for each request; a record is seldom waited for by people.
        linger: problems.duration("http.linger", file.linger, Duration::ZERO..=HOUR, Duration::from_millis(100)),
        connections: problems.number("http.connections", file.connections, 1..=256, 4),
        connect_timeout: problems.duration("http.connect_timeout", file.connect_timeout, moment..=HOUR, 10 * SECOND),
        timeout: problems.duration("http.timeout", file.timeout, moment..=HOUR, 30 * SECOND),
        max_pause: problems.duration("http.max_pause", file.max_pause, moment..=DAY, MINUTE),
        max_unsettled: InFlight {
            // Five requests of each connection.
            records: problems.number("http.max_unsettled", file.max_unsettled, 1..=10_000_000, 10_000),
            bytes: problems.number("http.max_unsettled_bytes", file.max_unsettled_bytes, 1 << 20..=1 << 40, 64 << 20),
        },
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Url {
    is_https: bool,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl Url {
    /// Where there is none: an error has been reported.
    fn nowhere() -> Self {
        Self { is_https: false, host: String::new(), port: 0, authority: String::new(), path: String::new() }
    }
}

fn url(text: Option<&str>, problems: &mut Problems) -> Option<Url> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        let remedy = "give the address that batches are posted to, such as \"https://example.com/telemetry\"";
        problems.error(ConfigError::Missing { key: "http.url", remedy });
        return None;
    };
    let parsed = parse(text);
    if let Err(problem) = parsed {
        // The text itself may hold a token.
        problems.error(ConfigError::Conflict { key: "http.url", problem: problem.to_owned() });
    }
    parsed.ok()
}

fn parse(text: &str) -> Result<Url, &'static str> {
    let url: hyper::Uri = text.parse().map_err(|_| "is no URL; it looks like \"https://example.com/telemetry\"")?;
    let is_https = match url.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("must begin with https:// or http://"),
    };
    let authority = url.authority().ok_or("has no host")?;
    if authority.as_str().contains('@') {
        return Err("holds credentials; put them into http.authorization");
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = match authority.port() {
        None => {
            if is_https {
                443
            } else {
                80
            }
        }
        Some(_) => authority.port_u16().filter(|port| *port > 0).ok_or("has a port that is none (1 to 65535)")?,
    };
    let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    Ok(Url { is_https, host, port, authority: authority.to_string(), path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_scheme_and_a_host() {
        let parsed = |text: &str| parse(text).map(|url| (url.is_https, url.host, url.port, url.path));
        let is = |https, host: &str, port, path: &str| Ok((https, host.to_owned(), port, path.to_owned()));
        assert_eq!(parsed("https://example.com"), is(true, "example.com", 443, "/"));
        assert_eq!(parsed("http://example.com:8080/a/b?c=d"), is(false, "example.com", 8080, "/a/b?c=d"));
        assert_eq!(parsed("https://[::1]:8443/x"), is(true, "::1", 8443, "/x"));
        assert_eq!(parsed("example.com/x"), Err("is no URL; it looks like \"https://example.com/telemetry\""));
        assert_eq!(parsed("/x"), Err("must begin with https:// or http://"));
        assert_eq!(parsed("ftp://example.com"), Err("must begin with https:// or http://"));
        assert_eq!(parsed("https://u:p@example.com"), Err("holds credentials; put them into http.authorization"));
        assert_eq!(parsed("http://example.com:0/"), Err("has a port that is none (1 to 65535)"));
    }
}
