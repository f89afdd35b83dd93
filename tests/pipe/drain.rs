//! SIGTERM under load: the process settles what it has, so that vehicles hardly send anything twice.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::fleet::{Fleet, Pace, check};
use crate::site::{Site, stoppable_broker};
use crate::support::kafka::Broker;

const VEHICLES: usize = 20;
const PACE: Pace = Pace { every: Duration::from_millis(20), window: 100 };
const PATIENCE: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(20);
const RESTARTS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_under_load_loses_nothing_and_repeats_hardly_anything() {
    let broker = Broker::shared();
    let site = Site::new(broker, "drain", |config| {
        // So that there are always records in flight.
        config["kafka"]["linger.ms"] = json!(50);
        config["shutdown"] = json!({ "drain": "500ms", "deadline": format!("{}s", DEADLINE.as_secs()) });
    });
    let mut server = site.serve();
    let fleet = Fleet::start(server.address, &site.pki, VEHICLES, PACE);
    for _ in 0..RESTARTS {
        fleet.streams_on(100, PATIENCE).await;
        let signalled = Instant::now();
        server.signal("TERM");
        let status = server.wait(DEADLINE + Duration::from_secs(1));
        let took = signalled.elapsed();
        assert_eq!(status.code(), Some(0), "{:#?}", server.events("producer_close_error"));
        server = site.serve();
        eprintln!("drained in {took:?}; streams {:?} after the restart", fleet.streams(PATIENCE).await);
    }
    let journals = fleet.finish(PATIENCE).await;
    let tally = check(&journals, &broker.consume(&site.topic("V")));
    let resent: u64 = journals.iter().map(|vehicle| vehicle.resent).sum();
    eprintln!("{tally:?}; vehicles sent {resent} records again");
    assert!(tally.duplicates * 100 <= tally.records, "more than 1 % twice: {tally:?}");
    assert!(journals.iter().all(|vehicle| vehicle.connections > RESTARTS as u64), "all came back each time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_while_the_broker_does_not_answer_ends_in_time_and_loses_nothing() {
    let deadline = Duration::from_secs(8);
    let broker = stoppable_broker().await;
    let site = Site::new(&broker, "stuck", |config| {
        config["shutdown"] = json!({ "drain": "500ms", "deadline": "8s" });
    });
    let mut server = site.serve();
    let fleet = Fleet::start(server.address, &site.pki, VEHICLES, PACE);
    fleet.streams_on(20, PATIENCE).await;
    broker.pause();
    fleet.stalls(PACE.window, PATIENCE).await;
    let signalled = Instant::now();
    server.signal("TERM");
    let status = server.wait(deadline + Duration::from_secs(3));
    let took = signalled.elapsed();
    eprintln!("drained without a broker in {took:?}");
    assert_eq!(status.code(), Some(0));
    assert!(took <= deadline, "{took:?} is after the deadline of {deadline:?}");
    broker.resume();
    let _server = site.serve();
    let journals = fleet.finish(PATIENCE).await;
    let tally = check(&journals, &broker.consume(&site.topic("V")));
    eprintln!("{tally:?}");
}
