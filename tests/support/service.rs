//! Servers that tests start, as processes of their own on the loopback interface.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::process;

/// One process, gone when this is dropped or the process of the tests ends, however it ends.
pub struct Service {
    /// Kills the service when its stdin, whose other end only this process holds, ends.
    guard: Child,
    pid: u32,
}

/// Starts what follows in its arguments behind the first, which names the file for its output; says its pid.
const GUARD: &str = r#"
log=$1
shift
trap '' INT TERM HUP
# Where packages put servers, which ordinary users' PATH may lack.
PATH=$PATH:/usr/sbin:/sbin
setsid "$@" >>"$log" 2>&1 </dev/null &
echo $!
cat >/dev/null
kill -KILL $! 2>/dev/null
# What belongs to the process of the tests as a whole is left behind when that ends.
(sleep 1; kill -0 $PPID || rm -rf "${log%/*}") >/dev/null 2>&1 &
"#;

impl Service {
    /// Appends what the program says to the file `log`.
    pub fn start<'a>(log: &Path, program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]).arg(log).arg(program).args(arguments);
        let mut guard = guard.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut pid = String::new();
        BufReader::new(guard.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        Self { guard, pid: pid.trim().parse().unwrap() }
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// SIGKILL; returns when it is gone.
    pub fn kill(&self) {
        self.end("KILL");
    }

    /// SIGTERM; returns when it is gone.
    pub fn stop(&self) {
        self.end("TERM");
    }

    fn end(&self, signal: &str) {
        if self.is_running() {
            process::signal(self.pid, signal);
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.is_running() {
            assert!(Instant::now() < deadline, "{} survives SIG{signal}", self.pid);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGSTOP: connections stay, nothing is answered.
    pub fn pause(&self) {
        process::signal(self.pid, "STOP");
    }

    /// After [`Self::pause`].
    pub fn resume(&self) {
        process::signal(self.pid, "CONT");
    }

    /// A zombie does not count: its guard collects it when it ends itself.
    pub fn is_running(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Ports that nobody listens on. Below the range that the kernel gives to outgoing connections: while a server is
/// down, one of those must not take its port.
pub fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let mut ports = [0; COUNT];
    for at in 0..COUNT {
        ports[at] = std::iter::repeat_with(|| 20_000 + uuid::Uuid::new_v4().as_u64_pair().0 % 12_000)
            .map(|port| u16::try_from(port).unwrap())
            .find(|port| !ports[..at].contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok())
            .unwrap();
    }
    ports
}

/// Waits until somebody listens there.
pub fn await_port(port: u16, service: &Service, log: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        let said = || std::fs::read_to_string(log).unwrap_or_default();
        assert!(service.is_running(), "the service has ended: {}", said());
        assert!(Instant::now() < deadline, "nobody listens on port {port}: {}", said());
        std::thread::sleep(Duration::from_millis(5));
    }
}
