//! `redis`: servers, and what is published there.

use std::time::Duration;

use super::address::host_port;
use super::client_tls::ClientTls;
use super::duration::{HOUR, SECOND, SHORTEST};
use super::error::{ConfigError, Problems};
use super::file::FileConfig;
use super::secret::FileSecret;
use super::section::Section;
use super::targets::FileTarget;
use super::{AckRule, DispatcherName, Env, InFlight, Route, Secret};

/// `redis`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileRedis {
    /// As for every dispatcher.
    pub target: FileTarget,
    /// `host:port`; of a cluster some of the nodes, with sentinels theirs.
    pub addrs: Option<Vec<String>>,
    /// The addresses are a cluster's, even if there is one.
    pub cluster_mode: Option<bool>,
    /// The addresses are sentinels', and this is the master that they watch (ours).
    pub sentinel_master: Option<String>,
    /// Of sentinels (ours).
    pub sentinel_password: FileSecret,
    /// Credentials.
    pub username: Option<String>,
    /// Credentials.
    pub password: FileSecret,
    /// Database.
    pub db: Option<i64>,
    /// TLS; an empty object turns it on.
    pub tls: Option<FileRedisTls>,
    /// Certificates are those of the first address' host.
    pub override_tls_server_name: Option<bool>,
    /// For all answers to the commands of a batch.
    pub publish_timeout: Option<Duration>,
    /// At the start (ours).
    pub connect_timeout: Option<Duration>,
    /// Each vehicle has a channel.
    pub publish_vin_topics: Option<bool>,
    /// Sorted sets name more channels.
    pub subscriber_set_prefix: Option<String>,
    /// `refuse` or `deliver` (ours).
    pub no_channel: Option<String>,
    /// Streams (ours).
    pub streams: Option<FileStreams>,
    /// Records taken and not settled (ours).
    pub max_unsettled: Option<i64>,
    /// Their bytes (ours).
    pub max_unsettled_bytes: Option<i64>,
}

/// `redis.tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileRedisTls {
    /// PEM bundle of the authorities that are trusted.
    pub ca_file: Option<String>,
    /// PEM chain of this client.
    pub server_cert: Option<String>,
    /// PEM private key of it.
    pub server_key: Option<String>,
}

/// `redis.streams`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileStreams {
    /// Entries that a stream keeps, about.
    pub max_length: Option<i64>,
}

/// Who is asked where keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisMode {
    /// Nobody: there is one server.
    Single,
    /// The nodes.
    Cluster,
    /// Sentinels, for this master.
    Sentinel {
        /// Its name there.
        master: String,
    },
}

/// What becomes of a record that no channel wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoChannel {
    /// It counts as delivered.
    Deliver,
    /// It does not, and is not acked where the ack depends on Redis.
    Refuse,
}

/// Servers, and what is published there.
#[derive(Clone, Debug)]
pub struct Redis {
    /// Hosts and ports; never empty.
    pub addresses: Vec<(String, u16)>,
    /// What they are.
    pub mode: RedisMode,
    /// Of sentinels.
    pub sentinel_password: Option<Secret>,
    /// Credentials.
    pub username: Option<String>,
    /// Credentials.
    pub password: Option<Secret>,
    /// Database.
    pub db: u32,
    /// `None`: in the clear.
    pub tls: Option<ClientTls>,
    /// For all answers to the commands of a batch.
    pub publish_timeout: Duration,
    /// How long to try at the start.
    pub connect_timeout: Duration,
    /// Each vehicle has a channel.
    pub publish_vin_topics: bool,
    /// Sorted sets name more channels; `None`: they are not asked.
    pub subscriber_set_prefix: Option<String>,
    /// What becomes of a record that no channel wants.
    pub no_channel: NoChannel,
    /// Streams; `None`: none.
    pub streams: Option<Streams>,
    /// Taken and not settled; above, vehicles wait.
    pub max_unsettled: InFlight,
}

/// Streams that records are appended to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    /// Entries that a stream keeps, about; `None`: all.
    pub max_length: Option<u64>,
}

impl FileRedis {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        section.ineffective("pool", "there is one connection to each server, and it is never waited for");
        Self {
            target: FileTarget::read_with_form(section),
            addrs: section.value("addrs"),
            cluster_mode: section.value("cluster_mode"),
            sentinel_master: section.value("sentinel_master"),
            sentinel_password: FileSecret::read(section, "sentinel_password", "sentinel_password_file"),
            username: section.value("username"),
            password: FileSecret::read(section, "password", "password_file"),
            db: section.value("db"),
            tls: section.object("tls", |section| FileRedisTls {
                ca_file: section.value("ca_file"),
                server_cert: section.value("server_cert"),
                server_key: section.value("server_key"),
            }),
            override_tls_server_name: section.value("override_tls_server_name"),
            publish_timeout: section.duration("publish_timeout"),
            connect_timeout: section.duration("connect_timeout"),
            publish_vin_topics: section.value("publish_vin_topics"),
            subscriber_set_prefix: section.value("subscriber_set_prefix"),
            no_channel: section.value("no_channel"),
            streams: section.object("streams", |section| FileStreams { max_length: section.value("max_length") }),
            max_unsettled: section.value("max_unsettled"),
            max_unsettled_bytes: section.value("max_unsettled_bytes"),
        }
    }
}

/// Whether Redis, as the file has it, keeps records.
pub(super) fn confirms(file: &FileConfig) -> bool {
    file.redis.as_ref().is_some_and(|redis| redis.streams.is_some())
}

/// Judged where a route uses it.
pub(super) fn resolve(file: &FileConfig, routes: &[Route], env: &Env, problems: &mut Problems) -> Option<Redis> {
    if !routes.iter().any(|route| route.dispatchers.contains(&DispatcherName::Redis)) {
        return None;
    }
    let Some(file) = &file.redis else {
        problems.error(ConfigError::NotConfigured { dispatcher: "Redis" });
        return None;
    };
    let addresses = addresses(file.addrs.as_deref().unwrap_or_default(), problems);
    let mode = mode(file, problems);
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let publish_vin_topics = file.publish_vin_topics.unwrap_or(false);
    let subscriber_set_prefix = given(&file.subscriber_set_prefix);
    if !publish_vin_topics && subscriber_set_prefix.is_none() && file.streams.is_none() {
        problems.error(ConfigError::Conflict {
            key: "redis.publish_vin_topics",
            problem: "redis requires publish_vin_topics or subscriber_set_prefix to be set, otherwise no records are \
                      published (or streams)"
                .to_owned(),
        });
    }
    Some(Redis {
        tls: tls(file, &addresses, problems),
        sentinel_password: file.sentinel_password.resolve("redis.sentinel_password", env, problems),
        username: given(&file.username),
        password: password(file, env, problems),
        db: db(file.db, &mode, problems),
        addresses,
        mode,
        publish_timeout: problems.duration(
            "redis.publish_timeout",
            file.publish_timeout.filter(|timeout| !timeout.is_zero()),
            SHORTEST..=HOUR,
            5 * SECOND,
        ),
        connect_timeout: problems.duration("redis.connect_timeout", file.connect_timeout, SHORTEST..=HOUR, 10 * SECOND),
        publish_vin_topics,
        subscriber_set_prefix,
        no_channel: no_channel(file.no_channel.as_deref(), routes, problems),
        streams: file.streams.as_ref().map(|streams| Streams {
            max_length: streams
                .max_length
                .map(|most| problems.number("redis.streams.max_length", Some(most), 1..=i64::MAX, 1)),
        }),
        max_unsettled: InFlight {
            // Ten batches.
            records: problems.number("redis.max_unsettled", file.max_unsettled, 1..=10_000_000, 10_000),
            bytes: problems.number("redis.max_unsettled_bytes", file.max_unsettled_bytes, 1 << 20..=1 << 40, 64 << 20),
        },
    })
}

fn addresses(addrs: &[String], problems: &mut Problems) -> Vec<(String, u16)> {
    if addrs.is_empty() {
        problems.error(ConfigError::Missing {
            key: "redis.addrs",
            remedy: "redis addrs cannot be empty; give servers, such as [\"redis.example:6379\"]",
        });
    }
    let address = |text: &String| {
        let address = host_port(text, 6379).filter(|_| !text.is_empty());
        if address.is_none() {
            // Whatever stands before an @ may be a secret.
            let shown = text.rsplit('@').next().unwrap_or_default();
            problems.not_allowed("redis.addrs", shown, "host:port, without scheme and credentials");
        }
        address
    };
    addrs.iter().filter_map(address).collect()
}

fn mode(file: &FileRedis, problems: &mut Problems) -> RedisMode {
    let is_cluster = file.cluster_mode == Some(true);
    match file.sentinel_master.as_deref().filter(|master| !master.is_empty()) {
        Some(master) => {
            if is_cluster {
                let problem = "the addresses are either sentinels' or a cluster's; leave one of them out".to_owned();
                problems.error(ConfigError::Conflict { key: "redis.sentinel_master", problem });
            }
            RedisMode::Sentinel { master: master.to_owned() }
        }
        // As in the reference server.
        None if is_cluster || file.addrs.as_ref().is_some_and(|addrs| addrs.len() > 1) => RedisMode::Cluster,
        None => RedisMode::Single,
    }
}

fn db(db: Option<i64>, mode: &RedisMode, problems: &mut Problems) -> u32 {
    let db = problems.number("redis.db", db, 0..=1_000_000, 0);
    if db != 0 && *mode == RedisMode::Cluster {
        problems.advise("redis.db", "a cluster has only database 0, which is used");
        return 0;
    }
    db
}

/// The environment's, as in the reference server, when it is not empty.
fn password(file: &FileRedis, env: &Env, problems: &mut Problems) -> Option<Secret> {
    let password = file.password.resolve("redis.password", env, problems);
    env.var("REDIS_PASSWORD").filter(|password| !password.is_empty()).map(Secret::from).or(password)
}

fn tls(file: &FileRedis, addresses: &[(String, u16)], problems: &mut Problems) -> Option<ClientTls> {
    let tls = file.tls.as_ref()?;
    let given = |path: &Option<String>| path.clone().filter(|path| !path.is_empty());
    let certificate = match (given(&tls.server_cert), given(&tls.server_key)) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        // The reference server then shows no certificate.
        (cert, _) => {
            let alone = if cert.is_some() { "server_cert" } else { "server_key" };
            problems.advise(format!("redis.tls.{alone}"), "without the other one of the pair no certificate is shown");
            None
        }
    };
    let overrides = file.override_tls_server_name == Some(true);
    Some(ClientTls {
        path: "redis.tls".to_owned(),
        ca_file: given(&tls.ca_file).map(Into::into),
        certificate,
        server_name: addresses.first().filter(|_| overrides).map(|(host, _)| host.clone()),
    })
}

fn no_channel(no_channel: Option<&str>, routes: &[Route], problems: &mut Problems) -> NoChannel {
    let acks_by_redis = routes.iter().any(|route| route.ack == AckRule::By(DispatcherName::Redis));
    match no_channel {
        // An ack must not mean that nobody was there.
        None if acks_by_redis => NoChannel::Refuse,
        None | Some("deliver") => NoChannel::Deliver,
        Some("refuse") => NoChannel::Refuse,
        Some(other) => {
            problems.not_allowed("redis.no_channel", other, "deliver, refuse");
            NoChannel::Refuse
        }
    }
}
