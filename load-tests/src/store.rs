//! Looks into the server's SQLite store.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use crate::fleet::AckedRecord;
use crate::record::vin;

/// What was found of the acked records.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// Records that the server acked.
    pub acked: usize,
    /// Of these, not in the store.
    pub missing: usize,
    /// One that is missing: VIN, type and txid.
    pub example: Option<String>,
}

/// Looks up every acked record in `records(vin, type, txid)`.
///
/// # Errors
/// The store cannot be read.
pub fn look_up(path: &Path, acked: &[AckedRecord]) -> rusqlite::Result<Findings> {
    let mut missing: HashSet<(String, String, Vec<u8>)> =
        acked.iter().map(|(topic, txid)| (vin(txid.vehicle), (*topic).to_owned(), txid.text().to_vec())).collect();
    let store = open(path)?;
    let mut query = store.prepare("SELECT vin, type, txid FROM records")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        // Text or blob, whichever the store prefers.
        let txid = row.get_ref(2)?.as_bytes()?.to_vec();
        missing.remove(&(row.get(0)?, row.get(1)?, txid));
    }
    let example = missing.iter().next().map(|(vin, topic, txid)| format!("{vin} {topic} {}", txid.escape_ascii()));
    Ok(Findings { acked: acked.len(), missing: missing.len(), example })
}

/// The newest values of `limit` vehicles, a readable line each.
///
/// # Errors
/// The store cannot be read.
pub fn latest(path: &Path, limit: usize) -> rusqlite::Result<Vec<String>> {
    let store = open(path)?;
    let mut query = store.prepare("SELECT vin, field, CAST(value AS TEXT) FROM latest WHERE value IS NOT NULL")?;
    let mut rows = query.query([])?;
    let mut vehicles: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        vehicles.entry(row.get(0)?).or_default().insert(row.get(1)?, row.get(2)?);
    }
    Ok(vehicles.iter().take(limit).map(|(vin, values)| line(vin, values)).collect())
}

/// The fields that a person wants to see first, and how wide they are.
const SHOWN: [(&str, usize); 5] = [("Gear", 13), ("VehicleSpeed", 5), ("Soc", 6), ("Odometer", 10), ("Location", 24)];

fn line(vin: &str, values: &BTreeMap<String, String>) -> String {
    let column = |(name, width): &(&str, usize)| {
        let value = values.get(*name).map_or("-", String::as_str);
        format!("  {name} {value:<width$}")
    };
    let columns: String = SHOWN.iter().map(column).collect();
    format!("{vin}{}", columns.trim_end())
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    store.busy_timeout(std::time::Duration::from_secs(10))?;
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::txid::Txid;

    #[test]
    fn tells_missing_records_from_stored_ones() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("telemetry.db");
        let txid = |sequence| Txid { run: 1, vehicle: 2, sequence };
        let store = Connection::open(&path).expect("created");
        store.execute_batch("CREATE TABLE records (vin TEXT, type TEXT, txid TEXT)").expect("table");
        for (topic, sequence) in [("V", 0), ("alerts", 1), ("V", 2)] {
            let text = String::from_utf8(txid(sequence).text().to_vec()).expect("ASCII");
            store.execute("INSERT INTO records VALUES (?, ?, ?)", (vin(2), topic, text)).expect("row");
        }
        let found = look_up(&path, &[("V", txid(0)), ("alerts", txid(1))]).expect("read");
        assert_eq!((found.acked, found.missing), (2, 0));
        let found = look_up(&path, &[("V", txid(0)), ("V", txid(1)), ("V", txid(9))]).expect("read");
        assert_eq!((found.acked, found.missing), (3, 2));
        assert!(found.example.is_some_and(|example| example.starts_with("5YJ3E1EA0PF000002 V ")));
    }

    #[test]
    fn shows_the_latest_values_of_some_vehicles() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("telemetry.db");
        let store = Connection::open(&path).expect("created");
        let rows = "('A', 'Soc', 71.5), ('A', 'Gear', 'P'), ('B', 'Soc', 20.0), ('C', 'Soc', NULL)";
        store.execute_batch("CREATE TABLE latest (vin TEXT, field TEXT, value)").expect("table");
        store.execute_batch(&format!("INSERT INTO latest VALUES {rows}")).expect("rows");
        let lines = latest(&path, 1).expect("read");
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("A  Gear P") && lines[0].contains("Soc 71.5"), "{lines:?}");
    }
}
