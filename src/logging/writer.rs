//! The one thread that writes. Whatever keeps it, nobody else waits.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tracing::Level;

use super::backlog::{Missing, Next};
use super::fields::Fields;
use super::form::Form;
use super::queue::Queue;

/// Owns the way out.
pub(super) struct Writer {
    queue: Arc<Queue>,
    form: Form,
    out: Box<dyn Write + Send>,
    /// A line was cut off in the middle; the next one begins on a new line.
    is_torn: bool,
}

/// Somebody has made stderr non-blocking, and it is full: it is looked at so often.
const PAUSE: Duration = Duration::from_millis(20);

impl Writer {
    pub(super) fn new(queue: Arc<Queue>, form: Form, out: Box<dyn Write + Send>) -> Self {
        Self { queue, form, out, is_torn: false }
    }

    /// Until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let _ended = Ended(Arc::clone(&self.queue));
        loop {
            let line = match self.queue.next() {
                Next::Line(line) => line,
                Next::Notice(missing) => notice(self.form, missing),
                Next::Closed => return,
            };
            let result = self.write(&line);
            self.queue.settle(line, result);
        }
    }

    /// One line in one write, unless the system takes it in parts.
    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.is_torn {
            self.write_all(b"\n")?;
            self.is_torn = false;
        }
        self.write_all(line.as_bytes())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    rest = &rest[count..];
                    self.is_torn = !rest.is_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// How many lines are missing here.
fn notice(form: Form, missing: Missing) -> String {
    let mut fields = Fields::named("log_lines_dropped").with("lines", missing.lines);
    for (name, count) in [("record_lines", missing.records), ("audit_lines", missing.audit)] {
        if count > 0 {
            fields = fields.with(name, count);
        }
    }
    form.line(OffsetDateTime::now_utc(), Level::WARN, fields)
}

/// Says so when the writer ends before its time: what waits is given up, and nobody waits for it.
struct Ended(Arc<Queue>);

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken("the thread that writes has panicked");
        }
    }
}
