//! What a datum is called and what it holds, reduced to the shapes that the text forms tell apart.

use crate::proto::vehicle_data::value::Value as Kind;
use crate::proto::vehicle_data::*;

/// A value that has content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View<'a> {
    /// The name of its kind in proto3 JSON.
    pub member: &'static str,
    /// The name of its kind in verbose log lines. The reference server chose these one by one.
    pub label: &'static str,
    /// What it holds.
    pub content: Content<'a>,
}

/// What a value holds.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // the names say it
pub enum Content<'a> {
    Text(&'a str),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Bool(bool),
    /// The vehicle says that the field has no valid value now.
    Invalid(bool),
    Location(LocationValue),
    Doors(Doors),
    Tires(TireLocation),
    Time(Time),
    Enum(Enumerator),
}

/// A number of an enum, and its name when the schema has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enumerator {
    /// As it came.
    pub number: i32,
    /// As the schema spells it.
    pub name: Option<&'static str>,
}

impl Enumerator {
    /// `name` is the `as_str_name` of the enum `E`.
    #[must_use]
    pub fn new<E: TryFrom<i32>>(number: i32, name: fn(&E) -> &'static str) -> Self {
        Self { number, name: E::try_from(number).ok().as_ref().map(name) }
    }
}

impl Value {
    /// `None` for a value without content, or with content of a kind that the schema does not know.
    #[must_use]
    pub fn view(&self) -> Option<View<'_>> {
        self.value.as_ref().map(View::of)
    }
}

impl<'a> View<'a> {
    /// One row per kind: member, label, content.
    fn of(kind: &'a Kind) -> Self {
        let (member, label, content) = match kind {
            Kind::StringValue(v) => ("stringValue", "stringValue", Content::Text(v)),
            Kind::IntValue(v) => ("intValue", "intValue", Content::Int(*v)),
            Kind::LongValue(v) => ("longValue", "longValue", Content::Long(*v)),
            Kind::FloatValue(v) => ("floatValue", "floatValue", Content::Float(*v)),
            Kind::DoubleValue(v) => ("doubleValue", "doubleValue", Content::Double(*v)),
            Kind::BooleanValue(v) => ("booleanValue", "booleanValue", Content::Bool(*v)),
            Kind::LocationValue(v) => ("locationValue", "locationValue", Content::Location(*v)),
            Kind::ChargingValue(v) => ("chargingValue", "chargingState", named(*v, ChargingState::as_str_name)),
            Kind::ShiftStateValue(v) => ("shiftStateValue", "shiftStateValue", named(*v, ShiftState::as_str_name)),
            Kind::Invalid(v) => ("invalid", "invalid", Content::Invalid(*v)),
            Kind::LaneAssistLevelValue(v) => {
                ("laneAssistLevelValue", "laneAssistLevel", named(*v, LaneAssistLevel::as_str_name))
            }
            Kind::ScheduledChargingModeValue(v) => (
                "scheduledChargingModeValue",
                "scheduledChargingMode",
                named(*v, ScheduledChargingModeValue::as_str_name),
            ),
            Kind::SentryModeStateValue(v) => {
                ("sentryModeStateValue", "sentryModeState", named(*v, SentryModeState::as_str_name))
            }
            Kind::SpeedAssistLevelValue(v) => {
                ("speedAssistLevelValue", "speedAssistLevel", named(*v, SpeedAssistLevel::as_str_name))
            }
            Kind::BmsStateValue(v) => ("bmsStateValue", "bmsState", named(*v, BmsStateValue::as_str_name)),
            Kind::BuckleStatusValue(v) => ("buckleStatusValue", "buckleStatus", named(*v, BuckleStatus::as_str_name)),
            Kind::CarTypeValue(v) => ("carTypeValue", "carType", named(*v, CarTypeValue::as_str_name)),
            Kind::ChargePortValue(v) => ("chargePortValue", "chargePort", named(*v, ChargePortValue::as_str_name)),
            Kind::ChargePortLatchValue(v) => {
                ("chargePortLatchValue", "chargePortLatch", named(*v, ChargePortLatchValue::as_str_name))
            }
            Kind::DoorValue(v) => ("doorValue", "doorValue", Content::Doors(*v)),
            Kind::DriveInverterStateValue(v) => {
                ("driveInverterStateValue", "driveInverterState", named(*v, DriveInverterState::as_str_name))
            }
            Kind::HvilStatusValue(v) => ("hvilStatusValue", "hvilStatus", named(*v, HvilStatus::as_str_name)),
            Kind::WindowStateValue(v) => ("windowStateValue", "windowState", named(*v, WindowState::as_str_name)),
            Kind::SeatFoldPositionValue(v) => {
                ("seatFoldPositionValue", "seatFoldPosition", named(*v, SeatFoldPosition::as_str_name))
            }
            Kind::TractorAirStatusValue(v) => {
                ("tractorAirStatusValue", "tractorAirStatus", named(*v, TractorAirStatus::as_str_name))
            }
            Kind::FollowDistanceValue(v) => {
                ("followDistanceValue", "followDistance", named(*v, FollowDistance::as_str_name))
            }
            Kind::ForwardCollisionSensitivityValue(v) => (
                "forwardCollisionSensitivityValue",
                "forwardCollisionSensitivity",
                named(*v, ForwardCollisionSensitivity::as_str_name),
            ),
            Kind::GuestModeMobileAccessValue(v) => {
                ("guestModeMobileAccessValue", "guestModeMobileAccess", named(*v, GuestModeMobileAccess::as_str_name))
            }
            Kind::TrailerAirStatusValue(v) => {
                ("trailerAirStatusValue", "trailerAirStatus", named(*v, TrailerAirStatus::as_str_name))
            }
            Kind::TimeValue(v) => ("timeValue", "time", Content::Time(*v)),
            Kind::DetailedChargeStateValue(v) => {
                ("detailedChargeStateValue", "detailedChargeState", named(*v, DetailedChargeStateValue::as_str_name))
            }
            Kind::HvacAutoModeValue(v) => {
                ("hvacAutoModeValue", "hvacAutoMode", named(*v, HvacAutoModeState::as_str_name))
            }
            Kind::CabinOverheatProtectionModeValue(v) => (
                "cabinOverheatProtectionModeValue",
                "cabinOverheatProtectionMode",
                named(*v, CabinOverheatProtectionModeState::as_str_name),
            ),
            Kind::CabinOverheatProtectionTemperatureLimitValue(v) => (
                "cabinOverheatProtectionTemperatureLimitValue",
                "cabinOverheatProtectionTemperatureLimit",
                named(*v, ClimateOverheatProtectionTempLimit::as_str_name),
            ),
            Kind::DefrostModeValue(v) => ("defrostModeValue", "defrostMode", named(*v, DefrostModeState::as_str_name)),
            Kind::ClimateKeeperModeValue(v) => {
                ("climateKeeperModeValue", "climateKeeperMode", named(*v, ClimateKeeperModeState::as_str_name))
            }
            Kind::HvacPowerValue(v) => ("hvacPowerValue", "hvacPower", named(*v, HvacPowerState::as_str_name)),
            Kind::TireLocationValue(v) => ("tireLocationValue", "tireLocation", Content::Tires(*v)),
            Kind::FastChargerValue(v) => ("fastChargerValue", "fastChargerType", named(*v, FastCharger::as_str_name)),
            Kind::CableTypeValue(v) => ("cableTypeValue", "chargingCableType", named(*v, CableType::as_str_name)),
            Kind::TonneauTentModeValue(v) => {
                ("tonneauTentModeValue", "tonneauTentMode", named(*v, TonneauTentModeState::as_str_name))
            }
            Kind::TonneauPositionValue(v) => {
                ("tonneauPositionValue", "tonneauPosition", named(*v, TonneauPositionState::as_str_name))
            }
            Kind::PowershareTypeValue(v) => {
                ("powershareTypeValue", "powershareType", named(*v, PowershareTypeStatus::as_str_name))
            }
            Kind::PowershareStateValue(v) => {
                ("powershareStateValue", "powershareStatus", named(*v, PowershareState::as_str_name))
            }
            Kind::PowershareStopReasonValue(v) => (
                "powershareStopReasonValue",
                "powershareStopReason",
                named(*v, PowershareStopReasonStatus::as_str_name),
            ),
            Kind::DisplayStateValue(v) => ("displayStateValue", "displayState", named(*v, DisplayState::as_str_name)),
            Kind::DistanceUnitValue(v) => ("distanceUnitValue", "distanceUnit", named(*v, DistanceUnit::as_str_name)),
            Kind::TemperatureUnitValue(v) => {
                ("temperatureUnitValue", "temperatureUnit", named(*v, TemperatureUnit::as_str_name))
            }
            Kind::PressureUnitValue(v) => ("pressureUnitValue", "pressureUnit", named(*v, PressureUnit::as_str_name)),
            Kind::ChargeUnitPreferenceValue(v) => {
                ("chargeUnitPreferenceValue", "chargeUnit", named(*v, ChargeUnitPreference::as_str_name))
            }
            Kind::TurnSignalStateValue(v) => {
                ("turnSignalStateValue", "turnSignalState", named(*v, TurnSignalState::as_str_name))
            }
            Kind::MediaStatusValue(v) => ("mediaStatusValue", "mediaStatus", named(*v, MediaStatus::as_str_name)),
            Kind::SunroofInstalledStateValue(v) => {
                ("sunroofInstalledStateValue", "sunroofInstalledState", named(*v, SunroofInstalledState::as_str_name))
            }
            Kind::CabinPortKeepOnValue(v) => {
                ("cabinPortKeepOnValue", "cabinPortKeepOn", named(*v, CabinPortKeepOnState::as_str_name))
            }
        };
        Self { member, label, content }
    }
}

fn named<E: TryFrom<i32>>(number: i32, name: fn(&E) -> &'static str) -> Content<'static> {
    Content::Enum(Enumerator::new(number, name))
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost::encoding::{WireType, encode_key};
    use prost_types::field_descriptor_proto::Type;
    use prost_types::{FieldDescriptorProto, FileDescriptorSet};

    use super::*;

    /// The fields of the message that holds a value, from the schema itself.
    fn kinds() -> Vec<FieldDescriptorProto> {
        let files = FileDescriptorSet::decode(crate::proto::DESCRIPTORS).unwrap();
        let messages = files.file.into_iter().flat_map(|file| file.message_type);
        messages.into_iter().find(|message| message.name() == "Value").unwrap().field
    }

    /// A value of this kind, from the wire.
    fn value(kind: &FieldDescriptorProto) -> Value {
        let mut wire = Vec::new();
        let (wire_type, content): (_, &[u8]) = match kind.r#type() {
            Type::Double => (WireType::SixtyFourBit, &[0; 8]),
            Type::Float => (WireType::ThirtyTwoBit, &[0; 4]),
            Type::String | Type::Message => (WireType::LengthDelimited, &[0]),
            _ => (WireType::Varint, &[1]),
        };
        encode_key(u32::try_from(kind.number()).unwrap(), wire_type, &mut wire);
        wire.extend(content);
        Value::decode(&wire[..]).unwrap()
    }

    #[test]
    fn every_kind_of_the_schema_has_its_name_and_its_shape() {
        let kinds = kinds();
        assert!(kinds.len() >= 54);
        for kind in kinds {
            let value = value(&kind);
            let view = value.view().unwrap_or_else(|| panic!("{} has no row", kind.name()));
            assert_eq!(view.member, kind.json_name());
            assert!(!view.label.is_empty());
            let is_enum = matches!(view.content, Content::Enum(_));
            assert_eq!(is_enum, kind.r#type() == Type::Enum, "{}", kind.name());
        }
    }

    #[test]
    fn a_number_whose_name_is_not_published_is_a_number() {
        let kinds = kinds();
        let kind = kinds.iter().find(|kind| kind.name() == "cabin_port_keep_on_value").unwrap();
        let value = value(kind);
        let Content::Enum(enumerator) = value.view().unwrap().content else { panic!("an enum") };
        assert_eq!(enumerator, Enumerator { number: 1, name: None });
    }
}
