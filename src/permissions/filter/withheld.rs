//! What was withheld, counted by field and action.

use std::array;

use metrics::{Counter, counter};
use strum::{IntoStaticStr, VariantArray};

use crate::config::rules::{Action, Mode};
use crate::proto::vehicle_data::Field;
use crate::scope::{self, FIELD_COUNT, Scopes};

/// What is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A datum, by its field number.
    Datum(i32),
    /// A field of a message that the schema does not know.
    UnknownField,
    /// A text of an `alerts`, `errors` or `connectivity` record.
    Text,
    /// A record of a topic whose payload this server cannot read.
    Opaque,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// It passed; only counted.
    Audit,
    /// It is gone.
    Drop,
    /// Its key is left.
    Invalid,
    /// Its coordinates are rounded.
    Coarsen,
    /// `[withheld]` stands in its place.
    Mask,
}

impl Outcome {
    /// What has no coordinates to round, and what nobody knows how to mark invalid, is dropped.
    fn possible(mode: Mode, action: Action) -> &'static [Self] {
        match (mode, action) {
            (Mode::Off, _) => &[],
            (Mode::Audit, _) => &[Self::Audit],
            (Mode::Enforce, Action::Drop) => &[Self::Drop, Self::Mask],
            (Mode::Enforce, Action::Invalid) => &[Self::Drop, Self::Invalid, Self::Mask],
            (Mode::Enforce, Action::Coarsen(_)) => &[Self::Drop, Self::Coarsen, Self::Mask],
        }
    }
}

/// Pre-labelled handles of `permission_withheld_total{field,action}`. `field` is the name of a field that
/// belongs to an enforced scope, `other` for a field that does not and had a location in it, `unknown` for one
/// that the schema does not know, `text` for a part of a text, or `opaque`.
pub struct Withheld {
    /// By field number, where its counters are.
    rows: Box<[u16; FIELD_COUNT]>,
    counters: Box<[[Counter; Outcome::VARIANTS.len()]]>,
}

impl std::fmt::Debug for Withheld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Withheld").finish_non_exhaustive()
    }
}

const FAMILY: &str = "permission_withheld_total";

const UNKNOWN: u16 = 0;
const OTHER: u16 = 1;
const TEXT: u16 = 2;
const OPAQUE: u16 = 3;
const FIXED: [&str; 4] = ["unknown", "other", "text", "opaque"];

impl Withheld {
    /// Registers the counters that these rules can use with the current recorder.
    #[must_use]
    pub fn register(mode: Mode, action: Action, enforced: Scopes) -> Self {
        let outcomes = Outcome::possible(mode, action);
        let counters_of = |field: &'static str| {
            array::from_fn(|at| match &Outcome::VARIANTS[at] {
                outcome if outcomes.contains(outcome) => {
                    counter!(FAMILY, "field" => field, "action" => <&str>::from(outcome))
                }
                _ => Counter::noop(),
            })
        };
        let mut counters: Vec<_> = FIXED.into_iter().map(counters_of).collect();
        let mut rows = Box::new([OTHER; FIELD_COUNT]);
        rows[0] = UNKNOWN;
        for (row, key) in rows.iter_mut().zip(0_i32..).skip(1) {
            let is_enforced = scope::of(key, true).is_some_and(|scopes| !scopes.and(enforced).is_empty());
            if let (true, Ok(field)) = (is_enforced, Field::try_from(key)) {
                *row = u16::try_from(counters.len()).expect("fewer than 65,536 fields");
                counters.push(counters_of(field.as_str_name()));
            }
        }
        Self { rows, counters: counters.into() }
    }

    pub(super) fn count(&self, tally: &Tally) {
        for lost in tally.first[..tally.len].iter().chain(&tally.more) {
            self.counters[usize::from(lost.row)][lost.outcome as usize].increment(1);
        }
    }

    pub(super) fn note(&self, tally: &mut Tally, subject: Subject, outcome: Outcome) {
        tally.add(Lost { row: self.row(subject), outcome });
    }

    fn row(&self, subject: Subject) -> u16 {
        match subject {
            Subject::Datum(key) => {
                usize::try_from(key).ok().and_then(|key| self.rows.get(key)).copied().unwrap_or(UNKNOWN)
            }
            Subject::UnknownField => UNKNOWN,
            Subject::Text => TEXT,
            Subject::Opaque => OPAQUE,
        }
    }
}

/// What one record lost. Counted when the record is done: a walk that is given up for another has not
/// withheld anything yet.
#[derive(Debug)]
pub struct Tally {
    first: [Lost; Self::INLINE],
    len: usize,
    /// Those that do not fit; allocates only then.
    more: Vec<Lost>,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    row: u16,
    outcome: Outcome,
}

impl Default for Tally {
    fn default() -> Self {
        Self { first: [Lost { row: UNKNOWN, outcome: Outcome::Audit }; Self::INLINE], len: 0, more: Vec::new() }
    }
}

impl Tally {
    const INLINE: usize = 15;

    /// Forgets all.
    pub fn clear(&mut self) {
        self.len = 0;
        self.more.clear();
    }

    /// Whether nothing was noted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn add(&mut self, lost: Lost) {
        match self.first.get_mut(self.len) {
            Some(free) => {
                *free = lost;
                self.len += 1;
            }
            None => self.more.push(lost),
        }
    }
}
