//! `host`, `port`, and the part of `limits` that is about the mTLS listener, with the reasons for its defaults.

use std::time::Duration;

use super::Tls;
use super::duration::{DAY, HOUR, MINUTE, SECOND, SHORTEST};
use super::error::Problems;
use super::limits::FileLimits;
use super::section::Section;
use super::session::IDLE;

/// Where it listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileListener {
    /// Bind host of the mTLS port; empty is all interfaces.
    pub host: Option<String>,
    /// The mTLS port.
    pub port: Option<i64>,
}

/// The keys of `limits` about the listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileListenerLimits {
    /// From accept to the end of the ClientHello.
    pub client_hello_timeout: Option<Duration>,
    /// From the ClientHello to the end of the TLS handshake.
    pub handshake_timeout: Option<Duration>,
    /// From the handshake to the end of the request headers.
    pub header_timeout: Option<Duration>,
    /// Sessions in all.
    pub max_connections: Option<i64>,
    /// Connections that are not sessions yet.
    pub max_pending_connections: Option<i64>,
    /// Connections per client address.
    pub max_connections_per_address: Option<i64>,
    /// TLS handshakes that are computed at the same time.
    pub max_handshakes: Option<i64>,
    /// Silence after which TCP probes.
    pub tcp_keepalive: Option<Duration>,
    /// How long TCP waits for an acknowledgement.
    pub tcp_user_timeout: Option<Duration>,
}

/// The mTLS listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Bind host; empty means all interfaces.
    pub host: String,
    /// Bind port; 0 picks a free one.
    pub port: u16,
    /// Certificates.
    pub tls: Tls,
    /// A connection on which nothing is sent is probed after so long, by TCP.
    pub tcp_keepalive: Duration,
    /// What was sent and is not acknowledged for so long ends the connection, by TCP.
    pub tcp_user_timeout: Duration,
    /// From accept to the end of the ClientHello.
    pub client_hello_timeout: Duration,
    /// From the ClientHello to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// From the handshake to the end of the request headers.
    pub header_timeout: Duration,
    /// Sessions in all; above, new connections are closed.
    pub max_connections: usize,
    /// Connections that are not sessions yet; above, the silent make room.
    pub max_pending_connections: usize,
    /// Connections per client address; above, new ones are closed.
    pub max_connections_per_address: usize,
    /// TLS handshakes that are computed, or in line for a worker, at the same time.
    pub max_handshakes: usize,
}

impl FileListener {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self { host: section.value("host"), port: section.value("port") }
    }
}

impl FileListenerLimits {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            client_hello_timeout: section.duration("client_hello_timeout"),
            handshake_timeout: section.duration("handshake_timeout"),
            header_timeout: section.duration("header_timeout"),
            max_connections: section.value("max_connections"),
            max_pending_connections: section.value("max_pending_connections"),
            max_connections_per_address: section.value("max_connections_per_address"),
            max_handshakes: section.value("max_handshakes"),
            tcp_keepalive: section.duration("tcp_keepalive"),
            tcp_user_timeout: section.duration("tcp_user_timeout"),
        }
    }
}

pub(super) fn resolve(file: &FileListener, limits: &FileLimits, tls: Tls, problems: &mut Problems) -> Listener {
    if file.port.is_none() && !problems.blame("port") {
        problems.advise("port", "not given, so a free port is picked at every start; vehicles need a fixed one");
    }
    // Half of what silence is granted: a ping that a dead peer does not acknowledge ends the connection in time.
    let user_timeout = limits.session.idle_timeout.unwrap_or(IDLE) / 2;
    let limits = &limits.listener;
    // About 30 KiB each: 100,000 connections are 3 GiB.
    let max_connections = problems.number("limits.max_connections", limits.max_connections, 1..=10_000_000, 100_000);
    // A vehicle's handshake takes some round trips over a mobile network: seconds when it is poor.
    let handshake_timeout =
        problems.duration("limits.handshake_timeout", limits.handshake_timeout, SHORTEST..=HOUR, 10 * SECOND);
    Listener {
        host: file.host.clone().unwrap_or_default(),
        port: problems.number("port", file.port, 0..=65_535, 0),
        tls,
        // Seldom needed, because pings keep a connection from being quiet for so long.
        tcp_keepalive: problems.duration("limits.tcp_keepalive", limits.tcp_keepalive, SECOND..=DAY, MINUTE),
        tcp_user_timeout: problems.duration(
            "limits.tcp_user_timeout",
            limits.tcp_user_timeout,
            SHORTEST..=DAY,
            user_timeout,
        ),
        // It comes right behind the TCP handshake. When it is lost twice it is there after 3 s.
        client_hello_timeout: problems.duration(
            "limits.client_hello_timeout",
            limits.client_hello_timeout,
            SHORTEST..=HOUR,
            handshake_timeout.min(5 * SECOND),
        ),
        handshake_timeout,
        header_timeout: problems.duration("limits.header_timeout", limits.header_timeout, SHORTEST..=HOUR, 10 * SECOND),
        max_connections,
        // A fleet that comes back at once finds room here and in the kernel's backlog (4,096); some 20 KiB each, and
        // up to 64 KiB of a certificate chain.
        max_pending_connections: problems.number(
            "limits.max_pending_connections",
            limits.max_pending_connections,
            1..=1_000_000,
            8192.min(max_connections),
        ),
        // No separate bound by default: behind most load balancers all vehicles come from one address.
        max_connections_per_address: problems.number(
            "limits.max_connections_per_address",
            limits.max_connections_per_address,
            1..=10_000_000,
            max_connections,
        ),
        // 0.1 ms of CPU for each step: enough to keep every core busy, few enough that no session waits for long.
        max_handshakes: problems.number("limits.max_handshakes", limits.max_handshakes, 1..=1_000_000, 256),
    }
}
