//! The vehicle's telemetry client: a field is sent only when its interval has passed and it has changed.

use std::collections::HashMap;

use fleet_telemetry::proto::vehicle_data::{Datum, Field, Value};

use super::reading::{Form, Reading};

/// Remembers what was sent last.
#[derive(Debug)]
pub struct Collector {
    form: Form,
    tick: u64,
    last: HashMap<Field, Last>,
}

#[derive(Debug)]
struct Last {
    tick: u64,
    value: Value,
}

/// A field that the owner's application asked for.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Which.
    pub field: Field,
    /// Now.
    pub reading: Reading,
    /// Sent at most once in so many seconds.
    pub interval_seconds: u64,
}

impl Collector {
    /// Nothing was sent yet.
    #[must_use]
    pub fn new(form: Form) -> Self {
        Self { form, tick: 0, last: HashMap::new() }
    }

    /// Closes a bucket of 500 ms: what is to be sent of these samples.
    pub fn collect(&mut self, samples: &[Sample]) -> Vec<Datum> {
        self.tick += 1;
        samples.iter().filter_map(|sample| self.collect_one(sample)).collect()
    }

    fn collect_one(&mut self, sample: &Sample) -> Option<Datum> {
        let tick = self.tick;
        let is_early = |last: &Last| tick < last.tick + 2 * sample.interval_seconds;
        if self.last.get(&sample.field).is_some_and(is_early) {
            return None;
        }
        let (field, value) = sample.reading.datum(sample.field, self.form);
        if self.last.get(&sample.field).is_some_and(|last| last.value == value) {
            return None;
        }
        self.last.insert(sample.field, Last { tick, value: value.clone() });
        Some(Datum { key: field.into(), value: Some(value) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speed(mph: f64, interval_seconds: u64) -> [Sample; 1] {
        [Sample { field: Field::VehicleSpeed, reading: Reading::Number(mph, 1), interval_seconds }]
    }

    #[test]
    fn an_unchanged_value_is_sent_once() {
        let mut collector = Collector::new(Form::Typed);
        let sent: Vec<_> = (0..20).map(|_| collector.collect(&speed(30.0, 1)).len()).collect();
        assert_eq!(sent.iter().sum::<usize>(), 1);
        assert_eq!(collector.collect(&speed(30.01, 1)).len(), 0, "rounds to the same");
        assert_eq!(collector.collect(&speed(30.2, 1)).len(), 1);
    }

    #[test]
    fn a_changing_value_is_sent_once_per_interval() {
        let mut collector = Collector::new(Form::Text);
        let sent: Vec<_> = (0..12).map(|n| collector.collect(&speed(f64::from(n), 2)).len()).collect();
        assert_eq!(sent, [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn a_change_within_the_interval_is_sent_when_it_has_passed() {
        let mut collector = Collector::new(Form::Typed);
        collector.collect(&speed(1.0, 1));
        assert!(collector.collect(&speed(2.0, 1)).is_empty());
        assert_eq!(collector.collect(&speed(2.0, 1)).len(), 1);
    }
}
