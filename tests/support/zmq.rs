//! libzmq's own subscribers, in processes of their own.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use tempfile::TempDir;

use super::service::Service;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/zmq_subscriber.py");
/// The system's own, which has the package.
const PYTHON: &str = "/usr/bin/python3";

/// Somebody who subscribes to everything.
pub struct Subscriber {
    dir: TempDir,
    service: Service,
}

/// A pair of CURVE, in Z85.
#[derive(Clone, Debug)]
pub struct Pair {
    pub public: String,
    pub secret: String,
}

impl Pair {
    pub fn generate() -> Self {
        let output = Command::new(PYTHON).args([SCRIPT, "keys"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (public, secret) = text.trim().split_once(' ').expect("run scripts/setup test");
        Self { public: public.to_owned(), secret: secret.to_owned() }
    }
}

impl Subscriber {
    pub fn plain(port: u16) -> Self {
        Self::start(&[&format!("tcp://127.0.0.1:{port}")])
    }

    pub fn curve(port: u16, server: &str, own: &Pair) -> Self {
        Self::start(&[&format!("tcp://127.0.0.1:{port}"), server, &own.public, &own.secret])
    }

    fn start(arguments: &[&str]) -> Self {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let arguments = [SCRIPT].into_iter().chain(arguments.iter().copied());
        let service = Service::start(&dir.path().join("heard"), PYTHON, arguments);
        Self { dir, service }
    }

    /// Topics and payloads, until now.
    pub fn heard_so_far(&self) -> Vec<(String, Vec<u8>)> {
        assert!(self.service.is_running(), "{}", std::fs::read_to_string(self.file()).unwrap_or_default());
        let text = std::fs::read_to_string(self.file()).unwrap_or_default();
        // The last line may not be whole.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let decode = |hex: &str| HEXLOWER.decode(hex.as_bytes()).unwrap_or_else(|_| panic!("{hex}"));
        let frames = whole.lines().map(|line| line.split_once(' ').unwrap_or((line, "")));
        frames.map(|(topic, payload)| (String::from_utf8(decode(topic)).unwrap(), decode(payload))).collect()
    }

    /// The same, once nothing has come for a while.
    pub fn heard(&self) -> Vec<(String, Vec<u8>)> {
        const QUIET: Duration = Duration::from_millis(300);
        let (mut heard, mut since) = (self.heard_so_far(), Instant::now());
        while since.elapsed() < QUIET {
            std::thread::sleep(Duration::from_millis(10));
            let now = self.heard_so_far();
            if now.len() != heard.len() {
                (heard, since) = (now, Instant::now());
            }
        }
        heard
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.service.pause();
    }

    pub fn resume(&self) {
        self.service.resume();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("heard")
    }
}
