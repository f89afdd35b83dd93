//! Seconds since the epoch as calendar time, proleptic Gregorian, UTC.

use std::ops::RangeInclusive;

use prost_types::Timestamp;
use time::OffsetDateTime;

pub(crate) const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// The seconds from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z.
pub(crate) const YEARS_1_TO_9999: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// The calendar repeats after so many years …
const CYCLE_YEARS: i64 = 400;

/// … which are so many seconds (146,097 days).
const CYCLE_SECONDS: i64 = 146_097 * 86_400;

/// Whole seconds, with nanoseconds that are out of their range carried over.
pub(crate) fn whole_seconds(timestamp: &Timestamp) -> i64 {
    let carried = timestamp.nanos.div_euclid(NANOS_PER_SECOND.cast_signed());
    timestamp.seconds.saturating_add(carried.into())
}

/// `YYYY-MM-DDThh:mm:ss` for any number of seconds; the year gets more digits or a minus when it needs them.
pub(crate) fn date_time(out: &mut String, seconds: i64) {
    let cycles = seconds.div_euclid(CYCLE_SECONDS);
    let within =
        OffsetDateTime::from_unix_timestamp(seconds.rem_euclid(CYCLE_SECONDS)).expect("within 400 years of the epoch");
    let year = i64::from(within.year()) + cycles * CYCLE_YEARS;
    if year < 0 {
        out.push('-');
    }
    padded(out, year.unsigned_abs(), 4);
    for (separator, part) in [
        ('-', within.month().into()),
        ('-', within.day()),
        ('T', within.hour()),
        (':', within.minute()),
        (':', within.second()),
    ] {
        out.push(separator);
        padded(out, part.into(), 2);
    }
}

/// Nothing, or a point and 3, 6 or 9 digits. `nanos` is less than a second.
pub(crate) fn fraction(out: &mut String, nanos: u32) {
    let (digits, count) = match nanos {
        0 => return,
        _ if nanos.is_multiple_of(1_000_000) => (nanos / 1_000_000, 3),
        _ if nanos.is_multiple_of(1_000) => (nanos / 1_000, 6),
        _ => (nanos, 9),
    };
    out.push('.');
    padded(out, digits.into(), count);
}

fn padded(out: &mut String, number: u64, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number);
    for _ in digits.len()..width {
        out.push('0');
    }
    out.push_str(digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date_time_of(seconds: i64) -> String {
        let mut out = String::new();
        date_time(&mut out, seconds);
        out
    }

    #[test]
    fn years_are_right_at_and_beyond_four_digits() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (-1, "1969-12-31T23:59:59"),
            (1_790_000_000, "2026-09-21T14:13:20"),
            (951_782_400, "2000-02-29T00:00:00"),
            (*YEARS_1_TO_9999.start(), "0001-01-01T00:00:00"),
            (*YEARS_1_TO_9999.start() - 1, "0000-12-31T23:59:59"),
            (*YEARS_1_TO_9999.end(), "9999-12-31T23:59:59"),
            (*YEARS_1_TO_9999.end() + 1, "10000-01-01T00:00:00"),
            (-62_167_219_201, "-0001-12-31T23:59:59"),
            (i64::MAX, "292277026596-12-04T15:30:07"),
            (i64::MIN, "-292277022657-01-27T08:29:52"),
        ] {
            assert_eq!(date_time_of(seconds), text);
        }
    }

    #[test]
    fn fractions_have_three_six_or_nine_digits() {
        for (nanos, text) in
            [(0, ""), (120_000_000, ".120"), (1_000, ".000001"), (123_456_789, ".123456789"), (5, ".000000005")]
        {
            let mut out = String::new();
            fraction(&mut out, nanos);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn nanoseconds_out_of_range_carry_into_the_seconds() {
        let seconds = |seconds, nanos| whole_seconds(&Timestamp { seconds, nanos });
        assert_eq!(seconds(5, 999_999_999), 5);
        assert_eq!(seconds(5, 2_000_000_000), 7);
        assert_eq!(seconds(5, -1), 4);
        assert_eq!(seconds(i64::MIN, i32::MIN), i64::MIN);
    }
}
