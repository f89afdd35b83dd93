//! The embedded store.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fleet_telemetry::config;
use fleet_telemetry::dispatch::sqlite;
use fleet_telemetry::dispatch::{ConnectError, Dispatcher, Health, Outcome};
use fleet_telemetry::proto::vehicle_data::value::Value;
use fleet_telemetry::proto::{vehicle_alerts, vehicle_connectivity, vehicle_data, vehicle_error};
use fleet_telemetry::record::{Received, Record, RecordKind, Topics};
use prost::Message;
use rusqlite::{Connection, OpenFlags};

use crate::contract::{Bench, Harness, Held, assert_all, origin};
use crate::support::wait::{found, until};

crate::contract::suite!(File);

/// For what takes moments on a machine that has nothing else to do.
const SOON: Duration = Duration::from_secs(30);

/// A database file; cut off by somebody else's write lock.
struct File {
    config: config::Sqlite,
    directory: tempfile::TempDir,
    lock: Mutex<Option<Connection>>,
}

impl Harness for File {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { config: configure(&directory.path().join("telemetry.db")), directory, lock: Mutex::default() }
    }

    async fn connect(&self, topics: &Topics, max_unsettled: usize) -> Arc<dyn Dispatcher> {
        let max_unsettled = config::InFlight { records: max_unsettled, bytes: 1 << 30 };
        let config = config::Sqlite { max_unsettled, ..self.config.clone() };
        Arc::new(sqlite::connect(&config, topics).expect("opens"))
    }

    async fn held(&self) -> Vec<Held> {
        let held = "SELECT vin, type, CAST(txid AS BLOB), payload FROM records ORDER BY id";
        self.rows(held, |row| {
            Ok(Held { vin: row.get(0)?, topic: row.get(1)?, txid: row.get(2)?, payload: Some(row.get(3)?) })
        })
    }

    async fn cut(&self) {
        let connection = Connection::open(&self.config.path).expect("opens");
        connection.busy_timeout(Duration::from_secs(10)).expect("a timeout");
        connection.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
        *self.lock.lock().expect("not poisoned") = Some(connection);
    }

    async fn restore(&self) {
        self.lock.lock().expect("not poisoned").take();
    }
}

impl File {
    fn reader(&self) -> Connection {
        Connection::open_with_flags(&self.config.path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("opens")
    }

    fn rows<T>(&self, sql: &str, row: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
        let reader = self.reader();
        let mut statement = reader.prepare(sql).expect(sql);
        statement.query_map([], row).expect(sql).collect::<Result<_, _>>().expect(sql)
    }

    /// The rows of a query, columns joined by `|`, as the shell prints them.
    fn lines(&self, sql: &str) -> Vec<String> {
        self.rows(sql, |row| {
            let columns = (0..row.as_ref().column_count()).map(|column| {
                use rusqlite::types::ValueRef;
                Ok(match row.get_ref(column)? {
                    ValueRef::Null => "NULL".to_owned(),
                    ValueRef::Integer(n) => n.to_string(),
                    ValueRef::Real(n) => format!("{n:?}"),
                    ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    ValueRef::Blob(bytes) => format!("{bytes:?}"),
                })
            });
            Ok(columns.collect::<rusqlite::Result<Vec<_>>>()?.join("|"))
        })
    }

    fn count(&self, table: &str) -> i64 {
        self.rows(&format!("SELECT count(*) FROM {table}"), |row| row.get(0))[0]
    }

    fn bytes(&self) -> u64 {
        std::fs::metadata(&self.config.path).expect("a file").len()
    }

    /// Hands records off and waits until all of them are delivered.
    async fn store(&self, bench: &Bench, records: &[Record]) {
        for record in records {
            bench.send(record).await;
        }
        assert_all(&bench.settled::<Self>(records.len()).await, Outcome::Delivered);
    }
}

#[tokio::test]
async fn values_of_every_kind_can_be_queried() {
    let file = File::start().await;
    let bench = Bench::new(&file, 64).await;
    let values = [
        (vehicle_data::Field::VehicleName as i32, Some(Value::StringValue("Blitz".into()))),
        (vehicle_data::Field::VehicleSpeed as i32, Some(Value::StringValue("65.5".into()))),
        (vehicle_data::Field::PackVoltage as i32, Some(Value::FloatValue(398.7))),
        (vehicle_data::Field::Odometer as i32, Some(Value::DoubleValue(1234.0))),
        (vehicle_data::Field::NumBrickVoltageMax as i32, Some(Value::IntValue(-7))),
        (vehicle_data::Field::MinutesToArrival as i32, Some(Value::LongValue(i64::MAX))),
        (vehicle_data::Field::Locked as i32, Some(Value::BooleanValue(true))),
        (
            vehicle_data::Field::Location as i32,
            Some(Value::LocationValue(vehicle_data::LocationValue { latitude: 37.4219983, longitude: -122.084 })),
        ),
        (vehicle_data::Field::Gear as i32, Some(Value::ShiftStateValue(vehicle_data::ShiftState::D.into()))),
        (vehicle_data::Field::SentryMode as i32, Some(Value::SentryModeStateValue(77))),
        (
            vehicle_data::Field::DoorState as i32,
            Some(Value::DoorValue(vehicle_data::Doors { trunk_rear: true, ..Default::default() })),
        ),
        (
            vehicle_data::Field::ScheduledChargingStartTime as i32,
            Some(Value::TimeValue(vehicle_data::Time { hour: 6, minute: 30, second: 0 })),
        ),
        (vehicle_data::Field::Soc as i32, Some(Value::Invalid(true))),
        (9999, Some(Value::IntValue(1))),
        (vehicle_data::Field::BmsState as i32, None),
    ];
    file.store(&bench, &[v("VIN", 1_700_000_000_123, &values)]).await;
    assert_eq!(
        file.lines("SELECT vin, field, created_at, kind, value, number, text FROM signals ORDER BY position"),
        [
            "VIN|VehicleName|2023-11-14T22:13:20.123Z|string|Blitz|NULL|Blitz",
            "VIN|VehicleSpeed|2023-11-14T22:13:20.123Z|string|65.5|65.5|65.5",
            "VIN|PackVoltage|2023-11-14T22:13:20.123Z|float|398.7|398.7|NULL",
            "VIN|Odometer|2023-11-14T22:13:20.123Z|double|1234.0|1234.0|NULL",
            "VIN|NumBrickVoltageMax|2023-11-14T22:13:20.123Z|int|-7|-7|NULL",
            "VIN|MinutesToArrival|2023-11-14T22:13:20.123Z|long|9223372036854775807|9223372036854775807|NULL",
            "VIN|Locked|2023-11-14T22:13:20.123Z|boolean|true|1|true",
            "VIN|Location|2023-11-14T22:13:20.123Z|location|37.4219983,-122.084|NULL|NULL",
            "VIN|Gear|2023-11-14T22:13:20.123Z|enum|ShiftStateD|5|ShiftStateD",
            "VIN|SentryMode|2023-11-14T22:13:20.123Z|enum|77|77|NULL",
            "VIN|DoorState|2023-11-14T22:13:20.123Z|doors|{\"DriverFront\":false,\"DriverRear\":false,\
             \"PassengerFront\":false,\"PassengerRear\":false,\"TrunkFront\":false,\"TrunkRear\":true}|NULL|\
             {\"DriverFront\":false,\"DriverRear\":false,\"PassengerFront\":false,\"PassengerRear\":false,\
             \"TrunkFront\":false,\"TrunkRear\":true}",
            "VIN|ScheduledChargingStartTime|2023-11-14T22:13:20.123Z|time|06:30:00|NULL|06:30:00",
            "VIN|Soc|2023-11-14T22:13:20.123Z|invalid|NULL|NULL|NULL",
            "VIN|9999|2023-11-14T22:13:20.123Z|int|1|1|NULL",
            "VIN|BMSState|2023-11-14T22:13:20.123Z|none|NULL|NULL|NULL",
        ]
    );
    assert_eq!(
        file.lines("SELECT vin, created_at, latitude, longitude FROM positions"),
        ["VIN|2023-11-14T22:13:20.123Z|37.4219983|-122.084"]
    );
    assert_eq!(
        file.lines("SELECT json_extract(text, '$.TrunkRear') FROM latest WHERE vin = 'VIN' AND field = 'DoorState'"),
        ["1"]
    );
    assert_eq!(file.count("latest"), 15);
}

#[tokio::test]
async fn alerts_errors_and_connectivity_have_tables_of_their_own() {
    let file = File::start().await;
    let bench = Bench::new(&file, 64).await;
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let alerts = vehicle_alerts::VehicleAlerts {
        alerts: vec![
            vehicle_alerts::VehicleAlert {
                name: "APP_w222".into(),
                audiences: vec![1, 2, 9],
                started_at: at(1_700_000_000),
                ended_at: None,
            },
            vehicle_alerts::VehicleAlert { name: "second".into(), ..Default::default() },
        ],
        created_at: at(1_700_000_001),
        vin: "claimed".into(),
    };
    let errors = vehicle_error::VehicleErrors {
        errors: vec![vehicle_error::VehicleError {
            name: "cloud_error".into(),
            body: "it's \"broken\"".into(),
            tags: [("code".to_owned(), "\"4\"".to_owned())].into(),
            created_at: at(1_700_000_002),
        }],
        created_at: at(1_700_000_003),
        vin: "claimed".into(),
    };
    let connectivity = vehicle_connectivity::VehicleConnectivity {
        vin: "claimed".into(),
        connection_id: "c-1".into(),
        status: 1,
        created_at: at(1_700_000_004),
        network_interface: "cellular".into(),
    };
    file.store(
        &bench,
        &[
            record(RecordKind::Alerts, "VIN", "a", &alerts.encode_to_vec()),
            record(RecordKind::Errors, "VIN", "e", &errors.encode_to_vec()),
            record(RecordKind::Connectivity, "VIN", "c", &connectivity.encode_to_vec()),
        ],
    )
    .await;
    assert_eq!(
        file.lines("SELECT vin, name, audiences, started_at, ended_at FROM alerts"),
        ["VIN|APP_w222|Customer,Service,9|2023-11-14T22:13:20.000Z|NULL", "VIN|second||NULL|NULL"]
    );
    assert_eq!(
        file.lines("SELECT vin, name, body, json_extract(tags, '$.code'), created_at FROM errors"),
        ["VIN|cloud_error|it's \"broken\"|\"4\"|2023-11-14T22:13:22.000Z"]
    );
    assert_eq!(
        file.lines("SELECT vin, status, connection_id, network_interface, created_at FROM connectivity"),
        ["VIN|CONNECTED|c-1|cellular|2023-11-14T22:13:24.000Z"]
    );
    assert_eq!(
        file.lines("SELECT type, txid, created_at, connection_id FROM records ORDER BY id"),
        [
            "alerts|a|2023-11-14T22:13:21.000Z|3f1c1f0e-6f0a-4a53-9d53-6b5a6f4c8a01",
            "errors|e|2023-11-14T22:13:23.000Z|3f1c1f0e-6f0a-4a53-9d53-6b5a6f4c8a01",
            "connectivity|c|2023-11-14T22:13:24.000Z|3f1c1f0e-6f0a-4a53-9d53-6b5a6f4c8a01",
        ]
    );
}

#[tokio::test]
async fn a_resend_is_acked_and_stored_once() {
    let file = File::start().await;
    let bench = Bench::new(&file, 64).await;
    let custom = bench.topics.kind(b"custom");
    let first = v("VIN", 1_700_000_000_000, &[(8, Some(Value::IntValue(80)))]);
    let again = || Record::from_parts(first.kind(), first.payload(), first.txid(), origin("VIN"), Received::now());
    file.store(&bench, &[first.clone(), again(), record(custom, "VIN", "t", b"opaque")]).await;
    // Also in a later batch, and of a payload that carries no time.
    file.store(&bench, &[again(), record(custom, "VIN", "t", b"opaque")]).await;
    assert_eq!((file.count("records"), file.count("fields")), (2, 1));
    // What differs in anything is another record.
    file.store(
        &bench,
        &[
            Record::from_parts(first.kind(), first.payload(), b"other txid", origin("VIN"), Received::now()),
            Record::from_parts(first.kind(), first.payload(), first.txid(), origin("VIN2"), Received::now()),
            v("VIN", 1_700_000_000_000, &[(8, Some(Value::IntValue(81)))]),
            record(custom, "VIN", "t", b"other payload"),
            record(RecordKind::Other, "VIN", "t", b"opaque"),
        ],
    )
    .await;
    assert_eq!(file.count("records"), 7);
}

#[tokio::test]
async fn the_latest_value_is_the_newest_one_whenever_it_arrives() {
    let file = File::start().await;
    let bench = Bench::new(&file, 64).await;
    let soc = |created_ms, percent| v("VIN", created_ms, &[(8, Some(Value::IntValue(percent)))]);
    let now = i64::try_from(Received::now().epoch_ms).expect("a time");
    let latest = || file.lines("SELECT field, number FROM latest WHERE vin = 'VIN'");
    file.store(&bench, &[soc(now - 5000, 80), soc(now - 9000, 70)]).await;
    assert_eq!(latest(), ["Soc|80"], "a replayed record does not overwrite a newer value");
    file.store(&bench, &[soc(now + 1_000_000_000, 10)]).await;
    let received = Received::now().epoch_ms;
    until("the clock goes on", SOON, async || Received::now().epoch_ms > received).await;
    let later = i64::try_from(Received::now().epoch_ms).expect("a time");
    file.store(&bench, &[soc(later, 79)]).await;
    assert_eq!(latest(), ["Soc|79"], "a clock that was ahead does not pin its value");
}

#[tokio::test]
async fn a_payload_that_does_not_decode_is_kept_as_bytes() {
    let file = File::start().await;
    let bench = Bench::new(&file, 64).await;
    file.store(&bench, &[record(RecordKind::V, "VIN", "t", b"\xff\xff\xff")]).await;
    assert_eq!(file.lines("SELECT type, payload, created_at FROM records"), ["V|[255, 255, 255]|NULL"]);
}

#[tokio::test]
async fn every_acked_record_survives_kill_9() {
    let file = File::start().await;
    let mut acked = BTreeSet::new();
    for round in 0..5 {
        let mut child = child("streams_until_it_is_killed", &file.config.path)
            .env("ROUND", round.to_string())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        // Killed at another moment each time, always amid a stream of records.
        let enough = acked.len() + 150 + 97 * round;
        let mut note = |line: std::io::Result<String>| {
            if let Some(txid) = line.expect("text").strip_prefix("acked ") {
                acked.insert(txid.trim_end_matches('.').to_owned());
            }
            acked.len()
        };
        while note(lines.next().expect("streams until it is killed")) < enough {}
        child.kill().expect("SIGKILL");
        // What it said before it died counts; only a cut last line does not.
        for line in lines.map_while(Result::ok).filter(|line| line.ends_with('.')) {
            note(Ok(line));
        }
        child.wait().expect("ends");
        assert_eq!(file.lines("PRAGMA integrity_check"), ["ok"]);
        let stored: BTreeSet<String> = file.rows("SELECT txid FROM records", |row| row.get(0)).into_iter().collect();
        let missing: Vec<_> = acked.difference(&stored).collect();
        assert!(missing.is_empty(), "acked and lost: {missing:?}");
        // Each record with all of its rows, or not at all.
        assert_eq!(file.count("fields"), 10 * file.count("records"));
    }
}

#[tokio::test]
#[ignore = "run by every_acked_record_survives_kill_9 as a process to kill"]
async fn streams_until_it_is_killed() {
    let Some(path) = std::env::var_os("SQLITE_FILE") else { return };
    let round = std::env::var("ROUND").expect("set by the parent");
    let mut file = File::start().await;
    file.config = configure(Path::new(&path));
    let bench = Bench::new(&file, 64).await;
    for batch in 0.. {
        for n in 0..16 {
            bench.send(&ten_fields("VIN", &format!("{round}-{batch}-{n}"), i64::from(batch))).await;
        }
        for settled in bench.settled::<File>(16).await {
            if settled.outcome == Outcome::Delivered {
                println!("acked {}.", String::from_utf8_lossy(settled.record.txid()));
            }
        }
    }
}

#[tokio::test]
async fn another_process_lock_delays_and_loses_nothing() {
    let file = File::start().await;
    let bench = Bench::new(&file, 64).await;
    file.cut().await;
    for n in 0..50 {
        bench.send(&bench.record("VIN", n)).await;
    }
    let unhealthy = async || match bench.dispatcher.health() {
        Health::Unhealthy(reason) => Some(reason),
        Health::Healthy => None,
    };
    let reason = found("it says that it is locked out", SOON, unhealthy).await;
    assert!(reason.contains("telemetry.db") && reason.contains("locked"), "{reason}");
    file.restore().await;
    assert_all(&bench.settled::<File>(50).await, Outcome::Delivered);
    assert_eq!(file.count("records"), 50);
    assert_eq!(bench.dispatcher.health(), Health::Healthy);
}

#[tokio::test]
async fn a_lock_that_lasts_loses_the_batch_and_the_store_recovers_by_itself() {
    let file = File::start().await;
    let bench = Bench::new(&file, 64).await;
    file.cut().await;
    bench.send(&bench.record("VIN", 0)).await;
    assert_all(&bench.settled::<File>(1).await, Outcome::Lost);
    file.restore().await;
    // Nothing is handed over: it finds out alone.
    bench.until::<File>("healthy", || bench.dispatcher.health() == Health::Healthy).await;
    assert_eq!(file.count("records"), 0);
    file.store(&bench, &[bench.record("VIN", 0)]).await;
}

#[tokio::test]
async fn records_never_go_into_a_file_that_was_removed() {
    let file = File::start().await;
    let bench = Bench::new(&file, 64).await;
    file.store(&bench, &[bench.record("VIN", 0)]).await;
    std::fs::remove_file(&file.config.path).expect("removes");
    file.store(&bench, &[bench.record("VIN", 1)]).await;
    assert_eq!(file.lines("SELECT txid FROM records"), ["txid-000001"]);
}

#[tokio::test]
async fn retention_by_age_removes_old_records_and_all_their_rows() {
    let mut file = File::start().await;
    file.config.max_age = Some(Duration::from_secs(3600));
    let bench = Bench::new(&file, 2000).await;
    let now = Received::now();
    let old = Received { epoch_ms: now.epoch_ms - 3_601_000, at: now.at };
    let aged: Vec<Record> = (0..1000)
        .map(|n| {
            let record = bench.record("VIN", n);
            Record::from_parts(record.kind(), record.payload(), record.txid(), origin("VIN"), old)
        })
        .collect();
    for record in &aged {
        bench.send(record).await;
    }
    let fresh = record(RecordKind::V, "VIN2", "fresh", ten_fields("VIN2", "fresh", 1).payload());
    bench.send(&fresh).await;
    assert_all(&bench.settled::<File>(1001).await, Outcome::Delivered);
    bench.until::<File>("only the fresh record left", || file.count("records") == 1).await;
    assert_eq!(file.lines("SELECT txid FROM records"), ["fresh"]);
    for (table, rows) in [("fields", 10), ("latest_fields", 10), ("alerts", 0), ("errors", 0), ("connectivity", 0)] {
        assert_eq!(file.count(table), rows, "{table}");
    }
}

#[tokio::test]
async fn retention_by_size_keeps_the_newest_records_below_the_limit() {
    let mut file = File::start().await;
    let most = 2 << 20;
    file.config.max_bytes = Some(most);
    let bench = Bench::new(&file, 256).await;
    let custom = bench.topics.kind(b"custom");
    let mut largest = 0;
    for batch in 0..40 {
        let records: Vec<Record> =
            (0..200).map(|n| record(custom, "VIN", &format!("{batch:02}-{n:03}"), &[0xab; 1000])).collect();
        file.store(&bench, &records).await;
        largest = largest.max(file.bytes());
    }
    bench.close::<File>().await;
    assert!(largest <= most && file.bytes() <= most, "at most {largest} and {} bytes of {most}", file.bytes());
    let kept = file.lines("SELECT txid FROM records ORDER BY id");
    assert_eq!(kept.last().map(String::as_str), Some("39-199"));
    assert!(kept.len() > 1000, "{} of 8000 records, each of about 1 KiB", kept.len());
    let first = kept[0].clone();
    assert!(kept.is_sorted() && first.as_str() > "20", "the oldest go first: {first} is the oldest left");
}

#[tokio::test]
async fn the_file_really_shrinks_when_the_limit_is_lowered() {
    let mut file = File::start().await;
    let bench = Bench::new(&file, 256).await;
    let custom = bench.topics.kind(b"custom");
    let records: Vec<Record> = (0..4000).map(|n| record(custom, "VIN", &n.to_string(), &[0xab; 1000])).collect();
    file.store(&bench, &records).await;
    bench.close::<File>().await;
    assert!(file.bytes() > 4 << 20);
    file.config.max_bytes = Some(1 << 20);
    let _open = Bench::new(&file, 256).await;
    bench.until::<File>("at most 1 MiB", || file.bytes() <= 1 << 20).await;
    assert_eq!(file.lines("PRAGMA integrity_check"), ["ok"]);
    assert!(file.count("records") > 400);
}

#[tokio::test]
async fn a_second_start_finds_what_the_first_one_stored() {
    let file = File::start().await;
    let bench = Bench::new(&file, 64).await;
    file.store(&bench, &[bench.record("VIN", 0)]).await;
    bench.close::<File>().await;
    assert!(!file.directory.path().join("telemetry.db-wal").exists(), "close folds the log in");
    let bench = Bench::new(&file, 64).await;
    file.store(&bench, &[bench.record("VIN", 0), bench.record("VIN", 1)]).await;
    assert_eq!(file.lines("SELECT txid FROM records ORDER BY id"), ["txid-000000", "txid-000001"]);
}

#[tokio::test]
async fn the_queries_of_the_documentation_run_and_use_the_index() {
    let file = File::start().await;
    let bench = Bench::new(&file, 64).await;
    let records: Vec<Record> = (0..60).map(|n| bench.record("5YJ3E1EA1KF000001", n)).collect();
    file.store(&bench, &records).await;
    let text = include_str!("../../docs/sqlite.md");
    let block = text.split("```sql").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of SQL");
    let queries: Vec<&str> = block.split(';').map(str::trim).filter(|query| !query.is_empty()).collect();
    assert!(queries.len() >= 8, "{queries:?}");
    for query in queries {
        file.lines(query);
        let plan = file.lines(&format!("EXPLAIN QUERY PLAN {query}")).join("\n");
        if query.contains("vin = ") {
            assert!(!plan.contains("SCAN"), "{query}\n{plan}");
        }
    }
    // One of them by its result: the last odometer value is that of record 55.
    let odometer = "SELECT value FROM latest WHERE vin = '5YJ3E1EA1KF000001' AND field = 'Odometer'";
    assert_eq!(file.lines(odometer), ["55.5"]);
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_refused_by_name_and_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let garbage = directory.path().join("garbage.db");
    std::fs::write(&garbage, "not a database, but long enough to look at: ".repeat(100)).expect("writes");
    let message = refusal(&garbage);
    assert!(message.contains("garbage.db") && message.contains("not an SQLite database"), "{message}");

    let foreign = directory.path().join("foreign.db");
    Connection::open(&foreign).expect("opens").execute_batch("CREATE TABLE records (a)").expect("creates");
    let message = refusal(&foreign);
    assert!(message.contains("foreign.db") && message.contains("another program"), "{message}");
    let journal_mode: String = Connection::open(&foreign)
        .expect("opens")
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .expect("a mode");
    assert_eq!(journal_mode, "delete");

    let newer = directory.path().join("newer.db");
    drop(sqlite::connect(&configure(&newer), &Topics::new([])).expect("opens"));
    let other = Connection::open(&newer).expect("opens");
    other.busy_timeout(Duration::from_secs(5)).expect("a timeout");
    other.pragma_update(None, "user_version", 99).expect("writes");
    let message = refusal(&newer);
    assert!(message.contains("schema version 99; this server knows versions up to 1"), "{message}");

    let message = refusal(&directory.path().join("missing/telemetry.db"));
    assert!(message.contains("missing") && message.contains("does not exist"), "{message}");
    assert!(refusal(directory.path()).contains("must name a file"));
    assert!(refusal(Path::new(":memory:")).contains("must name a file"));
}

#[tokio::test]
async fn a_directory_without_permission_is_named_with_user_and_mode() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o555)).expect("changes the mode");
    let mut child = child("opens_without_permission", &directory.path().join("telemetry.db"));
    let is_root =
        std::fs::metadata("/proc/self").is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0);
    if is_root {
        // Root may write anywhere.
        std::os::unix::process::CommandExt::uid(&mut child, 65_534);
        std::os::unix::process::CommandExt::gid(&mut child, 65_534);
    }
    let output = child.output().expect("runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("permission denied for uid "), "{printed}");
    assert!(printed.contains("telemetry.db") && printed.contains("mode 0555"), "{printed}");
}

#[test]
#[ignore = "run by a_directory_without_permission_is_named_with_user_and_mode as another user"]
fn opens_without_permission() {
    let Some(path) = std::env::var_os("SQLITE_FILE") else { return };
    println!("{}", refusal(Path::new(&path)));
}

#[tokio::test]
#[ignore = "a measurement: records per second, printed"]
async fn measures_the_write_rate() {
    let file = File::start().await;
    let bench = Bench::new(&file, 4096).await;
    for vehicles in [1_i64, 1000] {
        let records: Vec<Record> = (0..20_000)
            .map(|n| ten_fields(&format!("5YJ3E1EA1KF{:06}", n % vehicles), &format!("{vehicles}-{n}"), n))
            .collect();
        let start = Instant::now();
        file.store(&bench, &records).await;
        let rate = f64::from(20_000) / start.elapsed().as_secs_f64();
        println!("{vehicles} vehicles: {rate:.0} records/s of 10 fields");
    }
    bench.close::<File>().await;
    println!("{} bytes for each record", file.bytes() / 40_000);
}

fn configure(path: &Path) -> config::Sqlite {
    config::Sqlite {
        path: PathBuf::from(path),
        max_age: None,
        max_bytes: None,
        batch: 1024,
        linger: Duration::from_millis(2),
        max_unsettled: config::InFlight { records: 4096, bytes: 1 << 30 },
    }
}

/// This test binary, running one ignored test as another process.
fn child(test: &str, path: &Path) -> Command {
    let mut child = Command::new(std::env::current_exe().expect("a path"));
    child.args(["--ignored", "--nocapture", "--exact", &format!("sqlite::{test}")]);
    child.env("SQLITE_FILE", path).stdout(Stdio::piped()).stderr(Stdio::inherit());
    child
}

fn refusal(path: &Path) -> String {
    match sqlite::connect(&configure(path), &Topics::new([])) {
        Ok(_) => panic!("{} opens", path.display()),
        Err(error @ (ConnectError::Config { .. } | ConnectError::Unreachable { .. })) => error.to_string(),
    }
}

fn record(kind: RecordKind, vin: &str, txid: &str, payload: &[u8]) -> Record {
    Record::from_parts(kind, payload, txid.as_bytes(), origin(vin), Received::now())
}

fn v(vin: &str, created_ms: i64, values: &[(i32, Option<Value>)]) -> Record {
    let payload = vehicle_data::Payload {
        data: values
            .iter()
            .map(|(key, value)| vehicle_data::Datum {
                key: *key,
                value: value.clone().map(|value| vehicle_data::Value { value: Some(value) }),
            })
            .collect(),
        created_at: Some(prost_types::Timestamp {
            seconds: created_ms.div_euclid(1000),
            nanos: i32::try_from(created_ms.rem_euclid(1000)).expect("below 1000") * 1_000_000,
        }),
        vin: "claimed".to_owned(),
        is_resend: false,
    };
    record(RecordKind::V, vin, "txid", &payload.encode_to_vec())
}

fn ten_fields(vin: &str, txid: &str, n: i64) -> Record {
    #[allow(clippy::cast_precision_loss)]
    let values: Vec<_> = (1..=9).map(|field| (field, Some(Value::DoubleValue(n as f64 / 10.0)))).collect();
    let location = Value::LocationValue(vehicle_data::LocationValue { latitude: 37.4, longitude: -122.1 });
    let values = [values, vec![(21, Some(location))]].concat();
    record(RecordKind::V, vin, txid, v(vin, 1_750_000_000_000 + n * 500, &values).payload())
}
