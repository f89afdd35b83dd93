//! Whatever a client sends, what is allocated for it is at most a constant times its length, counted by the allocator
//! of this test.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use fleet_telemetry::permissions::{Action, Filter, Mode, Rules};
use fleet_telemetry::record::{Decoded, RecordKind, json, transform};
use fleet_telemetry::scope::Scopes;

/// Bytes for each byte of the message, at most; docs/operations.md has them.
const REWRITTEN: f64 = 32.0;
const DECODED: f64 = 200.0;
const JSON: f64 = 150.0;

/// The least input for the most of everything, again and again.
const FIELDS: [(RecordKind, &[u8]); 14] = [
    (RecordKind::V, b"\x0a\x00"),
    (RecordKind::V, b"\x0a\x02\x12\x00"),
    (RecordKind::V, b"\x0a\x05\x12\x03\xba\x02\x00"),
    (RecordKind::V, b"\x0a\x09\x12\x07\x0a\x053.e38"),
    (RecordKind::V, b"\x0a\x0b\x12\x09\x29\x98\x34\xea\x5a\x53\x7b\x90\xef"),
    (RecordKind::V, b"\x0a\x04\x12\x02\x3a\x00"),
    (RecordKind::V, b"\xf8\x03\x01"),
    (RecordKind::V, b"\xfb\x03\xfc\x03"),
    (RecordKind::Alerts, b"\x0a\x00"),
    (RecordKind::Alerts, b"\x0a\x04\x1a\x00\x22\x00"),
    (RecordKind::Alerts, b"\x0a\x03\x0a\x01\x01"),
    (RecordKind::Alerts, b"\x0a\x03\x12\x01\x01"),
    (RecordKind::Errors, b"\x0a\x00"),
    (RecordKind::Errors, b"\x0a\x04\x1a\x02\x0a\x00"),
];

/// What is held at the most while `work` runs, for each of `bytes`.
fn factor(bytes: usize, work: impl FnOnce()) -> f64 {
    allocation_counter::measure(work).bytes_max as f64 / bytes as f64
}

fn rules(action: Action) -> Rules {
    Rules { mode: Mode::Enforce, action, strict: true, enforced: Scopes::ALL, ..Rules::off() }
}

/// The most that is held for a message of each length while it is rewritten, decoded, and rendered.
fn factors(kind: RecordKind, field: &[u8], size: usize) -> [f64; 3] {
    let payload = field.repeat(size / field.len());
    let mut rewritten: f64 = 0.0;
    for action in [Action::Drop, Action::Invalid, Action::Coarsen(2)] {
        let rules = rules(action);
        for filter in [Filter::off(), Filter::new(&rules, Scopes::ALL)] {
            let work = || transform::rewrite(kind, &payload, "VIN", &filter, &mut Vec::new()).unwrap();
            rewritten = rewritten.max(factor(payload.len(), work));
        }
    }
    let mut plain = Vec::new();
    transform::rewrite(kind, &payload, "VIN", &Filter::off(), &mut plain).unwrap();
    let decoded = Decoded::decode(kind, &plain).unwrap();
    let decode = factor(payload.len(), || drop(Decoded::decode(kind, &plain).unwrap()));
    let render = factor(payload.len(), || drop(json::write(&decoded, plain.len()).unwrap()));
    [rewritten, decode, render]
}

#[test]
fn what_is_allocated_is_at_most_a_constant_times_what_was_sent() {
    for (kind, field) in FIELDS {
        for size in [20_000, 40_000, 300_000] {
            let [rewritten, decoded, rendered] = factors(kind, field, size);
            let all = format!("{kind:?} {field:x?} {size}: {rewritten:.1} {decoded:.1} {rendered:.1}");
            assert!(rewritten <= REWRITTEN && decoded <= DECODED && rendered <= JSON, "{all}");
        }
    }
}
