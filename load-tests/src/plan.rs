//! What a run does.

use std::path::PathBuf;
use std::time::Duration;

use crate::socket::connect::Endpoint;

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Simulated vehicles.
    pub vehicles: u32,
    /// Threads that they share.
    pub threads: u32,
    /// Of every random choice except txids and masks.
    pub seed: u64,
    /// In every txid.
    pub run: u32,
    /// The server.
    pub endpoint: Endpoint,
    /// When vehicles send.
    pub load: Load,
    /// What vehicles send.
    pub content: Content,
    /// One after the other.
    pub steps: Vec<Step>,
    /// Connections per second; `None`: all at once.
    pub connect_rate: Option<f64>,
    /// How long everybody may take to connect, beyond what the rate needs.
    pub connect_limit: Duration,
    /// From the first SYN to the end of the upgrade.
    pub connect_timeout: Duration,
    /// Longest pause between two attempts.
    pub max_backoff: Duration,
    /// An unacked message is sent again after this time.
    pub resend_after: Duration,
    /// How long the last acks may take.
    pub drain: Duration,
    /// Where acked records are listed.
    pub journal: Option<PathBuf>,
    /// Whether acked records are remembered, to look them up in a store.
    pub remember_acks: bool,
}

/// When vehicles send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// At the step's rate, evenly spread over the vehicles, whatever the server does.
    Paced,
    /// As soon as fewer than so many messages are unacked.
    Closed(usize),
    /// One message per vehicle.
    Once,
    /// Never.
    Silent,
}

/// What vehicles send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Content {
    /// The benchmark's record.
    Fixed,
    /// What a driving, charging or parked vehicle sends every 500 ms; this share of the vehicles speaks
    /// the old, string form.
    Driving {
        /// From 0 to 1.
        string_share: f64,
    },
}

/// A part of a run with one rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Messages per second in all, for [`Load::Paced`].
    pub rate: Option<f64>,
    /// `None`: until it is interrupted.
    pub duration: Option<Duration>,
    /// Whether it is reported; warm-ups are not.
    pub measured: bool,
}

/// What the vehicles are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing; connections are closed.
    Parked,
    /// Connecting, and staying connected.
    Connect,
    /// Sending, in a step of the plan.
    Run(usize),
    /// Waiting for the last acks, then leaving.
    Drain,
    /// Leaving at once.
    Stop,
}
