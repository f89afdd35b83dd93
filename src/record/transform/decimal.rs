//! Numbers in scientific notation, which vehicles with old firmware send as strings.

/// The number in a string in scientific notation, rounded to the nearest `f32`: an optional sign, digits with
/// a decimal point in, before or after them, and an exponent. `None` for any other text, and for a number
/// that no `f32` can hold.
pub(super) fn parse(text: &str) -> Option<f32> {
    if !is_scientific(text.as_bytes()) {
        return None;
    }
    text.parse().ok().filter(|number: &f32| number.is_finite())
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
    use super::*;

    fn decimal(text: &str) -> Option<String> {
        parse(text).map(|number| format!("{:.5}", f64::from(number)))
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
