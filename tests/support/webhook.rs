//! A server that records are posted to (`webhook.py`), which fails on command.

use std::path::PathBuf;
use std::sync::Mutex;

use data_encoding::BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::service::{Service, await_port, free_ports};

pub struct Receiver {
    pub port: u16,
    folder: TempDir,
    tls: Vec<PathBuf>,
    service: Mutex<Service>,
}

/// A request that was accepted.
#[derive(Clone, Debug)]
pub struct Posted {
    pub path: String,
    pub headers: Value,
    pub body: Vec<u8>,
}

impl Receiver {
    pub fn start() -> Self {
        Self::start_with(Vec::new())
    }

    /// With certificate, key, and the authority of the clients that it lets in.
    pub fn start_with(tls: Vec<PathBuf>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [port] = free_ports();
        std::fs::write(folder.path().join("control"), "{}").unwrap();
        let service = Mutex::new(spawn(port, &folder, &tls));
        Self { port, folder, tls, service }
    }

    pub fn kill(&self) {
        self.service.lock().unwrap().kill();
    }

    /// On the same port, with what it had.
    pub fn restart(&self) {
        *self.service.lock().unwrap() = spawn(self.port, &self.folder, &self.tls);
    }

    /// See `webhook.py`.
    pub fn control(&self, control: &Value) {
        let next = self.folder.path().join("control.next");
        std::fs::write(&next, control.to_string()).unwrap();
        std::fs::rename(next, self.folder.path().join("control")).unwrap();
    }

    pub fn behave(&self) {
        self.control(&json!({}));
    }

    pub fn posted(&self) -> Vec<Posted> {
        let posted = |line: Value| Posted {
            path: line["path"].as_str().unwrap().to_owned(),
            body: BASE64.decode(line["body"].as_str().unwrap().as_bytes()).unwrap(),
            headers: line["headers"].clone(),
        };
        self.lines("requests").into_iter().map(posted).collect()
    }

    /// Time, id and status of every request, also of those that were not accepted.
    pub fn attempts(&self) -> Vec<(f64, String, u64)> {
        let attempt = |line: Value| {
            (line["at"].as_f64().unwrap(), line["id"].as_str().unwrap().to_owned(), line["status"].as_u64().unwrap())
        };
        self.lines("attempts").into_iter().map(attempt).collect()
    }

    fn lines(&self, file: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join(file)).unwrap_or_default();
        // The last line may be half written, by a server that was killed.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

fn spawn(port: u16, folder: &TempDir, tls: &[PathBuf]) -> Service {
    let log = folder.path().join("log");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/webhook.py");
    let (port_text, path) = (port.to_string(), folder.path().to_str().unwrap());
    let mut arguments = vec![script, &port_text, path];
    arguments.extend(tls.iter().map(|file| file.to_str().unwrap()));
    let service = Service::start(&log, "python3", arguments);
    await_port(port, &service, &log);
    service
}
