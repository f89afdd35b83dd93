//! What a run found, for people and for programs.

use std::fmt::{self, Display, Formatter, Write as _};
use std::time::Duration;

use serde::Serialize;

use crate::latency::Quantiles;
use crate::process::{Cpu, Memory};
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
    /// Idle connections.
    pub idle: Option<Idle>,
    /// The server's memory at the end of the load.
    pub server_memory: Option<Memory>,
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
    /// In user space.
    pub user_seconds: f64,
    /// In the kernel.
    pub system_seconds: f64,
    /// Both, per record or handshake.
    pub us_each: f64,
}

/// One time that all vehicles connected.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// Connections that opened.
    pub handshakes: u64,
    /// From the first to the last.
    pub seconds: f64,
    /// Connections per second.
    pub per_second: f64,
    /// The server's CPU time.
    pub server: Option<CpuReport>,
    /// The simulator's CPU time.
    pub simulator: Option<CpuReport>,
}

/// Memory of idle connections.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Idle {
    /// Held.
    pub connections: u64,
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

impl CpuReport {
    /// `cpu` spent on `events`.
    #[must_use]
    pub fn new(cpu: Cpu, events: u64) -> Self {
        Self {
            user_seconds: cpu.user.as_secs_f64(),
            system_seconds: cpu.system.as_secs_f64(),
            us_each: cpu.total().as_secs_f64() * 1e6 / events.max(1) as f64,
        }
    }
}

impl Idle {
    /// The difference that `connections` made.
    #[must_use]
    pub fn new(connections: u64, before: Memory, after: Memory, held: Memory) -> Self {
        let each = |held: u64, before: u64| (held as f64 - before as f64) / connections.max(1) as f64;
        Self {
            connections,
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
        use crate::tally::Count::{Acked, ConnectFailed, Connected, Disconnected, Dropped, Resent, Sent};
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
        for step in &self.steps {
            step.fmt(f)?;
        }
        for round in &self.rounds {
            round.fmt(f)?;
        }
        if let Some(handshake) = &self.handshake_us {
            writeln!(f, "  handshake    {}", quantiles(handshake))?;
        }
        if let Some(idle) = &self.idle {
            let kib = |bytes: f64| bytes / 1024.0;
            let (anonymous, rss) = (kib(idle.anonymous_bytes_each), kib(idle.rss_bytes_each));
            writeln!(
                f,
                "  idle         {} held, {anonymous:.1} KiB anonymous each, {rss:.1} KiB resident",
                idle.connections
            )?;
        }
        if let Some(Memory { rss, anonymous }) = self.server_memory {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            writeln!(f, "  server       {:.1} MiB resident, {:.1} MiB anonymous", mib(rss), mib(anonymous))?;
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
        writeln!(f, "  CPU          {} per record", cpu(self.server, self.simulator))
    }
}

impl Display for Round {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { handshakes, seconds, per_second, server, simulator } = self;
        write!(f, "  storm        {handshakes} handshakes in {seconds:.2} s, {per_second:.0}/s")?;
        writeln!(f, "; {} each", cpu(*server, *simulator))
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
