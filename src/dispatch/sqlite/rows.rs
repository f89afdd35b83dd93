//! Records as rows.

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Transaction, params};

use crate::dispatch::cells::{self, Cells, Number, audience, created_ms, millis};
use crate::proto::vehicle_alerts::VehicleAlert;
use crate::proto::vehicle_connectivity::VehicleConnectivity;
use crate::proto::vehicle_data::{Payload, Value};
use crate::proto::vehicle_error::VehicleError;
use crate::record::{Decoded, Record, Topics};

/// Inserts `records` in their order; one that is there already is left as it is.
pub(super) fn insert(transaction: &Transaction<'_>, records: &[Record], topics: &Topics) -> rusqlite::Result<()> {
    let mut inserts = Inserts::prepare(transaction)?;
    for record in records {
        inserts.record(record, topics.name(record.kind()))?;
    }
    Ok(())
}

struct Inserts<'c> {
    transaction: &'c Transaction<'c>,
    record: CachedStatement<'c>,
    field: CachedStatement<'c>,
    latest: CachedStatement<'c>,
    alert: CachedStatement<'c>,
    error: CachedStatement<'c>,
    connectivity: CachedStatement<'c>,
}

impl<'c> Inserts<'c> {
    fn prepare(transaction: &'c Transaction<'c>) -> rusqlite::Result<Self> {
        Ok(Self {
            transaction,
            record: transaction.prepare_cached(INSERT_RECORD)?,
            field: transaction.prepare_cached(INSERT_FIELD)?,
            latest: transaction.prepare_cached(UPSERT_LATEST)?,
            alert: transaction.prepare_cached(INSERT_ALERT)?,
            error: transaction.prepare_cached(INSERT_ERROR)?,
            connectivity: transaction.prepare_cached(INSERT_CONNECTIVITY)?,
        })
    }

    fn record(&mut self, record: &Record, topic: &str) -> rusqlite::Result<()> {
        // A payload that does not decode is kept as bytes.
        let decoded = &record.decode().unwrap_or(Decoded::Opaque);
        let origin = record.origin();
        let received_ms = i64::try_from(record.received().epoch_ms).unwrap_or(i64::MAX);
        let created_ms = created_ms(decoded).unwrap_or(0);
        let inserted = self.record.execute(params![
            record.vin(),
            topic,
            txid(record),
            created_ms,
            received_ms,
            matches!(decoded, Decoded::V(payload) if payload.is_resend),
            origin.connection_id,
            origin.network_interface,
            record.id(topic).to_be_bytes(),
            record.payload(),
        ])?;
        if inserted == 0 {
            return Ok(());
        }
        let row = Row { id: self.transaction.last_insert_rowid(), vin: record.vin() };
        match decoded {
            Decoded::V(payload) => self.fields(&row, payload, created_ms.min(received_ms)),
            Decoded::Alerts(message) => {
                positions(&message.alerts).try_for_each(|(at, alert)| self.alert(&row, at, alert))
            }
            Decoded::Errors(message) => {
                positions(&message.errors).try_for_each(|(at, error)| self.error(&row, at, error))
            }
            Decoded::Connectivity(message) => self.connectivity(&row, message),
            Decoded::Opaque => Ok(()),
        }
    }

    fn fields(&mut self, row: &Row<'_>, payload: &Payload, as_of_ms: i64) -> rusqlite::Result<()> {
        for (position, datum) in positions(&payload.data) {
            let Cells { kind, number, text, latitude, longitude } =
                Cells::of(datum.value.as_ref().and_then(Value::view));
            self.field.execute(params![row.id, position, datum.key, kind, number, text, latitude, longitude])?;
            self.latest.execute(params![row.vin, datum.key, as_of_ms, row.id, position])?;
        }
        Ok(())
    }

    fn alert(&mut self, row: &Row<'_>, position: i64, alert: &VehicleAlert) -> rusqlite::Result<()> {
        let audiences: Vec<String> = alert.audiences.iter().map(|number| audience(*number)).collect();
        let (started, ended) = (millis(alert.started_at.as_ref()), millis(alert.ended_at.as_ref()));
        self.alert.execute(params![row.id, position, row.vin, alert.name, audiences.join(","), started, ended])?;
        Ok(())
    }

    fn error(&mut self, row: &Row<'_>, position: i64, error: &VehicleError) -> rusqlite::Result<()> {
        let tags: serde_json::Map<_, serde_json::Value> =
            error.tags.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        let tags = serde_json::Value::Object(tags).to_string();
        let created = millis(error.created_at.as_ref());
        self.error.execute(params![row.id, position, row.vin, error.name, error.body, tags, created])?;
        Ok(())
    }

    fn connectivity(&mut self, row: &Row<'_>, message: &VehicleConnectivity) -> rusqlite::Result<()> {
        let status = cells::status(message.status);
        let created = millis(message.created_at.as_ref());
        self.connectivity.execute(params![
            row.id,
            row.vin,
            status,
            message.connection_id,
            message.network_interface,
            created
        ])?;
        Ok(())
    }
}

impl ToSql for Number {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match *self {
            Self::Integer(n) => n.into(),
            Self::Real(n) => n.into(),
        })
    }
}

/// What the rows of one record share.
struct Row<'a> {
    id: i64,
    /// The certificate's, whatever the payload says.
    vin: &'a str,
}

fn txid(record: &Record) -> ToSqlOutput<'_> {
    match std::str::from_utf8(record.txid()) {
        // A shell shows text only up to a NUL.
        Ok(text) if !text.contains('\0') => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        _ => ToSqlOutput::Borrowed(ValueRef::Blob(record.txid())),
    }
}

fn positions<T>(items: &[T]) -> impl Iterator<Item = (i64, &T)> {
    (0..).zip(items)
}

const INSERT_RECORD: &str = "INSERT INTO records (vin, type, txid, created_ms, received_ms, is_resend, connection_id, network_interface, digest, payload)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING";

const INSERT_FIELD: &str = "INSERT INTO fields (record_id, position, field, kind, number, text, latitude, longitude)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// A vehicle replays what it buffered, so what comes later need not be newer.
const UPSERT_LATEST: &str = "INSERT INTO latest_fields (vin, field, as_of_ms, record_id, position)
    VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT DO UPDATE SET as_of_ms = excluded.as_of_ms, record_id = excluded.record_id, position = excluded.position
    WHERE excluded.as_of_ms >= as_of_ms";

const INSERT_ALERT: &str = "INSERT INTO alerts (record_id, position, vin, name, audiences, started_ms, ended_ms)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

const INSERT_ERROR: &str = "INSERT INTO errors (record_id, position, vin, name, body, tags, created_ms)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

const INSERT_CONNECTIVITY: &str =
    "INSERT INTO connectivity (record_id, vin, status, connection_id, network_interface, created_ms)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
