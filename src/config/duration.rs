//! Durations as operators write them: `"5s"`, `"1h30m"`, `"30d"`, or an integer number of nanoseconds.

use std::time::Duration;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// A deadline shorter than this fails healthy clients.
pub(super) const SHORTEST: Duration = Duration::from_millis(10);

/// Units, longest spelling first where one is a prefix of another.
const UNITS: [(&str, u64); 9] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
    ("w", 7 * 86_400 * 1_000_000_000),
];

/// What [`parse`] accepts, for error messages.
pub(super) const FORM: &str = "a duration such as \"250ms\", \"5s\" or \"1h30m\" (or integer nanoseconds)";

/// Numbers with units, added up; `"0"` needs none.
pub(super) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit_end = rest[number..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| number + at);
        let (_, nanos) = UNITS.into_iter().find(|(unit, _)| *unit == &rest[number..unit_end])?;
        total = total.checked_add(scale(&rest[..number], nanos)?)?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(total)
}

/// `number` (digits with at most one point) times `nanos`, exact to the nanosecond.
fn scale(number: &str, nanos: u64) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(nanos)?;
    let fraction = match fraction {
        "" if number.contains('.') => return None,
        "" => 0,
        digits => {
            let scale = 10_u128.pow(u32::try_from(digits.len()).ok()?);
            u64::try_from(digits.parse::<u128>().ok()? * u128::from(nanos) / scale).ok()?
        }
    };
    Some(Duration::from_nanos(whole.checked_add(fraction)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_numbers_with_units() {
        for (text, nanos) in [
            ("0", 0),
            ("7ns", 7),
            ("250ms", 250_000_000),
            ("5s", 5_000_000_000),
            ("1.5s", 1_500_000_000),
            ("2m", 120_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("3µs", 3_000),
            ("30d", 2_592_000_000_000_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_anything_else() {
        for text in ["", "5", "s", "-5s", "5 s", "5x", ".5s", "1.s", "1.2.3s", "5S", "99999999999d", "5sec", "1s2"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
