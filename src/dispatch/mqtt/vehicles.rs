//! Which vehicles have been met, and which of their fields Home Assistant has been told about.

use std::collections::HashMap;

use metrics::{Gauge, gauge};

/// So many at most: one that was forgotten and comes again is told about again, which costs messages and no more.
#[derive(Debug)]
pub(super) struct Vehicles {
    told: HashMap<Box<str>, Fields>,
    most: usize,
    known: Gauge,
}

/// A set of fields of the schema, which has far fewer than 1,024.
#[derive(Clone, Copy, Debug, Default)]
struct Fields([u64; 16]);

impl Vehicles {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(super) fn new(most: usize) -> Self {
        gauge!("limit", "bound" => "mqtt_known_vehicles").set(most as f64);
        Self { told: HashMap::new(), most, known: gauge!("mqtt_known_vehicles") }
    }

    /// Whether it is the first time.
    pub(super) fn meet(&mut self, vin: &str) -> bool {
        if self.told.contains_key(vin) {
            return false;
        }
        if self.told.len() >= self.most
            && let Some(any) = self.told.keys().next().cloned()
        {
            self.told.remove(&any);
        }
        self.told.insert(vin.into(), Fields::default());
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        self.known.set(self.told.len() as f64);
        true
    }

    /// Remembers that a field of a vehicle that was met is told about; whether that is new.
    pub(super) fn tell(&mut self, vin: &str, key: i32) -> bool {
        self.told.get_mut(vin).is_some_and(|fields| fields.insert(key))
    }

    /// It is to be told about again.
    pub(super) fn untell(&mut self, vin: &str, key: i32) {
        if let Some(fields) = self.told.get_mut(vin) {
            fields.remove(key);
        }
    }

    /// All of it is to be told again.
    pub(super) fn forget(&mut self, vin: &str) {
        self.told.remove(vin);
    }
}

impl Fields {
    fn insert(&mut self, key: i32) -> bool {
        let Some((word, bit)) = Self::place(key) else { return false };
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    fn remove(&mut self, key: i32) {
        if let Some((word, bit)) = Self::place(key) {
            self.0[word] &= !bit;
        }
    }

    fn place(key: i32) -> Option<(usize, u64)> {
        let key = usize::try_from(key).ok()?;
        (key < 64 * Self::default().0.len()).then_some((key / 64, 1 << (key % 64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_new_once_until_it_is_taken_back() {
        let mut vehicles = Vehicles::new(10);
        assert!(!vehicles.tell("A", 8), "not met");
        assert!(vehicles.meet("A") && !vehicles.meet("A"));
        assert!(vehicles.tell("A", 8) && !vehicles.tell("A", 8) && vehicles.tell("A", 72));
        vehicles.untell("A", 8);
        assert!(vehicles.tell("A", 8) && !vehicles.tell("A", 72));
        for odd in [-1, 1024, i32::MAX] {
            assert!(!vehicles.tell("A", odd), "the schema knows no {odd}");
        }
        vehicles.forget("A");
        assert!(vehicles.meet("A") && vehicles.tell("A", 72));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut vehicles = Vehicles::new(3);
        assert!((0..100).all(|n| vehicles.meet(&n.to_string())));
        assert_eq!(vehicles.told.len(), 3);
    }
}
