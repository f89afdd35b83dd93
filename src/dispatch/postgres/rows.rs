//! A batch as rows, in one transaction.

use std::collections::HashSet;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Transaction};
use uuid::Uuid;

use crate::dispatch::cells::{self, Cells, Number, audience, created_ms, millis};
use crate::proto::vehicle_data::{Field, Value};
use crate::record::{Decoded, Record, Topics};

/// A row of one of the tables.
type Row = Vec<Box<dyn ToSql + Sync + Send>>;

/// Commits `records`; those that are there already are left as they are.
pub(super) async fn write(client: &mut Client, schema: &str, records: &[Record], topics: &Topics) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    let ids: Vec<Uuid> = records.iter().map(|record| Uuid::from_u128(record.id(topics.name(record.kind())))).collect();
    let mut new = insert_records(&transaction, schema, records, &ids, topics).await?;
    let mut rows = Tables::default();
    for (record, id) in records.iter().zip(&ids) {
        if new.remove(id) {
            rows.add(record, *id);
        }
    }
    rows.copy(&transaction, schema).await?;
    transaction.commit().await
}

/// The ids of those that were not there.
async fn insert_records(
    transaction: &Transaction<'_>,
    schema: &str,
    records: &[Record],
    ids: &[Uuid],
    topics: &Topics,
) -> Result<HashSet<Uuid>, Error> {
    let temporary = "CREATE TEMPORARY TABLE IF NOT EXISTS incoming (ordinal integer, id uuid, vin text, type text, txid bytea, created_at \
                     timestamptz, received_at timestamptz, is_resend boolean, connection_id text, network_interface \
                     text, payload bytea) ON COMMIT DELETE ROWS";
    transaction.batch_execute(temporary).await?;
    let types = [
        Type::INT4,
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::BYTEA,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::BOOL,
        Type::TEXT,
        Type::TEXT,
        Type::BYTEA,
    ];
    // Of several in one batch that are the same, the first counts.
    let mut seen = HashSet::with_capacity(ids.len());
    let first = records.iter().zip(ids).filter(|(_, id)| seen.insert(**id));
    let rows = (0_i32..).zip(first).map(|(ordinal, (record, id))| {
        let decoded = record.decode().unwrap_or(Decoded::Opaque);
        let origin = record.origin();
        row([
            Box::new(ordinal),
            Box::new(*id),
            text(record.vin()),
            text(topics.name(record.kind())),
            Box::new(record.txid().to_vec()),
            Box::new(created_ms(&decoded).and_then(time)),
            Box::new(received(record)),
            Box::new(matches!(&decoded, Decoded::V(payload) if payload.is_resend)),
            text(&origin.connection_id),
            text(&origin.network_interface),
            Box::new(record.payload().to_vec()),
        ])
    });
    copy(transaction, "COPY incoming FROM STDIN BINARY", &types, rows).await?;
    let columns = "id, vin, type, txid, created_at, received_at, is_resend, connection_id, network_interface, payload";
    let insert = format!(
        "INSERT INTO {schema}.records ({columns}) SELECT {columns} FROM incoming ORDER BY ordinal \
         ON CONFLICT DO NOTHING RETURNING id"
    );
    let inserted = transaction.query(&insert, &[]).await?;
    Ok(inserted.iter().map(|row| row.get(0)).collect())
}

/// Rows of the other tables.
#[derive(Default)]
struct Tables {
    signals: Vec<Row>,
    alerts: Vec<Row>,
    errors: Vec<Row>,
    connectivity: Vec<Row>,
}

impl Tables {
    fn add(&mut self, record: &Record, id: Uuid) {
        // A payload that does not decode is kept as bytes.
        let decoded = record.decode().unwrap_or(Decoded::Opaque);
        let at = created_ms(&decoded).and_then(time).unwrap_or_else(|| received(record));
        let vin = record.vin();
        match &decoded {
            Decoded::V(payload) => {
                for (position, datum) in (0_i32..).zip(&payload.data) {
                    let cells = Cells::of(datum.value.as_ref().and_then(Value::view));
                    self.signals.push(signal(at, vin, datum.key, cells, id, position));
                }
            }
            Decoded::Alerts(message) => self.alerts.extend(message.alerts.iter().map(|alert| {
                let audiences: Vec<_> = alert.audiences.iter().map(|number| audience(*number)).collect();
                let moment = |at: &Option<prost_types::Timestamp>| Box::new(millis(at.as_ref()).and_then(time));
                row([
                    Box::new(at),
                    text(vin),
                    text(&alert.name),
                    text(&audiences.join(",")),
                    moment(&alert.started_at),
                    moment(&alert.ended_at),
                    Box::new(id),
                ])
            })),
            Decoded::Errors(message) => self.errors.extend(message.errors.iter().map(|error| {
                let tags = error.tags.iter().map(|(key, value)| (printable(key), Json::String(printable(value))));
                row([
                    Box::new(at),
                    text(vin),
                    text(&error.name),
                    text(&error.body),
                    Box::new(Json::Object(tags.collect())),
                    Box::new(millis(error.created_at.as_ref()).and_then(time)),
                    Box::new(id),
                ])
            })),
            Decoded::Connectivity(message) => self.connectivity.push(row([
                Box::new(at),
                text(vin),
                text(&cells::status(message.status)),
                text(&message.connection_id),
                text(&message.network_interface),
                Box::new(id),
            ])),
            Decoded::Opaque => {}
        }
    }

    async fn copy(self, transaction: &Transaction<'_>, schema: &str) -> Result<(), Error> {
        const TIME: Type = Type::TIMESTAMPTZ;
        const TEXT: Type = Type::TEXT;
        const REAL: Type = Type::FLOAT8;
        let tables: [(&str, Vec<Row>, Vec<Type>); 4] = [
            ("signals", self.signals, vec![TIME, TEXT, TEXT, TEXT, REAL, TEXT, REAL, REAL, Type::UUID, Type::INT4]),
            ("alerts", self.alerts, vec![TIME, TEXT, TEXT, TEXT, TIME, TIME, Type::UUID]),
            ("errors", self.errors, vec![TIME, TEXT, TEXT, TEXT, Type::JSONB, TIME, Type::UUID]),
            ("connectivity", self.connectivity, vec![TIME, TEXT, TEXT, TEXT, TEXT, Type::UUID]),
        ];
        for (table, rows, types) in tables {
            if !rows.is_empty() {
                let statement = format!("COPY {schema}.{table} FROM STDIN BINARY");
                copy(transaction, &statement, &types, rows.into_iter()).await?;
            }
        }
        Ok(())
    }
}

fn signal(at: SystemTime, vin: &str, key: i32, cells: Cells<'_>, id: Uuid, position: i32) -> Row {
    let field = Field::try_from(key).map_or_else(|_| key.to_string(), |field| field.as_str_name().to_owned());
    let mut written = cells.text.map(|text| printable(&text));
    let number = cells.number.map(|number| match number {
        Number::Real(number) => number,
        Number::Integer(number) => {
            let real = number as f64;
            // Beyond 2^53 the digits are in the text alone.
            if real as i128 != i128::from(number) && written.is_none() {
                written = Some(number.to_string());
            }
            real
        }
    });
    row([
        Box::new(at),
        text(vin),
        text(&field),
        text(cells.kind),
        Box::new(number),
        Box::new(written),
        Box::new(cells.latitude),
        Box::new(cells.longitude),
        Box::new(id),
        Box::new(position),
    ])
}

async fn copy(
    transaction: &Transaction<'_>,
    statement: &str,
    types: &[Type],
    rows: impl Iterator<Item = Row>,
) -> Result<(), Error> {
    let sink = transaction.copy_in(statement).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, types));
    for row in rows {
        let mut values: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(row.len());
        for value in &row {
            values.push(&**value);
        }
        writer.as_mut().write(&values).await?;
    }
    writer.finish().await?;
    Ok(())
}

fn row<const N: usize>(values: [Box<dyn ToSql + Sync + Send>; N]) -> Row {
    values.into()
}

fn text(text: &str) -> Box<dyn ToSql + Sync + Send> {
    Box::new(printable(text))
}

/// PostgreSQL's texts hold every character but NUL.
fn printable(text: &str) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.to_owned() }
}

fn received(record: &Record) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(record.received().epoch_ms)
}

/// `None` outside of what PostgreSQL and people call a date.
fn time(ms: i64) -> Option<SystemTime> {
    /// The year 10000.
    const END: u64 = 253_402_300_800_000;
    let ms = u64::try_from(ms).ok().filter(|ms| *ms < END)?;
    Some(UNIX_EPOCH + Duration::from_millis(ms))
}
