//! The process' limit of open files, and what it leaves to vehicles.

use std::io;

use metrics::gauge;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config;

/// How many files the process may have open; connections count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles(usize);

/// For everything that is not a vehicle: the plain ports, brokers, databases, certificates.
const RESERVE: usize = 512;

/// Raises the soft limit to the hard one. Both count only for this process.
#[must_use]
pub fn raise() -> OpenFiles {
    let Rlimit { current: soft, maximum: hard } = getrlimit(Resource::Nofile);
    let limit = match setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }) {
        Ok(()) => hard,
        Err(error) => {
            tracing::warn!(%error, ?soft, ?hard, "open_files_not_raised");
            soft
        }
    };
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    tracing::info!(activity = true, limit, ?soft, "open_files");
    OpenFiles(limit)
}

impl OpenFiles {
    /// How many connections there are files for. Lowers `max_connections` if it is more, so that some are left for
    /// newcomers; a reserve is left for the rest: without one, no broker could be reached again and no probe be answered.
    pub fn fit(self, listener: &mut config::Listener) -> usize {
        let for_connections = self.0 - RESERVE.min(self.0 / 4);
        let wanted = listener.max_connections.saturating_add(listener.max_pending_connections);
        if wanted > for_connections {
            let for_newcomers = listener.max_pending_connections.min(for_connections / 16).max(1);
            let most = for_connections.saturating_sub(for_newcomers).max(1);
            listener.max_connections = listener.max_connections.min(most);
            tracing::warn!(
                limit = self.0,
                needed = wanted.saturating_add(RESERVE),
                max_connections = listener.max_connections,
                remedy = "raise the hard limit (ulimit -Hn, LimitNOFILE) or lower limits.max_connections",
                "open_files_below_connections"
            );
        }
        for_connections
    }

    /// States the limit as a gauge.
    pub fn register(self) {
        #[expect(clippy::cast_precision_loss, reason = "a limit of files is far below 2^52")]
        gauge!("limit", "bound" => "open_files").set(self.0 as f64);
    }
}

/// Whether a failed accept says only that this one peer has gone again, and not what this process lacks.
#[must_use]
pub fn is_the_peers_fault(accept: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(accept.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert_eq!(Some(limit.0 as u64), maximum);
    }

    /// The descriptors for connections, and what becomes of `max_connections`.
    fn fitted(files: usize, max_connections: usize, max_pending_connections: usize) -> (usize, usize) {
        let text = format!(
            r#"{{"port": 1, "tls": {{"ca_file": "a", "server_cert": "b", "server_key": "c"}}, "limits":
                {{"max_connections": {max_connections}, "max_pending_connections": {max_pending_connections}}}}}"#
        );
        let file = config::file::FileConfig::parse(text.as_bytes()).unwrap();
        let mut listener = config::resolve(file, &config::Env::default()).unwrap().0.listener;
        let descriptors = OpenFiles(files).fit(&mut listener);
        assert_eq!(listener.max_pending_connections, max_pending_connections);
        (descriptors, listener.max_connections)
    }

    #[test]
    fn with_enough_files_nothing_is_lowered() {
        assert_eq!(fitted(1_048_576, 100_000, 8192).1, 100_000);
        assert_eq!(fitted(usize::MAX, 10_000_000, 8192).1, 10_000_000);
    }

    #[test]
    fn with_too_few_files_a_reserve_is_left_and_some_for_newcomers() {
        // A quarter of few files is reserved, and a sixteenth of the rest is for those who are not sessions yet.
        assert_eq!(fitted(1024, 100_000, 8192), (768, 720));
        assert_eq!(fitted(1024, 700, 200), (768, 700));
        assert_eq!(fitted(20_000, 100_000, 8192), (19_488, 18_270));
        assert_eq!(fitted(1, 5, 5), (1, 1));
    }
}
