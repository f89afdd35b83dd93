//! The messages of a megabyte that cost the most, of each kind that somebody could make of purpose.

use std::hint::black_box;
use std::time::Instant;

use fleet_telemetry::permissions::{Action, Filter, Mode, Rules};
use fleet_telemetry::proto::vehicle_alerts::{VehicleAlert, VehicleAlerts};
use fleet_telemetry::proto::vehicle_data::{Datum, Field, Payload, Value, value};
use fleet_telemetry::proto::vehicle_error::{VehicleError, VehicleErrors};
use fleet_telemetry::record::{RecordKind, json, transform};
use fleet_telemetry::scope::{Scope, Scopes};
use prost::Message as _;

/// `limits.max_message_bytes`, unless it is configured.
pub(crate) const MESSAGE_BYTES: usize = 1_000_000;

/// A hostile message, and what is done to it.
pub(crate) struct Worst {
    pub(crate) name: &'static str,
    /// A payload of about so many bytes.
    payload: fn(usize) -> (RecordKind, Vec<u8>),
    work: Work,
}

#[derive(Clone, Copy)]
enum Work {
    /// The rewrite of a vehicle that may tell everything.
    Rewrite,
    /// The rewrite of one that may not tell places.
    Filter(Action),
    /// The rewrite, and the JSON form for a dispatcher that wants it.
    Json,
}

const DROP: Work = Work::Filter(Action::Drop);

pub(crate) const WORST: [Worst; 16] = [
    Worst { name: "worst_hits_in_numbers", payload: |size| text("5.geo:1,1", size), work: DROP },
    Worst { name: "worst_masked_keys", payload: |size| keys(size, "37.41,-122."), work: DROP },
    Worst { name: "worst_masked_text", payload: |size| alert("lat=1 ", size), work: DROP },
    Worst { name: "worst_parentheses", payload: |size| alert(HARD_PLACE, size), work: DROP },
    Worst { name: "worst_short_texts", payload: |size| texts("1,", size), work: DROP },
    Worst {
        name: "worst_rounded_places",
        payload: |size| texts(HARD_PLACE, size),
        work: Work::Filter(Action::Coarsen(2)),
    },
    Worst { name: "worst_empty_items", payload: |size| v(b"\x0a\x00", size), work: Work::Filter(Action::Invalid) },
    Worst { name: "worst_great_numbers", payload: |size| texts("3.e38", size), work: Work::Rewrite },
    Worst {
        name: "worst_hard_numbers",
        payload: |size| texts("1.00000005960464477539e-37", size),
        work: Work::Rewrite,
    },
    Worst { name: "worst_short_keys", payload: |size| keys(size, ""), work: Work::Rewrite },
    Worst { name: "worst_keys_out_of_order", payload: swapped_keys, work: Work::Rewrite },
    Worst { name: "worst_groups", payload: |size| v(b"\xfb\x03\xfc\x03", size), work: Work::Rewrite },
    Worst { name: "worst_json_flags", payload: |size| v(b"\x0a\x05\x12\x03\xba\x02\x00", size), work: Work::Json },
    Worst {
        name: "worst_json_empty_errors",
        payload: |size| of(RecordKind::Errors, b"\x0a\x00", size),
        work: Work::Json,
    },
    Worst { name: "worst_json_doubles", payload: doubles, work: Work::Json },
    Worst { name: "worst_json_escapes", payload: |size| alert("\u{1}", size), work: Work::Json },
];

/// Its first number lies so near the middle between two that the standard library takes 20 µs for it; its second
/// one is too great, so that this is no place.
const HARD_PLACE: &str = "(1.2345677999999993657578129e-300 N, 1e999 W)";

impl Worst {
    pub(crate) fn by_name(name: &str) -> Option<&'static Self> {
        WORST.iter().find(|worst| worst.name == name)
    }

    /// Handles a message of `size` bytes so many times, after a small one that starts what is started once. The
    /// bytes that come out.
    pub(crate) fn run(&self, size: usize, times: u64) -> usize {
        let (kind, payload) = (self.payload)(size);
        let (_, small) = (self.payload)(100);
        self.handle(kind, &small);
        (0..times).map(|_| self.handle(kind, black_box(&payload))).max().unwrap_or(0)
    }

    fn handle(&self, kind: RecordKind, payload: &[u8]) -> usize {
        let rules = |action| Rules { mode: Mode::Enforce, action, strict: true, enforced: LOCATION, ..Rules::off() };
        let mut out = Vec::new();
        match self.work {
            Work::Filter(action) => {
                let rules = rules(action);
                transform::rewrite(kind, payload, VIN, &Filter::new(&rules, LOCATION), &mut out)
            }
            Work::Rewrite | Work::Json => transform::rewrite(kind, payload, VIN, &Filter::off(), &mut out),
        }
        .expect("a valid payload");
        if let Work::Json = self.work {
            out = json::render(kind, &out).expect("a payload with a JSON form");
        }
        black_box(&out).len()
    }

    /// The best of three runs, and the bytes that come out for each that comes in.
    pub(crate) fn milliseconds(&self) -> (f64, f64) {
        let (kind, payload) = (self.payload)(MESSAGE_BYTES);
        let mut best = f64::INFINITY;
        let mut out = 0;
        for _ in 0..3 {
            let start = Instant::now();
            out = self.handle(kind, &payload);
            best = best.min(start.elapsed().as_secs_f64() * 1e3);
        }
        (best, out as f64 / payload.len() as f64)
    }
}

const VIN: &str = "5YJ3E1EA7JF000001";
const LOCATION: Scopes = Scopes::NONE.with(Scope::VehicleLocation);

fn of(kind: RecordKind, field: &[u8], size: usize) -> (RecordKind, Vec<u8>) {
    (kind, field.repeat(size / field.len()))
}

fn v(field: &[u8], size: usize) -> (RecordKind, Vec<u8>) {
    of(RecordKind::V, field, size)
}

fn data(values: impl Iterator<Item = value::Value>) -> (RecordKind, Vec<u8>) {
    let datum = |value| Datum { key: Field::VehicleName.into(), value: Some(Value { value: Some(value) }) };
    (RecordKind::V, Payload { data: values.map(datum).collect(), ..Default::default() }.encode_to_vec())
}

/// One datum with a long text.
fn text(unit: &str, size: usize) -> (RecordKind, Vec<u8>) {
    data(std::iter::once(value::Value::StringValue(unit.repeat(size / unit.len()))))
}

/// Data with the same short text.
fn texts(text: &str, size: usize) -> (RecordKind, Vec<u8>) {
    let datum = text.len() + 9;
    data((0..size / datum).map(|_| value::Value::StringValue(text.to_owned())))
}

/// Numbers with an exponent and all their digits.
fn doubles(size: usize) -> (RecordKind, Vec<u8>) {
    data((0..size / 16).map(|n| value::Value::DoubleValue(-1.802_185_961_565_259e229 * (1.0 + n as f64 * 1e-7))))
}

fn alert(unit: &str, size: usize) -> (RecordKind, Vec<u8>) {
    let alert = VehicleAlert { name: unit.repeat(size / unit.len()), ..Default::default() };
    (RecordKind::Alerts, VehicleAlerts { alerts: vec![alert], ..Default::default() }.encode_to_vec())
}

/// One error with as many tags.
fn keys(size: usize, prefix: &str) -> (RecordKind, Vec<u8>) {
    let tags = (0..size / (prefix.len() + 13)).map(|n| (format!("{prefix}{n:06}"), String::new())).collect();
    let errors = vec![VehicleError { tags, ..Default::default() }];
    (RecordKind::Errors, VehicleErrors { errors, ..Default::default() }.encode_to_vec())
}

/// The same in a form that has to be put in order first.
fn swapped_keys(size: usize) -> (RecordKind, Vec<u8>) {
    let tag = |n: usize| [b"\x1a\x0a\x12\x00\x0a\x06".to_vec(), format!("{n:06}").into_bytes()].concat();
    let error: Vec<u8> = (0..size / 12).flat_map(tag).collect();
    let mut out = vec![0x0a];
    prost::encode_length_delimiter(error.len(), &mut out).expect("room in a vector");
    out.extend(error);
    (RecordKind::Errors, out)
}
