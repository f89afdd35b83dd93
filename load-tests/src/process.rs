//! What another process uses, from `/proc`.

use std::fs;
use std::ops::Sub;
use std::time::Duration;

use serde::Serialize;

/// Linux reports CPU time to user space in hundredths of a second, whatever the kernel's own tick is.
const TICK: Duration = Duration::from_millis(10);

/// A process to look at.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Its id.
    pub pid: u32,
}

/// CPU time of all its threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// In user space.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Resident: with files that are mapped, the program itself above all.
    pub rss: u64,
    /// Resident and private: heap and stacks.
    pub anonymous: u64,
}

impl Process {
    /// This process.
    #[must_use]
    pub fn own() -> Self {
        Self { pid: std::process::id() }
    }

    /// CPU time so far; `None` when the process is gone.
    #[must_use]
    pub fn cpu(self) -> Option<Cpu> {
        parse_stat(&fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?)
    }

    /// Memory now; `None` when the process is gone or another user's.
    #[must_use]
    pub fn memory(self) -> Option<Memory> {
        parse_rollup(&fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).ok()?)
    }
}

impl Cpu {
    /// User and system time.
    #[must_use]
    pub fn total(self) -> Duration {
        self.user + self.system
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { user: self.user.saturating_sub(earlier.user), system: self.system.saturating_sub(earlier.system) }
    }
}

/// proc_pid_stat(5): fields 14 and 15. The program's name may hold anything, so fields count from its
/// closing parenthesis.
fn parse_stat(stat: &str) -> Option<Cpu> {
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split_ascii_whitespace().skip(11);
    let mut time = || Some(TICK * fields.next()?.parse().ok()?);
    Some(Cpu { user: time()?, system: time()? })
}

fn parse_rollup(rollup: &str) -> Option<Memory> {
    let bytes = |key: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    };
    Some(Memory { rss: bytes("Rss")?, anonymous: bytes("Anonymous")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cpu_time_behind_a_hostile_program_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 3 0 99 1 2";
        let cpu = Cpu { user: Duration::from_millis(2500), system: Duration::from_millis(500) };
        assert_eq!(parse_stat(stat), Some(cpu));
        assert_eq!(parse_stat("7 (a) S 1"), None);
    }

    #[test]
    fn reads_anonymous_and_resident_memory() {
        let rollup = "5-7 ---p 0 00:00 0 [rollup]\nRss:   100 kB\nAnonymous:   40 kB\nAnonHugePages:  0 kB\n";
        assert_eq!(parse_rollup(rollup), Some(Memory { rss: 102_400, anonymous: 40_960 }));
    }

    #[test]
    fn sees_its_own_process_and_not_one_that_is_gone() {
        assert!(Process::own().memory().is_some_and(|memory| memory.anonymous > 0));
        assert!(Process::own().cpu().is_some());
        assert!(Process { pid: u32::MAX }.cpu().is_none());
    }
}
