//! What another process uses, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
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

/// What a process has used so far.
#[derive(Clone, Debug)]
pub struct Usage {
    ticks: Ticks,
    /// By id; empty where the kernel keeps no statistics of threads.
    threads: BTreeMap<u32, Thread>,
}

/// What a process has used between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// In user space, in ticks.
    pub user: Duration,
    /// In the kernel, in ticks.
    pub system: Duration,
    /// Both, to the nanosecond, except for what a thread used that has ended meanwhile.
    pub cpu: Duration,
    /// How often a thread went to sleep, so how often one was woken.
    pub wakeups: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    user: Duration,
    system: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Thread {
    ran: Duration,
    slept: u64,
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

    /// What it has used so far; `None` when the process is gone.
    #[must_use]
    pub fn usage(self) -> Option<Usage> {
        let ticks = parse_stat(&self.read("stat")?)?;
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).ok()?;
        // A thread may end between being listed and being looked at.
        let threads = tasks.filter_map(|task| {
            let id = task.ok()?.file_name().to_str()?.parse().ok()?;
            let ran = parse_schedstat(&self.read(&format!("task/{id}/schedstat"))?)?;
            let slept = parse_sleeps(&self.read(&format!("task/{id}/status"))?)?;
            Some((id, Thread { ran, slept }))
        });
        Some(Usage { ticks, threads: threads.collect() })
    }

    /// Memory now; `None` when the process is gone or another user's.
    #[must_use]
    pub fn memory(self) -> Option<Memory> {
        parse_rollup(&self.read("smaps_rollup")?)
    }

    /// [`Memory::anonymous`] now, from the kernel's counters: cheap however much it is, and a few pages off.
    #[must_use]
    pub fn anonymous(self) -> Option<u64> {
        kib(&self.read("status")?, "RssAnon")
    }

    fn read(self, file: &str) -> Option<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid)).ok()
    }
}

impl Usage {
    /// The difference to an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Used {
        let user = self.ticks.user.saturating_sub(earlier.ticks.user);
        let system = self.ticks.system.saturating_sub(earlier.ticks.system);
        let mut used = Used { user, system, ..Used::default() };
        for (id, thread) in &self.threads {
            let before = earlier.threads.get(id).copied().unwrap_or_default();
            used.cpu += thread.ran.saturating_sub(before.ran);
            used.wakeups += thread.slept.saturating_sub(before.slept);
        }
        if self.threads.is_empty() {
            used.cpu = user + system;
        }
        used
    }
}

/// proc_pid_stat(5): fields 14 and 15. The program's name may hold anything, so fields count from its
/// closing parenthesis.
fn parse_stat(stat: &str) -> Option<Ticks> {
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split_ascii_whitespace().skip(11);
    let mut time = || Some(TICK * fields.next()?.parse().ok()?);
    Some(Ticks { user: time()?, system: time()? })
}

/// The kernel's Documentation/scheduler/sched-stats.rst: nanoseconds on a CPU, nanoseconds waiting for one, slices.
fn parse_schedstat(schedstat: &str) -> Option<Duration> {
    schedstat.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn parse_sleeps(status: &str) -> Option<u64> {
    value(status, "voluntary_ctxt_switches")?.parse().ok()
}

fn parse_rollup(rollup: &str) -> Option<Memory> {
    Some(Memory { rss: kib(rollup, "Rss")?, anonymous: kib(rollup, "Anonymous")? })
}

fn kib(text: &str, key: &str) -> Option<u64> {
    Some(value(text, key)?.strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// What follows `key:` at the start of a line.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cpu_time_behind_a_hostile_program_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 3 0 99 1 2";
        let ticks = Ticks { user: Duration::from_millis(2500), system: Duration::from_millis(500) };
        assert_eq!(parse_stat(stat), Some(ticks));
        assert_eq!(parse_stat("7 (a) S 1"), None);
    }

    #[test]
    fn reads_a_thread_s_time_and_how_often_it_slept() {
        assert_eq!(parse_schedstat("66021320 53875017 136\n"), Some(Duration::from_nanos(66_021_320)));
        assert_eq!(parse_schedstat(""), None);
        let status = "Name:\tx\nRssAnon:\t     40 kB\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(parse_sleeps(status), Some(12));
        assert_eq!(kib(status, "RssAnon"), Some(40_960));
    }

    #[test]
    fn a_thread_that_ended_takes_nothing_away_and_a_new_one_counts() {
        let thread = |millis, slept| Thread { ran: Duration::from_millis(millis), slept };
        let usage =
            |threads: &[(u32, Thread)]| Usage { ticks: Ticks::default(), threads: threads.iter().copied().collect() };
        let before = usage(&[(1, thread(5, 10)), (2, thread(900, 900))]);
        let after = usage(&[(1, thread(8, 14)), (3, thread(2, 1))]);
        let used = after.since(&before);
        assert_eq!((used.cpu, used.wakeups), (Duration::from_millis(5), 5));
    }

    #[test]
    fn reads_anonymous_and_resident_memory() {
        let rollup = "5-7 ---p 0 00:00 0 [rollup]\nRss:   100 kB\nAnonymous:   40 kB\nAnonHugePages:  0 kB\n";
        assert_eq!(parse_rollup(rollup), Some(Memory { rss: 102_400, anonymous: 40_960 }));
    }

    #[test]
    fn sees_its_own_process_and_not_one_that_is_gone() {
        assert!(Process::own().memory().is_some_and(|memory| memory.anonymous > 0));
        assert!(Process::own().anonymous().is_some_and(|bytes| bytes > 0));
        assert!(Process::own().usage().is_some_and(|usage| !usage.threads.is_empty()));
        assert!(Process { pid: u32::MAX }.usage().is_none());
    }
}
