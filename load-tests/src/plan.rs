//! What a run does.

use std::ops::Range;
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
    /// Who connects when: in each wave the vehicles below this number.
    pub waves: Vec<u32>,
    /// Share of the vehicles that never read, from 0 to 1.
    pub deaf_share: f64,
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

impl Plan {
    /// Whether a vehicle never reads. They are evenly spread.
    #[must_use]
    pub fn is_deaf(&self, vehicle: u32) -> bool {
        let deaf_below = |vehicle: u32| (f64::from(vehicle) * self.deaf_share).floor();
        deaf_below(vehicle + 1) > deaf_below(vehicle)
    }

    /// The vehicles that connect in a wave and were not in the one before.
    #[must_use]
    pub fn newcomers(&self, wave: usize) -> Range<u32> {
        let before = wave.checked_sub(1).map_or(0, |before| self.waves[before]);
        before.min(self.waves[wave])..self.waves[wave]
    }
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
    /// Connecting, up to this wave of the plan, and staying connected.
    Connect(usize),
    /// Sending, in a step of the plan.
    Run(usize),
    /// Waiting for the last acks, then leaving.
    Drain,
    /// Leaving at once.
    Stop,
}
