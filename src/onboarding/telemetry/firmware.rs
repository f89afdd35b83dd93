//! Which firmware a vehicle needs for what. From the comments of `proto/vehicle_data.proto` and the maker's
//! announcements: facts about others, so they only ever warn.

use std::cmp::Ordering;
use std::fmt;

/// A firmware version: numbers with dots, compared part by part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version(Vec<u32>);

/// Field numbers, and the first firmware that has them.
const FLOORS: [(std::ops::RangeInclusive<i32>, &str); 11] = [
    (107..=112, "2024.26"),
    (163..=163, "2024.26"),
    (179..=179, "2024.38"),
    (180..=183, "2024.44.25"),
    (184..=184, "2024.44.32"),
    (185..=228, "2024.44.25"),
    (229..=238, "2024.44.32"),
    (239..=257, "2025.2.6"),
    (258..=259, "2025.44.25.5"),
    (260..=271, "2026.32"),
    // Everything else is as old as streaming.
    (1..=271, "2024.26"),
];

/// Numbers of the fields that only the truck has.
const SEMI_ONLY: [std::ops::RangeInclusive<i32>; 4] = [73..=80, 97..=97, 103..=105, 269..=271];

/// For `minimum_delta` and `resend_interval_seconds`.
pub(super) const DELTA: &str = "2024.44.32";
/// For `minimum_delta` of `Location`, in metres, and for `delivery_policy`.
pub(super) const LATEST: &str = "2025.2.6";
/// For `include_fields`.
pub(super) const INCLUDE: &str = "2026.26.6";

impl Version {
    /// Of a text such as `2025.44.25.5` or `2025.44.25.5 4ed9a3f`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let numbers = text.split_whitespace().next()?;
        numbers.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<_>>>().map(Self)
    }
}

impl Ord for Version {
    /// A part that is missing is 0.
    fn cmp(&self, other: &Self) -> Ordering {
        let part = |version: &Self, at: usize| version.0.get(at).copied().unwrap_or(0);
        let parts = self.0.len().max(other.0.len());
        (0..parts).map(|at| part(self, at).cmp(&part(other, at))).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&parts.join("."))
    }
}

/// The first firmware that has the field of this number.
pub(super) fn floor(number: i32) -> Option<&'static str> {
    FLOORS.iter().find(|(numbers, _)| numbers.contains(&number)).map(|(_, floor)| *floor)
}

pub(super) fn is_semi_only(number: i32) -> bool {
    SEMI_ONLY.iter().any(|numbers| numbers.contains(&number))
}

/// Whether `version` is older than `floor`.
pub(super) fn is_below(version: &Version, floor: &str) -> bool {
    Version::parse(floor).is_some_and(|floor| *version < floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number_in_each_part() {
        let version = |text| Version::parse(text).unwrap();
        assert!(version("2025.2.6") > version("2024.44.32"));
        assert!(version("2025.12") > version("2025.2.6"));
        assert!(version("2025.44.25.5") > version("2025.44.25"));
        assert_eq!(version("2025.44.25.5 4ed9a3f").to_string(), "2025.44.25.5");
        assert!(Version::parse("unknown").is_none() && Version::parse("").is_none());
    }

    #[test]
    fn floors_are_those_of_the_protos_comments() {
        for (number, floor) in [
            (8, "2024.26"),
            (112, "2024.26"),
            (163, "2024.26"),
            (179, "2024.38"),
            (184, "2024.44.32"),
            (228, "2024.44.25"),
            (229, "2024.44.32"),
            (257, "2025.2.6"),
            (259, "2025.44.25.5"),
            (260, "2026.32"),
        ] {
            assert_eq!(super::floor(number), Some(floor), "{number}");
        }
        assert!(is_semi_only(73) && is_semi_only(269) && is_semi_only(271) && !is_semi_only(81));
        assert_eq!(super::floor(300), None);
    }
}
