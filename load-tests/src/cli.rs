//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use rustls::pki_types::ServerName;

use crate::certs::Files;
use crate::plan::{Content, Load, Plan, Step};
use crate::socket::connect::Endpoint;

/// Simulated vehicles that stream telemetry and check every ack.
///
/// Exit code: 0 when every record was acked exactly as expected, 1 after any anomaly, 2 when the run
/// could not start.
#[derive(Debug, Parser)]
#[command(name = "fleet-sim", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, missing_docs)] // made once; `fleet` is documented at its type
pub enum Command {
    /// Make a development set-up's certificates; keeps what is there.
    Certs {
        /// For `vehicle_ca.crt`, `vehicle_ca.key`, `server.crt`, `server.key`, `server_ca.crt`.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Vehicles that drive, charge and park, in 500 ms buckets; live progress.
    Demo {
        /// Share of vehicles that send everything as strings, like old firmware.
        #[arg(long, default_value_t = 0.25)]
        string_share: f64,
        #[command(flatten)]
        fleet: FleetArguments,
    },
    /// Open loop: so many records a second, evenly spread; latency counts from the scheduled time.
    Steady {
        /// Records per second of all vehicles together.
        #[arg(long, default_value_t = 1_000.0)]
        rate: f64,
        /// Share of vehicles that never read: they send at full speed in the warm-up until nothing moves any
        /// more, then what is due, and expect to be disconnected.
        #[arg(long, default_value_t = 0.0)]
        deaf_share: f64,
        #[command(flatten)]
        fleet: FleetArguments,
    },
    /// Closed loop: as fast as acks come back.
    Closed {
        /// Unacked records per vehicle.
        #[arg(long, default_value_t = 4)]
        in_flight: usize,
        #[command(flatten)]
        fleet: FleetArguments,
    },
    /// Open loop in rising steps of `--seconds` each.
    Ramp {
        /// Records per second in the first step.
        #[arg(long, default_value_t = 1_000.0)]
        from: f64,
        /// Records per second in the last step.
        #[arg(long, default_value_t = 10_000.0)]
        rate: f64,
        /// Number of steps.
        #[arg(long, default_value_t = 5)]
        steps: u32,
        #[command(flatten)]
        fleet: FleetArguments,
    },
    /// All vehicles connect at once, and again.
    Storm {
        /// How often all disconnect and connect again.
        #[arg(long, default_value_t = 0)]
        reconnects: u32,
        #[command(flatten)]
        fleet: FleetArguments,
    },
    /// Connect at a bounded rate, send one record each, then only hold the connections for `--seconds`.
    Idle {
        /// The vehicles join in so many equal waves, each held and measured on its own.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        steps: u32,
        #[command(flatten)]
        fleet: FleetArguments,
    },
    /// Put the reports of a load test side by side.
    Compare {
        /// Holds `SCENARIO.TARGET.N.json`; several `N` count with their median.
        dir: PathBuf,
        /// The target that the others are multiples of.
        #[arg(long, default_value = "floor")]
        baseline: String,
        /// Write all figures here.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Print free ports of 127.0.0.1, a line each.
    Ports {
        /// How many.
        #[arg(default_value_t = 1)]
        count: usize,
    },
    /// The newest values in an SQLite store.
    Latest {
        /// `sqlite:PATH`.
        #[arg(long)]
        store: Store,
        /// Vehicles to show.
        #[arg(long, default_value_t = 5)]
        vehicles: usize,
    },
}

/// What every simulation needs to know.
#[derive(Args, Clone, Debug)]
pub struct FleetArguments {
    /// Server's host.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    /// Server's port.
    #[arg(long)]
    pub port: u16,
    /// Name on the server's certificate.
    #[arg(long, default_value = "localhost")]
    pub server_name: String,
    /// Folder made by `fleet-sim certs`.
    #[arg(long, default_value = "certs/dev")]
    pub certs: PathBuf,
    /// CA that signs vehicles, instead of the folder's.
    #[arg(long, requires = "ca_key")]
    pub ca_cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, requires = "ca_cert")]
    pub ca_key: Option<PathBuf>,
    /// CA that signed the server, instead of the folder's.
    #[arg(long)]
    pub server_ca: Option<PathBuf>,
    /// Number of vehicles.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub vehicles: u32,
    /// How long to measure; 0: until it is interrupted.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Before measuring.
    #[arg(long, default_value_t = 1.0)]
    pub warmup_seconds: f64,
    /// How long the last acks may take.
    #[arg(long, default_value_t = 10.0)]
    pub drain_seconds: f64,
    /// Connections per second at the start; 0: all at once.
    #[arg(long, default_value_t = 500.0)]
    pub connect_rate: f64,
    /// How long everybody may take to connect, beyond what the rate needs.
    #[arg(long, default_value_t = 30.0)]
    pub connect_limit_seconds: f64,
    /// From the first SYN to the end of the upgrade.
    #[arg(long, default_value_t = 10_000)]
    pub connect_timeout_ms: u64,
    /// Longest pause between two attempts to connect.
    #[arg(long, default_value_t = 30_000)]
    pub max_backoff_ms: u64,
    /// An unacked record is sent again after this time.
    #[arg(long, default_value_t = 30_000)]
    pub resend_after_ms: u64,
    /// Loopback addresses to connect from, for servers that count connections per address.
    #[arg(long, default_value_t = 1)]
    pub local_addresses: u32,
    /// Offer the post-quantum key exchange.
    #[arg(long)]
    pub post_quantum: bool,
    /// Of the simulation's random choices.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads of the simulator.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// The server's process, to measure its CPU time and memory.
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// Write the report here.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Append `vin<TAB>topic<TAB>txid` per acked record.
    #[arg(long)]
    pub record_acks: Option<PathBuf>,
    /// `sqlite:PATH`: check at the end that every acked record is in the store.
    #[arg(long)]
    pub store: Option<Store>,
}

/// A store to look into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The SQLite file.
    pub path: PathBuf,
}

impl std::str::FromStr for Store {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix("sqlite:").filter(|path| !path.is_empty());
        path.map(|path| Self { path: path.into() }).ok_or_else(|| format!("{text:?} is not sqlite:PATH"))
    }
}

/// Arguments that do not fit together or to this machine.
#[derive(Debug, thiserror::Error)]
pub enum ArgumentError {
    /// The server's address.
    #[error("server {0}: no such host")]
    Host(String),
    /// The name to verify.
    #[error("--server-name {0}: not a DNS name or address")]
    ServerName(String),
    /// A negative or absurd number.
    #[error("--{0} {1}: must be a number from 0 to a million")]
    Number(&'static str, f64),
    /// More than all, or less than none.
    #[error("--{0} {1}: must be a number from 0 to 1")]
    Share(&'static str, f64),
}

struct Shape<'a> {
    fleet: &'a FleetArguments,
    load: Load,
    content: Content,
    /// Rate, and whether it is measured.
    steps: Vec<(Option<f64>, bool)>,
}

impl Command {
    /// What kind of run this is; `None` for the commands that simulate nothing.
    fn shape(&self) -> Option<Shape<'_>> {
        let measured = |rate| vec![(rate, false), (rate, true)];
        let (fleet, load, content, steps) = match self {
            Self::Certs { .. } | Self::Compare { .. } | Self::Ports { .. } | Self::Latest { .. } => return None,
            Self::Demo { string_share, fleet } => {
                let ticks = 2.0 * f64::from(fleet.vehicles);
                let content = Content::Driving { string_share: *string_share };
                (fleet, Load::Paced, content, vec![(Some(ticks), true)])
            }
            Self::Steady { rate, fleet, .. } => (fleet, Load::Paced, Content::Fixed, measured(Some(*rate))),
            Self::Closed { in_flight, fleet } => (fleet, Load::Closed(*in_flight), Content::Fixed, measured(None)),
            Self::Ramp { from, rate, steps, fleet } => {
                let last = f64::from(steps.saturating_sub(1).max(1));
                let at = |step: u32| Some(from + (rate - from) * f64::from(step) / last);
                let steps = (0..(*steps).max(1)).flat_map(|step| [(at(step), false), (at(step), true)]).collect();
                (fleet, Load::Paced, Content::Fixed, steps)
            }
            Self::Storm { fleet, .. } => (fleet, Load::Silent, Content::Fixed, Vec::new()),
            Self::Idle { fleet, .. } => (fleet, Load::Once, Content::Fixed, vec![(None, true)]),
        };
        Some(Shape { fleet, load, content, steps })
    }

    /// The run that the arguments describe.
    ///
    /// # Errors
    /// [`ArgumentError`].
    pub fn plan(&self) -> Result<Option<(Plan, &FleetArguments)>, ArgumentError> {
        let Some(Shape { fleet, load, content, steps }) = self.shape() else { return Ok(None) };
        let measured = seconds("seconds", fleet.seconds)?;
        let warmup = seconds("warmup-seconds", fleet.warmup_seconds)?;
        let step = |(rate, is_measured)| Step {
            rate,
            duration: if is_measured { Some(measured).filter(|time| !time.is_zero()) } else { Some(warmup) },
            measured: is_measured,
        };
        let at_once = matches!(self, Self::Storm { .. }) || fleet.connect_rate == 0.0;
        let plan = Plan {
            vehicles: fleet.vehicles,
            threads: fleet.threads.min(fleet.vehicles),
            seed: fleet.seed,
            run: fastrand::u32(..),
            endpoint: fleet.endpoint()?,
            load,
            content,
            steps: steps.into_iter().map(step).collect(),
            waves: self.waves(fleet.vehicles),
            deaf_share: self.deaf_share()?,
            connect_rate: (!at_once).then_some(number("connect-rate", fleet.connect_rate)?),
            connect_limit: seconds("connect-limit-seconds", fleet.connect_limit_seconds)?,
            connect_timeout: Duration::from_millis(fleet.connect_timeout_ms),
            max_backoff: Duration::from_millis(fleet.max_backoff_ms),
            resend_after: Duration::from_millis(fleet.resend_after_ms),
            drain: seconds("drain-seconds", fleet.drain_seconds)?,
            journal: fleet.record_acks.clone(),
            remember_acks: fleet.store.is_some(),
        };
        Ok(Some((plan, fleet)))
    }

    fn waves(&self, vehicles: u32) -> Vec<u32> {
        match self {
            Self::Storm { reconnects, .. } => vec![vehicles; *reconnects as usize + 1],
            Self::Idle { steps, .. } => {
                (1..=u64::from(*steps)).map(|step| (u64::from(vehicles) * step / u64::from(*steps)) as u32).collect()
            }
            _ => vec![vehicles],
        }
    }

    fn deaf_share(&self) -> Result<f64, ArgumentError> {
        match self {
            Self::Steady { deaf_share, .. } if (0.0..=1.0).contains(deaf_share) => Ok(*deaf_share),
            Self::Steady { deaf_share, .. } => Err(ArgumentError::Share("deaf-share", *deaf_share)),
            _ => Ok(0.0),
        }
    }

    /// The mode's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Certs { .. } => "certs",
            Self::Demo { .. } => "demo",
            Self::Steady { .. } => "steady",
            Self::Closed { .. } => "closed",
            Self::Ramp { .. } => "ramp",
            Self::Storm { .. } => "storm",
            Self::Idle { .. } => "idle",
            Self::Compare { .. } => "compare",
            Self::Ports { .. } => "ports",
            Self::Latest { .. } => "latest",
        }
    }
}

impl FleetArguments {
    /// The certificates to use.
    #[must_use]
    pub fn files(&self) -> Files {
        let mut files = Files::in_dir(&self.certs);
        if let (Some(certificate), Some(key)) = (&self.ca_cert, &self.ca_key) {
            files.vehicle_ca = certificate.clone();
            files.vehicle_ca_key = key.clone();
        }
        if let Some(server_ca) = &self.server_ca {
            files.server_ca = server_ca.clone();
        }
        files
    }

    fn endpoint(&self) -> Result<Endpoint, ArgumentError> {
        let server_name = ServerName::try_from(self.server_name.clone())
            .map_err(|_| ArgumentError::ServerName(self.server_name.clone()))?;
        Ok(Endpoint { address: self.address()?, server_name, local_addresses: self.local_addresses })
    }

    fn address(&self) -> Result<SocketAddr, ArgumentError> {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs();
        addresses.ok().and_then(|mut all| all.next()).ok_or_else(|| ArgumentError::Host(self.host.clone()))
    }
}

fn seconds(name: &'static str, value: f64) -> Result<Duration, ArgumentError> {
    number(name, value).map(Duration::from_secs_f64)
}

fn number(name: &'static str, value: f64) -> Result<f64, ArgumentError> {
    if (0.0..=1e6).contains(&value) { Ok(value) } else { Err(ArgumentError::Number(name, value)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arguments: &[&str]) -> Result<Plan, ArgumentError> {
        let all = ["fleet-sim"].iter().chain(arguments).chain(&["--port", "1"]);
        let command = Arguments::try_parse_from(all).expect("parses").command;
        command.plan().map(|plan| plan.expect("a simulation").0)
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_ramp_rises_evenly_with_a_warm_up_before_each_step() {
        let plan = plan(&["ramp", "--from", "100", "--rate", "300", "--steps", "3"]).expect("valid");
        let steps: Vec<_> = plan.steps.iter().map(|step| (step.rate, step.measured)).collect();
        let rates = [100.0, 100.0, 200.0, 200.0, 300.0, 300.0].map(Some);
        assert_eq!(steps, rates.into_iter().zip([false, true].into_iter().cycle()).collect::<Vec<_>>());
    }

    #[test]
    fn zero_seconds_run_until_interrupted_and_nonsense_is_refused() {
        assert_eq!(plan(&["demo", "--seconds", "0"]).expect("valid").steps[0].duration, None);
        assert!(matches!(plan(&["demo", "--seconds=-1"]), Err(ArgumentError::Number("seconds", _))));
        assert!(matches!(plan(&["demo", "--seconds", "nan"]), Err(ArgumentError::Number("seconds", _))));
    }

    #[test]
    fn a_storm_connects_all_at_once() {
        assert_eq!(plan(&["storm"]).expect("valid").connect_rate, None);
        assert_eq!(plan(&["idle"]).expect("valid").connect_rate, Some(500.0));
    }

    #[test]
    fn idle_vehicles_join_in_even_waves_and_a_storm_calls_all_each_time() {
        let idle = plan(&["idle", "--vehicles", "10", "--steps", "3"]).expect("valid");
        assert_eq!(idle.waves, [3, 6, 10]);
        assert_eq!(idle.newcomers(1), 3..6);
        let storm = plan(&["storm", "--vehicles", "10", "--reconnects", "1"]).expect("valid");
        assert_eq!(storm.waves, [10, 10]);
    }

    #[test]
    fn deaf_vehicles_are_spread_and_as_many_as_asked_for() {
        let plan = |share| plan(&["steady", "--deaf-share", share]);
        let tenth = plan("0.1").expect("valid");
        let deaf: Vec<_> = (0..30).filter(|vehicle| tenth.is_deaf(*vehicle)).collect();
        assert_eq!(deaf, [9, 19, 29]);
        assert!((0..30).all(|vehicle| !plan("0").expect("valid").is_deaf(vehicle)));
        assert!(matches!(plan("1.1"), Err(ArgumentError::Share("deaf-share", _))));
    }
}
