//! The live line of a demo.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::tally::{Count, Totals};

/// Between two lines where lines stay: a pipe, a log.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The rate is an average over this time.
const RATE_OVER: Duration = Duration::from_secs(5);

/// Rewrites one line on a terminal; elsewhere prints one now and then.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    on_terminal: bool,
    printed: Option<Instant>,
    /// When so many records were acked, oldest first.
    acked: VecDeque<(Instant, u64)>,
}

impl Progress {
    /// Starts counting time.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now(), on_terminal: io::stderr().is_terminal(), printed: None, acked: VecDeque::new() }
    }

    /// Shows where things are.
    pub fn show(&mut self, vehicles: u32, totals: &Totals) {
        let now = Instant::now();
        let rate = self.rate(now, totals.of(Count::Acked));
        if !self.on_terminal && self.printed.is_some_and(|printed| now - printed < LINE_EVERY) {
            return;
        }
        self.printed = Some(now);
        let line = line(self.started.elapsed(), vehicles, totals, rate);
        let mut stderr = io::stderr().lock();
        // A terminal that is gone is no reason to stop.
        let _ = if self.on_terminal { write!(stderr, "\r\x1b[K{line}") } else { writeln!(stderr, "{line}") };
        let _ = stderr.flush();
    }

    fn rate(&mut self, now: Instant, acked: u64) -> f64 {
        while self.acked.front().is_some_and(|(at, _)| now - *at > RATE_OVER) {
            self.acked.pop_front();
        }
        let (since, before) = self.acked.front().copied().unwrap_or((self.started, 0));
        self.acked.push_back((now, acked));
        (acked - before) as f64 / (now - since).as_secs_f64().max(0.1)
    }

    /// Leaves the line.
    pub fn end(&self) {
        if self.on_terminal && self.printed.is_some() {
            eprintln!();
        }
    }
}

fn line(elapsed: Duration, vehicles: u32, totals: &Totals, rate: f64) -> String {
    let seconds = elapsed.as_secs();
    let waiting = totals.of(Count::Made).saturating_sub(totals.of(Count::Acked) + totals.of(Count::Dropped));
    let mut line = format!(
        "{:3}:{:02}  {}/{vehicles} online  {} acked  {rate:.0}/s  {waiting} waiting",
        seconds / 60,
        seconds % 60,
        totals.online(),
        totals.of(Count::Acked),
    );
    if totals.of(Count::Resent) > 0 {
        line.push_str(&format!("  {} resent", totals.of(Count::Resent)));
    }
    let anomalies = totals.anomalies();
    if !anomalies.is_empty() {
        line.push_str(&format!("  !! {}", anomalies.join(", ")));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Tally;

    #[test]
    fn a_line_names_what_is_online_acked_and_waiting() {
        let tally = Tally::default();
        tally.add(Count::Connected, 3);
        tally.add(Count::Closed, 1);
        tally.add(Count::Made, 10);
        tally.add(Count::Acked, 7);
        let line = line(Duration::from_secs(65), 20, &tally.totals(), 3.4);
        assert_eq!(line, "  1:05  2/20 online  7 acked  3/s  3 waiting");
    }
}
