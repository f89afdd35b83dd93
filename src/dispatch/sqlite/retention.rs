//! Removes the oldest records, a few at a time, and gives their space back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, TransactionBehavior};

use crate::record::Record;

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    /// Since the server received the record.
    pub(super) max_age: Option<Duration>,
    /// Size of the file, without its write-ahead log.
    pub(super) max_bytes: Option<u64>,
}

/// How much one step may remove; bounds how long it keeps commits waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    records: usize,
    payload_bytes: u64,
}

impl Chunk {
    /// When nobody waits: a few milliseconds.
    pub(super) const IDLE: Self = Self { records: 256, payload_bytes: 4 << 20 };

    /// More than what was just written, so that a full file does not grow under load.
    pub(super) fn to_outpace(written: &[Record]) -> Self {
        let payload_bytes: u64 = written.iter().map(|record| record.payload().len() as u64).sum();
        Self {
            records: Self::IDLE.records.max(2 * written.len()),
            payload_bytes: Self::IDLE.payload_bytes.max(2 * payload_bytes),
        }
    }
}

impl Retention {
    /// Room must be made before more is written. Errors count as no: the next write will report them.
    pub(super) fn is_oversize(&self, connection: &Connection) -> bool {
        self.max_bytes.is_some() && Space::of(connection).is_ok_and(|space| self.exceeds(space))
    }

    /// Removes or gives back one chunk of whatever is due; whether there may be more.
    pub(super) fn step(&self, connection: &mut Connection, chunk: Chunk) -> rusqlite::Result<bool> {
        let space = Space::of(connection)?;
        let received_before = if self.exceeds(space) { Some(i64::MAX) } else { self.expiry() };
        if let Some(received_before) = received_before
            && remove(connection, chunk, received_before)?
        {
            return Ok(true);
        }
        let space = Space::of(connection)?;
        if !self.is_worth_shrinking(space) {
            return Ok(false);
        }
        shrink(connection)?;
        Ok(Space::of(connection)?.free_pages < space.free_pages)
    }

    /// Room is made from seven eighths on; the last eighth is for what comes meanwhile.
    fn exceeds(&self, space: Space) -> bool {
        self.max_bytes.is_some_and(|most| space.used() > most / 8 * 7)
    }

    fn expiry(&self) -> Option<i64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let expiry = now.saturating_sub(self.max_age?);
        Some(i64::try_from(expiry.as_millis()).unwrap_or(i64::MAX))
    }

    /// Free pages are used again by later records, so a few are left alone.
    fn is_worth_shrinking(&self, space: Space) -> bool {
        let is_large = self.max_bytes.is_some_and(|most| space.file() > most / 16 * 15);
        space.free_pages > 0 && (is_large || space.free_pages > (space.pages / 8).max(64))
    }
}

/// The file's pages.
#[derive(Clone, Copy, Debug)]
struct Space {
    page_bytes: u64,
    pages: u64,
    free_pages: u64,
}

impl Space {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        connection
            .prepare_cached("SELECT page_size, page_count, freelist_count FROM pragma_page_size, pragma_page_count, pragma_freelist_count")?
            .query_row([], |row| {
                let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
                Ok(Self { page_bytes: number(0)?, pages: number(1)?, free_pages: number(2)? })
            })
    }

    fn file(self) -> u64 {
        self.pages * self.page_bytes
    }

    fn used(self) -> u64 {
        (self.pages - self.free_pages) * self.page_bytes
    }
}

/// Removes the oldest records that were received before then; whether there may be more.
fn remove(connection: &mut Connection, chunk: Chunk, received_before: i64) -> rusqlite::Result<bool> {
    let Some((upto, more)) = oldest(connection, chunk, received_before)? else { return Ok(false) };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for delete in DELETES {
        transaction.prepare_cached(delete)?.execute([upto])?;
    }
    transaction.commit()?;
    Ok(more)
}

/// The last id to remove, and whether the chunk ended before the records did.
fn oldest(connection: &Connection, chunk: Chunk, received_before: i64) -> rusqlite::Result<Option<(i64, bool)>> {
    let mut select = connection.prepare_cached("SELECT id, received_ms, length(payload) FROM records ORDER BY id")?;
    let mut rows = select.query([])?;
    let (mut upto, mut records, mut payload_bytes) = (None, 0, 0);
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? >= received_before {
            return Ok(upto.map(|upto| (upto, false)));
        }
        upto = Some(row.get(0)?);
        records += 1;
        payload_bytes += row.get::<_, i64>(2)?.unsigned_abs();
        if records >= chunk.records || payload_bytes >= chunk.payload_bytes {
            return Ok(upto.map(|upto| (upto, true)));
        }
    }
    Ok(upto.map(|upto| (upto, false)))
}

/// Gives pages at the end of the file back. In a write-ahead log, the file itself shrinks with the checkpoint.
fn shrink(connection: &Connection) -> rusqlite::Result<()> {
    {
        let mut vacuum = connection.prepare_cached("PRAGMA incremental_vacuum(256)")?;
        let mut pages = vacuum.query([])?;
        // It frees one page per step.
        while pages.next()?.is_some() {}
    }
    connection.execute_batch("PRAGMA wal_checkpoint(PASSIVE)")
}

/// Whatever belongs to records up to an id, the records last.
const DELETES: [&str; 6] = [
    "DELETE FROM latest_fields WHERE record_id <= ?1 AND (vin, field) IN
        (SELECT r.vin, f.field FROM records r JOIN fields f ON f.record_id = r.id WHERE r.id <= ?1)",
    "DELETE FROM fields WHERE record_id <= ?1",
    "DELETE FROM alerts WHERE record_id <= ?1",
    "DELETE FROM errors WHERE record_id <= ?1",
    "DELETE FROM connectivity WHERE record_id <= ?1",
    "DELETE FROM records WHERE id <= ?1",
];

#[cfg(test)]
mod tests {
    use super::super::schema::{LOCK_PATIENCE, Store};
    use super::*;

    #[test]
    fn one_step_gives_many_pages_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut store = Store::open(&directory.path().join("test.db"), LOCK_PATIENCE).expect("opens");
        let fill = "INSERT INTO field_names VALUES (99999, zeroblob(4000000))";
        let empty = "DELETE FROM field_names WHERE number = 99999";
        store.connection().execute_batch(&format!("{fill}; {empty};")).expect("fills and empties");
        let before = Space::of(store.connection()).expect("a size");
        let retention = Retention { max_age: None, max_bytes: Some(1 << 20) };
        assert!(retention.step(store.connection_mut(), Chunk::IDLE).expect("a step"), "there is more to give back");
        let after = Space::of(store.connection()).expect("a size");
        assert!(after.pages <= before.pages - 256, "{before:?} to {after:?}");
        while retention.step(store.connection_mut(), Chunk::IDLE).expect("a step") {}
        let file = std::fs::metadata(directory.path().join("test.db")).expect("a file").len();
        assert!(file <= 1 << 20, "{file} bytes");
    }
}
