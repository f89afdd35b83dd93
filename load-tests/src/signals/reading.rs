//! A measured value, and the two forms in which vehicles send it.

use fleet_telemetry::proto::vehicle_data::value::Value as Kind;
use fleet_telemetry::proto::vehicle_data::{DetailedChargeStateValue, Doors, Field, LocationValue, ShiftState, Value};

/// How a vehicle's telemetry client writes values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Each in its own type: firmware since 2025.
    Typed,
    /// Everything as a string: older firmware.
    Text,
}

/// A measured value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// Rounded to so many decimals.
    Number(f64, usize),
    /// Too small for decimals: old vehicles write it in scientific notation.
    Tiny(f64),
    /// A whole number.
    Whole(i32),
    /// Yes or no.
    Flag(bool),
    /// Degrees north and east.
    Location(f64, f64),
    /// The gear.
    Gear(ShiftState),
    /// The charge state.
    Charge(DetailedChargeStateValue),
    /// The doors that are open: driver's and trunk.
    Doors {
        /// Driver's door.
        driver: bool,
        /// Rear trunk.
        trunk: bool,
    },
}

impl Reading {
    /// As this vehicle sends it; old vehicles know the charge state under an older field.
    #[must_use]
    pub fn datum(self, field: Field, form: Form) -> (Field, Value) {
        let (field, kind) = match form {
            Form::Typed => (field, self.typed()),
            Form::Text if field == Field::DetailedChargeState => (Field::ChargeState, self.text()),
            Form::Text => (field, self.text()),
        };
        (field, Value { value: Some(kind) })
    }

    fn typed(self) -> Kind {
        match self {
            Self::Number(number, decimals) => {
                let scale = 10_f64.powi(i32::try_from(decimals).expect("a few decimals"));
                Kind::DoubleValue((number * scale).round() / scale)
            }
            Self::Tiny(number) => Kind::DoubleValue(number),
            Self::Whole(number) => Kind::IntValue(number),
            Self::Flag(flag) => Kind::BooleanValue(flag),
            Self::Location(latitude, longitude) => Kind::LocationValue(LocationValue { latitude, longitude }),
            Self::Gear(gear) => Kind::ShiftStateValue(gear.into()),
            Self::Charge(state) => Kind::DetailedChargeStateValue(state.into()),
            Self::Doors { driver, trunk } => {
                Kind::DoorValue(Doors { driver_front: driver, trunk_rear: trunk, ..Doors::default() })
            }
        }
    }

    fn text(self) -> Kind {
        Kind::StringValue(match self {
            Self::Number(number, decimals) => format!("{number:.decimals$}"),
            Self::Tiny(number) => scientific(number),
            Self::Whole(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Location(latitude, longitude) => location(latitude, longitude),
            Self::Gear(gear) => gear.as_str_name().trim_start_matches("ShiftState").to_owned(),
            Self::Charge(state) => state.as_str_name().trim_start_matches("DetailedChargeState").to_owned(),
            Self::Doors { driver, trunk } => doors(driver, trunk),
        })
    }
}

/// Always with a decimal point, as C prints it.
fn scientific(number: f64) -> String {
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0e{exponent}"),
        _ => text,
    }
}

fn location(latitude: f64, longitude: f64) -> String {
    let north = if latitude < 0.0 { 'S' } else { 'N' };
    let east = if longitude < 0.0 { 'W' } else { 'E' };
    format!("({:.6} {north}, {:.6} {east})", latitude.abs(), longitude.abs())
}

fn doors(driver: bool, trunk: bool) -> String {
    let open = [(driver, "DriverFront"), (trunk, "TrunkRear")];
    open.into_iter().filter_map(|(is_open, name)| is_open.then_some(name)).collect::<Vec<_>>().join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reading: Reading) -> String {
        match reading.datum(Field::Location, Form::Text).1.value {
            Some(Kind::StringValue(text)) => text,
            other => panic!("not a string: {other:?}"),
        }
    }

    #[test]
    fn writes_strings_as_old_vehicles_do() {
        assert_eq!(text(Reading::Location(37.412_374_2, -122.145_867)), "(37.412374 N, 122.145867 W)");
        assert_eq!(text(Reading::Location(-33.9, 18.4)), "(33.900000 S, 18.400000 E)");
        assert_eq!(text(Reading::Number(63.47, 1)), "63.5");
        assert_eq!(text(Reading::Tiny(1.192_092_895_507_812_5e-5)), "1.1920928955078125e-5");
        assert_eq!(text(Reading::Tiny(1e-5)), "1.0e-5");
        assert_eq!(text(Reading::Gear(ShiftState::D)), "D");
        assert_eq!(text(Reading::Doors { driver: true, trunk: true }), "DriverFront|TrunkRear");
    }

    #[test]
    fn old_vehicles_send_the_charge_state_under_its_old_field() {
        let charging = Reading::Charge(DetailedChargeStateValue::DetailedChargeStateCharging);
        let (field, _) = charging.datum(Field::DetailedChargeState, Form::Text);
        assert_eq!((field, text(charging)), (Field::ChargeState, "Charging".to_owned()));
        assert_eq!(charging.datum(Field::DetailedChargeState, Form::Typed).0, Field::DetailedChargeState);
    }
}
