//! What can be granted, and which fields belong to it.

use std::fmt;

/// A scope, named as the vehicle maker names it where it does; the data groups beyond location are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Where the vehicle is, was or is going.
    VehicleLocation,
    /// Charging and energy.
    Charging,
    /// Climate.
    Climate,
    /// What is played.
    Media,
    /// Locks, doors, sentry, keys.
    Security,
    /// How it is driven.
    Driving,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::VehicleLocation, Self::Charging, Self::Climate, Self::Media, Self::Security, Self::Driving];

    /// As the configuration, the API and the metrics spell it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::VehicleLocation => "vehicle_location",
            Self::Charging => "charging",
            Self::Climate => "climate",
            Self::Media => "media",
            Self::Security => "security",
            Self::Driving => "driving",
        }
    }

    /// By its exact name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.label() == name)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u32);

impl Scopes {
    /// Every scope.
    pub const ALL: Self = Self(u32::MAX);
    /// None.
    pub const NONE: Self = Self(0);

    /// With `scope` in it.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | 1 << scope as u32)
    }

    /// Whether `scope` is in it.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & 1 << scope as u32 != 0
    }

    /// What both have.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
