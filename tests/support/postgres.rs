//! A PostgreSQL of the tests.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::process;
use super::service::{Service, await_port, free_ports};

pub struct Postgres {
    pub port: u16,
    folder: TempDir,
    service: Mutex<Service>,
}

/// Where Debian has the programs, which are on nobody's PATH.
fn program(name: &str) -> PathBuf {
    let mut versions: Vec<_> =
        std::fs::read_dir("/usr/lib/postgresql").unwrap().map(|entry| entry.unwrap().path().join("bin")).collect();
    versions.sort();
    versions.pop().expect("scripts/setup test installs it").join(name)
}

/// The server refuses to run as root.
fn unprivileged(program: PathBuf) -> Vec<String> {
    let program = program.to_str().unwrap().to_owned();
    if process::is_root() {
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", &program].map(str::to_owned).to_vec()
    } else {
        vec![program]
    }
}

impl Postgres {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        if process::is_root() {
            let owner = Command::new("chown").arg("postgres:postgres").arg(folder.path()).status().unwrap();
            assert!(owner.success());
        }
        let initdb = unprivileged(program("initdb"));
        let made = Command::new(&initdb[0])
            .args(&initdb[1..])
            .args(["--username=telemetry", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let [port] = free_ports();
        let service = Mutex::new(spawn(port, &folder));
        Self { port, folder, service }
    }

    pub fn url(&self) -> String {
        format!("postgres://telemetry@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// As a crash ends it: nothing is written on the way out.
    pub fn kill(&self) {
        let service = self.service.lock().unwrap();
        process::signal(service.pid(), "QUIT");
        let deadline = Instant::now() + Duration::from_secs(30);
        while service.is_running() {
            assert!(Instant::now() < deadline, "it survives");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// On the same port, with what it had.
    pub fn restart(&self) {
        *self.service.lock().unwrap() = spawn(self.port, &self.folder);
    }

    /// A connection of its own.
    pub async fn client(&self) -> tokio_postgres::Client {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The rows of a query, columns joined by `|`.
    pub async fn lines(&self, sql: &str) -> Vec<String> {
        use tokio_postgres::SimpleQueryMessage::Row;
        let messages = self.client().await.simple_query(sql).await.unwrap();
        let line = |message| match message {
            Row(row) => {
                let columns = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned());
                Some(columns.collect::<Vec<_>>().join("|"))
            }
            _ => None,
        };
        messages.into_iter().filter_map(line).collect()
    }
}

fn spawn(port: u16, folder: &TempDir) -> Service {
    let log = folder.path().join("log");
    let data = folder.path().join("data");
    let server = unprivileged(program("postgres"));
    let port_text = port.to_string();
    let settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=30"];
    let mut arguments: Vec<&str> = server[1..].iter().map(String::as_str).collect();
    arguments.extend(["-D", data.to_str().unwrap(), "-p", &port_text]);
    for setting in &settings {
        arguments.extend(["-c", setting]);
    }
    let service = Service::start(&log, &server[0], arguments);
    await_port(port, &service, &log);
    service
}
