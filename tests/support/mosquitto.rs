//! A real MQTT broker, and somebody who subscribes to everything.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::process;
use super::service::{Service, await_port, free_ports};

/// A broker with data of its own.
pub struct Mosquitto {
    dir: TempDir,
    pub port: u16,
    service: Mutex<Service>,
}

/// Somebody who subscribes to everything, and is known to the broker also after its restart.
pub struct Subscriber {
    service: Service,
    port: u16,
    heard: std::path::PathBuf,
    credentials: Vec<String>,
}

/// A message as a subscriber sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    pub topic: String,
    /// Empty where there is none.
    pub payload: String,
    pub qos: u64,
    pub retained: bool,
}

impl Heard {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.payload).expect("JSON")
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

impl Mosquitto {
    pub fn start() -> Self {
        Self::with("")
    }

    /// With more lines in its configuration, in which `DIR` is its folder.
    pub fn with(more: &str) -> Self {
        Self::prepared(more, |_| ())
    }

    /// With files of `prepare` in its folder.
    pub fn prepared(more: &str, prepare: impl FnOnce(&Path)) -> Self {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let [port] = free_ports();
        prepare(dir.path());
        let more = more.replace("DIR", dir.path().to_str().unwrap());
        let anonymous = if more.contains("allow_anonymous") { "" } else { "allow_anonymous true\n" };
        let config = format!(
            "listener {port} 127.0.0.1\n{anonymous}persistence true\npersistence_location {}/\n\
             max_queued_messages 0\nmax_inflight_messages 0\nlog_timestamp false\n{more}\n",
            dir.path().display()
        );
        // Started as root it would give that up, and then not read what the tests wrote.
        let user = if is_root() { "user root\n" } else { "" };
        std::fs::write(dir.path().join("mosquitto.conf"), config + user).unwrap();
        let service = Mutex::new(run(dir.path(), port));
        Self { dir, port, service }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.service().kill();
    }

    /// SIGTERM: it saves what it holds for others.
    pub fn stop(&self) {
        self.service().stop();
    }

    /// After [`Self::kill`] or [`Self::stop`]: with what it had saved.
    pub fn restart(&self) {
        let mut service = self.service();
        *service = run(self.dir.path(), self.port);
    }

    pub fn pause(&self) {
        self.service().pause();
    }

    pub fn resume(&self) {
        self.service().resume();
    }

    /// Writes what it knows of subscribers to the disk, where a restart finds it.
    pub fn save(&self) {
        let file = self.dir.path().join("mosquitto.db");
        let _ = std::fs::remove_file(&file);
        process::signal(self.service().pid(), "USR1");
        until("saved", || file.exists());
    }

    pub fn subscribe(&self) -> Subscriber {
        self.subscribe_as("", &[])
    }

    /// `credentials` are options of `mosquitto_sub`.
    pub fn subscribe_as(&self, name: &str, credentials: &[&str]) -> Subscriber {
        let subscriber = Subscriber::new(self, name, credentials);
        // From here on, nothing that is published is missed.
        subscriber.catch_up();
        self.save();
        subscriber
    }

    /// What the broker says.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn service(&self) -> std::sync::MutexGuard<'_, Service> {
        self.service.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Subscriber {
    fn new(broker: &Mosquitto, name: &str, credentials: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("subscriber{name}{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let heard = broker.dir().join(&id);
        let port = broker.port.to_string();
        // Not 2: what is on its way to it when the broker is killed would be lost between the two of them.
        let fixed = ["-h", "127.0.0.1", "-p", &port, "-t", "#", "-q", "1", "-c", "-i", &id, "-F", "%j"];
        let service = Service::start(&heard, "mosquitto_sub", fixed.into_iter().chain(credentials.iter().copied()));
        let credentials = credentials.iter().map(ToString::to_string).collect();
        Self { service, port: broker.port, heard, credentials }
    }

    /// Returns when it has heard what the broker has got until now.
    fn catch_up(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Again and again: it may not have subscribed yet, and not be connected again after a restart.
            let fence = uuid::Uuid::new_v4().to_string();
            let mut publish = Command::new("mosquitto_pub");
            publish.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-t", FENCE, "-q", "1", "-m", &fence]);
            let is_sent = publish.args(&self.credentials).output().unwrap().status.success();
            let look_until = Instant::now() + Duration::from_millis(500);
            while is_sent && Instant::now() < look_until {
                if std::fs::read_to_string(&self.heard).unwrap_or_default().contains(&fence) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(Instant::now() < deadline, "the subscriber hears nothing");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Everything that the broker has got until now.
    pub fn heard(&self) -> Vec<Heard> {
        assert!(self.service.is_running(), "{}", std::fs::read_to_string(&self.heard).unwrap_or_default());
        self.catch_up();
        let text = std::fs::read_to_string(&self.heard).unwrap();
        let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).map(|message| Heard {
            topic: message["topic"].as_str().unwrap().to_owned(),
            payload: message["payload"].as_str().unwrap_or_default().to_owned(),
            qos: message["qos"].as_u64().unwrap(),
            retained: message["retain"] == 1,
        });
        messages.filter(|message| message.topic != FENCE).collect()
    }

    /// The last message of each topic.
    pub fn last(&self) -> std::collections::BTreeMap<String, Heard> {
        self.heard().into_iter().map(|heard| (heard.topic.clone(), heard)).collect()
    }
}

const FENCE: &str = "fence-of-the-tests";

fn run(dir: &Path, port: u16) -> Service {
    let (log, config) = (dir.join("log"), dir.join("mosquitto.conf"));
    let service = Service::start(&log, "mosquitto", ["-c", config.to_str().unwrap()]);
    await_port(port, &service, &log);
    service
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not {what} in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
