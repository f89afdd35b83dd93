//! What a configuration can cost at most. The vehicle maker counts signals: a field of a vehicle, each time it is sent.

use serde_json::Value;

use super::Document;

/// In the vehicle maker's price list of 2025: signals for one dollar.
pub const SIGNALS_PER_DOLLAR: u32 = 150_000;

const SECONDS_PER_DAY: f64 = 86_400.0;

/// Of one vehicle that never sleeps and whose values always change. A real one sends a small part of that, as only
/// changes are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Signals a day.
    pub signals_per_day: f64,
    /// Signals a second.
    pub signals_per_second: f64,
    /// Dollars a day.
    pub dollars_per_day: f64,
}

impl Cost {
    /// Of one vehicle with this configuration. Fields without a usable interval count nothing.
    #[must_use]
    pub fn of(document: &Document, signals_per_dollar: u32) -> Self {
        let fields = document.config.get("fields").and_then(Value::as_object);
        let interval = |field: &Value| field.get("interval_seconds").and_then(Value::as_f64).filter(|s| *s >= 1.0);
        let per_second: f64 =
            fields.into_iter().flat_map(|fields| fields.values()).filter_map(interval).map(f64::recip).sum();
        let per_day = per_second * SECONDS_PER_DAY;
        Self {
            signals_per_day: per_day,
            signals_per_second: per_second,
            dollars_per_day: per_day / f64::from(signals_per_dollar.max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_can_be_sent_is_counted() {
        let document =
            br#"{"fields": {"Soc": {"interval_seconds": 60}, "Gear": {"interval_seconds": 1}, "Odometer": {}}}"#;
        let cost = Cost::of(&Document::parse(document).unwrap(), SIGNALS_PER_DOLLAR);
        assert!((cost.signals_per_day - 87_840.0).abs() < 1e-6, "{cost:?}");
        assert!((cost.dollars_per_day - 0.5856).abs() < 1e-9, "{cost:?}");
        let nothing = Cost::of(&Document::default(), SIGNALS_PER_DOLLAR);
        assert!(nothing.signals_per_day.abs() < f64::EPSILON);
    }
}
