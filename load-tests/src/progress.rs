//! The live line of a demo.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::tally::{Count, Totals};

/// Between two lines where lines stay: a pipe, a log.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Rewrites one line on a terminal; elsewhere prints one now and then.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    on_terminal: bool,
    last: Option<(Instant, Totals)>,
}

impl Progress {
    /// Starts counting time.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now(), on_terminal: io::stderr().is_terminal(), last: None }
    }

    /// Shows where things are.
    pub fn show(&mut self, vehicles: u32, totals: &Totals) {
        let now = Instant::now();
        let since = self.last.map_or(LINE_EVERY, |(at, _)| now - at);
        if !self.on_terminal && since < LINE_EVERY {
            return;
        }
        let before = self.last.map_or(0, |(_, before)| before.of(Count::Acked));
        let rate = (totals.of(Count::Acked) - before) as f64 / since.as_secs_f64();
        let line = line(self.started.elapsed(), vehicles, totals, rate);
        let mut stderr = io::stderr().lock();
        // A terminal that is gone is no reason to stop.
        let _ = if self.on_terminal { write!(stderr, "\r\x1b[K{line}") } else { writeln!(stderr, "{line}") };
        let _ = stderr.flush();
        self.last = Some((now, *totals));
    }

    /// Leaves the line.
    pub fn end(&self) {
        if self.on_terminal && self.last.is_some() {
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
