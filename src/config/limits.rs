//! `limits`: one section for the bounds of the listener, of one connection, of plain-HTTP listeners and of log lines. Each has its
//! keys, their meaning and their defaults in its own file.

use super::http::FileHttpLimits;
use super::listener::FileListenerLimits;
use super::log::FileLogLimits;
use super::section::Section;
use super::session::FileSessionLimits;

/// `limits`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileLimits {
    /// Of the mTLS listener.
    pub listener: FileListenerLimits,
    /// Of one connection.
    pub session: FileSessionLimits,
    /// Of each plain-HTTP listener.
    pub http: FileHttpLimits,
    /// Of log lines.
    pub log: FileLogLimits,
}

impl FileLimits {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            listener: FileListenerLimits::read(section),
            session: FileSessionLimits::read(section),
            http: FileHttpLimits::read(section),
            log: FileLogLimits::read(section),
        }
    }
}
