//! The latest changes of each vehicle, in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::grants::change::Entry;

/// For stores that keep no history themselves.
#[derive(Debug, Default)]
pub(super) struct Recent {
    vehicles: HashMap<Arc<str>, VecDeque<Entry>>,
}

/// Per vehicle; older ones go first.
const MAX: usize = 100;

impl Recent {
    pub(super) fn push(&mut self, vin: &str, entry: Entry) {
        let entries = match self.vehicles.get_mut(vin) {
            Some(entries) => entries,
            None => self.vehicles.entry(vin.into()).or_default(),
        };
        if entries.len() == MAX {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    /// Newest first.
    pub(super) fn of(&self, vin: &str, limit: usize) -> Vec<Entry> {
        self.vehicles.get(vin).into_iter().flatten().rev().take(limit).cloned().collect()
    }
}
