//! Names and help texts of all metric families. Names shared with the reference server are its names.

use metrics::{describe_counter, describe_gauge, describe_histogram};
use strum::VariantArray;

use crate::config::DispatcherName;

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

use Kind::{Counter, Gauge, Histogram};

const FAMILIES: &[(Kind, &str, &str)] = &[
    // Streaming.
    (Counter, "rate_limit_exceeded_total", "Messages over the rate limit."),
    (Counter, "record_too_big_total", "Messages longer than limits.max_message_bytes."),
    (Counter, "unauthorized_sender_id_total", "Messages whose sender is not the certificate's."),
    (Counter, "unknown_message_type_error_total", "Envelopes of an unknown message type."),
    (Counter, "dispatch_total", "Records handed to the dispatchers of their route."),
    (Counter, "unexpected_record_err_total", "Messages answered with an error response."),
    (Counter, "socket_err_total", "Failed writes to a vehicle."),
    (Counter, "record_size_bytes_total", "Bytes of outgoing payloads."),
    (Counter, "record_total", "Records processed."),
    (Counter, "ack_total", "Acks, whatever they wait for."),
    (Counter, "error_response_total", "Error responses."),
    (Counter, "record_dropped_total", "Records that were acked and go nowhere, by reason."),
    (Counter, "rate_limit_waits_total", "Times that a vehicle had to wait because of the rate limit."),
    (Counter, "dispatcher_full_waits_total", "Records that had to wait for room in a dispatcher."),
    (Histogram, "hand_off_seconds", "Time from a frame's arrival to the hand-off of its record."),
    (Histogram, "ack_seconds", "Time from a frame's arrival to its ack, where that waits for delivery."),
    // Connections.
    (Counter, "silent_connections_total", "Connections that were silent, never answered a ping, and stay."),
    (Gauge, "session_kept_bytes", "Memory of unfinished messages, records that wait for room and unread replies."),
    (Counter, "session_end_total", "Sessions that ended, by reason."),
    (Counter, "connection_refused_total", "Connections that did not become sessions, by reason."),
    (Counter, "identity_refused_total", "Verified certificates that are not a vehicle's, by reason."),
    (Counter, "http_answered_total", "Connections that ended with a plain HTTP answer."),
    (Histogram, "handshake_seconds", "Time from accept to the end of the TLS handshake."),
    (Gauge, "limit", "A configured bound."),
    (Gauge, "tls_days_left", "Days until a certificate in use ends, the soonest."),
    (Gauge, "tls_authorities", "Authorities whose certificates let clients in, by state."),
    (Counter, "tls_reload_total", "Attempts to put changed certificate files in force."),
    (Counter, "reliable_ack", "Acks sent after delivery."),
    (Counter, "reliable_ack_miss", "Deliveries whose vehicle was gone before its ack."),
    // Dispatchers, beyond those that are named after each of them.
    (Counter, "kafka_err", "Records that Kafka refused or did not confirm."),
    (Counter, "kafka_unconfirmed_total", "Records sent again because no broker had confirmed them."),
    (Counter, "kafka_producer_replaced_total", "Kafka producers that were replaced."),
    (Counter, "kafka_returned_total", "Records of a replaced producer that its successor sent again."),
    (Gauge, "mqtt_known_vehicles", "Vehicles whose announced fields are remembered."),
    (Counter, "mqtt_delivered_total", "Records of which mqtt has every message safe."),
    (Counter, "mqtt_delivered_total_bytes", "Their payload bytes."),
    (Counter, "redis_delivered_total", "Records that redis has safe."),
    (Counter, "redis_delivered_total_bytes", "Their payload bytes."),
    (Counter, "zmq_delivered_total", "Records that the socket of zmq has."),
    (Counter, "zmq_delivered_total_bytes", "Their payload bytes."),
    (Counter, "redis_unheard_total", "Records that no channel of redis wanted."),
    (Gauge, "kafka_produce_queue_size", "Work that waits in the Kafka client."),
    (Gauge, "dispatcher_unsettled_records", "Records that a dispatcher has taken and not yet settled."),
    (Counter, "dispatcher_full_drops_total", "Records that a full dispatcher did not get; no ack depended on it."),
    (Gauge, "dispatcher_unsettled_limit", "How many of those a dispatcher may hold."),
    (Gauge, "dispatcher_unsettled_bytes", "Memory that they take, in bytes."),
    (Gauge, "dispatcher_unsettled_bytes_limit", "How much of it they may take."),
    (Counter, "dispatcher_dropped_receipts_total", "Records that a dispatcher let go without an outcome; never acked."),
    (Histogram, "delivery_seconds", "Time from the hand-off of a record to its confirmed delivery."),
    // The log.
    (Gauge, "log_healthy", "1 while log lines can be written, else 0."),
    (Gauge, "log_waiting_lines", "Log lines that wait to be written, by kind."),
    (Gauge, "log_waiting_bytes", "Their bytes."),
    (Counter, "log_dropped_lines_total", "Log lines that were dropped, by reason; those of records and audits apart."),
    (Counter, "log_dropped_audit_lines_total", "Audit lines for which there was no room."),
    // Permissions.
    (Gauge, "permission_grants", "Entries of the permission store; an expired consent counts as granted."),
    (Gauge, "permission_store_healthy", "1 while what is in force is what the permission store says, else 0."),
    (Counter, "permission_client_replaced_total", "Kafka clients of the grants' topic that were replaced."),
    (Counter, "permission_changes_total", "Changes of entries that were made here."),
    // The process.
    (Gauge, "uptime_sec", "Seconds since the start."),
    (Gauge, "num_connections", "Connections of vehicles."),
    (Gauge, "num_pending_connections", "Connections to the vehicles' port that are not sessions yet."),
    (Counter, "http_refused_total", "Connections to the plain ports that were refused or cut, by port and reason."),
    (Gauge, "memory_allocated_bytes", "Resident private memory: heap and stacks, in bytes."),
    (Gauge, "memory_heap", "Resident private memory: heap and stacks, in bytes."),
    (Gauge, "memory_stack", "Stack of the main thread, in bytes."),
    (Gauge, "process_resident_memory_bytes", "Resident memory, in bytes."),
    (Gauge, "fleet_telemetry_build_info", "Always 1; the labels say which build this is."),
];

/// Per dispatcher and record type: suffix, and help with the dispatcher's name in place of `{}`.
const PER_DISPATCHER: [(&str, &str); 6] = [
    ("handed_total", "Records handed to {}."),
    ("handed_total_bytes", "Payload bytes handed to {}."),
    ("publish_total", "Records (of mqtt, redis and zmq: messages) that {} has safe."),
    ("publish_total_bytes", "Bytes of the former."),
    ("err", "Records that {} refused or lost."),
    ("reliable_ack_total", "Deliveries by {} that decided about an ack."),
];

/// Kafka's, which the reference counts in two steps.
const KAFKA: [(&str, &str); 5] = [
    ("produce_total", "Records handed to {}."),
    ("produce_total_bytes", "Payload bytes handed to {}."),
    ("produce_ack_total", "Records that {} confirmed."),
    ("produce_ack_total_bytes", "Payload bytes that {} confirmed."),
    ("reliable_ack_total", "Deliveries by {} that decided about an ack."),
];

/// Gives the current recorder every help text; families that are never registered do not show.
pub(super) fn describe() {
    for &(kind, name, help) in FAMILIES {
        match kind {
            Counter => describe_counter!(name, help),
            Gauge => describe_gauge!(name, help),
            Histogram => describe_histogram!(name, help),
        }
    }
    for &dispatcher in DispatcherName::VARIANTS {
        let families = if dispatcher == DispatcherName::Kafka { &KAFKA[..] } else { &PER_DISPATCHER[..] };
        for (suffix, help) in families {
            describe_counter!(format!("{dispatcher}_{suffix}"), help.replace("{}", dispatcher.label()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_each_family_once() {
        let names: BTreeSet<_> = FAMILIES.iter().map(|(_, name, _)| name).collect();
        assert_eq!(names.len(), FAMILIES.len());
    }
}
