//! The subcommands.

mod idle;
mod steps;
mod storm;

use std::future::pending;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{self, MissedTickBehavior};

use crate::certs::{Authority, CertsError, Files};
use crate::cli::{ArgumentError, Arguments, Command, FleetArguments};
use crate::compare::Comparison;
use crate::fleet::{Fleet, FleetError, Outcome};
use crate::plan::{Phase, Plan};
use crate::process::{Process, Usage};
use crate::progress::Progress;
use crate::report::{CpuReport, Report, Round};
use crate::store;
use crate::tally::{Count, Totals};

/// Between two looks at the counters.
const LOOK: Duration = Duration::from_millis(50);
/// Between two lines of progress, and two flushes of the list of acked records.
const SHOW: Duration = Duration::from_millis(200);

/// Why a run did not happen.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The command line.
    #[error(transparent)]
    Arguments(#[from] ArgumentError),
    /// Certificates.
    #[error(transparent)]
    Certificates(#[from] CertsError),
    /// The vehicles.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The runtime or its signals.
    #[error("runtime: {0}")]
    Runtime(#[source] io::Error),
    /// The report.
    #[error("report: {0}")]
    Report(#[source] io::Error),
    /// The store.
    #[error("store: {0}")]
    Store(#[from] rusqlite::Error),
    /// No vehicle came online.
    #[error("no vehicle could connect: {0}")]
    Unreachable(String),
}

/// Runs a subcommand; false after an anomaly.
///
/// # Errors
/// [`RunError`].
pub fn run(arguments: Arguments) -> Result<bool, RunError> {
    match &arguments.command {
        Command::Certs { dir } => create_certificates(dir).map(|()| true),
        Command::Compare { dir, baseline, json } => compare(dir, baseline, json.as_deref()).map_err(RunError::Report),
        Command::Ports { count } => print_ports(*count).map(|()| true).map_err(RunError::Runtime),
        Command::Latest { store, vehicles } => {
            store::latest(&store.path, *vehicles)?.iter().for_each(|line| println!("{line}"));
            Ok(true)
        }
        simulation => simulate(simulation),
    }
}

fn create_certificates(dir: &Path) -> Result<(), RunError> {
    let made = Files::in_dir(dir).create()?;
    println!("{} {}", if made { "certificates made in" } else { "certificates kept in" }, dir.display());
    Ok(())
}

fn compare(dir: &Path, baseline: &str, json: Option<&Path>) -> io::Result<bool> {
    let comparison = Comparison::read(dir, baseline)?;
    print!("{comparison}");
    if let Some(path) = json {
        fs::write(path, serde_json::to_vec_pretty(&comparison).expect("a comparison has string keys"))?;
    }
    Ok(comparison.failures.is_empty())
}

/// All are held until all are known, so they differ; whoever uses them must be quick.
fn print_ports(count: usize) -> io::Result<()> {
    let listeners: Vec<_> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
    listeners.iter().try_for_each(|listener| {
        println!("{}", listener.local_addr()?.port());
        Ok(())
    })
}

fn simulate(command: &Command) -> Result<bool, RunError> {
    let Some((plan, arguments)) = command.plan()? else { return Ok(true) };
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Runtime)?;
    let report = runtime.block_on(conduct(command, Arc::new(plan), arguments))?;
    print!("{report}");
    if let Some(path) = &arguments.json {
        let json = serde_json::to_vec_pretty(&report).expect("a report has string keys");
        fs::write(path, json).map_err(RunError::Report)?;
    }
    Ok(report.failures.is_empty())
}

async fn conduct(command: &Command, plan: Arc<Plan>, arguments: &FleetArguments) -> Result<Report, RunError> {
    let authority = Arc::new(Authority::load(&arguments.files(), arguments.post_quantum)?);
    let mut run = Run {
        interrupt: Interrupt::new().map_err(RunError::Runtime)?,
        fleet: Fleet::start(&plan, authority).await?,
        server: arguments.server_pid.map(|pid| Process { pid }),
        progress: matches!(command, Command::Demo { .. }).then(Progress::start),
        report: Report {
            mode: command.name(),
            vehicles: plan.vehicles,
            threads: plan.threads,
            totals: Totals::default(),
            steps: Vec::new(),
            rounds: Vec::new(),
            handshake_us: None,
            idle: Vec::new(),
            deaf_vehicles: (0..plan.vehicles).filter(|vehicle| plan.is_deaf(*vehicle)).count() as u32,
            server_memory: None,
            server_peak_anonymous: None,
            store: None,
            troubles: Vec::new(),
            failures: Vec::new(),
        },
        plan,
    };
    let steps: Vec<steps::Pending> = match command {
        Command::Storm { .. } => run.storm().await.map(|()| Vec::new())?,
        Command::Idle { .. } => run.idle().await.map(|()| Vec::new())?,
        _ => run.steps().await?,
    };
    let outcome = run.finish().await;
    let content = run.plan.content;
    run.report.steps = steps.into_iter().map(|step| step.report(&outcome.latency, content)).collect();
    run.report.handshake_us = outcome.latency.handshakes();
    for (wave, round) in run.report.rounds_mut().enumerate() {
        round.handshake_us = outcome.latency.wave(wave);
    }
    if let Some(store) = &arguments.store {
        run.check_store(&store.path, &outcome)?;
    }
    Ok(run.report)
}

/// A run in progress.
struct Run {
    plan: Arc<Plan>,
    fleet: Fleet,
    server: Option<Process>,
    interrupt: Interrupt,
    progress: Option<Progress>,
    report: Report,
}

/// Everything that is measured as a difference.
struct Sample {
    at: Instant,
    totals: Totals,
    server: Option<Usage>,
    simulator: Option<Usage>,
}

impl Sample {
    fn since(&self, earlier: &Self, count: Count) -> u64 {
        self.totals.of(count) - earlier.totals.of(count)
    }

    /// CPU of server and simulator, spread over so many events.
    fn cpu_since(&self, earlier: &Self, events: u64) -> [Option<CpuReport>; 2] {
        let pairs = [(&self.server, &earlier.server), (&self.simulator, &earlier.simulator)];
        pairs.map(|(after, before)| Some(CpuReport::new(after.as_ref()?.since(before.as_ref()?), events)))
    }
}

impl Run {
    fn sample(&self) -> Sample {
        Sample {
            at: Instant::now(),
            totals: self.fleet.totals(),
            server: self.server.and_then(Process::usage),
            simulator: Process::own().usage(),
        }
    }

    /// Waits until `done`, the time is over or somebody interrupts; true if `done`.
    async fn until(&mut self, limit: Option<Duration>, done: impl Fn(&Totals) -> bool) -> bool {
        let deadline = limit.map(|limit| time::Instant::now() + limit);
        let mut look = time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shown = Instant::now();
        loop {
            if done(&self.fleet.totals()) {
                return true;
            }
            if self.interrupt.came || deadline.is_some_and(|deadline| time::Instant::now() >= deadline) {
                return false;
            }
            let next = async {
                match deadline.filter(|deadline| *deadline < time::Instant::now() + LOOK) {
                    Some(deadline) => time::sleep_until(deadline).await,
                    None => drop(look.tick().await),
                }
            };
            tokio::select! {
                () = next => {}
                () = self.interrupt.wait() => {}
            }
            if shown.elapsed() >= SHOW {
                shown = Instant::now();
                self.show();
                self.note_memory();
            }
        }
    }

    async fn pause(&mut self, time: Duration) {
        self.until(Some(time), |_| false).await;
    }

    /// Connects everybody in a wave; goes on without those that cannot, as long as somebody can.
    async fn connect(&mut self, wave: usize) -> Result<Round, RunError> {
        let before = self.sample();
        self.fleet.set(Phase::Connect(wave));
        let called = u64::from(self.plan.waves[wave]);
        self.until(Some(self.connect_limit(wave)), |totals| totals.online() >= called).await;
        if self.fleet.totals().of(Count::Connected) == 0 && !self.interrupt.came {
            let _ = self.fleet.finish(Duration::ZERO, pending()).await;
            return Err(RunError::Unreachable(self.fleet.troubles().join("; ")));
        }
        self.note_absent(called);
        Ok(Round::new(&before, &self.sample()))
    }

    fn connect_limit(&self, wave: usize) -> Duration {
        let newcomers = self.plan.newcomers(wave).len() as f64;
        let paced = self.plan.connect_rate.map_or(0.0, |rate| newcomers / rate);
        self.plan.connect_limit + Duration::from_secs_f64(paced)
    }

    fn note_absent(&mut self, called: u64) {
        let online = self.fleet.totals().online();
        let absent = called.saturating_sub(online);
        if absent > 0 && !self.interrupt.came {
            self.report.failures.push(format!("{absent} vehicles did not connect in time"));
        }
    }

    fn note_memory(&mut self) {
        let peak = &mut self.report.server_peak_anonymous;
        *peak = self.server.and_then(Process::anonymous).max(*peak);
    }

    async fn finish(&mut self) -> Outcome {
        self.note_memory();
        self.report.server_memory = self.server.and_then(Process::memory);
        self.show();
        let outcome = self.fleet.finish(self.plan.drain, self.interrupt.wait()).await;
        self.show();
        if let Some(progress) = &self.progress {
            progress.end();
        }
        self.report.totals = self.fleet.totals();
        self.report.troubles = self.fleet.troubles();
        self.report.failures.extend(self.report.totals.anomalies());
        outcome
    }

    fn check_store(&mut self, path: &Path, outcome: &Outcome) -> Result<(), RunError> {
        let findings = store::look_up(path, &outcome.acked)?;
        if findings.missing > 0 {
            let example = findings.example.as_deref().unwrap_or_default();
            self.report
                .failures
                .push(format!("{} acked records are not in the store, such as {example}", findings.missing));
        }
        self.report.store = Some(findings);
        Ok(())
    }

    fn show(&mut self) {
        self.fleet.flush();
        if let Some(progress) = &mut self.progress {
            progress.show(self.plan.vehicles, &self.fleet.totals());
        }
    }
}

/// SIGINT or SIGTERM: finish early, with a summary; the second one does not wait for acks.
struct Interrupt {
    int: Signal,
    term: Signal,
    came: bool,
}

impl Interrupt {
    fn new() -> io::Result<Self> {
        Ok(Self { int: signal(SignalKind::interrupt())?, term: signal(SignalKind::terminate())?, came: false })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
        self.came = true;
    }
}
