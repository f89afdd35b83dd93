//! Numbers in scientific notation, which vehicles with old firmware send as strings.

use std::io::{self, Write};

use crate::work;

/// The number in a string in scientific notation, rounded to the nearest `f32`: an optional sign, digits with
/// a decimal point in, before or after them, and an exponent. `None` for any other text, and for a number
/// that no `f32` can hold.
pub(crate) fn parse(text: &str) -> Option<f32> {
    work::took(2 * text.len());
    if !is_scientific(text.as_bytes()) {
        return None;
    }
    text.parse().ok().filter(|number: &f32| number.is_finite())
}

/// Appends the number with five decimals, the last one rounded half to even. What `{:.5}` writes, without the
/// microsecond that it takes for numbers of forty digits.
pub(crate) fn write(number: f32, out: &mut impl Write) -> io::Result<()> {
    let sign = if number.is_sign_negative() { "-" } else { "" };
    let (whole, fraction) = parts(number);
    write!(out, "{sign}{whole}.{fraction:05}")
}

/// The digits before the point and the five after it.
fn parts(number: f32) -> (u128, u64) {
    const ONE: u64 = 100_000;
    // `mantissa` times two to the `exponent`.
    let (biased, bits) = (number.to_bits() >> 23 & 0xff, number.to_bits() & 0x7f_ffff);
    let (mantissa, exponent) = if biased == 0 { (bits, -149) } else { (bits | 1 << 23, biased as i32 - 150) };
    let Ok(shift @ 1..) = u32::try_from(-exponent) else { return (u128::from(mantissa) << exponent, 0) };
    let scaled = u64::from(mantissa) * ONE;
    // It has 41 bits, so that nothing is left of it.
    if shift > 63 {
        return (0, 0);
    }
    let (kept, rest, half) = (scaled >> shift, scaled & ((1 << shift) - 1), 1 << (shift - 1));
    let rounded = kept + u64::from(rest > half || (rest == half && kept & 1 == 1));
    (u128::from(rounded / ONE), rounded % ONE)
}

/// The reference server's pattern: `^[+-]?(\d*\.\d+|\d+\.\d*)([eE][+-]?\d+)$`.
fn is_scientific(text: &[u8]) -> bool {
    let text = after_sign(text);
    let (before_point, rest) = digits(text);
    let [b'.', rest @ ..] = rest else { return false };
    let (after_point, rest) = digits(rest);
    let [b'e' | b'E', exponent @ ..] = rest else { return false };
    let (exponent, rest) = digits(after_sign(exponent));
    before_point + after_point > 0 && exponent > 0 && rest.is_empty()
}

fn after_sign(text: &[u8]) -> &[u8] {
    match text {
        [b'+' | b'-', rest @ ..] => rest,
        _ => text,
    }
}

/// How many digits `text` starts with, and what follows them.
fn digits(text: &[u8]) -> (usize, &[u8]) {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count, &text[count..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Option<String> {
        parse(text).map(written)
    }

    fn written(number: f32) -> String {
        let mut out = Vec::new();
        write(number, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn every_number_is_written_as_the_standard_library_does(bits: u32, eighths in -100_000..100_000_i32) {
            for number in [f32::from_bits(bits), eighths as f32 / 8.0, eighths as f32 / 65_536.0] {
                if number.is_finite() {
                    prop_assert_eq!(written(number), format!("{:.5}", f64::from(number)));
                }
            }
        }
    }

    #[test]
    fn numbers_are_rounded_to_f32_and_five_decimals() {
        for (text, expected) in [
            ("1.1920928955078125e-05", "0.00001"),
            ("1.23e-9", "0.00000"),
            ("-1.0e-9", "-0.00000"),
            ("1.23456789e8", "123456792.00000"),
            (".5e3", "500.00000"),
            ("5.e3", "5000.00000"),
            ("+1.0E+2", "100.00000"),
            ("0.0e0", "0.00000"),
            ("-0.0e99", "-0.00000"),
            ("1.0e-999", "0.00000"),
        ] {
            assert_eq!(decimal(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn ties_go_to_the_even_digit() {
        assert_eq!(decimal("0.015625e0").as_deref(), Some("0.01562"));
        assert_eq!(decimal("0.046875e0").as_deref(), Some("0.04688"));
    }

    #[test]
    fn other_text_is_left_alone() {
        for text in [
            "",
            ".",
            "1",
            "1.5",
            "1e5",
            "1e-5",
            ".e5",
            "+.e5",
            "1.0e",
            "1.0e+",
            "1.0e3 ",
            " 1.0e3",
            "1.0e3x",
            "1..0e5",
            "0x1.0p3",
            "1_0.0e3",
            "nan",
            "--1.0e3",
            "1.0e3.0",
            "1.0e\u{661}",
        ] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_beyond_f32_are_left_alone() {
        assert_eq!(decimal("1.0e39"), None);
        assert_eq!(decimal("-1.0e999999999999999999999"), None);
        assert!(decimal("3.4028235e38").is_some());
        assert!(decimal("3.40282356e38").is_some());
        assert_eq!(decimal("3.4028236e38"), None);
    }
}
