//! Values of properties, read as librdkafka reads them (`rd_kafka_anyconf_set_prop`).

use std::collections::BTreeMap;

/// A boolean; `None` where librdkafka finds none, which it says itself.
pub(crate) fn flag(properties: &BTreeMap<String, String>, name: &str) -> Option<bool> {
    let value = properties.get(name)?;
    let is = |words: [&str; 2], digit| words.iter().any(|word| value.eq_ignore_ascii_case(word)) || value == digit;
    if is(["true", "t"], "1") {
        Some(true)
    } else if is(["false", "f"], "0") {
        Some(false)
    } else {
        None
    }
}

/// `(int)strtol(value, &end, 0)`: leading blanks, a sign, hexadecimal after `0x`, octal after `0`; what follows the
/// number does not matter. `None` when there is no number.
pub(crate) fn integer(value: &str) -> Option<i32> {
    let value = value.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    let (negative, digits) = match value.as_bytes().first()? {
        b'-' => (true, &value[1..]),
        b'+' => (false, &value[1..]),
        _ => (false, value),
    };
    let hexadecimal = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
        .filter(|rest| rest.starts_with(|digit: char| digit.is_ascii_hexdigit()));
    let (base, digits) = match hexadecimal {
        Some(rest) => (16, rest),
        None if digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    let mut number = None;
    for digit in digits.chars().map_while(|digit| digit.to_digit(base)) {
        let so_far: i64 = number.unwrap_or(0);
        number = Some(so_far.saturating_mul(i64::from(base)).saturating_add(i64::from(digit)));
    }
    let magnitude = number?;
    let signed = match (negative, magnitude) {
        (false, number) => number,
        (true, i64::MAX) => i64::MIN,
        (true, number) => -number,
    };
    #[expect(clippy::cast_possible_truncation, reason = "as C does: 4294967296 is 0")]
    let cut = signed as i32;
    Some(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_integers_as_strtol_does() {
        for (text, number) in [
            ("0", 0),
            (" 0", 0),
            ("00", 0),
            ("0x0", 0),
            ("0x10", 16),
            ("010", 8),
            ("+1", 1),
            ("-1", -1),
            ("-0", 0),
            ("0abc", 0),
            ("1s", 1),
            ("0xg", 0),
            ("08", 0),
            ("4294967296", 0),
            ("99999999999999999999", -1),
        ] {
            assert_eq!(integer(text), Some(number), "{text:?}");
        }
        for text in ["", "all", "-", "x1", " "] {
            assert_eq!(integer(text), None, "{text:?}");
        }
    }
}
