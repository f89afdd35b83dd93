//! Kills while vehicles stream: what was acked is in the topic, in order, and everyone catches up.

use std::time::Duration;

use serde_json::json;

use crate::fleet::{Fleet, Journal, Pace, Tally, check};
use crate::site::{Site, stoppable_broker};
use crate::support::kafka::Broker;

const VEHICLES: usize = 8;
const PACE: Pace = Pace { every: Duration::from_millis(20), window: 100 };
const PATIENCE: Duration = Duration::from_secs(90);
const KILLS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acked_is_lost_while_broker_and_server_are_killed_in_turn() {
    let broker = Broker::start();
    let site = Site::new(&broker, "kills", |_| {});
    let mut server = site.serve();
    let fleet = Fleet::start(server.address, &site.pki, VEHICLES, PACE);
    fleet.streams(PATIENCE).await;
    for _ in 0..KILLS {
        broker.kill();
        broker.restart();
        let streams = fleet.streams(PATIENCE).await;
        eprintln!("broker killed: streams {streams:?} after it is back");
        fleet.streams_on(50, PATIENCE).await;
    }
    for _ in 0..KILLS {
        server.kill();
        server = site.serve();
        let streams = fleet.streams(PATIENCE).await;
        eprintln!("server killed: streams {streams:?} after it is back");
        fleet.streams_on(50, PATIENCE).await;
    }
    let journals = fleet.finish(PATIENCE).await;
    conclude(&journals, &broker, &site);
    assert!(journals.iter().all(|vehicle| vehicle.connections > KILLS as u64), "each server had every vehicle");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acked_is_lost_when_the_server_is_killed_while_the_broker_is_down() {
    let broker = Broker::start();
    let site = Site::new(&broker, "both", |_| {});
    let server = site.serve();
    let fleet = Fleet::start(server.address, &site.pki, VEHICLES, PACE);
    fleet.streams(PATIENCE).await;
    broker.kill();
    let filled = fleet.stalls(PACE.window, PATIENCE).await;
    server.kill();
    // The server waits for the broker.
    let server = std::thread::scope(|scope| {
        let server = scope.spawn(|| site.serve());
        broker.restart();
        server.join().unwrap()
    });
    let streams = fleet.streams(PATIENCE).await;
    eprintln!("both killed: windows full after {filled:?}, streams {streams:?} after they are back");
    let journals = fleet.finish(PATIENCE).await;
    conclude(&journals, &broker, &site);
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_hangs_until_requests_time_out_causes_neither_loss_nor_copies() {
    let broker = stoppable_broker().await;
    let site = Site::new(&broker, "hangs", |config| {
        config["kafka"]["request.timeout.ms"] = json!(1000);
        config["kafka"]["socket.timeout.ms"] = json!(1000);
    });
    let server = site.serve();
    let fleet = Fleet::start(server.address, &site.pki, VEHICLES, PACE);
    fleet.streams_on(20, PATIENCE).await;
    broker.pause();
    let filled = fleet.stalls(PACE.window, PATIENCE).await;
    // The client library's own line; the requests in flight will be sent again.
    server.event_where("a request that timed out", PATIENCE, |line| line.to_string().contains("Timed out")).await;
    broker.resume();
    let streams = fleet.streams(PATIENCE).await;
    eprintln!("broker stopped: windows full after {filled:?}, streams {streams:?} after it goes on");
    let journals = fleet.finish(PATIENCE).await;
    let replaced = server.metric(r#"kafka_producer_replaced_total{reason="stuck"}"#).await;
    let tally = conclude(&journals, &broker, &site);
    // A broker that was fenced meanwhile can make the client forget all brokers; the next producer has another id.
    assert!(tally.duplicates == 0 || replaced > 0.0, "the producer is idempotent");
}

fn conclude(journals: &[Journal], broker: &Broker, site: &Site) -> Tally {
    let tally = check(journals, &broker.consume(&site.topic("V")));
    let resent: u64 = journals.iter().map(|vehicle| vehicle.resent).sum();
    let timeouts: u64 = journals.iter().map(|vehicle| vehicle.timeouts).sum();
    eprintln!("{tally:?}; vehicles sent {resent} records again, and gave up {timeouts} connections");
    tally
}
