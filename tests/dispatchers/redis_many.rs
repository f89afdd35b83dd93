//! Redis where there are several servers: clusters, and a master with sentinels.

use std::collections::HashSet;
use std::time::Duration;

use fleet_telemetry::config::{self, RedisMode};
use fleet_telemetry::dispatch::Outcome;

use crate::contract::{Patient, assert_all, number};
use crate::redis::{PATIENCE, RECORDS, VINS, assert_in_order, bench, channels, config, failure, load};
use crate::support::redis::{Client, Cluster, Redis, Reply};
use crate::support::service::{Service, await_port, free_ports};
use crate::support::wait;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_every_node_hears_and_sets_are_asked_where_they_are() {
    let cluster = Cluster::start();
    let listeners: Vec<_> = cluster.nodes.iter().map(Redis::listen).collect();
    let config = config::Redis {
        mode: RedisMode::Cluster,
        subscriber_set_prefix: Some("subs".to_owned()),
        ..channels(&[cluster.nodes[0].port])
    };
    let bench = bench(&config).await;
    let vins: Vec<_> = (0..12).map(|n| format!("VIN{n}")).collect();
    for vin in &vins {
        let set = format!("subs_tesla_V_{{{vin}}}");
        let mut client = cluster.node(&set).client();
        client.command(&[b"ZADD", set.as_bytes(), b"9999999999", format!("wants {vin}").as_bytes()]);
        bench.send(&bench.record(vin, 0)).await;
    }
    assert_all(&bench.settled::<Patient>(12).await, Outcome::Delivered);
    for listener in &listeners {
        wait::until("all are heard", PATIENCE, async || listener.heard().len() == 24).await;
        let heard: HashSet<_> = listener.heard().into_iter().map(|(channel, _)| channel).collect();
        assert!(vins.iter().all(|vin| heard.contains(&format!("wants {vin}"))), "{heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_which_a_node_is_killed_loses_nothing_that_was_acked() {
    let cluster = Cluster::start();
    let config = config::Redis { mode: RedisMode::Cluster, ..config(&[cluster.nodes[0].port]) };
    let bench = bench(&config).await;
    let holder = cluster.node("tesla_V");
    let (acked, ()) = tokio::join!(load(&bench), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        holder.kill();
        tokio::time::sleep(Duration::from_secs(4)).await;
        holder.restart();
    });
    assert_eq!(acked, VINS.len() * RECORDS);
    cluster.await_ready();
    assert_in_order(&mut holder.client());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_to_another_node_is_followed() {
    let cluster = Cluster::start();
    let config = config::Redis { mode: RedisMode::Cluster, ..config(&[cluster.nodes[0].port]) };
    let bench = bench(&config).await;
    let from = cluster.node("tesla_V");
    let to = cluster.nodes.iter().find(|node| node.port != from.port).unwrap();
    let id = |node: &Redis| node.client().command(&[b"CLUSTER", b"MYID"]).text().to_vec();
    let Reply::Integer(slot) = from.client().command(&[b"CLUSTER", b"KEYSLOT", b"tesla_V"]) else { panic!("a slot") };
    let slot = slot.to_string();
    for node in &cluster.nodes {
        let owner = id(to);
        let set: [&[u8]; 5] = [b"CLUSTER", b"SETSLOT", slot.as_bytes(), b"NODE", &owner];
        node.client().command(&set);
    }
    bench.send(&bench.record("VIN", 0)).await;
    assert_all(&bench.settled::<Patient>(1).await, Outcome::Delivered);
    assert_eq!(to.client().entries("tesla_V").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_sentinels_replace_is_followed() {
    let master = Redis::start();
    let port = master.port.to_string();
    let replica = Redis::with(&["--replicaof", &format!("127.0.0.1 {port}")], |_| ());
    wait::until("in step", PATIENCE, async || {
        String::from_utf8_lossy(replica.client().command(&[b"INFO", b"replication"]).text())
            .contains("master_link_status:up")
    })
    .await;
    let [sentinel] = free_ports();
    let file = master.dir().join("sentinel.conf");
    let lines = format!(
        "port {sentinel}\nbind 127.0.0.1\nsentinel monitor cars 127.0.0.1 {port} 1\nsentinel down-after-milliseconds cars 1000\n\
         sentinel failover-timeout cars 5000\n"
    );
    std::fs::write(&file, lines).unwrap();
    let log = master.dir().join("sentinel.log");
    let service = Service::start(&log, "redis-server", [file.to_str().unwrap(), "--sentinel"]);
    await_port(sentinel, &service, &log);
    wait::until("the sentinel knows the replica", PATIENCE, async || {
        Client::connect(sentinel).command(&[b"SENTINEL", b"REPLICAS", b"cars"]).list().len() == 1
    })
    .await;

    let mode = RedisMode::Sentinel { master: "cars".to_owned() };
    let bench = bench(&config::Redis { mode, ..config(&[sentinel]) }).await;
    bench.send(&bench.record("VIN", 0)).await;
    assert_all(&bench.settled::<Patient>(1).await, Outcome::Delivered);
    master.kill();
    bench.send(&bench.record("VIN", 5)).await;
    assert_all(&bench.settled::<Patient>(1).await, Outcome::Delivered);
    let there = replica.client().entries("tesla_V");
    assert_eq!(number(&there.last().unwrap()["txid"]), 5, "it is with the new master");

    let mode = RedisMode::Sentinel { master: "trucks".to_owned() };
    let unknown = config::Redis { mode, connect_timeout: Duration::from_millis(300), ..config(&[sentinel]) };
    let text = failure(&unknown).await.to_string();
    assert!(text.contains("the sentinel knows no master \"trucks\" (redis.sentinel_master)"), "{text}");
}
