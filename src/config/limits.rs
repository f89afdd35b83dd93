//! `limits`: the bounds of the listener and of one connection, with the reasons for their defaults.

use std::time::Duration;

use super::duration::{DAY, HOUR, MINUTE, SECOND, SHORTEST};
use super::error::Problems;
use super::{Http, InFlight, Listener, Session, Tls, file};

/// A parked vehicle sends little. Only one that has answered pings before is held to it, and TCP notices by half of it
/// that one has lost its network: minutes, because a vehicle in a garage may come back with its connection.
const IDLE: Duration = Duration::from_secs(600);

pub(super) fn listener(file: &file::FileConfig, tls: Tls, problems: &mut Problems) -> Listener {
    let limits = &file.limits;
    if file.port.is_none() {
        problems.advise("port", "not given, so a free port is picked at every start; vehicles need a fixed one");
    }
    // Half of what silence is granted: a ping that a dead peer does not acknowledge ends the connection in time.
    let user_timeout = limits.idle_timeout.unwrap_or(IDLE) / 2;
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

impl Default for Http {
    fn default() -> Self {
        Self {
            // Scrapers, probes and some applications; an open connection costs a file descriptor.
            max_connections: 128,
            // Nobody alone takes more than half of what all have.
            max_connections_per_address: 64,
            // Whoever asks has the request ready.
            header_timeout: 10 * SECOND,
        }
    }
}

pub(super) fn http(limits: &file::Limits, problems: &mut Problems) -> Http {
    let default = Http::default();
    let max_connections = problems.number(
        "limits.max_http_connections",
        limits.max_http_connections,
        2..=100_000,
        default.max_connections,
    );
    Http {
        max_connections,
        max_connections_per_address: problems.number(
            "limits.max_http_connections_per_address",
            limits.max_http_connections_per_address,
            1..=100_000,
            max_connections / 2,
        ),
        header_timeout: problems.duration(
            "limits.http_header_timeout",
            limits.http_header_timeout,
            SHORTEST..=HOUR,
            default.header_timeout,
        ),
    }
}

pub(super) fn session(limits: &file::Limits, connection_id_from_header: bool, problems: &mut Problems) -> Session {
    /// What the reference server processes, at most.
    const MESSAGE_BYTES: usize = 1_000_000;
    const MIB: i64 = 1 << 20;
    let max_message_bytes =
        problems.number("limits.max_message_bytes", limits.max_message_bytes, 1..=1024 * MIB, MESSAGE_BYTES);
    let idle_timeout = problems.duration("limits.idle_timeout", limits.idle_timeout, SHORTEST..=DAY, IDLE);
    let session = Session {
        max_message_bytes,
        // Above the former, so that a message which is merely too long is answered.
        max_frame_bytes: problems.number(
            "limits.max_frame_bytes",
            limits.max_frame_bytes,
            1..=1024 * MIB,
            max_message_bytes.max(4 << 20),
        ),
        max_fragments: problems.number("limits.max_fragments", limits.max_fragments, 1..=1_000_000, 1024),
        max_pings_per_second: problems.number(
            "limits.max_pings_per_second",
            limits.max_pings_per_second,
            1..=1_000_000,
            10,
        ),
        idle_timeout,
        // Below the idle timeouts of mobile networks' address translation.
        ping_interval: problems.duration(
            "limits.ping_interval",
            limits.ping_interval,
            SHORTEST..=DAY,
            MINUTE.min(idle_timeout / 2),
        ),
        max_unsettled: InFlight {
            // A vehicle replays its buffer of 5,000 messages in five round trips to the broker, and takes no more than
            // 1 % of the room in Kafka's queue.
            records: problems.number("limits.max_unsettled", limits.max_unsettled, 1..=1_000_000, 1024),
            // 4 kB for each of those, or four messages of the greatest length.
            bytes: problems.number(
                "limits.max_unsettled_bytes",
                limits.max_unsettled_bytes,
                1 << 16..=1 << 40,
                4 << 20,
            ),
        },
        // A few hundred of the longest messages; those of usual length come and go whole, and are not kept at all.
        max_kept_bytes: problems.number("limits.max_kept_bytes", limits.max_kept_bytes, 1 << 20..=1 << 40, 512 << 20),
        // More than the acks (about 100 bytes each) for `max_unsettled` records.
        max_unread_reply_bytes: problems.number(
            "limits.max_unread_reply_bytes",
            limits.max_unread_reply_bytes,
            1024..=1024 * MIB,
            256 << 10,
        ),
        // A hand-over between mobile cells takes some seconds.
        write_timeout: problems.duration("limits.write_timeout", limits.write_timeout, SHORTEST..=HOUR, 30 * SECOND),
        connection_id_from_header,
    };
    if session.max_frame_bytes < session.max_message_bytes {
        let least = format!("at least limits.max_message_bytes = {}", session.max_message_bytes);
        problems.out_of_range("limits.max_frame_bytes", session.max_frame_bytes, least);
    }
    if session.ping_interval >= session.idle_timeout {
        let less = format!("less than limits.idle_timeout = {:?}", session.idle_timeout);
        problems.out_of_range("limits.ping_interval", session.ping_interval, less);
    }
    session
}
