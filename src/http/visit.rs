//! One connection: its requests, and how long it may take over each step.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use super::bounds::{Bounds, Refusal};
use crate::places::{Claim, Place};

/// From the end of an answer to the next request. Above the minute at which most scrape and most load balancers
/// hang up, so that it is them who do. When the port is full, it is shorter.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// A peer that takes nothing of an answer for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a connection looks whether its peer is late.
const LOOK: Duration = Duration::from_millis(500);

/// A connection that was let in: its place, and what tells it to finish its current request and close.
#[derive(Debug)]
pub struct Visit {
    place: Place,
    bounds: Arc<Bounds>,
    stop: watch::Receiver<()>,
}

impl Visit {
    pub(super) fn new(place: Place, bounds: Arc<Bounds>, stop: watch::Receiver<()>) -> Self {
        Self { place, bounds, stop }
    }

    /// What the peer has to do before its first request, if it does so in time.
    pub async fn within<T>(&self, limit: Duration, step: impl Future<Output = T>) -> Option<T> {
        let done = tokio::time::timeout(limit, step).await.ok();
        if done.is_none() {
            self.bounds.refused(Refusal::Slow);
        }
        done
    }
}

/// For an answer that others have to be waited for: as an extension of each request.
#[derive(Clone, Debug)]
pub struct Line(Arc<Progress>);

impl Line {
    /// Waits for `turn`. Meanwhile the server is at work for others, so this connection makes room as if it were idle.
    pub async fn wait<T>(&self, turn: impl Future<Output = T>) -> T {
        self.0.place.claim(Claim::Weak);
        let turn = turn.await;
        self.0.place.claim(Claim::Firm);
        turn
    }
}

/// The requests of one connection, until the peer is done, or late, or told to stop.
pub async fn requests<IO>(stream: IO, router: Router, visit: Visit)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Visit { place, bounds, mut stop } = visit;
    let progress = Arc::new(Progress::new(place));
    let io = Watched { io: stream, progress: Arc::clone(&progress) };
    let mut late = pin!(late(&progress, bounds.header_timeout));
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        progress.asked();
        request.extensions_mut().insert(Line(Arc::clone(&progress)));
        let answer = router.call(request);
        let progress = Arc::clone(&progress);
        async move {
            let answer = answer.await;
            progress.answered();
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        () = &mut late => return bounds.refused(Refusal::Slow),
        // The sender has gone.
        _ = stop.changed() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = &mut connection => {}
        () = &mut late => bounds.refused(Refusal::Slow),
    }
}

/// Ends when the peer has taken too long over something.
async fn late(progress: &Progress, header_timeout: Duration) {
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        if progress.is_late(Instant::now(), header_timeout) {
            return;
        }
    }
}

/// Who has to do the next step, and since when.
#[derive(Debug)]
struct Progress {
    place: Place,
    step: Mutex<Step>,
}

#[derive(Debug)]
struct Step {
    /// A request is being answered here.
    working: bool,
    /// Since when the headers of a request are due: since accept for the first, then since its first byte.
    headers_due: Option<Instant>,
    /// Since when the peer has taken nothing of what there is for it.
    blocked: Option<Instant>,
}

impl Progress {
    fn new(place: Place) -> Self {
        place.claim(Claim::Weak);
        let step = Step { working: false, headers_due: Some(Instant::now()), blocked: None };
        Self { place, step: Mutex::new(step) }
    }

    fn is_late(&self, now: Instant, header_timeout: Duration) -> bool {
        let step = self.lock();
        let late = |since: Option<Instant>, limit| since.is_some_and(|since| now.duration_since(since) >= limit);
        late(step.headers_due, header_timeout) || late(step.blocked, WRITE_TIMEOUT)
    }

    /// The headers of a request are complete.
    fn asked(&self) {
        let mut step = self.lock();
        (step.working, step.headers_due) = (true, None);
        drop(step);
        self.place.claim(Claim::Firm);
    }

    /// The answer is made; from here on it waits for the peer to take it, and then for the next request.
    fn answered(&self) {
        self.lock().working = false;
        self.place.claim(Claim::Weak);
    }

    fn read(&self) {
        let mut step = self.lock();
        if !step.working {
            step.headers_due.get_or_insert_with(Instant::now);
        }
    }

    /// The peer has taken something, which is a sign of life, or has not.
    fn wrote(&self, some: bool) {
        let mut step = self.lock();
        if !some {
            step.blocked.get_or_insert_with(Instant::now);
            return;
        }
        step.blocked = None;
        let working = step.working;
        drop(step);
        if !working {
            self.place.claim(Claim::Weak);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Step> {
        self.step.lock()
    }
}

/// Tells the progress of a stream.
struct Watched<IO> {
    io: IO,
    progress: Arc<Progress>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.progress.read();
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> Watched<IO> {
    fn write<T>(&mut self, write: impl FnOnce(Pin<&mut IO>) -> Poll<T>) -> Poll<T> {
        let wrote = write(Pin::new(&mut self.io));
        self.progress.wrote(wrote.is_ready());
        wrote
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(|io| io.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(|io| io.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(|io| io.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(|io| io.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::places::{Addresses, Places};

    const HEADERS: Duration = Duration::from_secs(10);

    fn progress() -> Progress {
        let places = Places::new(|| 9, Arc::new(Addresses::new(9)), Duration::ZERO);
        Progress::new(Places::enter(&places, IpAddr::from([192, 0, 2, 1])).unwrap().0)
    }

    fn late_in(progress: &Progress, seconds: u64) -> bool {
        progress.is_late(Instant::now() + Duration::from_secs(seconds), HEADERS)
    }

    #[test]
    fn headers_are_due_from_the_start_and_then_from_the_first_byte_of_a_request() {
        let progress = progress();
        assert!(!late_in(&progress, 9) && late_in(&progress, 11));
        progress.asked();
        assert!(!late_in(&progress, 100), "now it is the server's turn");
        progress.read();
        progress.answered();
        assert!(!late_in(&progress, 60), "between requests");
        progress.read();
        assert!(!late_in(&progress, 9) && late_in(&progress, 11));
    }

    #[test]
    fn a_peer_that_takes_nothing_of_its_answer_is_late() {
        let progress = progress();
        progress.asked();
        progress.answered();
        progress.wrote(false);
        assert!(!late_in(&progress, 29) && late_in(&progress, 31));
        progress.wrote(true);
        assert!(!late_in(&progress, 60));
    }
}
