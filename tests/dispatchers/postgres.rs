//! PostgreSQL: the contract against a real one, and what the dispatcher adds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fleet_telemetry::config::file::FileConfig;
use fleet_telemetry::config::{self, ClientTls, Env, InFlight, Secret};
use fleet_telemetry::dispatch::{ConnectError, Dispatcher, Outcome, postgres};
use fleet_telemetry::proto::vehicle_data::value::Value;
use fleet_telemetry::proto::{vehicle_alerts, vehicle_data, vehicle_error};
use fleet_telemetry::record::{Received, Record, RecordKind, Topics};
use prost::Message as _;

use crate::contract::{Bench, CUSTOM_TOPIC, Harness, Held, assert_all, number, origin};
use crate::support::docs;
use crate::support::postgres::Postgres;
use crate::support::service::free_ports;

crate::contract::suite!(Tables);

struct Tables(Postgres);

impl Harness for Tables {
    async fn start() -> Self {
        Self(Postgres::start())
    }

    async fn connect(&self, topics: &Topics, max_unsettled: usize) -> Arc<dyn Dispatcher> {
        let max_unsettled = InFlight { records: max_unsettled, bytes: 1 << 30 };
        let config = config::Postgres { max_unsettled, ..config(&self.0) };
        Arc::new(postgres::connect(&config, topics).await.expect("connects"))
    }

    async fn held(&self) -> Vec<Held> {
        let sql = "SELECT vin, type, txid, payload FROM telemetry.records ORDER BY sequence";
        let rows = self.0.client().await.query(sql, &[]).await.expect(sql);
        let held = |row: &tokio_postgres::Row| Held {
            vin: row.get(0),
            topic: row.get(1),
            txid: row.get(2),
            payload: Some(row.get(3)),
        };
        rows.iter().map(held).collect()
    }

    async fn cut(&self) {
        self.0.kill();
    }

    async fn restore(&self) {
        self.0.restart();
    }
}

fn config(server: &Postgres) -> config::Postgres {
    config::Postgres {
        url: Secret::from(server.url().as_str()),
        password: None,
        tls: ClientTls { path: "postgres.tls".to_owned(), ..ClientTls::default() },
        schema: "telemetry".to_owned(),
        hypertable: false,
        batch: 100,
        linger: Duration::from_millis(2),
        connections: 2,
        connect_timeout: Duration::from_secs(20),
        timeout: Duration::from_secs(5),
        max_unsettled: InFlight { records: 10_000, bytes: 1 << 30 },
    }
}

async fn bench(config: &config::Postgres) -> Bench {
    let topics = Topics::new([CUSTOM_TOPIC]);
    let dispatcher = Arc::new(postgres::connect(config, &topics).await.expect("connects"));
    Bench::over(dispatcher, topics, true)
}

fn record(kind: RecordKind, txid: &str, payload: &[u8]) -> Record {
    Record::from_parts(kind, payload, txid.as_bytes(), origin("VIN"), Received::now())
}

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

fn v(txid: &str, data: &[(vehicle_data::Field, Value)]) -> Record {
    let datum = |(field, value): &(vehicle_data::Field, Value)| vehicle_data::Datum {
        key: *field as i32,
        value: Some(vehicle_data::Value { value: Some(value.clone()) }),
    };
    let payload = vehicle_data::Payload {
        data: data.iter().map(datum).collect(),
        created_at: at(1_700_000_000),
        vin: "VIN".to_owned(),
        is_resend: false,
    };
    record(RecordKind::V, txid, &payload.encode_to_vec())
}

async fn deliver(bench: &Bench, records: &[Record]) {
    for record in records {
        bench.send(record).await;
    }
    assert_all(&bench.settled::<Tables>(records.len()).await, Outcome::Delivered);
}

#[tokio::test]
async fn records_are_rows_that_can_be_queried() {
    use vehicle_data::Field;
    let server = Postgres::start();
    let bench = bench(&config(&server)).await;
    let alerts = vehicle_alerts::VehicleAlerts {
        alerts: vec![vehicle_alerts::VehicleAlert {
            name: "APP_w222".into(),
            audiences: vec![1, 9],
            started_at: at(1_700_000_000),
            ended_at: None,
        }],
        created_at: at(1_700_000_001),
        vin: String::new(),
    };
    let errors = vehicle_error::VehicleErrors {
        errors: vec![vehicle_error::VehicleError {
            name: "cloud\0error".into(),
            body: "it's \"broken\"".into(),
            tags: [("code".to_owned(), "4".to_owned())].into(),
            created_at: at(1_700_000_002),
        }],
        created_at: at(1_700_000_003),
        vin: String::new(),
    };
    let location = vehicle_data::LocationValue { latitude: 37.5, longitude: -122.25 };
    let values = [
        (Field::Soc, Value::DoubleValue(75.5)),
        (Field::VehicleName, Value::StringValue("Bl\0tz".into())),
        (Field::Odometer, Value::LongValue(i64::MAX)),
        (Field::Location, Value::LocationValue(location)),
        (Field::Gear, Value::ShiftStateValue(5)),
        (Field::PackVoltage, Value::FloatValue(f32::NAN)),
    ];
    let records = [
        v("1", &values),
        record(RecordKind::Alerts, "2", &alerts.encode_to_vec()),
        record(RecordKind::Errors, "3", &errors.encode_to_vec()),
        v("4", &[(Field::Soc, Value::DoubleValue(76.0))]),
    ];
    deliver(&bench, &records).await;
    let signals = "SELECT field, kind, number, text, latitude, longitude, extract(epoch FROM time) FROM \
                   telemetry.signals WHERE record_id = (SELECT id FROM telemetry.records WHERE txid = '1') ORDER BY position";
    assert_eq!(
        server.lines(signals).await,
        [
            "Soc|double|75.5|NULL|NULL|NULL|1700000000.000000",
            "VehicleName|string|NULL|Bl\u{fffd}tz|NULL|NULL|1700000000.000000",
            "Odometer|long|9.223372036854776e+18|9223372036854775807|NULL|NULL|1700000000.000000",
            "Location|location|NULL|NULL|37.5|-122.25|1700000000.000000",
            "Gear|enum|5|ShiftStateD|NULL|NULL|1700000000.000000",
            "PackVoltage|float|NULL|NaN|NULL|NULL|1700000000.000000",
        ]
    );
    let alerts = "SELECT vin, name, audiences, extract(epoch FROM started_at)::int, ended_at FROM telemetry.alerts";
    assert_eq!(server.lines(alerts).await, ["VIN|APP_w222|Customer,9|1700000000|NULL"]);
    let errors = "SELECT name, body, tags->>'code' FROM telemetry.errors";
    assert_eq!(server.lines(errors).await, ["cloud\u{fffd}error|it's \"broken\"|4"]);
    let latest = "SELECT count(*), count(DISTINCT field) FROM telemetry.latest";
    assert_eq!(server.lines(latest).await, ["6|6"]);
}

#[tokio::test]
async fn a_record_that_is_sent_again_changes_nothing() {
    let server = Postgres::start();
    let bench = bench(&config::Postgres { linger: Duration::from_millis(100), ..config(&server) }).await;
    let first = v("1", &[(vehicle_data::Field::Soc, Value::DoubleValue(1.0))]);
    let again = record(RecordKind::V, "1", first.payload());
    deliver(&bench, &[first.clone(), again.clone()]).await;
    deliver(&bench, &[again]).await;
    let counts = "SELECT (SELECT count(*) FROM telemetry.records), (SELECT count(*) FROM telemetry.signals)";
    assert_eq!(server.lines(counts).await, ["1|1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acked_is_there_in_order_though_the_database_crashes_again_and_again() {
    const VINS: [&str; 4] = ["VIN0", "VIN1", "VIN2", "VIN3"];
    const RECORDS: usize = 1500;
    let tables = Tables::start().await;
    let bench = Arc::new(bench(&config(&tables.0)).await);
    let sending = tokio::spawn({
        let bench = Arc::clone(&bench);
        async move {
            for n in 0..RECORDS {
                for vin in VINS {
                    bench.send(&bench.record(vin, n)).await;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        tables.0.kill();
        tokio::time::sleep(Duration::from_millis(200)).await;
        tables.0.restart();
    }
    sending.await.unwrap();
    assert_all(&bench.settled::<Tables>(VINS.len() * RECORDS).await, Outcome::Delivered);
    let mut by_vin = BTreeMap::<String, Vec<usize>>::new();
    for held in tables.held().await {
        by_vin.entry(held.vin).or_default().push(number(&held.txid));
    }
    for vin in VINS {
        assert!(by_vin[vin].iter().copied().eq(0..RECORDS), "{vin}: {} records", by_vin[vin].len());
    }
}

#[tokio::test]
async fn one_record_that_a_table_refuses_costs_no_other() {
    let server = Postgres::start();
    let bench =
        bench(&config::Postgres { connections: 1, linger: Duration::from_millis(100), ..config(&server) }).await;
    let rule = "ALTER TABLE telemetry.records ADD CHECK (convert_from(txid, 'UTF8') <> 'txid-000007')";
    server.client().await.batch_execute(rule).await.unwrap();
    for n in 0..20 {
        bench.send(&bench.record("VIN", n)).await;
    }
    let settled = bench.settled::<Tables>(20).await;
    let lost: Vec<_> =
        settled.iter().filter(|one| one.outcome == Outcome::Lost).map(|one| number(one.record.txid())).collect();
    assert_eq!(lost, [7]);
    assert_eq!(server.lines("SELECT count(*) FROM telemetry.records").await, ["19"]);
}

#[tokio::test]
async fn a_table_that_somebody_has_locked_delays_its_own_records_only_until_it_is_free() {
    let server = Postgres::start();
    let bench = bench(&config::Postgres { timeout: Duration::from_millis(300), ..config(&server) }).await;
    let mut other = server.client().await;
    let lock = other.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE telemetry.records").await.unwrap();
    bench.send(&bench.record("VIN", 0)).await;
    bench
        .until::<Tables>("unhealthy", || bench.dispatcher.health() != fleet_telemetry::dispatch::Health::Healthy)
        .await;
    lock.rollback().await.unwrap();
    assert_all(&bench.settled::<Tables>(1).await, Outcome::Delivered);
    assert_eq!(server.lines("SELECT count(*) FROM telemetry.records").await, ["1"]);
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_named() {
    let server = Postgres::start();
    let topics = Topics::new([]);
    let refused = async |config: config::Postgres| postgres::connect(&config, &topics).await.expect_err("refused");
    let hypertable = refused(config::Postgres { hypertable: true, ..config(&server) }).await;
    assert!(matches!(hypertable, ConnectError::Config { .. }));
    assert!(hypertable.to_string().contains("postgres.hypertable: this database has no TimescaleDB"), "{hypertable}");
    let nowhere = server.url().replace("/postgres?", "/nowhere?");
    let nowhere = refused(config::Postgres { url: Secret::from(nowhere.as_str()), ..config(&server) }).await;
    assert!(nowhere.to_string().contains("\"nowhere\" does not exist (3D000)"), "{nowhere}");
    let [port] = free_ports();
    let away = config::Postgres {
        url: Secret::from(format!("postgres://u:hidden@127.0.0.1:{port}/d?sslmode=disable").as_str()),
        connect_timeout: Duration::from_millis(300),
        ..config(&server)
    };
    let away = refused(away).await.to_string();
    assert!(away.starts_with("postgres: postgres.url 127.0.0.1: ") && away.contains("tried for 300ms"), "{away}");
    assert!(!away.contains("hidden"), "{away}");
}

#[tokio::test]
async fn the_configuration_of_the_page_is_taken_and_used() {
    let env: Env = [("POSTGRES_PASSWORD", "secret")].into_iter().collect();
    let file = FileConfig::parse(docs::configuration("postgres").as_bytes()).unwrap();
    let (resolved, warnings) = config::resolve(file, &env).unwrap();
    assert_eq!(warnings, []);
    let page = resolved.dispatchers.postgres.unwrap();
    assert_eq!(page.password.as_ref().unwrap().expose(), "secret");
    let server = Postgres::start();
    let page = config::Postgres { url: Secret::from(server.url().as_str()), ..page };
    let bench = bench(&page).await;
    deliver(&bench, &[bench.record("VIN", 1)]).await;
    assert_eq!(server.lines("SELECT count(*) FROM telemetry.records").await, ["1"]);
}
