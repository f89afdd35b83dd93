//! Texts, in every place where a text is looked at.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use prost::Message as _;

use super::{PER_BYTE, assert_bounded, assert_linear};
use crate::escape::escape;
use crate::permissions::{Action, Filter, Mode, Permissions, Rules};
use crate::proto::vehicle_alerts::{VehicleAlert, VehicleAlerts};
use crate::proto::vehicle_connectivity::VehicleConnectivity;
use crate::proto::vehicle_data::{Datum, Field, Payload, Value, value};
use crate::proto::vehicle_error::{VehicleError, VehicleErrors};
use crate::record::transform::rewrite;
use crate::record::{RecordKind, json};
use crate::scope::Scopes;
use crate::work;

/// One of each form, and of what else is recognised in a text.
const FORMS: &[&str] = &[
    "(37.412374 N, 122.145867 W)",
    "(inf N, nan E)",
    "(0x1p4 N,  1_5e0 W)",
    "(1.2345677999999993657578129e-300 N, 1e999 W)",
    "[-122.1,37.4]",
    "37.412374, -122.145867",
    "-122.145867 37.412374",
    "37,412374; -122,145867",
    "+37.412374-122.145867/",
    "37.412374/-122.145867",
    "N37.41 W122.14",
    "37.412374° N, 122.145867° W",
    "-37.412374°",
    "1.1°N1.1111",
    "37°24'44.5\"N",
    "37deg 24.742\u{2032} N",
    "37 24 44.5 N, ;122 08 45.1 W",
    "37:24:44.5N 122:08:45.1W",
    "latitude=37",
    "_lon_degrees\\\"  :  \\\"\u{2212}122.14, 37.41",
    "Lat 37.4, 122.14",
    "geo:37.412374,-122.145867;u=35",
    "3724.742,N,12208.752,W",
    "849VCV6X+X8",
    "1.1920928955078125e-05",
    "3.e38",
];

/// What may stand before them: the middle of a number, which makes a hit none, and what separates.
const BEFORE: &[&str] = &["", "5", "5.", " ", ",", "(", "\"", "x\n"];

/// A text of about `size` bytes: so often the same.
fn repeated(unit: &str, size: usize) -> String {
    unit.repeat(size / unit.len().max(1))
}

/// A record with a text somewhere.
type Place = fn(&str) -> (RecordKind, Vec<u8>);

/// Every place where a text is looked at, and records with many short texts.
const PLACES: &[(&str, Place)] = &[
    ("value", |text| v(vec![text.to_owned()])),
    ("values", |text| v(pieces(text))),
    ("alert", |text| {
        let alert = VehicleAlert { name: text.to_owned(), ..Default::default() };
        (RecordKind::Alerts, VehicleAlerts { alerts: vec![alert], ..Default::default() }.encode_to_vec())
    }),
    ("error", |text| errors(VehicleError { name: text.to_owned(), body: text.to_owned(), ..Default::default() })),
    ("tag", |text| errors(VehicleError { tags: [(text.to_owned(), text.to_owned())].into(), ..Default::default() })),
    ("tags", |text| {
        let tags = pieces(text).into_iter().enumerate().map(|(n, piece)| (format!("{piece}{n}"), piece)).collect();
        errors(VehicleError { tags, ..Default::default() })
    }),
    ("connectivity", |text| {
        let [connection_id, network_interface] = [text, text].map(str::to_owned);
        let record = VehicleConnectivity { connection_id, network_interface, ..Default::default() };
        (RecordKind::Connectivity, record.encode_to_vec())
    }),
];

fn v(texts: Vec<String>) -> (RecordKind, Vec<u8>) {
    let datum = |text| {
        let value = Some(Value { value: Some(value::Value::StringValue(text)) });
        Datum { key: Field::VehicleName.into(), value }
    };
    (RecordKind::V, Payload { data: texts.into_iter().map(datum).collect(), ..Default::default() }.encode_to_vec())
}

fn errors(error: VehicleError) -> (RecordKind, Vec<u8>) {
    (RecordKind::Errors, VehicleErrors { errors: vec![error], ..Default::default() }.encode_to_vec())
}

fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(30).map(|piece| piece.iter().collect()).collect()
}

/// What is done to a record that may not tell a place.
fn filtered(kind: RecordKind, payload: &[u8]) {
    let actions: &[_] = if kind == RecordKind::V { &[Action::Drop, Action::Coarsen(2)] } else { &[Action::Drop] };
    for action in actions {
        let rules = Rules { mode: Mode::Enforce, action: *action, strict: true, enforced: Scopes::ALL, ..Rules::off() };
        let mut out = Vec::new();
        rewrite(kind, payload, "VIN", &Filter::new(&rules, Scopes::ALL), &mut out).unwrap();
    }
}

fn assert_text_is_linear(text: impl Fn(usize) -> String) {
    assert_text_is_linear_in(PLACES, text);
}

fn assert_text_is_linear_in(places: &[(&str, Place)], text: impl Fn(usize) -> String) {
    let shown: String = text(80).chars().take(80).collect();
    for (place, record) in places {
        let (kind, _) = record("");
        assert_linear(&format!("{place} {shown:?}"), |size| record(&text(size)).1, |payload| filtered(kind, payload));
    }
}

#[test]
fn the_same_form_again_and_again_is_linear() {
    for (form, before) in FORMS.iter().flat_map(|form| BEFORE.iter().map(move |before| (form, before))) {
        let unit = format!("{before}{form}");
        assert_text_is_linear(|size| repeated(&unit, size));
    }
}

#[test]
fn the_beginning_of_a_form_again_and_again_is_linear() {
    for form in FORMS {
        for (end, _) in form.char_indices().skip(1) {
            assert_text_is_linear(|size| repeated(&form[..end], size));
        }
    }
}

#[test]
fn a_form_that_is_stretched_is_linear() {
    for form in FORMS {
        for (at, character) in form.char_indices() {
            // Once in the whole text, then often, a little each.
            let character = character.to_string();
            assert_text_is_linear_in(&PLACES[..2], |size| {
                [&form[..at], &repeated(&character, size), &form[at..]].concat()
            });
            let stretched = [&form[..at], &character.repeat(40), &form[at..]].concat();
            assert_text_is_linear_in(&PLACES[..2], |size| repeated(&stretched, size));
        }
    }
}

#[test]
fn what_was_seen_to_take_seconds_is_linear() {
    assert_text_is_linear(|size| repeated("5.geo:1,1", size));
    let tag = |n: usize| (format!("37.41,-122.{n:05}"), "x".to_owned());
    let record = |tags: usize| errors(VehicleError { tags: (0..tags).map(tag).collect(), ..Default::default() }).1;
    assert_linear("tags", |size| record(size / 25), |payload| filtered(RecordKind::Errors, payload));
    for (kind, payload) in [(RecordKind::Errors, record(8_000)), v(vec!["5.geo:1,1".repeat(80_000)])] {
        let steps = work::of(|| filtered(kind, &payload));
        assert!(steps < PER_BYTE * payload.len(), "{kind:?}: {steps} steps for {} bytes", payload.len());
    }
}

#[test]
fn what_is_logged_or_rendered_of_a_text_is_linear() {
    let permissions = Permissions::new(Rules { mode: Mode::Enforce, enforced: Scopes::ALL, ..Rules::off() });
    for unit in FORMS.iter().chain(BEFORE).chain(&["\u{1b}", "\u{202e}", "é", "\u{1f697}"]) {
        let text = |size| repeated(unit, size).into_bytes();
        assert_linear(unit, text, |text| drop(escape(text, usize::MAX)));
        assert_linear(unit, text, |text| drop(permissions.label(String::from_utf8_lossy(text).into_owned())));
        for (place, record) in PLACES {
            let (kind, _) = record("");
            let payload = |size| record(&repeated(unit, size)).1;
            assert_linear(&format!("{place} {unit:?}"), payload, |payload| drop(json::render(kind, payload)));
        }
    }
    assert_linear("no text", |size| vec![0xff; size], |text| drop(escape(text, usize::MAX)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whether hits fall on the one or the other half of what is repeated may change from one size to the next, and with
    /// it what a byte costs. So what is held is the bound per byte, over so many bytes that a square would break it.
    #[test]
    fn pieces_of_forms_in_any_order_are_linear(
        begin in vec(piece(), 0..3),
        units in vec(vec(piece(), 1..4), 1..3),
        end in vec(piece(), 0..3),
    ) {
        let units: Vec<String> = units.iter().map(|unit| unit.concat()).collect();
        let middle: String = units.iter().map(|unit| repeated(unit, 8_000 / units.len())).collect();
        let text = [begin.concat(), middle, end.concat()].concat();
        for (place, record) in PLACES {
            let (kind, payload) = record(&text);
            assert_bounded(place, payload.len(), work::of(|| filtered(kind, &payload)));
        }
    }
}

/// A part of a form, not empty.
fn piece() -> impl Strategy<Value = String> {
    (select(FORMS), any::<Index>(), any::<Index>()).prop_map(|(form, a, b)| {
        let characters: Vec<char> = form.chars().collect();
        let (a, b) = (a.index(characters.len()), b.index(characters.len()));
        characters[a.min(b)..=a.max(b)].iter().collect()
    })
}
