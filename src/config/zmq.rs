//! `zmq`: a PUB socket.

use std::path::PathBuf;

use super::error::{ConfigError, Problems};
use super::file::FileConfig;
use super::section::Section;
use super::targets::FileTarget;
use super::{AckRule, DispatcherName, InFlight, Route};

/// `zmq`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileZmq {
    /// As for every dispatcher.
    pub target: FileTarget,
    /// Where to bind.
    pub addr: Option<String>,
    /// JSON file with the server's key.
    pub server_key_json_path: Option<String>,
    /// JSON file with the keys of those who may subscribe.
    pub allowed_public_keys_json_path: Option<String>,
    /// What happens at the socket goes to the log.
    pub verbose: Option<bool>,
    /// Records that wait for one subscriber (ours).
    pub high_water_mark: Option<i64>,
    /// `deliver` or `wait` (ours).
    pub no_subscriber: Option<String>,
    /// Records taken and not settled (ours).
    pub max_unsettled: Option<i64>,
    /// Their bytes (ours).
    pub max_unsettled_bytes: Option<i64>,
}

/// Key files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Curve {
    /// JSON file with the server's key.
    pub server_key: PathBuf,
    /// JSON file with the keys of those who may subscribe.
    pub allowed_keys: PathBuf,
}

/// What becomes of a record while nobody subscribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSubscriber {
    /// It counts as delivered.
    Deliver,
    /// It waits for somebody.
    Wait,
}

/// A PUB socket.
#[derive(Clone, Debug)]
pub struct Zmq {
    /// Where to bind.
    pub addr: String,
    /// `None`: in the clear, for everybody.
    pub curve: Option<Curve>,
    /// What happens at the socket goes to the log.
    pub verbose: bool,
    /// Records that wait for one subscriber; it misses those above.
    pub high_water_mark: u32,
    /// What becomes of a record while nobody subscribes.
    pub no_subscriber: NoSubscriber,
    /// Taken and not settled; above, vehicles wait.
    pub max_unsettled: InFlight,
}

impl FileZmq {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            target: FileTarget::read_with_form(section),
            addr: section.value("addr"),
            server_key_json_path: section.value("server_key_json_path"),
            allowed_public_keys_json_path: section.value("allowed_public_keys_json_path"),
            verbose: section.value("verbose"),
            high_water_mark: section.value("high_water_mark"),
            no_subscriber: section.value("no_subscriber"),
            max_unsettled: section.value("max_unsettled"),
            max_unsettled_bytes: section.value("max_unsettled_bytes"),
        }
    }
}

/// Judged where a route uses it.
pub(super) fn resolve(file: &FileConfig, routes: &[Route], problems: &mut Problems) -> Option<Zmq> {
    if !routes.iter().any(|route| route.dispatchers.contains(&DispatcherName::Zmq)) {
        return None;
    }
    let Some(file) = &file.zmq else {
        problems.error(ConfigError::NotConfigured { dispatcher: "ZMQ" });
        return None;
    };
    let addr = file.addr.clone().unwrap_or_default();
    if addr.is_empty() {
        let remedy = "give what to bind, such as \"tcp://*:5284\"";
        problems.error(ConfigError::Missing { key: "zmq.addr", remedy });
    }
    Some(Zmq {
        addr,
        curve: curve(file, problems),
        verbose: file.verbose.unwrap_or(false),
        // libzmq's own.
        high_water_mark: problems.number("zmq.high_water_mark", file.high_water_mark, 1..=10_000_000, 1000),
        no_subscriber: no_subscriber(file.no_subscriber.as_deref(), routes, problems),
        max_unsettled: InFlight {
            // Ten batches.
            records: problems.number("zmq.max_unsettled", file.max_unsettled, 1..=10_000_000, 10_000),
            bytes: problems.number("zmq.max_unsettled_bytes", file.max_unsettled_bytes, 1 << 20..=1 << 40, 64 << 20),
        },
    })
}

fn curve(file: &FileZmq, problems: &mut Problems) -> Option<Curve> {
    let given = |path: &Option<String>| path.clone().filter(|path| !path.is_empty()).map(PathBuf::from);
    match (given(&file.server_key_json_path), given(&file.allowed_public_keys_json_path)) {
        (Some(server_key), Some(allowed_keys)) => Some(Curve { server_key, allowed_keys }),
        (None, None) => None,
        (Some(_), None) => {
            problems.error(ConfigError::Missing {
                key: "zmq.allowed_public_keys_json_path",
                remedy: "with zmq.server_key_json_path it lists the keys of those who may subscribe; nobody could",
            });
            None
        }
        (None, Some(_)) => {
            problems.error(ConfigError::Missing {
                key: "zmq.server_key_json_path",
                remedy: "without it everybody may subscribe, whatever zmq.allowed_public_keys_json_path lists",
            });
            None
        }
    }
}

fn no_subscriber(no_subscriber: Option<&str>, routes: &[Route], problems: &mut Problems) -> NoSubscriber {
    let acks_by_zmq = routes.iter().any(|route| route.ack == AckRule::By(DispatcherName::Zmq));
    if acks_by_zmq {
        problems.advise(
            "reliable_ack_sources",
            "zmq does not say who has got a record, so what was acked can be lost; name a dispatcher that keeps records",
        );
    }
    match no_subscriber {
        // An ack must not mean that nobody was there.
        None if acks_by_zmq => NoSubscriber::Wait,
        None | Some("deliver") => NoSubscriber::Deliver,
        Some("wait") => NoSubscriber::Wait,
        Some(other) => {
            problems.not_allowed("zmq.no_subscriber", other, "deliver, wait");
            NoSubscriber::Wait
        }
    }
}
