//! Points in time: milliseconds since the epoch inside, RFC 3339 outside.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The first moment that RFC 3339 cannot write: the year 10000.
pub const END_MS: i64 = 253_402_300_800_000;

/// Now, by the system's clock.
#[must_use]
pub fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// In UTC, such as `2026-01-01T00:00:00Z`. What cannot be written so is written as a number.
#[must_use]
pub fn rfc3339(ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| ms.to_string())
}

/// Any offset; fractions below a millisecond are cut off. `None`: not RFC 3339.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for (ms, text) in [
            (1_767_225_600_000, "2026-01-01T00:00:00Z"),
            (1_767_225_600_120, "2026-01-01T00:00:00.12Z"),
            (0, "1970-01-01T00:00:00Z"),
            (END_MS - 1, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
            assert_eq!(parse_rfc3339(text), Some(ms));
        }
        assert_eq!(parse_rfc3339("2026-01-01T02:00:00+02:00"), Some(1_767_225_600_000));
        assert_eq!(parse_rfc3339("2026-01-01"), None);
    }
}
