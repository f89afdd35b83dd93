//! Simulated vehicles and a floor server: what `make load` and `make demo` run.
//!
//! ```text
//! plan ─▶ fleet (one thread = one runtime) ─▶ pacer ─▶ vehicle ─▶ record, signals
//!                                                       │  ▲
//!                                                buffer ┘  └ socket ══mTLS══▶ server or floor
//! tally, latency, process ─▶ report
//! ```
//!
//! A vehicle behaves like the real one: it keeps up to 5,000 unacked messages, reconnects with
//! exponential back-off and then sends everything unacked again, as the same bytes (`is_resend` is not
//! set). Every reply is checked against what was sent.

pub mod backoff;
pub mod buffer;
pub mod certs;
pub mod cli;
pub mod compare;
pub mod fleet;
pub mod floor;
pub mod journal;
pub mod latency;
pub mod modes;
pub mod pacer;
pub mod plan;
pub mod process;
pub mod progress;
pub mod record;
pub mod report;
pub mod signals;
pub mod socket;
pub mod store;
pub mod tally;
pub mod vehicle;
