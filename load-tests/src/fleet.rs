//! The vehicles, spread over threads that share nothing but counters.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

use crate::certs::{Authority, CertsError};
use crate::journal::Journal;
use crate::latency::Latency;
use crate::pacer::{Wake, pace};
use crate::plan::{Load, Phase, Plan};
use crate::record::Clock;
use crate::record::txid::Txid;
use crate::tally::{Tally, Totals};
use crate::vehicle::Vehicle;

/// Why the fleet did not start.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A thread or its runtime.
    #[error("thread: {0}")]
    Thread(#[source] io::Error),
    /// The list of acked records.
    #[error("list of acked records: {0}")]
    Journal(#[source] io::Error),
    /// A vehicle's certificate.
    #[error(transparent)]
    Certificate(#[from] CertsError),
}

/// A record that was acked, to be looked up.
pub type AckedRecord = (&'static str, Txid);

/// What a thread's vehicles leave behind.
#[derive(Debug)]
pub struct Outcome {
    /// How long things took.
    pub latency: Latency,
    /// Empty unless the plan remembers acks.
    pub acked: Vec<AckedRecord>,
}

/// What all vehicles of a thread share.
#[derive(Debug)]
pub struct Lane {
    /// The run.
    pub plan: Arc<Plan>,
    /// Counters.
    pub tally: Arc<Tally>,
    /// What to do now.
    pub phase: Cell<Phase>,
    /// Since when.
    pub since: Cell<Instant>,
    /// Histograms.
    pub latency: RefCell<Latency>,
    /// The latest wave that connects.
    pub wave: Cell<usize>,
    /// Wall clock.
    pub clock: Clock,
    /// Bounds attempts to connect, so that they do not time out waiting for each other.
    pub attempts: Semaphore,
    journal: Option<Arc<Journal>>,
    acked: RefCell<Vec<AckedRecord>>,
    troubles: Arc<Troubles>,
    changed: Notify,
}

impl Lane {
    /// Remembers an ack for whoever wants to know.
    pub fn note_ack(&self, vin: &str, topic: &'static str, txid: Txid) {
        if let Some(journal) = &self.journal
            && let Err(error) = journal.acked(vin, topic, txid)
        {
            self.note_trouble(format!("list of acked records: {error}"));
        }
        if self.plan.remember_acks {
            self.acked.borrow_mut().push((topic, txid));
        }
    }

    /// Remembers why something failed; the first few are reported.
    pub fn note_trouble(&self, trouble: String) {
        self.troubles.note(trouble);
    }
}

/// The first few different errors.
#[derive(Debug, Default)]
pub struct Troubles(Mutex<Vec<String>>);

impl Troubles {
    const KEPT: usize = 5;

    fn note(&self, trouble: String) {
        let mut kept = self.0.lock().expect("no thread panics while it notes");
        if kept.len() < Self::KEPT && !kept.contains(&trouble) {
            kept.push(trouble);
        }
    }

    /// What was noted.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.0.lock().expect("no thread panics while it notes").clone()
    }
}

/// A running fleet.
#[derive(Debug)]
pub struct Fleet {
    phase: watch::Sender<Phase>,
    tallies: Vec<Arc<Tally>>,
    journal: Option<Arc<Journal>>,
    troubles: Arc<Troubles>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Fleet {
    /// Makes the vehicles and their certificates; they stay parked.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn start(plan: &Arc<Plan>, authority: Arc<Authority>) -> Result<Self, FleetError> {
        let journal = plan.journal.as_deref().map(Journal::open).transpose().map_err(FleetError::Journal)?;
        let (phase, phases) = watch::channel(Phase::Parked);
        let (leave, outcomes) = mpsc::unbounded_channel();
        let (ready, mut made) = mpsc::unbounded_channel();
        let mut fleet = Self {
            phase,
            tallies: Vec::new(),
            journal: journal.map(Arc::new),
            troubles: Arc::default(),
            outcomes,
            threads: Vec::new(),
        };
        for number in 0..plan.threads {
            let tally = Arc::new(Tally::default());
            fleet.tallies.push(tally.clone());
            let shared = Shared {
                number,
                plan: plan.clone(),
                authority: authority.clone(),
                tally,
                journal: fleet.journal.clone(),
                troubles: fleet.troubles.clone(),
                phases: phases.clone(),
                ready: ready.clone(),
                leave: leave.clone(),
            };
            let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(FleetError::Thread)?;
            let thread = thread::Builder::new().name(format!("vehicles-{number}"));
            let run = move || LocalSet::new().block_on(&runtime, shared.run());
            fleet.threads.push(thread.spawn(run).map_err(FleetError::Thread)?);
        }
        drop(ready);
        while let Some(made) = made.recv().await {
            made?;
        }
        Ok(fleet)
    }

    /// Tells every vehicle what to do.
    pub fn set(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Counters of all threads.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.tallies.iter().fold(Totals::default(), |sum, tally| sum.plus(&tally.totals()))
    }

    /// Errors noted so far.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        self.troubles.list()
    }

    /// Hands the list of acked records to the kernel.
    pub fn flush(&self) {
        if let Some(Err(error)) = self.journal.as_deref().map(Journal::flush) {
            self.troubles.note(format!("list of acked records: {error}"));
        }
    }

    /// What vehicles left behind, once all have left; lets them wait for acks until `drain` or `hurry` is over.
    pub async fn finish(&mut self, drain: Duration, hurry: impl Future<Output = ()>) -> Outcome {
        self.set(Phase::Drain);
        let mut left = Vec::new();
        let all_left = async {
            while let Some(outcome) = self.outcomes.recv().await {
                left.push(outcome);
            }
        };
        tokio::select! {
            () = all_left => {}
            () = tokio::time::sleep(drain) => {},
            () = hurry => {}
        }
        self.set(Phase::Stop);
        while let Some(outcome) = self.outcomes.recv().await {
            left.push(outcome);
        }
        let mut outcome = left.pop().unwrap_or_else(|| Outcome { latency: Latency::new(0, 0), acked: Vec::new() });
        for other in left {
            outcome.latency.merge(&other.latency);
            outcome.acked.extend(other.acked);
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.troubles.note("a thread of vehicles panicked".to_owned());
            }
        }
        self.flush();
        outcome
    }
}

/// What a thread starts with.
struct Shared {
    number: u32,
    plan: Arc<Plan>,
    authority: Arc<Authority>,
    tally: Arc<Tally>,
    journal: Option<Arc<Journal>>,
    troubles: Arc<Troubles>,
    phases: watch::Receiver<Phase>,
    ready: mpsc::UnboundedSender<Result<(), CertsError>>,
    leave: mpsc::UnboundedSender<Outcome>,
}

impl Shared {
    async fn run(self) {
        let lane = Rc::new(Lane {
            phase: Cell::new(Phase::Parked),
            since: Cell::new(Instant::now()),
            latency: RefCell::new(Latency::new(self.plan.steps.len(), self.plan.waves.len())),
            wave: Cell::new(0),
            clock: Clock::start(),
            attempts: Semaphore::new(attempts(&self.plan)),
            journal: self.journal,
            acked: RefCell::default(),
            troubles: self.troubles,
            changed: Notify::new(),
            tally: self.tally,
            plan: self.plan,
        });
        let wakes: Rc<[Rc<Wake>]> = own(&lane.plan, self.number).map(|_| Rc::new(Wake::default())).collect();
        let vehicles: Result<Vec<_>, _> = own(&lane.plan, self.number)
            .zip(wakes.iter())
            .map(|(index, wake)| Vehicle::new(index, lane.clone(), wake.clone(), &self.authority))
            .collect();
        let vehicles = match vehicles {
            Ok(vehicles) => vehicles,
            Err(error) => return drop(self.ready.send(Err(error))),
        };
        // Nobody waits for it when another thread has failed.
        let _ = self.ready.send(Ok(()));
        drop(self.ready);

        let follower = tokio::task::spawn_local(follow(self.phases, lane.clone(), wakes.clone()));
        let pacer = tokio::task::spawn_local(pace_steps(lane.clone(), wakes, self.number));
        let mut running = JoinSet::new();
        for vehicle in vehicles {
            running.spawn_local(vehicle.run());
        }
        while let Some(vehicle) = running.join_next().await {
            if vehicle.is_err() {
                lane.note_trouble("a vehicle panicked".to_owned());
            }
        }
        follower.abort();
        pacer.abort();
        let latency = lane.latency.replace(Latency::new(0, 0));
        let _ = self.leave.send(Outcome { latency, acked: lane.acked.take() });
    }
}

/// Attempts at the same time by one thread; a storm knows no bound.
fn attempts(plan: &Plan) -> usize {
    const PACED: usize = 32;
    if plan.connect_rate.is_some() { PACED } else { Semaphore::MAX_PERMITS }
}

/// The vehicles of one thread: every `threads`th.
fn own(plan: &Plan, thread: u32) -> impl Iterator<Item = u32> + use<> {
    (thread..plan.vehicles).step_by(plan.threads as usize)
}

/// Passes phases on to the vehicles.
async fn follow(mut phases: watch::Receiver<Phase>, lane: Rc<Lane>, wakes: Rc<[Rc<Wake>]>) {
    while phases.changed().await.is_ok() {
        let phase = *phases.borrow_and_update();
        lane.since.set(Instant::now());
        if let Phase::Connect(wave) = phase {
            lane.wave.set(wave);
        }
        lane.phase.set(phase);
        lane.changed.notify_one();
        wakes.iter().for_each(|wake| wake.nudge());
    }
}

/// Runs the clock of every paced step.
async fn pace_steps(lane: Rc<Lane>, wakes: Rc<[Rc<Wake>]>, thread: u32) {
    loop {
        let interval = match lane.phase.get() {
            Phase::Run(step) if lane.plan.load == Load::Paced => interval(&lane.plan, step, wakes.len()),
            _ => None,
        };
        let Some((step, interval)) = interval else {
            lane.changed.notified().await;
            continue;
        };
        let phase = f64::from(thread + 1) / f64::from(lane.plan.threads);
        tokio::select! {
            () = lane.changed.notified() => {}
            Err(error) = pace(&wakes, interval, phase, step) => {
                lane.note_trouble(format!("timer: {error}"));
                return;
            }
        }
    }
}

/// Time between two messages of a thread's vehicles.
fn interval(plan: &Plan, step: usize, vehicles: usize) -> Option<(usize, Duration)> {
    let rate = plan.steps[step].rate? * vehicles as f64 / f64::from(plan.vehicles);
    (rate > 0.0).then(|| (step, Duration::from_secs_f64(1.0 / rate)))
}
