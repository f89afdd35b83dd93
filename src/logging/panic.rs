//! Panics as lines.
//!
//! The standard library's hook writes to stderr itself and would wait for whoever does not read it, holding a lock
//! that every other panic then waits for.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::time::Duration;

use tracing::Level;

use super::fields::Fields;
use super::log::Log;
use crate::escape::escape;

/// A panic may be the last thing that the process does, so its line gets a moment; not if the log is stuck.
const PATIENCE: Duration = Duration::from_millis(100);

/// Its message may hold what a vehicle sent.
const MAX_BYTES: usize = 1000;

/// Replaces the standard library's hook.
pub(super) fn log_to(log: Log) {
    std::panic::set_hook(Box::new(move |info| {
        log.line(Level::ERROR, fields(info));
        log.flush_unless_stuck(PATIENCE);
    }));
}

/// Not through `tracing`: whoever panics may hold a span's lock.
fn fields(info: &PanicHookInfo<'_>) -> Fields {
    let error = escape(info.payload_as_str().unwrap_or("not a text").as_bytes(), MAX_BYTES);
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current().name().unwrap_or_default().to_owned();
    let fields = Fields::named("panic").with("error", error).with("location", location).with("thread", thread);
    let backtrace = Backtrace::capture();
    // Only if `RUST_BACKTRACE` asks for it.
    if backtrace.status() == BacktraceStatus::Captured {
        return fields.with("backtrace", backtrace.to_string());
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::tests::{Out, log_to as log_to_out};

    #[test]
    fn a_panic_is_one_line_and_waits_for_nobody_who_does_not_read() {
        let out = Out::default();
        let log = log_to_out(&out);
        // The hook is the process', and other tests panic on purpose, too.
        let (before, only) = (std::panic::take_hook(), log.clone());
        std::panic::set_hook(Box::new(move |info| match std::thread::current().name() {
            Some("panics") => {
                only.line(Level::ERROR, fields(info));
                only.flush_unless_stuck(PATIENCE);
            }
            _ => before(info),
        }));
        let panic = || {
            let thread = std::thread::Builder::new().name("panics".to_owned());
            assert!(thread.spawn(|| panic!("at \"{}\"\n", 1)).unwrap().join().is_err());
        };
        panic();
        let text = out.text();
        // There may be a backtrace in it, too.
        assert!(
            text.contains(" level=error msg=panic ") && text.contains(r#" error="at \"1\"\\n" location="#),
            "{text}"
        );
        assert!(text.contains(" thread=panics") && text.matches('\n').count() == 1, "{text}");
        out.block(true);
        let start = std::time::Instant::now();
        (0..20).for_each(|_| panic());
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        out.block(false);
    }
}
