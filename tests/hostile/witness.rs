//! What the others feel: a vehicle that behaves, while somebody else does not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::support::pki::Pki;
use crate::support::server::Server;
use crate::support::vehicle::{Vehicle, ack, v_payload};

/// Sends a record every 50 ms, from a thread of its own so that the attack does not delay its clock.
pub(crate) struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Testimony>,
}

/// What a witness saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Testimony {
    /// Records sent, each of which was acked.
    pub(crate) acks: u32,
    pub(crate) slowest: Duration,
}

const VIN: &str = "5YJ3E1EA0PFWITNES";
const PERIOD: Duration = Duration::from_millis(50);
/// The worst that others may feel. Generous: it includes what else this machine is doing.
pub(crate) const WORST: Duration = Duration::from_secs(3);

impl Witness {
    /// Connected when this returns; sends `V`.
    pub(crate) fn of(server: &Server, pki: &Pki) -> Self {
        Self::sending("V", server, pki)
    }

    pub(crate) fn sending(topic: &'static str, server: &Server, pki: &Pki) -> Self {
        let (address, config) = (server.address, pki.vehicle(VIN));
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let (ready, connected) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(watch(topic, address, &config, &seen, || ready.send(()).unwrap()))
        });
        connected.recv().expect("the witness connects");
        Self { stop, thread }
    }

    /// Ends, prints and judges what it saw.
    pub(crate) async fn testify(self, attack: &str) -> Testimony {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread;
        let testimony = tokio::task::spawn_blocking(|| thread.join()).await.unwrap();
        let testimony = testimony.unwrap_or_else(|_| panic!("{attack}: a vehicle that behaves got no ack"));
        let Testimony { acks, slowest } = testimony;
        println!("{attack}: others got {acks} acks, the slowest after {} ms", slowest.as_millis());
        assert!(slowest < WORST, "{attack}: an ack of a vehicle that behaves took {slowest:?}");
        testimony
    }
}

async fn watch(
    topic: &'static str,
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    stop: &AtomicBool,
    connected: impl FnOnce(),
) -> Testimony {
    let mut vehicle = Vehicle::connect(address, config, VIN).await;
    connected();
    let payload = if topic == "V" { v_payload(VIN, 1.0) } else { Vec::new() };
    let mut testimony = Testimony { acks: 0, slowest: Duration::ZERO };
    // One more after the end, so that what came at last is felt too.
    let mut last = false;
    while !last {
        last = stop.load(Ordering::Relaxed);
        let sent = Instant::now();
        let txid = format!("witness-{}", testimony.acks);
        vehicle.send(topic, &txid, &payload).await;
        assert_eq!(vehicle.receive().await, ack(topic, &txid));
        testimony.acks += 1;
        testimony.slowest = testimony.slowest.max(sent.elapsed());
        tokio::time::sleep(PERIOD.saturating_sub(sent.elapsed())).await;
    }
    testimony
}
