//! Vehicles that stream while their grants flip: every record obeys the grant that was in force when it was accepted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fleet_telemetry::proto::vehicle_data::Payload;
use prost::Message as _;
use serde_json::json;
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::site::{Site, has_place, now, record};
use crate::support::api::Api;
use crate::support::vehicle::{Vehicle, ack};

/// Divisible by [`FLIPPERS`].
const VEHICLES: usize = 1_000;
const RECORDS: usize = 30;
/// Clients of the API; each has its own vehicles, so that the changes of one vehicle come one after the other.
const FLIPPERS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(40);

/// One call that changed a vehicle's grant.
#[derive(Clone, Copy)]
struct Flip {
    called: Instant,
    returned: Instant,
    granted: bool,
}

/// One record: made after `sent`, acked before `acked`.
struct Sent {
    txid: String,
    sent: Instant,
    acked: Instant,
}

#[derive(Debug, Default)]
struct Judged {
    allowed: usize,
    withheld: usize,
    /// A call was under way while the record was.
    ambiguous: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_obeys_the_grant_that_was_in_force_when_it_was_accepted() {
    let started = Instant::now();
    let site = Site::new(|_| {});
    let server = site.serve();
    let vins: Vec<_> = (0..VEHICLES).map(|n| format!("5YJ3E1EA0PF{n:06}")).collect();

    let connecting = Arc::new(Semaphore::new(16));
    let ready = Arc::new(Barrier::new(VEHICLES + 1));
    let mut vehicles = JoinSet::new();
    for vin in &vins {
        let tls = site.pki.vehicle(vin);
        let (vin, address) = (vin.clone(), server.address);
        let (connecting, ready) = (Arc::clone(&connecting), Arc::clone(&ready));
        vehicles.spawn(async move {
            let permit = connecting.acquire().await.unwrap();
            let vehicle = Vehicle::connect(address, &tls, &vin).await;
            drop(permit);
            ready.wait().await;
            (vin, stream(vehicle).await)
        });
    }
    let over = Arc::new(AtomicBool::new(false));
    let flips = Arc::new(Mutex::new(grant_half(site.api(), &vins).await));
    ready.wait().await;
    let connected = started.elapsed();
    let mut flippers = JoinSet::new();
    for own in vins.chunks(VEHICLES / FLIPPERS) {
        flippers.spawn(flip(site.api(), own.to_vec(), Arc::clone(&over), Arc::clone(&flips)));
    }
    let sent: HashMap<_, _> = vehicles.join_all().await.into_iter().collect();
    over.store(true, Ordering::Relaxed);
    flippers.join_all().await;

    let flips = flips.lock().unwrap();
    let stored = stored(&site);
    assert_eq!(stored.len(), VEHICLES * RECORDS, "every record is stored");
    let mut judged = Judged::default();
    for (vin, records) in &sent {
        let flips = flips.get(vin).map_or(&[][..], Vec::as_slice);
        for record in records {
            judge(record, flips, stored[&record.txid], &mut judged);
        }
    }
    let changes: usize = flips.values().map(Vec::len).sum();
    let slowest = sent.values().flatten().map(|record| record.acked - record.sent).max();
    eprintln!(
        "{judged:?} with {changes} changes; slowest ack {slowest:?}; connected after {connected:?}, all in {:?}",
        started.elapsed()
    );
    let unambiguous = judged.allowed + judged.withheld;
    assert!(judged.allowed > RECORDS && judged.withheld > RECORDS, "both must have happened: {judged:?}");
    assert!(unambiguous > judged.ambiguous, "most records can be judged: {judged:?}");
}

/// Sends one record after the other, each after the ack of the one before.
async fn stream(mut vehicle: Vehicle) -> Vec<Sent> {
    let mut all = Vec::with_capacity(RECORDS);
    for n in 0..RECORDS {
        let txid = format!("{}-{n}", vehicle.vin);
        let sent = Instant::now();
        vehicle.send("V", &txid, &record(&vehicle.vin, now())).await;
        // Everything is synced to a disk that others use, too.
        assert_eq!(vehicle.receive_within(PATIENCE).await, Some(ack("V", &txid)));
        all.push(Sent { txid, sent, acked: Instant::now() });
        sleep(PAUSE).await;
    }
    all
}

/// Every other vehicle starts with a grant, by an import.
async fn grant_half(api: Api, vins: &[String]) -> HashMap<String, Vec<Flip>> {
    let called = Instant::now();
    let granted: Vec<_> = vins.iter().step_by(2).collect();
    let entry = |vin| json!({ "vin": vin, "scope": "vehicle_location", "state": "granted" });
    let file = json!({ "version": 1, "grants": granted.iter().map(entry).collect::<Vec<_>>() });
    let (status, body) = api.ask("POST", "/v1/import", &file.to_string()).await;
    assert_eq!(status, 200, "{body}");
    let flip = Flip { called, returned: Instant::now(), granted: true };
    granted.into_iter().map(|vin| (vin.clone(), vec![flip])).collect()
}

/// Grants and revokes at random.
async fn flip(api: Api, vins: Vec<String>, over: Arc<AtomicBool>, flips: Arc<Mutex<HashMap<String, Vec<Flip>>>>) {
    while !over.load(Ordering::Relaxed) {
        let (random, coin) = uuid::Uuid::new_v4().as_u64_pair();
        let vin = &vins[usize::try_from(random % u64::try_from(vins.len()).unwrap()).unwrap()];
        let granted = coin % 2 == 0;
        let called = Instant::now();
        let _ = if granted { api.grant(vin).await } else { api.revoke(vin).await };
        let flip = Flip { called, returned: Instant::now(), granted };
        flips.lock().unwrap().entry(vin.clone()).or_default().push(flip);
    }
}

/// `flips` are those of the vehicle, in order.
fn judge(record: &Sent, flips: &[Flip], has_place: bool, judged: &mut Judged) {
    if flips.iter().any(|flip| flip.called <= record.acked && flip.returned >= record.sent) {
        judged.ambiguous += 1;
        return;
    }
    let allowed = flips.iter().rfind(|flip| flip.returned < record.sent).is_some_and(|flip| flip.granted);
    assert_eq!(has_place, allowed, "{} was accepted while its place was allowed: {allowed}", record.txid);
    *(if allowed { &mut judged.allowed } else { &mut judged.withheld }) += 1;
}

/// Whether each stored record has its place, by txid.
fn stored(site: &Site) -> HashMap<String, bool> {
    let store = site.store();
    let mut query = store.prepare("SELECT txid, payload FROM records").unwrap();
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))).unwrap();
    rows.map(|row| {
        let (txid, payload) = row.unwrap();
        (txid, has_place(&Payload::decode(payload.as_slice()).unwrap().data))
    })
    .collect()
}
