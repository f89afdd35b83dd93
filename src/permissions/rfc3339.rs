//! Times as people and applications write them: RFC 3339, to the millisecond.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const NANOS_PER_MS: i128 = 1_000_000;

/// Milliseconds since the epoch; finer digits are cut off. `None`: not RFC 3339, or before the year 1.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let ms = time.unix_timestamp_nanos().div_euclid(NANOS_PER_MS);
    i64::try_from(ms).ok().filter(|ms| *ms >= YEAR_1_MS)
}

/// In UTC. What is outside of the years 1 to 9999 becomes the nearest that is inside.
#[must_use]
pub fn format(ms: i64) -> String {
    let nanos = i128::from(ms.clamp(YEAR_1_MS, YEAR_9999_END_MS)) * NANOS_PER_MS;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).expect("clamped to the years 1 to 9999");
    time.format(&Rfc3339).expect("RFC 3339 has a form for the years 1 to 9999")
}

const YEAR_1_MS: i64 = -62_135_596_800_000;
const YEAR_9999_END_MS: i64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_any_offset_and_writes_utc() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse("2026-01-01T01:00:00.1239+01:00"), Some(1_767_225_600_123));
        assert_eq!(format(1_767_225_600_123), "2026-01-01T00:00:00.123Z");
        assert_eq!(format(1_767_225_600_000), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn refuses_what_is_not_a_full_date_and_time() {
        for text in ["", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "now", "0", "0000-01-01T00:00:00Z"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn has_a_form_for_every_number() {
        for ms in [i64::MIN, YEAR_1_MS, -1, 0, YEAR_9999_END_MS, i64::MAX] {
            let expected = ms.clamp(YEAR_1_MS, YEAR_9999_END_MS);
            assert_eq!(parse(&format(ms)), Some(expected));
        }
    }
}
