//! What a run found, for people and for programs.

use std::fmt::{self, Display, Formatter, Write as _};
use std::time::Duration;

use serde::Serialize;

use crate::latency::Quantiles;
use crate::process::{Memory, Used};
use crate::store::Findings;
use crate::tally::Totals;

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Subcommand.
    pub mode: &'static str,
    /// Simulated.
    pub vehicles: u32,
    /// Of the simulator.
    pub threads: u32,
    /// Of the whole run.
    pub totals: Totals,
    /// The measured ones.
    pub steps: Vec<StepReport>,
    /// Storms.
    pub rounds: Vec<Round>,
    /// From the first SYN to the end of the upgrade, in microseconds.
    pub handshake_us: Option<Quantiles>,
    /// Idle connections, after each wave.
    pub idle: Vec<Idle>,
    /// Vehicles that never read.
    pub deaf_vehicles: u32,
    /// The server's memory at the end of the load.
    pub server_memory: Option<Memory>,
    /// The server's largest anonymous memory, in bytes, of several looks a second.
    pub server_peak_anonymous: Option<u64>,
    /// Whether acked records are in the store.
    pub store: Option<Findings>,
    /// The first few reasons why connections failed or ended.
    pub troubles: Vec<String>,
    /// What must not happen; empty after a good run.
    pub failures: Vec<String>,
}

/// A step of a run.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    /// Records per second asked for.
    pub rate: Option<f64>,
    /// Measured.
    pub seconds: f64,
    /// Sent for the first time in these seconds.
    pub sent: u64,
    /// Acked in these seconds.
    pub acked: u64,
    /// Acked per second.
    pub throughput: f64,
    /// From the time it was due to its ack, in microseconds.
    pub ack_latency_us: Option<Quantiles>,
    /// From the time it was due to the time it left the simulator, in microseconds.
    pub send_lag_us: Option<Quantiles>,
    /// The server's CPU time.
    pub server: Option<CpuReport>,
    /// The simulator's CPU time.
    pub simulator: Option<CpuReport>,
}

/// CPU time of a process over some records or handshakes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CpuReport {
    /// In user space, in ticks of 10 ms.
    pub user_seconds: f64,
    /// In the kernel, in ticks of 10 ms.
    pub system_seconds: f64,
    /// Both, per record or handshake, from finer clocks.
    pub us_each: f64,
    /// Voluntary context switches per record or handshake.
    pub wakeups_each: f64,
}

/// One time that all vehicles connected.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// Connections that opened.
    pub handshakes: u64,
    /// Attempts that failed; the vehicle backed off and tried again.
    pub failed: u64,
    /// From the first to the last.
    pub seconds: f64,
    /// Connections per second.
    pub per_second: f64,
    /// The server's CPU time.
    pub server: Option<CpuReport>,
    /// The simulator's CPU time.
    pub simulator: Option<CpuReport>,
    /// From the first SYN of an attempt that worked to the end of the upgrade, in microseconds.
    pub handshake_us: Option<Quantiles>,
}

/// Memory of idle connections.
#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    /// Called so far.
    pub vehicles: u32,
    /// Held.
    pub connections: u64,
    /// How this wave of them connected.
    pub connecting: Round,
    /// Before the first one.
    pub before: Memory,
    /// After the acks.
    pub after: Memory,
    /// After holding them.
    pub held: Memory,
    /// Anonymous memory of each at the end.
    pub anonymous_bytes_each: f64,
    /// Resident memory of each at the end.
    pub rss_bytes_each: f64,
}

impl Report {
    /// Every time that vehicles connected, by wave.
    pub(crate) fn rounds_mut(&mut self) -> impl Iterator<Item = &mut Round> {
        self.rounds.iter_mut().chain(self.idle.iter_mut().map(|idle| &mut idle.connecting))
    }
}

impl CpuReport {
    /// What was used for so many `events`.
    #[must_use]
    pub fn new(used: Used, events: u64) -> Self {
        let each = |total: f64| total / events.max(1) as f64;
        Self {
            user_seconds: used.user.as_secs_f64(),
            system_seconds: used.system.as_secs_f64(),
            us_each: each(used.cpu.as_secs_f64() * 1e6),
            wakeups_each: each(used.wakeups as f64),
        }
    }
}

impl Idle {
    /// The difference that all `connections` made.
    #[must_use]
    pub fn new(vehicles: u32, connections: u64, connecting: Round, [before, after, held]: [Memory; 3]) -> Self {
        let each = |held: u64, before: u64| (held as f64 - before as f64) / connections.max(1) as f64;
        Self {
            vehicles,
            connections,
            connecting,
            before,
            after,
            held,
            anonymous_bytes_each: each(held.anonymous, before.anonymous),
            rss_bytes_each: each(held.rss, before.rss),
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        use crate::tally::Count::{
            Acked, ConnectFailed, Connected, DeafEnded, DeafSent, Disconnected, Dropped, Resent, Sent,
        };
        let of = |count| self.totals.of(count);
        writeln!(f, "{}: {} vehicles", self.mode, self.vehicles)?;
        writeln!(
            f,
            "  connections  {} opened, {} lost, {} failed",
            of(Connected),
            of(Disconnected),
            of(ConnectFailed)
        )?;
        writeln!(
            f,
            "  records      {} sent, {} acked, {} resent, {} dropped",
            of(Sent),
            of(Acked),
            of(Resent),
            of(Dropped)
        )?;
        if self.deaf_vehicles > 0 {
            let (deaf, sent, ended) = (self.deaf_vehicles, of(DeafSent), of(DeafEnded));
            writeln!(f, "  deaf         {deaf} vehicles, {sent} sent, {ended} times disconnected")?;
        }
        for step in &self.steps {
            step.fmt(f)?;
        }
        for round in &self.rounds {
            round.fmt(f)?;
        }
        if let Some(handshake) = &self.handshake_us {
            writeln!(f, "  handshake    {}", quantiles(handshake))?;
        }
        for idle in &self.idle {
            idle.fmt(f)?;
        }
        if let (Some(Memory { rss, anonymous }), Some(peak)) = (self.server_memory, self.server_peak_anonymous) {
            let [rss, anonymous, peak] = [rss, anonymous, peak].map(|bytes| bytes as f64 / f64::from(1 << 20));
            writeln!(f, "  server       {rss:.1} MiB resident, {anonymous:.1} MiB anonymous, at most {peak:.1}")?;
        }
        if let Some(store) = &self.store {
            writeln!(f, "  store        {} of {} acked records found", store.acked - store.missing, store.acked)?;
        }
        self.troubles.iter().try_for_each(|trouble| writeln!(f, "  note         {trouble}"))?;
        self.failures.iter().try_for_each(|failure| writeln!(f, "  FAILED       {failure}"))
    }
}

impl Display for StepReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let asked = self.rate.map_or_else(String::new, |rate| format!(" of {rate:.0} asked for"));
        writeln!(f, "  throughput   {:.0}/s{asked}, {:.1} s", self.throughput, self.seconds)?;
        if let Some(acks) = &self.ack_latency_us {
            writeln!(f, "  ack latency  {}", quantiles(acks))?;
        }
        if let (Some(lag), Some(_)) = (&self.send_lag_us, self.rate) {
            writeln!(f, "  send lag     {}", quantiles(lag))?;
        }
        write!(f, "  CPU          {} per record", cpu(self.server, self.simulator))?;
        match self.server {
            Some(CpuReport { wakeups_each, .. }) => writeln!(f, "; server woken {wakeups_each:.2} times"),
            None => writeln!(f),
        }
    }
}

impl Display for Round {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { handshakes, failed, seconds, per_second, server, simulator, handshake_us } = self;
        write!(f, "  handshakes   {handshakes} in {seconds:.2} s, {per_second:.0}/s, {failed} attempts failed")?;
        writeln!(f, "; {} each", cpu(*server, *simulator))?;
        handshake_us.iter().try_for_each(|handshake| writeln!(f, "  connecting   {}", quantiles(handshake)))
    }
}

impl Display for Idle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [anonymous, rss] = [self.anonymous_bytes_each, self.rss_bytes_each].map(|bytes| bytes / 1024.0);
        self.connecting.fmt(f)?;
        write!(f, "  idle         {} held, {anonymous:.1} KiB anonymous each", self.connections)?;
        writeln!(f, ", {rss:.1} KiB resident")
    }
}

fn cpu(server: Option<CpuReport>, simulator: Option<CpuReport>) -> String {
    let mut text = String::new();
    for (name, cpu) in [("server", server), ("simulator", simulator)] {
        if let Some(CpuReport { us_each, .. }) = cpu {
            let separator = if text.is_empty() { "" } else { ", " };
            write!(text, "{separator}{name} {us_each:.1} µs").expect("strings take everything");
        }
    }
    text
}

fn quantiles(q: &Quantiles) -> String {
    let time = |micros| millis(Duration::from_micros(micros));
    format!(
        "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
        time(q.p50),
        time(q.p90),
        time(q.p99),
        time(q.p99_9),
        time(q.max)
    )
}

fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}
