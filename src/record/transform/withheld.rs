//! What is withheld from a record is counted by field and action.

use metrics_exporter_prometheus::PrometheusBuilder;
use prost::Message as _;

use super::rewrite;
use crate::permissions::{Action, Mode, Permissions, Rules, Seen};
use crate::proto::vehicle_data::value::Value as Typed;
use crate::proto::vehicle_data::{Datum, Field, LocationValue, Payload, Value};
use crate::proto::vehicle_error::{VehicleError, VehicleErrors};
use crate::record::RecordKind;
use crate::scope::{Scope, Scopes};

const FAMILY: &str = "permission_withheld_total";

const LOCATION: Scopes = Scopes::NONE.with(Scope::VehicleLocation);

/// The counters that are not zero after a record.
fn counted(mode: Mode, action: Action, records: &[(RecordKind, Vec<u8>)]) -> Vec<String> {
    let recorder = PrometheusBuilder::new().build_recorder();
    let rules = Rules { mode, action, strict: true, deny_unknown: true, enforced: LOCATION, ..Rules::off() };
    // Nothing is known of any grant, so that all is denied.
    let permissions = metrics::with_local_recorder(&recorder, || Permissions::new(rules));
    let filter = permissions.filter(&mut Seen::default(), "VIN", || None, 0);
    for (kind, payload) in records {
        rewrite(*kind, payload, "VIN", &filter, &mut Vec::new()).unwrap();
    }
    assert_eq!(filter.allows_opaque(), mode == Mode::Audit);
    let page = recorder.handle().render();
    let mut lines: Vec<_> = page.lines().filter_map(|line| line.strip_prefix(FAMILY)).collect();
    lines.retain(|line| !line.ends_with(" 0"));
    lines.sort_unstable();
    lines.into_iter().map(str::to_owned).collect()
}

fn record() -> Vec<u8> {
    let place = Typed::LocationValue(LocationValue { latitude: 37.412_374, longitude: -122.145_867 });
    let datum = |key: i32, value: Typed| Datum { key, value: Some(Value { value: Some(value) }) };
    let data = vec![
        datum(Field::Location.into(), place.clone()),
        datum(Field::GpsHeading.into(), Typed::DoubleValue(5.0)),
        datum(Field::VehicleName.into(), place),
        datum(Field::Soc.into(), Typed::DoubleValue(71.0)),
        datum(9_999, Typed::BooleanValue(true)),
    ];
    Payload { data, ..Default::default() }.encode_to_vec()
}

#[test]
fn data_are_counted_by_field_and_action() {
    let records = [(RecordKind::V, record())];
    assert_eq!(
        counted(Mode::Enforce, Action::Coarsen(2), &records),
        [
            r#"{field="GpsHeading",action="drop"} 1"#,
            r#"{field="Location",action="coarsen"} 1"#,
            r#"{field="opaque",action="drop"} 1"#,
            r#"{field="other",action="coarsen"} 1"#,
            r#"{field="unknown",action="drop"} 1"#,
        ]
    );
    assert_eq!(
        counted(Mode::Audit, Action::Drop, &records),
        [
            r#"{field="GpsHeading",action="audit"} 1"#,
            r#"{field="Location",action="audit"} 1"#,
            r#"{field="opaque",action="audit"} 1"#,
            r#"{field="other",action="audit"} 1"#,
            r#"{field="unknown",action="audit"} 1"#,
        ]
    );
}

#[test]
fn a_record_in_an_odd_encoding_is_counted_once() {
    // An unknown field, then the flag `is_resend`, which should have come before it.
    let payload = [record(), b"\xf8\x03\x05\x20\x01".to_vec()].concat();
    let counted = counted(Mode::Enforce, Action::Invalid, &[(RecordKind::V, payload)]);
    assert!(counted.contains(&r#"{field="Location",action="invalid"} 1"#.to_owned()), "{counted:?}");
    assert!(counted.contains(&r#"{field="unknown",action="drop"} 1"#.to_owned()), "{counted:?}");
    assert!(counted.contains(&r#"{field="unknown",action="invalid"} 1"#.to_owned()), "{counted:?}");
}

#[test]
fn more_data_than_fit_in_place_are_all_counted() {
    // Repeated fields of concatenated messages are concatenated.
    let payload = record().repeat(30);
    let counted = counted(Mode::Enforce, Action::Drop, &[(RecordKind::V, payload)]);
    assert!(counted.contains(&r#"{field="Location",action="drop"} 30"#.to_owned()), "{counted:?}");
}

#[test]
fn masked_texts_are_counted() {
    let error = VehicleError { name: "1".into(), body: "at 37.41,-122.14".into(), ..Default::default() };
    let payload = VehicleErrors { errors: vec![error], ..Default::default() }.encode_to_vec();
    let records = [(RecordKind::Errors, payload)];
    let counted = counted(Mode::Enforce, Action::Drop, &records);
    assert!(counted.contains(&r#"{field="text",action="mask"} 1"#.to_owned()), "{counted:?}");
}
