//! Whose handshake the server computes next.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::places::{Claim, Place};

/// A worker computes so many steps of handshakes one after the other; then whoever else is ready goes first. To step
/// back each time would cost a look at the network for every step.
const IN_A_ROW: usize = 4;

/// A worker's steps since others had their turn.
#[derive(Clone, Copy, Default)]
struct Row {
    steps: usize,
    /// Some step has been put behind all that is ready; when it comes, the others have had their turn.
    is_over: bool,
}

thread_local! {
    static ROW: Cell<Row> = Cell::default();
}

impl Row {
    /// Whether the next step goes behind all that is ready.
    fn must_step_back() -> bool {
        let row = ROW.get();
        let is_over = row.steps >= IN_A_ROW;
        ROW.set(Row { steps: row.steps + 1, is_over });
        is_over
    }

    /// A step that was put behind has come. A row is counted anew by the first of them.
    fn has_stepped_back() {
        if ROW.get().is_over {
            ROW.set(Row { steps: 1, is_over: false });
        }
    }
}

/// A peer that answers within this keeps its turn meanwhile.
const PROMPT: Duration = Duration::from_millis(50);

/// Bounds the handshakes that are computed, or in line for a worker; however many come at once, sessions wait for these
/// few at most.
///
/// A peer that answers promptly keeps its turn, so that of many that come at once the first are done before the last
/// begin: all of them half done at the same time would take more memory, and more time, since none of it would stay in
/// the caches. Whoever is slower has no turn while it is waited for, and does not stand behind those that have not begun,
/// so that nobody keeps others waiting for more than [`PROMPT`], and many that answer nothing not even for that.
#[derive(Debug)]
pub(super) struct Turns {
    first_steps: Semaphore,
    other_steps: Semaphore,
    /// How many peers in a row have let [`PROMPT`] pass: after a few, no turn is kept for the next ones, until one is
    /// prompt again.
    late_in_a_row: AtomicUsize,
}

/// So many peers in a row may be late before no turn is kept for the next.
const LATE_IN_A_ROW: usize = 4;

impl Turns {
    pub(super) fn new(limit: usize) -> Self {
        let line = || Semaphore::new(limit.min(Semaphore::MAX_PERMITS));
        Self { first_steps: line(), other_steps: line(), late_in_a_row: AtomicUsize::new(0) }
    }

    /// Starts work and polls it to its end, each time in a turn. The claim of `place` is firm from one wake-up of the
    /// work to the end of the step that it brings, and fair otherwise.
    pub(super) async fn compute<W>(&self, place: &Place, start: impl FnOnce() -> W) -> W::Output
    where
        W: Future + Unpin,
    {
        let mut turn = Some(next(&self.first_steps, place).await);
        let mut work = start();
        let mut is_prompt = true;
        loop {
            let step = poll_fn(|cx| Poll::Ready(Pin::new(&mut work).poll(cx))).await;
            place.claim(Claim::Fair);
            if let Poll::Ready(output) = step {
                return output;
            }
            if !is_prompt || self.late_in_a_row.load(Ordering::Relaxed) >= LATE_IN_A_ROW {
                drop(turn.take());
                let asleep = Instant::now();
                woken().await;
                self.waited(asleep.elapsed() < PROMPT);
                is_prompt = false;
            } else {
                is_prompt = woken_within(PROMPT).await;
                self.waited(is_prompt);
            }
            if is_prompt {
                place.claim(Claim::Firm);
                step_back().await;
            } else {
                drop(turn.take());
                turn = Some(next(&self.other_steps, place).await);
            }
        }
    }
}

impl Turns {
    fn waited(&self, is_prompt: bool) {
        if is_prompt {
            self.late_in_a_row.store(0, Ordering::Relaxed);
        } else {
            self.late_in_a_row.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn next<'a>(line: &'a Semaphore, place: &Place) -> SemaphorePermit<'a> {
    place.claim(Claim::Firm);
    let turn = line.acquire().await.expect("the semaphore is never closed");
    step_back().await;
    turn
}

/// Whoever is ready goes first, sessions above all. Without this a thousand clients that come at once would all find a
/// turn free, one after the other, before any session is polled.
async fn step_back() {
    if Row::must_step_back() {
        tokio::task::yield_now().await;
        Row::has_stepped_back();
    }
}

/// Ready when the task is polled again.
async fn woken() {
    let mut polled = false;
    poll_fn(|_| if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Ready when the task is polled again, at the latest after `limit`; whether that was before. At the limit, both may
/// have come about.
async fn woken_within(limit: Duration) -> bool {
    let mut limit = pin!(tokio::time::sleep(limit));
    let mut polled = false;
    poll_fn(|cx| match (limit.as_mut().poll(cx), std::mem::replace(&mut polled, true)) {
        (Poll::Pending, false) => Poll::Pending,
        (is_over, _) => Poll::Ready(is_over.is_pending()),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use tokio::sync::oneshot;

    use super::*;
    use crate::places::{Addresses, Places};

    const PATIENCE: Duration = Duration::from_secs(20);

    fn place() -> Place {
        let places = Places::new(|| 10_000, Arc::new(Addresses::new(10_000)), Duration::ZERO);
        Places::enter(&places, IpAddr::from([192, 0, 2, 1])).unwrap().0
    }

    #[tokio::test]
    async fn one_that_waits_for_its_peer_keeps_nobody_from_a_turn() {
        let turns = Arc::new(Turns::new(1));
        let (answer, waits) = oneshot::channel::<()>();
        let slow = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.compute(&place(), || waits).await }
        });
        tokio::task::yield_now().await;
        for _ in 0..10 {
            let place = place();
            let quick = turns.compute(&place, || std::future::ready(7));
            assert_eq!(tokio::time::timeout(PATIENCE, quick).await, Ok(7));
        }
        answer.send(()).unwrap();
        assert_eq!(tokio::time::timeout(PATIENCE, slow).await.unwrap().unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn many_that_answer_nothing_keep_nobody_from_a_turn_for_long() {
        const STALLED: u32 = 100;
        let turns = Arc::new(Turns::new(1));
        let mut never = Vec::new();
        for _ in 0..STALLED {
            let (answer, waits) = oneshot::channel::<()>();
            never.push(answer);
            let turns = Arc::clone(&turns);
            tokio::spawn(async move { turns.compute(&place(), || waits).await });
        }
        tokio::task::yield_now().await;
        let start = Instant::now();
        let place = place();
        turns.compute(&place, || std::future::ready(())).await;
        assert!(start.elapsed() < PROMPT * STALLED / 2, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn one_that_has_begun_does_not_stand_behind_those_that_have_not() {
        let turns = Arc::new(Turns::new(1));
        let begun = Arc::new(AtomicUsize::new(0));
        let (answer, waits) = oneshot::channel::<()>();
        let first = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.compute(&place(), || waits).await }
        });
        tokio::task::yield_now().await;
        for _ in 0..1000 {
            let (turns, begun) = (Arc::clone(&turns), Arc::clone(&begun));
            let start = move || {
                begun.fetch_add(1, Ordering::Relaxed);
                std::future::ready(())
            };
            tokio::spawn(async move { turns.compute(&place(), start).await });
        }
        answer.send(()).unwrap();
        assert_eq!(tokio::time::timeout(PATIENCE, first).await.unwrap().unwrap(), Ok(()));
        let before = begun.load(Ordering::Relaxed);
        assert!(before < 500, "{before} of 1000 began before");
    }

    #[tokio::test]
    async fn a_session_that_is_ready_waits_for_no_more_handshakes_than_have_a_turn() {
        let (turns, computed) = (Arc::new(Turns::new(3)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..1000 {
            let (turns, computed) = (Arc::clone(&turns), Arc::clone(&computed));
            tokio::spawn(async move {
                let work = || {
                    computed.fetch_add(1, Ordering::Relaxed);
                    std::future::ready(())
                };
                turns.compute(&place(), work).await;
            });
        }
        // On one thread, as this runtime has, a task that yields is behind all that are ready.
        let mut most = 0;
        let mut before = 0;
        while before < 1000 {
            tokio::task::yield_now().await;
            let now = computed.load(Ordering::Relaxed);
            most = most.max(now - before);
            before = now;
        }
        assert!(most <= 3 + IN_A_ROW, "{most} at once");
    }
}
