//! What the operating system knows about this process.
//!
//! The reference server reports the Go heap. The nearest equivalents here come from `/proc/self`: what is
//! resident and private (`memory_allocated_bytes`, `memory_heap`: heap, stacks of threads and tasks) and
//! the main thread's stack (`memory_stack`). Where there is no `/proc`, these series are absent.

use std::fmt::Write;
use std::time::Instant;

use metrics::{Gauge, gauge};

/// Units of `/proc/self/stat`'s times per second. Linux shows user space 100 on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) struct Process {
    started: Instant,
    uptime: Gauge,
    memory: Option<Memory>,
}

struct Memory {
    allocated: Gauge,
    heap: Gauge,
    stack: Gauge,
    resident: Gauge,
}

impl Process {
    pub(super) fn register() -> Self {
        gauge!(
            "fleet_telemetry_build_info",
            "version" => env!("CARGO_PKG_VERSION"),
            "commit" => env!("FLEET_TELEMETRY_COMMIT"),
        )
        .set(1.0);
        let memory = read("status").map(|_| Memory {
            allocated: gauge!("memory_allocated_bytes"),
            heap: gauge!("memory_heap"),
            stack: gauge!("memory_stack"),
            resident: gauge!("process_resident_memory_bytes"),
        });
        Self { started: Instant::now(), uptime: gauge!("uptime_sec"), memory }
    }

    /// Sets the gauges.
    pub(super) fn sample(&self) {
        #[expect(clippy::cast_precision_loss, reason = "exact for 285 million years")]
        self.uptime.set(self.started.elapsed().as_secs() as f64);
        if let (Some(memory), Some(status)) = (&self.memory, read("status")) {
            let private = kibibytes(&status, "RssAnon:");
            memory.allocated.set(private);
            memory.heap.set(private);
            memory.stack.set(kibibytes(&status, "VmStk:"));
            memory.resident.set(kibibytes(&status, "VmRSS:"));
        }
    }

    /// Appends the CPU time: a counter with a fraction, which the recorder has no type for.
    pub(super) fn render_cpu(&self, text: &mut String) {
        if let Some(seconds) = read("stat").as_deref().and_then(cpu_seconds) {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "# HELP process_cpu_seconds_total CPU time of the process, in seconds.\n\
                 # TYPE process_cpu_seconds_total counter\n\
                 process_cpu_seconds_total {seconds}\n\n"
            );
        }
    }
}

fn read(file: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/self/{file}")).ok()
}

/// A line such as `VmRSS:      1234 kB`, in bytes.
fn kibibytes(status: &str, name: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<f64>().ok()).unwrap_or_default() * 1024.0
}

/// `utime` plus `stime`, the 14th and 15th fields. The 2nd is the program's name, which may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut times = after_name.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_cpu_time_behind_any_program_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 9 9 20 0 4 0 100 1000 200";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (x) S 1"), None);
    }

    #[test]
    fn reads_kibibytes() {
        assert_eq!(kibibytes("VmStk:\t     132 kB\nVmRSS:\t  10 kB\n", "VmRSS:"), 10_240.0);
        assert_eq!(kibibytes("", "VmRSS:"), 0.0);
    }
}
