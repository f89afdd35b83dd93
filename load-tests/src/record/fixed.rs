//! The benchmark's record: ten fields of topic `V` in a message of exactly 368 bytes.
//!
//! Location, speed, odometer, charge, gear, heading and four more, typed, as a driving vehicle sends
//! them; a name is padded so that the envelope has its fixed length. Between two records of a vehicle
//! only the txid differs, so making one costs a copy.

use std::time::SystemTime;

use fleet_telemetry::proto::vehicle_data::{Datum, Field, LocationValue, Payload, ShiftState, Value, value};
use prost::Message as _;

use super::txid::{self, Txid};
use super::{encode, timestamp};

/// Length of the envelope, which is the payload of the WebSocket frame.
pub const FRAME_LEN: usize = 368;

/// One vehicle's benchmark record.
#[derive(Clone, Debug)]
pub struct FixedRecord {
    frame: Box<[u8]>,
    txid_at: usize,
}

impl FixedRecord {
    /// The record of a vehicle, stamped with `created_at`.
    ///
    /// # Panics
    /// If the encoder's overhead leaves no room for ten fields; a test pins that it does.
    #[must_use]
    pub fn new(vin: &str, created_at: SystemTime) -> Self {
        let marker = Txid { run: 0x5eed_f00d, vehicle: 0x0fee_1bad, sequence: 0xfeed_face_cafe };
        let frame = (0..FRAME_LEN)
            .map(|padding| encode(vin, marker, "V", created_at, &payload(vin, created_at, padding).encode_to_vec()))
            .find(|frame| frame.len() >= FRAME_LEN)
            .expect("padding grows the frame");
        assert_eq!(frame.len(), FRAME_LEN, "envelope and ten fields fit the fixed length");
        let txid_at = position(&frame, &marker.text()).expect("the envelope holds its txid");
        Self { frame: frame.into(), txid_at }
    }

    /// A copy with this txid.
    #[must_use]
    pub fn with(&self, txid: Txid) -> Box<[u8]> {
        let mut frame = self.frame.clone();
        frame[self.txid_at..self.txid_at + txid::LEN].copy_from_slice(&txid.text());
        frame
    }

    /// Where the txid is, the same for every vehicle.
    #[must_use]
    pub fn txid_at(&self) -> usize {
        self.txid_at
    }
}

/// The position of `needle` in `haystack`.
#[must_use]
pub fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn payload(vin: &str, created_at: SystemTime, padding: usize) -> Payload {
    use value::Value as V;
    let fields = [
        (Field::Location, V::LocationValue(LocationValue { latitude: 37.412_374, longitude: -122.145_867 })),
        (Field::VehicleSpeed, V::FloatValue(63.5)),
        (Field::Odometer, V::FloatValue(20_481.25)),
        (Field::Gear, V::ShiftStateValue(ShiftState::D.into())),
        (Field::Soc, V::IntValue(71)),
        (Field::GpsHeading, V::IntValue(93)),
        (Field::BrakePedal, V::BooleanValue(false)),
        (Field::Locked, V::BooleanValue(true)),
        (Field::CruiseSetSpeed, V::IntValue(65)),
        (Field::VehicleName, V::StringValue("x".repeat(padding))),
    ];
    Payload {
        data: fields.map(|(key, value)| Datum { key: key.into(), value: Some(Value { value: Some(value) }) }).into(),
        created_at: Some(prost_types::Timestamp { nanos: 0, ..timestamp(created_at) }),
        vin: vin.to_owned(),
        is_resend: false,
    }
}

#[cfg(test)]
mod tests {
    use fleet_telemetry::envelope::Envelope;

    use super::super::vin;
    use super::*;

    #[test]
    fn every_vehicle_sends_368_bytes_with_ten_fields_and_its_txid() {
        for vehicle in [0, 7, 999_999] {
            let txid = Txid { run: 1, vehicle, sequence: 42 };
            let record = FixedRecord::new(&vin(vehicle), SystemTime::now());
            let frame = record.with(txid);
            assert_eq!(frame.len(), FRAME_LEN);
            let envelope = Envelope::parse(&frame).expect("a stream message");
            assert_eq!(envelope.txid, txid.text());
            assert_eq!(envelope.topic, b"V");
            assert_eq!(envelope.sender_id, format!("vehicle_device.{}", vin(vehicle)).as_bytes());
            let payload = Payload::decode(envelope.payload).expect("topic V");
            assert_eq!(payload.data.len(), 10);
            assert_eq!(payload.vin, vin(vehicle));
        }
    }

    #[test]
    fn the_txid_is_at_the_same_place_in_every_vehicle_s_frame() {
        let at = |vehicle| FixedRecord::new(&vin(vehicle), SystemTime::now()).txid_at();
        assert_eq!(at(1), at(123_456));
    }
}
