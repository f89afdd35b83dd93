//! The list of acked records, for tests that count what a crash lost.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use crate::record::txid::Txid;

/// Appends `vin<TAB>topic<TAB>txid` per first ack.
#[derive(Debug)]
pub struct Journal(Mutex<BufWriter<File>>);

impl Journal {
    /// Appends to `path`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(Mutex::new(BufWriter::new(file))))
    }

    /// A record was acked.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn acked(&self, vin: &str, topic: &str, txid: Txid) -> io::Result<()> {
        let txid = txid.text();
        let mut file = self.file();
        writeln!(file, "{vin}\t{topic}\t{}", str::from_utf8(&txid).expect("hexadecimal digits"))
    }

    /// Hands everything to the kernel.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn flush(&self) -> io::Result<()> {
        self.file().flush()
    }

    fn file(&self) -> MutexGuard<'_, BufWriter<File>> {
        self.0.lock().expect("no thread panics while it writes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_one_line_per_ack() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("acks");
        for sequence in 0..2 {
            let journal = Journal::open(&path).expect("opened");
            journal.acked("VIN", "V", Txid { run: 1, vehicle: 2, sequence }).expect("written");
            journal.flush().expect("flushed");
        }
        let text = std::fs::read_to_string(path).expect("file");
        assert_eq!(
            text,
            "VIN\tV\t00000001-0000-8002-8000-000000000000\nVIN\tV\t00000001-0000-8002-8000-000000000001\n"
        );
    }
}
