//! Decides about one datum.

use super::scope::{Scope, Scopes};

/// Whether and how the filter acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is looked at.
    Off,
    /// What would be withheld is counted, and passes.
    Audit,
    /// It is withheld.
    Enforce,
}

/// What becomes of a datum that is withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It disappears.
    Drop,
    /// Its key stays, its value is marked invalid.
    Invalid,
    /// Coordinates are rounded to so many decimals of a degree; what has no coordinates disappears.
    Coarsen(u8),
}

/// The configured rules; fixed while the process lives.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Off, audit or enforce.
    pub mode: Mode,
    /// What happens to a withheld datum.
    pub action: Action,
    /// Also the fields that reveal a place indirectly, and unknown field numbers.
    pub strict: bool,
    /// A vehicle without an entry is denied.
    pub deny_unknown: bool,
    /// The scopes that are enforced.
    pub enforced: Scopes,
}

impl Rules {
    /// No filter.
    #[must_use]
    pub fn off() -> Self {
        Self { mode: Mode::Off, action: Action::Drop, strict: false, deny_unknown: false, enforced: Scopes::NONE }
    }
}

/// The decisions for one record. `Copy`, made per record, allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    /// `None`: nothing is withheld.
    rules: Option<&'a Rules>,
    denied: Scopes,
}

/// What becomes of a datum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It passes.
    Keep,
    /// It is withheld so.
    Withhold(Action),
}

impl<'a> Filter<'a> {
    /// Passes everything.
    #[must_use]
    pub fn off() -> Self {
        Self { rules: None, denied: Scopes::NONE }
    }

    /// Withholds what belongs to `denied` scopes.
    #[must_use]
    pub fn new(rules: &'a Rules, denied: Scopes) -> Self {
        Self { rules: (!denied.is_empty()).then_some(rules), denied }
    }

    /// Whether anything can be withheld at all.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.rules.is_none()
    }

    /// Whether the record may not carry `scope`.
    #[must_use]
    pub fn denies(&self, scope: Scope) -> bool {
        self.rules.is_some() && self.denied.contains(scope)
    }
}
