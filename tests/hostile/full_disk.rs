//! Disks that are full: nothing is acked that is not on them, and everything goes on when there is room again.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::api::{Api, TOKEN};
use crate::support::pki::Pki;
use crate::support::server::{Server, config, free_port};
use crate::support::vehicle::{Received, Vehicle, v_payload};
use crate::witness::Witness;

const VIN: &str = "5YJ3E1EA0PF000001";
const PATIENCE: Duration = Duration::from_secs(30);

/// A file system of 2 MiB, a part of which is taken by a file that can be removed.
struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// `None`, and says why, where it may not be mounted.
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(directory.path()).output();
        match mount {
            Ok(output) if output.status.success() => {}
            other => {
                println!("skipped: a small tmpfs cannot be mounted here ({other:?}); it needs root");
                return None;
            }
        }
        let disk = Self { directory };
        std::fs::write(disk.ballast(), vec![0; 1 << 20]).unwrap();
        Some(disk)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes what room there is.
    fn fill(&self) {
        let mut file = std::fs::OpenOptions::new().append(true).open(self.ballast()).unwrap();
        for size in [65_536, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Sends records of about 4 KB, one after the other; how many were acked before one was not for a while.
async fn send_until_silence(vehicle: &mut Vehicle, sent: &mut usize) -> Vec<String> {
    let mut payload = v_payload(VIN, 1.0);
    // A field that nobody knows, and that is kept.
    payload.extend([0xfa, 0x7f, 0x80, 0x20]);
    payload.extend([7; 4096]);
    let mut acked = Vec::new();
    loop {
        let txid = format!("t-{sent}");
        *sent += 1;
        vehicle.send("V", &txid, &payload).await;
        match vehicle.receive_within(Duration::from_millis(1500)).await {
            Some(Received::Ack { txid, .. }) => acked.push(String::from_utf8(txid).unwrap()),
            None => return acked,
            other => panic!("{other:?}"),
        }
        assert!(*sent < 2000, "the disk is never full");
    }
}

#[tokio::test]
async fn a_full_disk_holds_acks_back_and_loses_no_acked_record() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    let mut config = config(&pki);
    config["sqlite"]["path"] = json!(disk.path().join("telemetry.db"));
    config["records"] = json!({ "V": ["sqlite"], "alerts": ["logger"] });
    let server = Server::start(&pki, &config);
    // It has nothing to do with that disk.
    let witness = Witness::sending("alerts", &server, &pki);
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    let mut sent = 0;
    let mut acked = send_until_silence(&mut vehicle, &mut sent).await;
    println!("{} records were acked before the disk was full", acked.len());
    let why = server.readiness_becomes(503, PATIENCE).await;
    assert!(why.contains("sqlite: ") && why.contains("full"), "{why}");
    disk.make_room();
    server.readiness_becomes(200, PATIENCE).await;
    while let Some(Received::Ack { txid, .. }) = vehicle.receive_within(Duration::from_secs(3)).await {
        acked.push(String::from_utf8(txid).unwrap());
        if acked.len() == sent {
            break;
        }
    }
    vehicle.send("V", "afterwards", &v_payload(VIN, 2.0)).await;
    vehicle.expect_ack("V", "afterwards").await;
    acked.push("afterwards".to_owned());
    witness.testify("a full disk").await;
    let store = rusqlite::Connection::open(disk.path().join("telemetry.db")).unwrap();
    for txid in &acked {
        let count: i64 =
            store.query_row("SELECT count(*) FROM records WHERE txid = ?1", [txid], |row| row.get(0)).unwrap();
        assert_eq!(count, 1, "{txid} was acked");
    }
    drop((store, server));
}

/// The scope of the vehicle, as the API shows it.
async fn shown(api: Api) -> Value {
    let (status, body) = api.ask("GET", &format!("/v1/vehicles/{VIN}"), "").await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["scopes"]["vehicle_location"].clone()
}

#[tokio::test]
async fn a_change_of_consent_on_a_full_disk_is_made_or_refused_and_never_half() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    let mut config = config(&pki);
    config["permissions"] = json!({
        "mode": "enforce",
        "store": { "sqlite": { "path": disk.path().join("permissions.db") } },
        "api": { "port": free_port(), "token": TOKEN },
    });
    let server = Server::start(&pki, &config);
    let witness = Witness::of(&server, &pki);
    let api = Api::of(&config);
    api.grant(VIN).await;
    disk.fill();
    let path = format!("/v1/vehicles/{VIN}/scopes/vehicle_location");
    let (mut made, mut state, started) = (1_u64, "granted", Instant::now());
    // What is left in the log's pages is used up first.
    loop {
        assert!(started.elapsed() < PATIENCE, "the disk is never full");
        let wish = if state == "granted" { "denied" } else { "granted" };
        let change = json!({ "state": wish, "source": "test" });
        let (status, body) = api.ask("PUT", &path, &change.to_string()).await;
        match status {
            200 => (made, state) = (made + 1, wish),
            503 => {
                assert!(body.contains("store_unavailable") && body.contains("full"), "{body}");
                break;
            }
            other => panic!("{other}: {body}"),
        }
    }
    println!("{made} changes were made before one was refused");
    let entry = shown(api).await;
    assert_eq!((entry["state"].as_str(), entry["version"].as_u64()), (Some(state), Some(made)), "{entry}");
    disk.make_room();
    // The same wish again, now to the end.
    api.revoke(VIN).await;
    let (version, entry) = (made + u64::from(state == "granted"), shown(api).await);
    assert_eq!((entry["state"].as_str(), entry["version"].as_u64()), (Some("denied"), Some(version)), "{entry}");
    witness.testify("a full disk under the grants").await;
    let store = rusqlite::Connection::open(disk.path().join("permissions.db")).unwrap();
    let (on_disk, changes): (String, u64) = store
        .query_row("SELECT state, (SELECT count(*) FROM history) FROM grants WHERE vin = ?1", [VIN], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
        })
        .unwrap();
    assert_eq!((on_disk.as_str(), changes), ("denied", version), "no change is half on the disk");
    drop((store, server));
}
