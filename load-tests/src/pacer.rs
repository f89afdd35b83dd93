//! The open-loop clock: hands out due times one by one, in turn, with microsecond precision.
//!
//! Tokio's timer wakes at whole milliseconds, which would bunch thousands of records a second into
//! bursts and spare the server most of its wake-ups. A `timerfd` fires once per record.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Notify;

/// How a vehicle learns that there is something to do: a message is due or the phase has changed.
#[derive(Debug, Default)]
pub struct Wake {
    due: RefCell<VecDeque<Due>>,
    notify: Notify,
}

/// A message that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// When it should leave.
    pub at: Instant,
    /// In which step.
    pub step: usize,
}

impl Wake {
    /// Makes a message due.
    pub fn push(&self, due: Due) {
        self.due.borrow_mut().push_back(due);
        self.notify.notify_one();
    }

    /// Says that the phase has changed.
    pub fn nudge(&self) {
        self.notify.notify_one();
    }

    /// The oldest due message.
    pub fn pop(&self) -> Option<Due> {
        self.due.borrow_mut().pop_front()
    }

    /// Completes after [`Wake::push`] or [`Wake::nudge`].
    pub async fn notified(&self) {
        self.notify.notified().await;
    }
}

/// Makes messages due for `wakes` in turn until it is dropped: the `n`th at `phase + n` intervals from now,
/// with `phase` in intervals.
///
/// # Errors
/// The kernel has no timer left.
pub async fn pace(wakes: &[Rc<Wake>], interval: Duration, phase: f64, step: usize) -> io::Result<()> {
    let interval = interval.max(Duration::from_nanos(1));
    let first = interval.mul_f64(phase).max(Duration::from_nanos(1));
    let (mut at, timer) = arm(first, interval)?;
    // To Tokio it is a pipe: something to poll and read.
    let mut timer = Receiver::from_owned_fd_unchecked(timer)?;
    let mut turn = wakes.iter().cycle();
    loop {
        for _ in 0..expirations(&mut timer).await? {
            let Some(wake) = turn.next() else { return Ok(()) };
            wake.push(Due { at, step });
            at += interval;
        }
    }
}

/// A running timer, and when it fires first: never later than it really does, or latencies would be
/// understated; and hardly earlier, unless the machine interrupts every attempt.
fn arm(first: Duration, interval: Duration) -> io::Result<(Instant, OwnedFd)> {
    const ATTEMPTS: usize = 20;
    const PRECISE: Duration = Duration::from_micros(20);
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let spec = Itimerspec { it_interval: timespec(interval), it_value: timespec(first) };
    let mut before = Instant::now();
    for _ in 0..ATTEMPTS {
        before = Instant::now();
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
        if before.elapsed() < PRECISE {
            break;
        }
    }
    Ok((before + first, timer))
}

/// How often the timer has fired since it was last asked, at least once.
async fn expirations(timer: &mut Receiver) -> io::Result<u64> {
    // Room for more than the kernel's eight bytes: after a short read Tokio waits without asking again.
    let mut count = [0; 16];
    match timer.read(&mut count).await? {
        8 => Ok(u64::from_ne_bytes(*count.first_chunk().expect("eight of sixteen bytes"))),
        other => Err(io::Error::other(format!("a timer of {other} bytes"))),
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().expect("an interval of a run"),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn due_times_are_evenly_spaced_and_go_round_the_vehicles() {
        let wakes: Vec<_> = (0..3).map(|_| Rc::new(Wake::default())).collect();
        let pacing = pace(&wakes, Duration::from_micros(500), 0.5, 7);
        let _ = tokio::time::timeout(Duration::from_millis(50), pacing).await;
        let mut due: Vec<_> = wakes
            .iter()
            .map(|wake| std::iter::from_fn(|| wake.pop()).map(|due| (due.at, due.step)).collect::<Vec<_>>())
            .collect();
        let counts: Vec<_> = due.iter().map(Vec::len).collect();
        assert!(counts[0] >= counts[2] && counts[0] - counts[2] <= 1, "{counts:?}");
        assert!(counts.iter().sum::<usize>() >= 20, "{counts:?}");
        let one = due.remove(0);
        assert!(one.windows(2).all(|pair| pair[1].0 - pair[0].0 == Duration::from_micros(1500)));
        assert!(one.iter().all(|(_, step)| *step == 7));
    }
}
