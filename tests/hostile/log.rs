//! Logs that nobody reads, or that cannot be written.
